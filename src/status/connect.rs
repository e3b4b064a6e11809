//! The way to a process's socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

/// Connects to a process's socket, but does not wait where its queue is full, as that of a process that hangs is.
///
/// # Errors
/// `WouldBlock`: its queue is full. `ConnectionRefused`: its process is gone. Others as of connect(2).
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_not_waited_for_and_nobody_is_told_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let kind = |result: io::Result<UnixStream>| result.map(drop).map_err(|error| error.kind());
        assert_eq!(kind(connect(&path)), Err(io::ErrorKind::NotFound));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let waiting: Vec<io::Result<UnixStream>> = (0..8).map(|_| connect(&path)).collect();
        assert!(waiting[0].is_ok());
        let last = waiting.last().unwrap().as_ref().unwrap_err();
        assert_eq!(last.kind(), io::ErrorKind::WouldBlock);
        drop((listener, waiting));
        assert_eq!(kind(connect(&path)), Err(io::ErrorKind::ConnectionRefused));
    }
}
