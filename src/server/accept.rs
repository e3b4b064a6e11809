//! Accepting control connections on one core.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::listeners::CoreListener;
use crate::control::{self, Core};
use crate::limits;
use crate::proto::session::ChannelKind;
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Pause after the system ran out of descriptors or memory: time for sessions to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// A client over the limit is told so on an explicit port (RFC 959 §5.4: 421 may answer the
/// connection itself); an implicit port says nothing before TLS.
const REFUSAL: &[u8] = b"421 Too many connections, try again later.\r\n";

/// The listeners of a core, at work.
pub(super) struct Acceptors {
    stopped: Rc<Cell<bool>>,
    at_work: Vec<(Socket, JoinHandle<()>)>,
}

impl Acceptors {
    /// Starts to accept.
    pub(super) fn start(core: &Rc<Core>, listeners: Vec<CoreListener>) -> Self {
        let stopped = Rc::new(Cell::new(false));
        let start = |listener: CoreListener| {
            let socket = Socket::new(listener.fd);
            let acceptor = Acceptor {
                core: Rc::clone(core),
                listener: socket.clone(),
                kind: listener.kind,
                // Others shall have some of them.
                per_turn: if listener.shared {
                    1
                } else {
                    limits::ACCEPTS_PER_TURN
                },
                stopped: Rc::clone(&stopped),
            };
            (socket, rt::spawn(acceptor.run()))
        };
        let at_work = listeners.into_iter().map(start).collect();
        Self { stopped, at_work }
    }

    /// Accepts nothing more, and closes the sockets here. They are not shut down: another process may have them,
    /// and what waits in their queues is for that one then.
    pub(super) async fn stop(&mut self) {
        self.stopped.set(true);
        for (socket, task) in self.at_work.drain(..) {
            socket.cancel_waits().await;
            drop(socket);
            // A panic was told by then.
            let _ = task.await;
        }
        // What was accepted last has its task, which counts from its first turn on.
        rt::yield_to_ring().await;
    }
}

struct Acceptor {
    core: Rc<Core>,
    listener: Socket,
    kind: ChannelKind,
    per_turn: usize,
    stopped: Rc<Cell<bool>>,
}

impl Acceptor {
    /// Accepts until it is stopped.
    async fn run(self) {
        let Self {
            core,
            listener,
            kind,
            ..
        } = &self;
        let kind = *kind;
        let mut reserve = Reserve::new();
        while !self.stopped.get() {
            if listener.readable().await.is_err() && !self.stopped.get() {
                rt::sleep(EXHAUSTED_PAUSE).await;
            }
            if self.stopped.get() {
                return;
            }
            let now = rt::now();
            for _ in 0..self.per_turn {
                match socket::accept(listener) {
                    Ok((fd, peer)) => admit(core, Socket::new(fd), peer, kind, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Somebody who has the socket too has shut it down.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(error) => {
                        // Out of descriptors or memory: a waiting client is turned away, so that it
                        // does not wait for ever, and the loop pauses instead of spinning.
                        warn!(%error, "connections refused: raise the limit of open files (LimitNOFILE=)");
                        if reserve.shed(listener) {
                            core.turned_away(kind);
                        }
                        rt::sleep(EXHAUSTED_PAUSE).await;
                        break;
                    }
                }
            }
        }
    }
}

fn admit(core: &Rc<Core>, socket: Socket, peer: SocketAddr, kind: ChannelKind, now: Instant) {
    let Some(permit) = core.admission.enter(peer.ip()) else {
        debug!(%peer, "connection over the limit");
        core.turned_away(kind);
        if kind == ChannelKind::Explicit {
            let _ = socket.send_now(REFUSAL);
        }
        return;
    };
    let core = Rc::clone(core);
    rt::spawn(async move {
        control::serve(core, socket, peer, kind, now).await;
        drop(permit);
    });
}

/// A descriptor kept for the moment when there are no others.
struct Reserve(Option<OwnedFd>);

impl Reserve {
    fn new() -> Self {
        Self(socket::spare().ok())
    }

    /// Accepts one connection with the spare descriptor and closes it; tells whether there was one.
    fn shed(&mut self, listener: &Socket) -> bool {
        self.0 = None;
        let shed = socket::accept(listener).is_ok();
        self.0 = socket::spare().ok();
        shed
    }
}
