//! sendfile(2), and whether a file's pages are in memory, so that it does not wait for a disk.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

use rustix::io::{Errno, ReadWriteFlags};

/// Where an octet of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// In the page cache: reading does not wait.
    Cached,
    /// On the disk.
    Cold,
    /// The file system does not say.
    Unknown,
}

/// Reads what is in memory (preadv2(2), `RWF_NOWAIT`).
///
/// # Errors
/// `WouldBlock` when nothing is, `Unsupported` when the file system does not say.
pub fn read_cached(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut parts = [IoSliceMut::new(buffer)];
    let read = rustix::io::preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT);
    read.map_err(Into::into)
}

/// Reads from a file whose pages are in memory by nature.
///
/// # Errors
/// The kernel's error.
pub fn read_memory(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    rustix::io::pread(file, buffer, offset).map_err(Into::into)
}

/// Writes to a file whose pages are in memory by nature.
///
/// # Errors
/// The kernel's error.
pub fn write_memory(file: impl AsFd, octets: &[u8], offset: u64) -> io::Result<usize> {
    rustix::io::pwrite(file, octets, offset).map_err(Into::into)
}

/// Asks for one octet without waiting.
pub fn residency(file: impl AsFd, offset: u64) -> Residency {
    let mut octet = [0];
    let mut parts = [IoSliceMut::new(&mut octet)];
    match rustix::io::preadv2(&file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
        Ok(_) => Residency::Cached,
        Err(Errno::AGAIN) => Residency::Cold,
        Err(_) if is_in_memory(&file) => Residency::Cached,
        Err(_) => Residency::Unknown,
    }
}

/// Whether it lies on tmpfs: its pages are in memory by nature, though it cannot be asked. Only files
/// there have seals. That is asked of the kernel alone; statfs(2) would ask the file system, and wait
/// for it where it is one on the network.
pub fn is_in_memory(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok()
}

/// Moves octets from the file's page cache to a non-blocking socket; returns how many, 0 at the end
/// of the file.
///
/// # Errors
/// `WouldBlock` when the socket's buffer is full, else the kernel's error.
pub fn send_file(
    socket: impl AsFd,
    file: impl AsFd,
    mut offset: u64,
    count: usize,
) -> io::Result<usize> {
    rustix::fs::sendfile(socket, file, Some(&mut offset), count).map_err(Into::into)
}

/// Makes calls on the socket return instead of waiting, or wait again.
///
/// # Errors
/// The kernel's error.
pub fn set_non_blocking(socket: impl AsFd, on: bool) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, on).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_just_written_is_cached_and_leaves_until_the_socket_is_full() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        file.write_all(&content).unwrap();
        assert_ne!(residency(&file, 0), Residency::Cold);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        set_non_blocking(&ours, true).unwrap();
        let (mut received, mut offset) = (Vec::new(), 0);
        while offset < content.len() {
            match send_file(&ours, &file, offset as u64, content.len() - offset) {
                Ok(count) => offset += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    let mut part = vec![0; 65536];
                    let count = theirs.read(&mut part).unwrap();
                    received.extend_from_slice(&part[..count]);
                }
            }
        }
        assert_eq!(send_file(&ours, &file, offset as u64, 1).unwrap(), 0);
        drop(ours);
        theirs.read_to_end(&mut received).unwrap();
        assert!(received == content);
    }
}
