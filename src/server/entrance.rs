//! From an accepted connection to a session: whom it comes from, and whether it may come in.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tracing::debug;

use crate::admission::{ConnectionPermit, Refused};
use crate::control::{self, Core, Ends};
use crate::data::proxy::{self, NotIntroduced};
use crate::limits;
use crate::metrics::{Channel, Refusal};
use crate::proto::proxy::Header;
use crate::proto::session::ChannelKind;
use crate::rt::{self, Socket};

/// What a client that is not let in is told on an explicit port (RFC 959 §5.4: 421 may answer the connection
/// itself); an implicit port says nothing before TLS.
struct No {
    words: &'static [u8],
    reason: Refusal,
}

/// A proxy does not say whom it speaks for.
const NO_HEADER: No = No {
    words: b"421 A PROXY header is expected here.\r\n",
    reason: Refusal::Proxy,
};
/// Somebody goes past the proxy where they must not.
const PROXY_ONLY: No = No {
    words: b"421 Not served here: connect to the public address of this service.\r\n",
    reason: Refusal::Proxy,
};
/// There are too many connections that wait for their header.
const TOO_MANY_AWAITED: No = No {
    words: TOO_MANY,
    reason: Refusal::Connections,
};
const TOO_MANY: &[u8] = b"421 Too many connections, try again later.\r\n";
const TOO_MANY_FAILED: &[u8] = b"421 Too many failed logins, try again later.\r\n";

impl From<Refused> for No {
    fn from(refused: Refused) -> Self {
        let (words, reason): (&[u8], _) = match refused {
            Refused::Denied => (b"421 Not served from this address.\r\n", Refusal::Denied),
            Refused::Banned => (TOO_MANY_FAILED, Refusal::Banned),
            Refused::ServerFull => (TOO_MANY, Refusal::Connections),
            Refused::AddressFull => (TOO_MANY, Refusal::Address),
        };
        Self { words, reason }
    }
}

/// Connections of proxies whose header has not come yet, on one core.
#[derive(Default)]
pub(super) struct Awaited {
    sockets: RefCell<HashMap<u64, Socket>>,
    next: Cell<u64>,
}

impl Awaited {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sockets.borrow().len()
    }

    /// Greets nobody any more.
    pub(super) fn shut_down(&self) {
        for socket in self.sockets.borrow().values() {
            socket.shut_down();
        }
    }
}

/// Where connections come in.
pub(super) struct Entrance {
    pub(super) core: Rc<Core>,
    pub(super) kind: ChannelKind,
    pub(super) awaited: Rc<Awaited>,
}

impl Entrance {
    /// Takes a connection that was accepted.
    pub(super) fn receive(self: &Rc<Self>, socket: Socket, from: SocketAddr, now: Instant) {
        let settings = self.core.settings();
        let proxies = &settings.data.proxies;
        if proxies.trust(from.ip()) {
            if self.awaited.count() >= limits::PROXY_HEADERS_AWAITED_MAX {
                return self.turn_away(&socket, from, &TOO_MANY_AWAITED);
            }
            let entrance = Rc::clone(self);
            rt::spawn(async move {
                if let Some(ends) = entrance.introduced(&socket, from).await {
                    let admission = &entrance.core.admission;
                    let permit = match ends.shown {
                        Some(_) => admission.enter(ends.peer.ip(), now),
                        None => admission.enter_trusted(from.ip()),
                    };
                    entrance.admit(socket, ends, permit, now);
                }
            });
        } else if proxies.only {
            self.turn_away(&socket, from, &PROXY_ONLY);
        } else {
            let ends = Ends {
                peer: from,
                shown: None,
            };
            let permit = self.core.admission.enter(from.ip(), now);
            self.admit(socket, ends, permit, now);
        }
    }

    /// Waits for a proxy to say whom it speaks for.
    async fn introduced(&self, socket: &Socket, from: SocketAddr) -> Option<Ends> {
        let number = self.awaited.next.get();
        self.awaited.next.set(number + 1);
        let awaited = &self.awaited.sockets;
        awaited.borrow_mut().insert(number, socket.clone());
        let limit = self.core.settings().data.proxies.time_max;
        let read = proxy::read_header(socket, limit).await;
        awaited.borrow_mut().remove(&number);
        proxy::note(&self.core.metrics, Channel::Control, from, &read);
        match read {
            Ok(Header::Client {
                source,
                destination,
            }) => {
                debug!(peer = %source, proxy = %from, "control connection through a proxy");
                Some(Ends {
                    peer: source,
                    shown: Some(destination),
                })
            }
            Ok(Header::Local) => Some(Ends {
                peer: from,
                shown: None,
            }),
            Err(problem) => {
                if problem != NotIntroduced::Silent {
                    // What has come is read, or the close would be a reset and the words be lost.
                    let _ = socket.receive_now(&mut [0; limits::CONTROL_READ_OCTETS]);
                    self.turn_away(socket, from, &NO_HEADER);
                }
                socket.shut_down();
                None
            }
        }
    }

    fn turn_away(&self, socket: &Socket, from: SocketAddr, no: &No) {
        debug!(%from, words = %no.words.trim_ascii_end().escape_ascii(), "connection turned away");
        self.core.turned_away(self.kind, no.reason);
        if self.kind == ChannelKind::Explicit {
            let _ = socket.send_now(no.words);
        }
    }

    fn admit(
        &self,
        socket: Socket,
        ends: Ends,
        permit: Result<ConnectionPermit, Refused>,
        now: Instant,
    ) {
        let permit = match permit {
            Ok(permit) => permit,
            Err(refused) => return self.turn_away(&socket, ends.peer, &refused.into()),
        };
        let (core, kind) = (Rc::clone(&self.core), self.kind);
        rt::spawn(async move {
            control::serve(core, socket, ends, kind, now).await;
            drop(permit);
        });
    }
}
