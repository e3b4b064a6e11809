//! Both ends of a connection in one thread: sockets connected over loopback, a rustls client, the
//! server's engine, and octets to send. No call waits for longer than [`PATIENCE`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::net::sockopt;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::{Problem, wrong};
use crate::sys::socket;
use crate::tls::{ControlTls, Engine, Identity, Protection, Resume, Role, Settings, Version};

/// Octets on loopback are there at once; who waits for so long waits in vain.
const PATIENCE: Duration = Duration::from_secs(2);
/// A full socket's buffer is looked at again after this time, and so many times.
const ROOM_WAIT: Duration = Duration::from_millis(10);
const ROOM_WAITS_MAX: u32 = 200;
/// A chunk of ciphertext should fit into the sockets' buffers, as far as the system allows.
const SOCKET_BUFFER_OCTETS: usize = 1024 * 1024;
/// Most of it is not in the processor's nearest caches when it is read, as it is with files.
const CONTENT_OCTETS: usize = 2 * 1024 * 1024;
/// No handshake has more flights.
const FLIGHTS_MAX: usize = 8;
/// The name in the certificate.
const NAME: &str = "localhost";

/// The time, which nobody below `rt` knows otherwise.
#[expect(
    clippy::disallowed_methods,
    reason = "the probe comes before the runtime that could be asked"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Two sockets that are connected with each other. Calls on them never wait.
pub(super) struct Link {
    /// The server's.
    pub(super) ours: TcpStream,
    /// The client's.
    pub(super) theirs: TcpStream,
}

impl Link {
    pub(super) fn new() -> Result<Self, Problem> {
        let (ours, theirs) = connected().map_err(wrong("connecting over loopback"))?;
        for socket in [&ours, &theirs] {
            socket
                .set_nonblocking(true)
                .map_err(wrong("preparing a socket"))?;
            socket::tune_data(socket);
            enlarge_buffers(socket);
        }
        Ok(Self { ours, theirs })
    }
}

fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let theirs = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    wait(&listener, PollFlags::IN)?;
    let (ours, peer): (TcpStream, SocketAddr) = listener.accept()?;
    // SECURITY: any program on this machine may have connected to the port first.
    if peer != theirs.local_addr()? {
        return Err(io::Error::other("somebody else has connected to our port"));
    }
    Ok((ours, theirs))
}

/// Beyond the system's limits as root, else up to them. Smaller buffers are no problem: a chunk then
/// takes several calls.
fn enlarge_buffers(socket: &TcpStream) {
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER_OCTETS).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_OCTETS);
    }
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER_OCTETS).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_OCTETS);
    }
}

/// Waits until the socket is ready.
///
/// # Errors
/// `TimedOut` when it never becomes so.
pub(super) fn wait(socket: &impl std::os::fd::AsFd, what: PollFlags) -> io::Result<()> {
    match poll(socket, what, PATIENCE)? {
        true => Ok(()),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn poll(socket: &impl std::os::fd::AsFd, what: PollFlags, time: Duration) -> io::Result<bool> {
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    loop {
        match rustix::event::poll(&mut [PollFd::new(socket, what)], Some(&time)) {
            Ok(count) => return Ok(count > 0),
            // Signals are few before the server starts, and this cannot wait for ever on one.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Calls `send` until it has taken `count` octets, and `make_room` for it where the socket is full.
/// `send` is told how many it has taken so far.
pub(super) fn send_all(
    link: &Link,
    count: usize,
    mut send: impl FnMut(usize) -> io::Result<usize>,
    mut make_room: impl FnMut() -> Result<(), Problem>,
) -> Result<(), Problem> {
    let (mut sent, mut waits) = (0, 0);
    while sent < count {
        match send(sent) {
            Ok(0) => return Err(Problem::Wrong("sending took no octet".to_owned())),
            Ok(taken) => (sent, waits) = (sent + taken, 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waits < ROOM_WAITS_MAX => {
                waits += 1;
                poll(&link.theirs, PollFlags::IN, ROOM_WAIT).map_err(wrong("sending"))?;
                make_room()?;
            }
            Err(error) => return Err(wrong("sending")(error)),
        }
    }
    Ok(())
}

/// Gives a socket what it takes of the octets, and leaves the others.
pub(super) fn feed(socket: &TcpStream, octets: &mut &[u8]) -> Result<(), Problem> {
    while !octets.is_empty() {
        match socket::send_now(socket, octets) {
            Ok(taken) => *octets = octets.get(taken..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(wrong("the client's sending")(error)),
        }
    }
    Ok(())
}

/// The octets that are sent either way, and a file that consists of them.
pub(super) struct Content {
    pub(super) octets: Vec<u8>,
    /// In the page cache only.
    pub(super) file: File,
}

impl Content {
    fn new() -> io::Result<Self> {
        // Marsaglia's xorshift: nothing repeats, so octets in the wrong place are noticed.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut octets = Vec::with_capacity(CONTENT_OCTETS);
        while octets.len() < CONTENT_OCTETS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            octets.extend_from_slice(&state.to_le_bytes());
        }
        let descriptor = rustix::fs::memfd_create("ringftpd-probe", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(descriptor);
        file.write_all(&octets)?;
        Ok(Self { octets, file })
    }

    /// As many octets from there on.
    pub(super) fn part(&self, start: usize, count: usize) -> &[u8] {
        self.octets.get(start..start + count).unwrap_or_default()
    }
}

/// What all trials share.
pub(super) struct Bench {
    pub(super) content: Content,
    settings: Settings,
    control: Rc<ControlTls>,
    /// Hold the server's certificate only.
    roots: Arc<RootCertStore>,
}

impl Bench {
    pub(super) fn new() -> Result<Self, Problem> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])
            .map_err(wrong("making a certificate"))?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())
            .map_err(wrong("making a certificate"))?;
        let settings = Settings::new(&identity, Resume::Off).map_err(wrong("preparing TLS"))?;
        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(wrong("preparing TLS"))?;
        Ok(Self {
            content: Content::new().map_err(wrong("making a file in memory"))?,
            control: ControlTls::new(&settings, now()),
            settings,
            roots: Arc::new(roots),
        })
    }

    /// A connection after its handshake, which went through memory.
    pub(super) fn connect(&self, protection: Protection) -> Result<Ends, Problem> {
        let mut ends = Ends {
            link: Link::new()?,
            client: self
                .client(protection)
                .map_err(wrong("preparing a client"))?,
            engine: Engine::new(&self.settings, Role::Upload, &self.control)
                .map_err(wrong("preparing a server"))?,
        };
        ends.shake_hands().map_err(wrong("the handshake"))?;
        if ends.engine.protection() != Some(protection) {
            return Err(Problem::Wrong(format!(
                "the handshake agreed on {} {}",
                ends.engine.version(),
                ends.engine.suite()
            )));
        }
        Ok(ends)
    }

    /// A client that offers nothing else. The server offers everything, as it always does.
    fn client(&self, protection: Protection) -> Result<ClientConnection, io::Error> {
        let mut provider: CryptoProvider = aws_lc_rs::default_provider();
        let version: &SupportedProtocolVersion = match protection.version {
            Version::Tls12 => &TLS12,
            Version::Tls13 => &TLS13,
        };
        provider.cipher_suites.retain(|suite| {
            Protection::of(suite.version().version, suite.suite()) == Some(protection)
        });
        // The cheapest key exchange; the keys do not depend on it.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .map_err(io::Error::other)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        // What it is given to write has a limit here.
        client.set_buffer_limit(None);
        Ok(client)
    }
}

/// Both ends after the handshake, the server's still in this process.
pub(super) struct Ends {
    pub(super) link: Link,
    pub(super) client: ClientConnection,
    pub(super) engine: Engine,
}

impl Ends {
    fn shake_hands(&mut self) -> io::Result<()> {
        let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..FLIGHTS_MAX {
            take_records(&mut self.client, &mut incoming)?;
            self.engine
                .process(&mut incoming, &mut plain, &mut outgoing)
                .map_err(io::Error::other)?;
            give_records(&mut self.client, &outgoing, &mut plain)?;
            outgoing.clear();
            if self.engine.can_leave() && !self.client.is_handshaking() {
                return Ok(());
            }
        }
        Err(io::Error::other("it does not come to an end"))
    }
}

/// Takes everything that the client has to send.
pub(super) fn take_records(client: &mut ClientConnection, records: &mut Vec<u8>) -> io::Result<()> {
    while client.wants_write() {
        client.write_tls(records)?;
    }
    Ok(())
}

/// Has the client write plaintext; its records are appended.
pub(super) fn write_records(
    client: &mut ClientConnection,
    plain: &[u8],
    records: &mut Vec<u8>,
) -> io::Result<()> {
    client.writer().write_all(plain)?;
    take_records(client, records)
}

/// Gives the client octets that came for it, and appends what they say. Tells whether close_notify
/// was among them.
pub(super) fn give_records(
    client: &mut ClientConnection,
    mut records: &[u8],
    plain: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut closed = false;
    while !records.is_empty() {
        // It takes nothing any more behind close_notify.
        if client.read_tls(&mut records)? == 0 {
            return Err(io::Error::other("octets after the end"));
        }
        let state = client.process_new_packets().map_err(io::Error::other)?;
        closed |= state.peer_has_closed();
        match client.reader().read_to_end(plain) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            // All that there is now.
            _ => {}
        }
    }
    Ok(closed)
}
