//! Descriptors from one process to another over a Unix socket (SCM_RIGHTS, unix(7)), and who is at the other end.
//!
//! The sockets keep message boundaries (SOCK_SEQPACKET), so a descriptor always belongs to its message.
//! Calls block; a time limit is set on each connection.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, sockopt,
};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// Longest message.
pub const MESSAGE_OCTETS_MAX: usize = 256;
const BACKLOG: i32 = 16;

/// The process at the other end when the connection was made, by the kernel's word (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id.
    pub process: u32,
    /// Its user id.
    pub user: u32,
}

/// Listens at `path`, where there must be nothing yet, for this account only.
///
/// # Errors
/// The system's; `InvalidInput` for a path that is too long for a socket (107 octets).
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before listen(2).
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Waits for a connection.
///
/// # Errors
/// The system's.
pub fn accept(listener: impl AsFd, limit: Duration) -> io::Result<(OwnedFd, Peer)> {
    let (socket, _) = SockRef::from(&listener.as_fd()).accept()?;
    finish(socket, limit)
}

/// Connects to whoever listens at `path`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` when nobody does, else the system's.
pub fn connect(path: &Path, limit: Duration) -> io::Result<(OwnedFd, Peer)> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&SockAddr::unix(path)?)?;
    finish(socket, limit)
}

fn finish(socket: Socket, limit: Duration) -> io::Result<(OwnedFd, Peer)> {
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    let credentials = sockopt::socket_peercred(&socket)?;
    let peer = Peer {
        process: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
        user: credentials.uid.as_raw(),
    };
    Ok((socket.into(), peer))
}

/// Sets another limit for what comes next.
///
/// # Errors
/// The system's.
pub fn set_limit(socket: impl AsFd, limit: Duration) -> io::Result<()> {
    SockRef::from(&socket.as_fd()).set_read_timeout(Some(limit))
}

/// Sends a message, with a descriptor or without.
///
/// # Errors
/// The system's: the other end is gone, or does not read in time.
pub fn send(socket: impl AsFd, text: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let octets = [IoSlice::new(text.as_bytes())];
    rustix::net::sendmsg(socket, &octets, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message, and the descriptor that came with it.
///
/// # Errors
/// `UnexpectedEof` at the end, `WouldBlock` when the time is over, `InvalidData` for what is no message of
/// [`send`], else the system's.
pub fn receive(socket: impl AsFd) -> io::Result<(String, Option<OwnedFd>)> {
    let mut octets = [0; MESSAGE_OCTETS_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut octets)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let cut = ReturnFlags::TRUNC | ReturnFlags::CTRUNC;
    let text = octets.get(..received.bytes).unwrap_or_default();
    let text = String::from_utf8(text.to_vec()).map_err(|_| io::ErrorKind::InvalidData)?;
    if received.flags.intersects(cut) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((text, fd))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_descriptor_arrives_with_its_message_and_the_peer_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let refused = connect(&path, LIMIT).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        let listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (ours, peer) = connect(&path, LIMIT).unwrap();
        assert_eq!(peer.process, std::process::id());
        let (theirs, peer) = accept(&listener, LIMIT).unwrap();
        assert_eq!(peer.user, rustix::process::geteuid().as_raw());

        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        send(&theirs, "first", None).unwrap();
        send(&theirs, "second", Some(tcp.as_fd())).unwrap();
        assert!(matches!(receive(&ours).unwrap(), (text, None) if text == "first"));
        let (text, fd) = receive(&ours).unwrap();
        assert_eq!(text, "second");
        let address = tcp.local_addr().unwrap();
        drop(tcp);
        let passed = TcpListener::from(fd.unwrap());
        let _client = TcpStream::connect(address).unwrap();
        passed.accept().unwrap();

        set_limit(&ours, Duration::from_millis(50)).unwrap();
        assert_eq!(
            receive(&ours).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        send(&theirs, &"x".repeat(MESSAGE_OCTETS_MAX + 1), None).unwrap();
        assert_eq!(
            receive(&ours).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        drop(theirs);
        assert_eq!(
            receive(&ours).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        drop(listener);
        let refused = connect(&path, LIMIT).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let long = directory.path().join("x".repeat(120));
        assert_eq!(
            listen(&long).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
