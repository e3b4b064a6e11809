//! Sockets: the calls that return at once. Waiting is done by [`super::ring`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// Interval of TCP keepalive probes on control connections: below the 60 s after which some NAT
/// devices forget an idle connection during a long transfer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(50);

/// Receives what is there.
///
/// # Errors
/// `WouldBlock` when nothing is there, else the kernel's error.
pub fn receive_now(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    receive(fd, buffer, RecvFlags::DONTWAIT)
}

/// As [`receive_now`], and leaves the octets where they are.
///
/// # Errors
/// As [`receive_now`].
pub fn peek_now(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    receive(fd, buffer, RecvFlags::DONTWAIT | RecvFlags::PEEK)
}

fn receive(fd: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&fd, &mut *buffer, flags) {
            Ok((count, _)) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends what the socket's buffer takes.
///
/// # Errors
/// `WouldBlock` when it takes nothing, else the kernel's error.
pub fn send_now(fd: impl AsFd, octets: &[u8]) -> io::Result<usize> {
    send(fd, octets, SendFlags::empty())
}

/// As [`send_now`], where more follows at once, be it only FIN: what does not fill a segment waits for that,
/// 200 ms at most.
///
/// # Errors
/// As [`send_now`].
pub fn send_more_now(fd: impl AsFd, octets: &[u8]) -> io::Result<usize> {
    send(fd, octets, SendFlags::MORE)
}

fn send(fd: impl AsFd, octets: &[u8], flags: SendFlags) -> io::Result<usize> {
    let flags = flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::send(&fd, octets, flags) {
            Ok(count) => return Ok(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends both directions; whatever waits on the socket (poll, receive, send, accept, connect) wakes.
pub fn shut_down(fd: impl AsFd) {
    // An error only says that the socket is not connected any more, which is what is wanted.
    let _ = rustix::net::shutdown(fd, Shutdown::Both);
}

/// Sends FIN after what is queued.
///
/// # Errors
/// The kernel's error, for instance when the peer has reset the connection.
pub fn finish_sending(fd: impl AsFd) -> io::Result<()> {
    rustix::net::shutdown(fd, Shutdown::Write).map_err(Into::into)
}

/// Makes the close that follows send RST instead of FIN: what was queued is thrown away.
pub fn reset_on_close(fd: impl AsFd) {
    let _ = SockRef::from(&fd.as_fd()).set_linger(Some(Duration::ZERO));
}

/// A pending error of the socket, taken from it (`SO_ERROR`).
///
/// # Errors
/// That error.
pub fn take_error(fd: impl AsFd) -> io::Result<()> {
    match SockRef::from(&fd.as_fd()).take_error()? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A non-blocking listener. `shared` sets SO_REUSEPORT, so that each core has one of its own; an
/// IPv6 wildcard also takes IPv4 connections.
///
/// # Errors
/// The kernel's error: the address is taken, not ours, or needs a capability.
pub fn listen(address: SocketAddr, backlog: i32, shared: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Accepts one connection from a non-blocking listener. The new socket is a blocking one: ring
/// operations on it wait in the kernel.
///
/// # Errors
/// `WouldBlock` when none waits, else the kernel's error.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    loop {
        match rustix::net::acceptfrom_with(&listener, rustix::net::SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => {
                let peer = peer.and_then(|address| SocketAddr::try_from(address).ok());
                let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?;
                return Ok((fd, peer));
            }
            // The connection was gone before we came to it.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts to connect from `source`, whose port may be 0. Wait for writability, then call
/// [`finish_connect`].
///
/// # Errors
/// `AddrInUse` and `PermissionDenied` speak of the source port, others of the target.
pub fn start_connect(source: SocketAddr, target: SocketAddr) -> io::Result<OwnedFd> {
    let socket = connecting_socket(target)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(source))?;
    begin_connect(socket, target)
}

/// As [`start_connect`] from whatever address and port the system chooses, which may be in use for
/// another target: so there are many times as many.
///
/// # Errors
/// The kernel's error, which speaks of the target or of this machine's lack of ports.
pub fn start_connect_to(target: SocketAddr) -> io::Result<OwnedFd> {
    begin_connect(connecting_socket(target)?, target)
}

fn connecting_socket(target: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))
}

fn begin_connect(socket: Socket, target: SocketAddr) -> io::Result<OwnedFd> {
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

/// Tells how a connect ended and makes the socket a blocking one again.
///
/// # Errors
/// Why it failed.
pub fn finish_connect(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    let socket = SockRef::from(&fd);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    socket.peer_addr()?;
    socket.set_nonblocking(false)
}

/// The local address.
///
/// # Errors
/// The kernel's error.
pub fn local_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(fd)?;
    SocketAddr::try_from(address).map_err(Into::into)
}

/// For a listener, whose accepted sockets take these options over, so that accepting costs no
/// further calls: small replies leave at once (TCP_NODELAY), a vanished client is noticed (keepalive), urgent
/// data stays in line so that the Synch of ABOR cannot split a command (RFC 1123 §4.1.2.12).
pub fn tune_control(fd: impl AsFd) {
    let fd = fd.as_fd();
    let socket = SockRef::from(&fd);
    // None of these can fail on a TCP socket; a client that is gone is noticed by the next read.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_out_of_band_inline(true);
    let _ = socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_INTERVAL)
            .with_interval(KEEPALIVE_INTERVAL),
    );
}

/// The last, short segment of a transfer leaves at once. For a connecting socket, or a listener
/// whose accepted sockets take it over.
pub fn tune_data(fd: impl AsFd) {
    let _ = SockRef::from(&fd.as_fd()).set_tcp_nodelay(true);
}

/// Holds back segments that are not full, until FIN or [`uncork`], but for 200 ms at most. Each record
/// of kernel TLS would go out by itself otherwise.
pub fn cork(fd: impl AsFd) {
    // Not more than an optimisation, and possible on every TCP socket.
    let _ = SockRef::from(&fd.as_fd()).set_tcp_cork(true);
}

/// Ends [`cork`]: what was held back leaves.
pub fn uncork(fd: impl AsFd) {
    let _ = SockRef::from(&fd.as_fd()).set_tcp_cork(false);
}

/// Spreads what is sent at this many octets a second, headers included (`SO_MAX_PACING_RATE`): by the queue
/// discipline fq, or by TCP itself where there is another. The first ten segments leave at once.
///
/// # Errors
/// The kernel's error.
pub fn pace(fd: impl AsFd, rate: u64) -> io::Result<()> {
    // SAFETY: the kernel reads as many octets of `rate` as it is told, and `rate` has so many.
    let result = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const rate).cast(),
            libc::socklen_t::try_from(size_of_val(&rate)).unwrap_or(0),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Acknowledges the next segments at once. A TLS client answers our flight with two small messages
/// (change_cipher_spec, Finished); where it has not set TCP_NODELAY its kernel holds the second back
/// until the first is acknowledged, and ours would wait 40 ms with that.
pub fn acknowledge_at_once(fd: impl AsFd) {
    // Not more than an optimisation, and possible on every TCP socket.
    let _ = SockRef::from(&fd.as_fd()).set_tcp_quickack(true);
}

/// Octets sent that the peer has not acknowledged yet; FIN counts as one (SIOCOUTQ).
///
/// # Errors
/// The kernel's error.
pub fn unacknowledged(fd: impl AsFd) -> io::Result<u32> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the request writes one int, and `octets` is one that lives across the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(octets).unwrap_or(0))
}

/// Whether there is no connection any more.
pub fn is_gone(fd: impl AsFd) -> bool {
    rustix::net::getpeername(fd).is_err()
}

/// What can be said of a connection without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// There is something to read: octets, or the peer's FIN.
    pub readable: bool,
    /// Both directions have ended, or an error has.
    pub gone: bool,
}

/// Looks at a connection (poll(2) without a wait).
///
/// # Errors
/// The kernel's error.
pub fn glance(fd: impl AsFd) -> io::Result<Glance> {
    let fd = fd.as_fd();
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut polled, Some(&now)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let events = polled
        .first()
        .map_or(PollFlags::empty(), |polled| polled.revents());
    Ok(Glance {
        readable: events.contains(PollFlags::IN),
        gone: events.intersects(PollFlags::ERR | PollFlags::HUP),
    })
}

/// The memory of a socket's send buffer, by the kernel's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendBuffer {
    /// How much it may be.
    pub size: u32,
    /// How much what waits to be sent or acknowledged takes.
    pub queued: u32,
}

/// Asks for the account of the send buffer (`SO_MEMINFO`).
///
/// # Errors
/// The kernel's error.
pub fn send_buffer(fd: impl AsFd) -> io::Result<SendBuffer> {
    /// asm-generic/socket.h.
    const SO_MEMINFO: libc::c_int = 55;
    /// Places in the kernel's answer (linux/sock_diag.h).
    const SIZE: usize = 3;
    const QUEUED: usize = 5;
    let mut account = [0_u32; 9];
    let mut length = libc::socklen_t::try_from(size_of_val(&account)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` octets to `account`, which has so many, and the
    // length to `length`; both live across the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            account.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let at = |place: usize| account.get(place).copied().unwrap_or(0);
    Ok(SendBuffer {
        size: at(SIZE),
        queued: at(QUEUED),
    })
}

/// A descriptor for nothing, to be given up when the process has no other left.
///
/// # Errors
/// There is none left now.
pub fn spare() -> io::Result<OwnedFd> {
    Ok(Socket::new(Domain::UNIX, Type::STREAM, None)?.into())
}
