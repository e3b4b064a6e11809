//! Data connections in the TCP sense: passive listeners, active connects, peer checks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use tracing::debug;

use super::prepare::Early;
use super::{Handle, Link, Settings, Setup, proxy};
use crate::limits;
use crate::metrics::{Channel, Recorder};
use crate::proto::proxy::Header;
use crate::proto::{SetupError, TransferEnd};
use crate::rt::{self, Socket};
use crate::sys::socket;

/// Connections that may wait in a passive listener: the client's, and some strangers'.
const BACKLOG: i32 = 8;

/// A passive listener. Dropping it closes it and resets what waits in it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

/// Who may come, and what decides whether somebody is.
#[derive(Debug)]
pub struct Expected {
    /// The control connection's peer, as its proxy announced it if there is one; nobody else is served.
    pub peer: IpAddr,
    /// The operator's settings.
    pub settings: Arc<Settings>,
    /// The core's books.
    pub metrics: Rc<Recorder>,
}

impl Listener {
    /// Every address of this machine, IPv4 and IPv6, for [`Self::bind`].
    #[must_use]
    pub fn everywhere() -> SocketAddr {
        static IPV6: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        match IPV6.get_or_init(crate::sys::host::ipv6_available) {
            true => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
            false => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        }
    }

    /// Listens on a port of the range, chosen at random (RFC 2577 §8), on the control connection's
    /// local address; its port does not matter.
    ///
    /// # Errors
    /// [`SetupError`]: all ports are taken, or the system has no socket for us.
    pub fn bind(local: SocketAddr, ports: &RangeInclusive<u16>) -> Result<Self, SetupError> {
        let (first, last) = (u32::from(*ports.start()), u32::from(*ports.end()));
        let count = last.saturating_sub(first) + 1;
        let start = random() % count;
        let random_tries = (0..limits::PASSIVE_PORT_TRIES_RANDOM).map(|_| random() % count);
        let in_order = (0..count)
            .take(limits::PASSIVE_PORT_TRIES_MAX)
            .map(|step| (start + step) % count);
        for step in random_tries.chain(in_order) {
            let port = u16::try_from(first + step).unwrap_or(u16::MAX);
            let address = on_port(local, port);
            match socket::listen(address, BACKLOG, false) {
                Ok(fd) => {
                    socket::tune_data(&fd);
                    return Ok(Self {
                        socket: Socket::new(fd),
                        address,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    debug!(%error, "no passive listener");
                    return Err(SetupError::System);
                }
            }
        }
        Err(SetupError::NoPort)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A poll in flight holds the descriptor open; this ends it, so the port is free at once.
        self.socket.shut_down();
    }
}

fn random() -> u32 {
    let mut octets = [0; 4];
    // Without randomness the ports are in order, which is no more than less hard to guess.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    u32::from_ne_bytes(octets)
}

/// Gets the connection of a transfer.
///
/// # Errors
/// [`TransferEnd::NotConnected`], [`TransferEnd::Aborted`], or what ended a handshake that had begun.
pub(super) async fn connect(
    setup: Setup,
    local: SocketAddr,
    peer: SocketAddr,
    link: &Link,
) -> Result<Early, TransferEnd> {
    let early = match setup {
        Setup::Passive(passive) => passive.finish(link.settings.connect_time_max).await?,
        // The address is the peer's, and so is the link that a link-local one belongs to.
        Setup::Active(target) => Early {
            socket: call(local, on_port(peer, target.port()), link).await?,
            begun: None,
            elsewhere: false,
        },
    };
    link.handle.watch(&early.socket)?;
    Ok(early)
}

/// Accepts the peer's connection; waits until the listener is shut down. Tells whether it came from another address
/// than the control connection; only what TLS will protect may do so, and where the operator wants it.
///
/// # Errors
/// [`TransferEnd::NotConnected`].
pub(super) async fn accept(
    listener: &Listener,
    expected: &Expected,
    protected: bool,
    handle: &Handle,
) -> Result<(Socket, bool), TransferEnd> {
    let failed = |error: io::Error| {
        debug!(%error, "accepting a data connection failed");
        TransferEnd::NotConnected
    };
    loop {
        // The client is told the port only now.
        listener.socket.readable().await.map_err(failed)?;
        match socket::accept(&listener.socket) {
            Ok((fd, from)) => {
                let socket = Socket::new(fd);
                let caller = if expected.settings.proxies.trust(from.ip()) {
                    introduced(&socket, from, expected, handle).await
                } else {
                    Some(from)
                };
                let Some(caller) = caller else {
                    continue;
                };
                // SECURITY: a stranger who finds the port neither gets the data nor ends the wait of
                // the right client (RFC 2577 §4).
                let elsewhere = caller.ip().to_canonical() != expected.peer.to_canonical();
                if !elsewhere || (protected && expected.settings.peers_elsewhere) {
                    return Ok((socket, elsewhere));
                }
                debug!(%from, %caller, "data connection from a stranger closed");
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whose connection of a proxy it is. An abort ends the wait for its header.
async fn introduced(
    socket: &Socket,
    proxy: SocketAddr,
    expected: &Expected,
    handle: &Handle,
) -> Option<SocketAddr> {
    *handle.candidate.borrow_mut() = Some(socket.clone());
    let read = proxy::read_header(socket, expected.settings.proxies.time_max).await;
    handle.candidate.borrow_mut().take();
    proxy::note(&expected.metrics, Channel::Data, proxy, &read);
    match read {
        Ok(Header::Client { source, .. }) => Some(source),
        Ok(Header::Local) => Some(proxy),
        Err(_) => {
            socket.shut_down();
            None
        }
    }
}

async fn call(local: SocketAddr, target: SocketAddr, link: &Link) -> Result<Socket, TransferEnd> {
    let local = source(local, target);
    let standard = local.port().saturating_sub(1);
    if link.settings.active_source_standard && standard != 0 {
        match call_from(on_port(local, standard), target, link).await {
            // The pair of addresses is in use still, or the port is not for us: any port will do.
            Err(CallError::Source) => {}
            Err(CallError::Target) => return Err(TransferEnd::NotConnected),
            Ok(socket) => return Ok(socket),
        }
    }
    call_from(on_port(local, 0), target, link)
        .await
        .map_err(|_| TransferEnd::NotConnected)
}

enum CallError {
    Source,
    Target,
}

async fn call_from(
    source: SocketAddr,
    target: SocketAddr,
    link: &Link,
) -> Result<Socket, CallError> {
    let started = socket::start_connect(source, target).map_err(|error| {
        debug!(%error, %source, %target, "active data connection not started");
        match error.kind() {
            io::ErrorKind::AddrInUse
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::PermissionDenied => CallError::Source,
            _ => CallError::Target,
        }
    });
    let socket = Socket::new(started?);
    socket::tune_data(&socket);
    link.handle.watch(&socket).map_err(|_| CallError::Target)?;
    let wait = rt::within(link.settings.connect_time_max, &socket, socket.writable());
    let ended = match wait.await {
        Ok(ready) => ready.and_then(|()| socket::finish_connect(&socket)),
        Err(rt::TimedOut) => Err(io::ErrorKind::TimedOut.into()),
    };
    match ended {
        Ok(()) => Ok(socket),
        Err(error) => {
            debug!(%error, %target, "active data connection failed");
            Err(CallError::Target)
        }
    }
}

/// Where to call from: with a proxy in between the client's address can be of another family than ours.
fn source(local: SocketAddr, target: SocketAddr) -> SocketAddr {
    match (local.ip().to_canonical(), target.ip().to_canonical()) {
        (IpAddr::V4(_), IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, local.port()).into(),
        (IpAddr::V6(_), IpAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, local.port()).into(),
        _ => local,
    }
}

/// The address with another port: as IPv4 when it is an IPv4-mapped one, which a socket for IPv6
/// alone cannot be bound to, and with the link of a link-local one.
fn on_port(address: SocketAddr, port: u16) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(_), mut same) => {
            same.set_port(port);
            same
        }
        (ip, _) => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_for_a_control_connection_of_any_form_of_address() {
        let forms = ["127.0.0.1:21", "[::ffff:127.0.0.1]:21", "[::1]:21"];
        for local in forms.map(|local| local.parse::<SocketAddr>().unwrap()) {
            let listener = Listener::bind(local, &(40000..=49999)).expect("a free port");
            let bound = listener.socket.local_address().expect("it is bound");
            assert_eq!(bound, listener.address(), "{local}");
            assert_eq!(bound.ip(), local.ip().to_canonical());
        }
    }

    #[test]
    fn calls_come_from_an_address_of_the_targets_family() {
        for (local, target, expected) in [
            ("10.0.0.1:21", "10.0.0.2:5", "10.0.0.1:21"),
            ("[::ffff:10.0.0.1]:21", "10.0.0.2:5", "[::ffff:10.0.0.1]:21"),
            ("10.0.0.1:21", "[2001:db8::1]:5", "[::]:21"),
            ("[2001:db8::1]:21", "10.0.0.2:5", "0.0.0.0:21"),
        ] {
            let [local, target, expected] =
                [local, target, expected].map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!(source(local, target), expected);
        }
    }

    #[test]
    fn a_link_local_address_keeps_its_link() {
        let local: SocketAddr = "[fe80::1%7]:21".parse().unwrap();
        assert_eq!(on_port(local, 5), "[fe80::1%7]:5".parse().unwrap());
    }
}
