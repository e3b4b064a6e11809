//! Listening sockets that a supervisor has opened (sd_listen_fds(3)).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{SocketType, sockopt};

/// The first descriptor that is passed.
const FIRST: i32 = 3;
/// More are a mistake.
const SOCKETS_MAX: i32 = 4096;
const VARIABLES: [&str; 4] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

/// A listening TCP socket that this process did not open.
#[derive(Debug)]
pub struct Passed {
    /// The socket.
    pub fd: OwnedFd,
    /// What the supervisor calls it (`FileDescriptorName=`); may be empty.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Takes the sockets that were passed to this process, and the variables that tell of them out of the environment,
/// so that no other process takes them for its own. None were passed: nothing is returned.
///
/// To be called once, before any thread is started.
///
/// # Errors
/// A sentence: what was passed is no listening TCP socket.
pub fn take() -> Result<Vec<Passed>, String> {
    let [count, process, names, _] = VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
    for name in VARIABLES {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::remove_var(name) };
    }
    if process.parse() != Ok(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = count.parse::<i32>().ok();
    let count = count.filter(|count| (0..=SOCKETS_MAX).contains(count));
    let count = count.ok_or("LISTEN_FDS is not a number of sockets")?;
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = Vec::new();
    for number in FIRST..FIRST + count {
        let name = names.next().unwrap_or_default();
        let told = |problem: &str| {
            format!("descriptor {number} (`{name}`), passed by LISTEN_FDS, {problem}")
        };
        // SAFETY: borrowed for one call only, which fails for a number that is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)
            .map_err(|_| told("is not open"))?;
        // SAFETY: it is open, was passed to this process by the protocol, and is taken once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let address = listening_address(&fd).map_err(|_| {
            told("is no listening TCP socket: the socket unit needs ListenStream= with an address and a port, and Accept=no")
        })?;
        passed.push(Passed { fd, name, address });
    }
    Ok(passed)
}

/// Where a listening TCP socket listens, made ready to be used here: its accepts do not wait.
///
/// # Errors
/// `InvalidInput` for anything else.
pub fn listening_address(fd: impl AsFd) -> io::Result<SocketAddr> {
    let fd = fd.as_fd();
    let listens =
        sockopt::socket_type(fd)? == SocketType::STREAM && sockopt::socket_acceptconn(fd)?;
    if !listens {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let address = SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    rustix::io::ioctl_fionbio(fd, true)?;
    Ok(address)
}

/// Whether others of this account may listen at the same address (SO_REUSEPORT).
pub fn is_shared(fd: impl AsFd) -> bool {
    sockopt::socket_reuseport(fd).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_tcp_sockets_will_do() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listening_address(&tcp).unwrap(), tcp.local_addr().unwrap());
        assert!(tcp.accept().unwrap_err().kind() == io::ErrorKind::WouldBlock);
        assert!(!is_shared(&tcp));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(listening_address(&udp).is_err());
        let stream = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(listening_address(&stream).is_err());
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(listening_address(&unix).is_err());
    }
}
