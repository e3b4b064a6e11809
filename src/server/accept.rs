//! Accepting control connections on one core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::admission::Refused;
use crate::control::{self, Core};
use crate::limits;
use crate::metrics::Refusal;
use crate::proto::session::ChannelKind;
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Pause after the system ran out of descriptors or memory: time for sessions to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// A client that is not let in is told so on an explicit port (RFC 959 §5.4: 421 may answer the
/// connection itself); an implicit port says nothing before TLS.
fn refusal(refused: Refused) -> (&'static [u8], Refusal) {
    let (full, failed): (&[u8], &[u8]) = (
        b"421 Too many connections, try again later.\r\n",
        b"421 Too many failed logins, try again later.\r\n",
    );
    match refused {
        Refused::Denied => (b"421 Not served from this address.\r\n", Refusal::Denied),
        Refused::Banned => (failed, Refusal::Banned),
        Refused::ServerFull => (full, Refusal::Connections),
        Refused::AddressFull => (full, Refusal::Address),
    }
}

/// Accepts until the listener is shut down.
pub(super) async fn run(core: Rc<Core>, listener: Socket, kind: ChannelKind) {
    let mut reserve = Reserve::new();
    loop {
        if listener.readable().await.is_err() {
            rt::sleep(EXHAUSTED_PAUSE).await;
        }
        let now = rt::now();
        for _ in 0..limits::ACCEPTS_PER_TURN {
            match socket::accept(&listener) {
                Ok((fd, peer)) => admit(&core, Socket::new(fd), peer, kind, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The listener was shut down: the server drains.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) => {
                    // Out of descriptors or memory: a waiting client is turned away, so that it
                    // does not wait for ever, and the loop pauses instead of spinning.
                    warn!(%error, "connections refused: raise the limit of open files (LimitNOFILE=)");
                    if reserve.shed(&listener) {
                        core.turned_away(kind, Refusal::Descriptors);
                    }
                    rt::sleep(EXHAUSTED_PAUSE).await;
                    break;
                }
            }
        }
    }
}

fn admit(core: &Rc<Core>, socket: Socket, peer: SocketAddr, kind: ChannelKind, now: Instant) {
    let permit = match core.admission.enter(peer.ip(), now) {
        Ok(permit) => permit,
        Err(refused) => {
            debug!(%peer, ?refused, "connection refused");
            let (reply, reason) = refusal(refused);
            core.turned_away(kind, reason);
            if kind == ChannelKind::Explicit {
                let _ = socket.send_now(reply);
            }
            return;
        }
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
