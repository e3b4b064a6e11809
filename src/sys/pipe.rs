//! Pipes, through which splice(2) moves pages without copying them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// A pipe with room for about `octets`, reading end first; smaller where the system's bound
/// (fs.pipe-max-size, fs.pipe-user-pages-soft) does not permit that.
///
/// # Errors
/// No descriptor or memory is left.
pub fn new(octets: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // A smaller one is slower, not wrong.
    let _ = fcntl_setpipe_size(&writer, octets);
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_the_size_it_was_asked_for() {
        let (reader, writer) = new(256 * 1024).unwrap();
        assert_eq!(rustix::io::write(&writer, b"through").unwrap(), 7);
        let mut octets = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut octets).unwrap(), 7);
        let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        assert!(size >= 4096, "{size}");
    }
}
