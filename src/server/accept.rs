//! Accepting control connections on one core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::control::{self, Core, Ends};
use crate::data::proxy::{self, NotIntroduced};
use crate::limits;
use crate::metrics::Channel;
use crate::proto::proxy::Header;
use crate::proto::session::ChannelKind;
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Pause after the system ran out of descriptors or memory: time for sessions to end.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// A client over the limit is told so on an explicit port (RFC 959 §5.4: 421 may answer the
/// connection itself); an implicit port says nothing before TLS.
const TOO_MANY: &[u8] = b"421 Too many connections, try again later.\r\n";
/// The same to a proxy that does not say whom it speaks for.
const NO_HEADER: &[u8] = b"421 A PROXY header is expected here.\r\n";
/// The same to those who go past the proxy where they must not.
const PROXY_ONLY: &[u8] =
    b"421 Not served here: connect to the public address of this service.\r\n";

/// Where connections come in.
struct Entrance {
    core: Rc<Core>,
    kind: ChannelKind,
    /// Connections of proxies whose header has not come yet.
    awaited: RefCell<HashMap<u64, Socket>>,
    next: Cell<u64>,
}

/// Accepts until the listener is shut down.
pub(super) async fn run(core: Rc<Core>, listener: Socket, kind: ChannelKind) {
    let entrance = Rc::new(Entrance {
        core,
        kind,
        awaited: RefCell::default(),
        next: Cell::new(0),
    });
    entrance.accept(&listener).await;
    // Nobody is greeted any more.
    for socket in entrance.awaited.borrow().values() {
        socket.shut_down();
    }
}

impl Entrance {
    async fn accept(self: &Rc<Self>, listener: &Socket) {
        let mut reserve = Reserve::new();
        loop {
            if listener.readable().await.is_err() {
                rt::sleep(EXHAUSTED_PAUSE).await;
            }
            let now = rt::now();
            for _ in 0..limits::ACCEPTS_PER_TURN {
                match socket::accept(listener) {
                    Ok((fd, peer)) => self.receive(Socket::new(fd), peer, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The listener was shut down: the server drains.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                    Err(error) => {
                        // Out of descriptors or memory: a waiting client is turned away, so that it
                        // does not wait for ever, and the loop pauses instead of spinning.
                        warn!(%error, "connections refused: raise the limit of open files (LimitNOFILE=)");
                        if reserve.shed(listener) {
                            self.core.turned_away(self.kind);
                        }
                        rt::sleep(EXHAUSTED_PAUSE).await;
                        break;
                    }
                }
            }
        }
    }

    fn receive(self: &Rc<Self>, socket: Socket, from: SocketAddr, now: Instant) {
        let proxies = &self.core.settings.data.proxies;
        if proxies.trust(from.ip()) {
            if self.awaited.borrow().len() >= limits::PROXY_HEADERS_AWAITED_MAX {
                return self.turn_away(&socket, from, TOO_MANY);
            }
            let entrance = Rc::clone(self);
            rt::spawn(async move {
                if let Some(ends) = entrance.introduced(&socket, from).await {
                    entrance.admit(socket, ends, now);
                }
            });
        } else if proxies.only {
            self.turn_away(&socket, from, PROXY_ONLY);
        } else {
            let ends = Ends {
                peer: from,
                shown: None,
            };
            self.admit(socket, ends, now);
        }
    }

    /// Waits for a proxy to say whom it speaks for.
    async fn introduced(&self, socket: &Socket, from: SocketAddr) -> Option<Ends> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.awaited.borrow_mut().insert(number, socket.clone());
        let limit = self.core.settings.data.proxies.time_max;
        let read = proxy::read_header(socket, limit).await;
        self.awaited.borrow_mut().remove(&number);
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
                    self.turn_away(socket, from, NO_HEADER);
                }
                socket.shut_down();
                None
            }
        }
    }

    fn turn_away(&self, socket: &Socket, from: SocketAddr, words: &[u8]) {
        debug!(%from, words = %words.trim_ascii_end().escape_ascii(), "connection turned away");
        self.core.turned_away(self.kind);
        if self.kind == ChannelKind::Explicit {
            let _ = socket.send_now(words);
        }
    }

    fn admit(&self, socket: Socket, ends: Ends, now: Instant) {
        let Some(permit) = self.core.admission.enter(ends.peer.ip()) else {
            return self.turn_away(&socket, ends.peer, TOO_MANY);
        };
        let (core, kind) = (Rc::clone(&self.core), self.kind);
        rt::spawn(async move {
            control::serve(core, socket, ends, kind, now).await;
            drop(permit);
        });
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
