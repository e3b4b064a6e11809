//! A file to a socket in clear text, without passing through this process.

use std::io;

use super::{Link, lost, send};
use crate::limits;
use crate::proto::{FileError, TransferEnd};
use crate::rt::{self, Residency, Socket};

/// Whether a file can go this way: its file system must tell which pages are in memory, because
/// waiting for a disk in sendfile would stop the core.
pub(super) fn is_possible(file: &rt::File, offset: u64) -> bool {
    file.residency(offset) != Residency::Unknown
}

/// Sends the file from `offset` to `end`, in chunks between which others have their turn.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn run(
    socket: &Socket,
    file: &rt::File,
    mut offset: u64,
    end: u64,
    link: &Link,
) -> Result<(), TransferEnd> {
    socket.make_non_blocking().map_err(lost)?;
    while offset < end {
        link.handle.check()?;
        let chunk = (end - offset).min(limits::SENDFILE_CHUNK_OCTETS);
        warm(file, offset, chunk).await?;
        let chunk_end = offset + chunk;
        while offset < chunk_end {
            let count = usize::try_from(chunk_end - offset).unwrap_or(usize::MAX);
            match socket.send_file(file, offset, count) {
                // The file became shorter while it was sent: what the client has is not the file.
                Ok(0) => return Err(TransferEnd::File(FileError::Local)),
                Ok(sent) => {
                    offset += sent as u64;
                    link.handle.add(sent as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = link.unstalled(socket, socket.writable()).await?;
                    ready.map_err(lost)?;
                    link.handle.check()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
        rt::yield_to_ring().await;
    }
    Ok(())
}

/// Reads a chunk through the ring where it is not in memory: the pages stay for sendfile.
async fn warm(file: &rt::File, offset: u64, chunk: u64) -> Result<(), TransferEnd> {
    let cold = |offset| file.residency(offset) == Residency::Cold;
    if !cold(offset) && !cold(offset + chunk - 1) {
        return Ok(());
    }
    let mut at = offset;
    while at < offset + chunk {
        let (buffer, filled) = send::read(file, at, offset + chunk).await?;
        rt::give_buffer(buffer);
        at += filled as u64;
    }
    Ok(())
}
