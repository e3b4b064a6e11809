//! Accepting control connections on one core.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::warn;

use super::entrance::{Awaited, Entrance};
use super::listeners::CoreListener;
use crate::control::Core;
use crate::limits;
use crate::metrics::Refusal;
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Pause after the system ran out of descriptors or memory: time for sessions to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The listeners of a core, at work.
pub(super) struct Acceptors {
    stopped: Rc<Cell<bool>>,
    at_work: Vec<(Socket, JoinHandle<()>)>,
    awaited: Rc<Awaited>,
    listeners: Vec<CoreListener>,
}

impl Acceptors {
    /// Nothing is accepted yet.
    pub(super) fn new(listeners: Vec<CoreListener>) -> Self {
        Self {
            stopped: Rc::default(),
            at_work: Vec::new(),
            awaited: Rc::default(),
            listeners,
        }
    }

    /// Starts to accept.
    pub(super) fn start(&mut self, core: &Rc<Core>) {
        let start = |listener: CoreListener| {
            let socket = Socket::new(listener.fd);
            let acceptor = Acceptor {
                entrance: Rc::new(Entrance {
                    core: Rc::clone(core),
                    kind: listener.kind,
                    awaited: Rc::clone(&self.awaited),
                }),
                listener: socket.clone(),
                // Others shall have some of them.
                per_turn: if listener.shared {
                    1
                } else {
                    limits::ACCEPTS_PER_TURN
                },
                stopped: Rc::clone(&self.stopped),
            };
            (socket, rt::spawn(acceptor.run()))
        };
        let started = std::mem::take(&mut self.listeners).into_iter().map(start);
        self.at_work.extend(started);
    }

    /// Connections that were accepted and are no sessions yet.
    pub(super) fn awaited(&self) -> &Rc<Awaited> {
        &self.awaited
    }

    /// Accepts nothing more, and closes the sockets here. They are not shut down: another process may have them,
    /// and what waits in their queues is for that one then.
    pub(super) async fn stop(&mut self) {
        self.stopped.set(true);
        self.listeners.clear();
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
    entrance: Rc<Entrance>,
    listener: Socket,
    per_turn: usize,
    stopped: Rc<Cell<bool>>,
}

impl Acceptor {
    /// Accepts until it is stopped.
    async fn run(self) {
        let Self {
            entrance, listener, ..
        } = &self;
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
                    Ok((fd, peer)) => entrance.receive(Socket::new(fd), peer, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Somebody who has the socket too has shut it down.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(error) => {
                        // Out of descriptors or memory: a waiting client is turned away, so that it
                        // does not wait for ever, and the loop pauses instead of spinning.
                        warn!(%error, "connections refused: raise the limit of open files (LimitNOFILE=)");
                        if reserve.shed(listener) {
                            entrance
                                .core
                                .turned_away(entrance.kind, Refusal::Descriptors);
                        }
                        rt::sleep(EXHAUSTED_PAUSE).await;
                        break;
                    }
                }
            }
        }
    }
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
