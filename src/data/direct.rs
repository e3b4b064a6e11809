//! A file to a socket without passing through this process: sendfile(2), and splice(2).

use std::io;

use super::detached::Detached;
use super::{Link, lost, send};
use crate::limits;
use crate::proto::{FileError, TransferEnd};
use crate::rt::{self, Pipe, Residency, Socket};

/// What is left of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// The next octet.
    pub(super) offset: u64,
    /// One past the last.
    pub(super) end: u64,
}

impl Rest {
    /// The front of it, at most so many octets.
    fn front(self, octets_max: u64) -> Self {
        Self {
            end: self.end.min(self.offset.saturating_add(octets_max)),
            ..self
        }
    }

    fn len(self) -> u64 {
        self.end - self.offset
    }
}

/// Sends the rest of the file with sendfile, in chunks between which others have their turn. While
/// one is sent, the next is brought into memory where it is not. Returns what is left to be sent by
/// other means: a file system need not support sendfile.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn sendfile(
    socket: &Socket,
    file: &rt::File,
    mut rest: Rest,
    mut kernel: Option<&mut Detached>,
    link: &Link,
) -> Result<Rest, TransferEnd> {
    socket.set_non_blocking(true).map_err(lost)?;
    let chunk_max = match kernel {
        Some(_) => limits::SENDFILE_TLS_CHUNK_OCTETS,
        None => limits::SENDFILE_CHUNK_OCTETS,
    };
    warm(file, rest.front(chunk_max)).await?;
    while rest.offset < rest.end {
        link.handle.check()?;
        let chunk = rest.front(link.permitted(chunk_max).await?);
        link.moved(chunk.len());
        if let Some(kernel) = kernel.as_deref_mut() {
            kernel.attend(socket, chunk.len(), link).await?;
        }
        rest.offset = chunk.end;
        let sending = sendfile_chunk(socket, file, chunk, link);
        let (warmed, sent) = tokio::join!(warm(file, rest.front(chunk_max)), sending);
        rest.offset = sent?;
        if rest.offset < chunk.end {
            break;
        }
        warmed?;
        rt::yield_to_ring().await;
    }
    Ok(rest)
}

/// Returns where it ended: before the end of the chunk where the file cannot be sent so.
async fn sendfile_chunk(
    socket: &Socket,
    file: &rt::File,
    mut chunk: Rest,
    link: &Link,
) -> Result<u64, TransferEnd> {
    while chunk.offset < chunk.end {
        let count = usize::try_from(chunk.len()).unwrap_or(usize::MAX);
        match socket.send_file(file, chunk.offset, count) {
            // The file became shorter while it was sent: what the client has is not the file.
            Ok(0) => return Err(TransferEnd::File(FileError::Local)),
            Ok(sent) => {
                chunk.offset += sent as u64;
                link.handle.add(sent as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ready = link.unstalled(socket, socket.writable()).await?;
                ready.map_err(lost)?;
                link.handle.check()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(lost(error)),
        }
    }
    Ok(chunk.offset)
}

/// Reads a chunk through the ring where it is not in memory: the pages stay for sendfile, which
/// would wait for the disk with the whole core.
async fn warm(file: &rt::File, mut chunk: Rest) -> Result<(), TransferEnd> {
    if !is_cold(file, chunk) {
        return Ok(());
    }
    while chunk.offset < chunk.end {
        let (buffer, filled) = send::read(file, chunk.offset, chunk.end).await?;
        rt::give_buffer(buffer);
        chunk.offset += filled as u64;
    }
    Ok(())
}

/// Looks at the ends of a chunk, and between them as often as holes in memory are likely: the kernel
/// reads a file in larger pieces. What is smaller costs the core one short read.
fn is_cold(file: &rt::File, chunk: Rest) -> bool {
    let Some(last) = chunk.end.checked_sub(1).filter(|_| chunk.len() > 0) else {
        return false;
    };
    let mut offset = chunk.offset;
    while offset < last {
        if file.residency(offset) == Residency::Cold {
            return true;
        }
        offset += limits::RESIDENCY_STEP_OCTETS;
    }
    file.residency(last) == Residency::Cold
}

/// Sends the rest of the file with splice, through a pipe. Both halves run on threads of the kernel,
/// one for each client that does not read.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn splice(
    socket: &Socket,
    file: &rt::File,
    mut rest: Rest,
    mut kernel: Option<&mut Detached>,
    link: &Link,
) -> Result<(), TransferEnd> {
    let pipe = Pipe::new(limits::SPLICE_PIPE_OCTETS).map_err(|error| super::failed(&error))?;
    while rest.offset < rest.end {
        link.handle.check()?;
        let permitted = link.permitted(limits::SPLICE_PIPE_OCTETS as u64).await?;
        let chunk = rest.front(permitted);
        if let Some(kernel) = kernel.as_deref_mut() {
            kernel.attend(socket, chunk.len(), link).await?;
        }
        let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let filled = match pipe.fill_from(file, rest.offset, wanted).await {
            Ok(0) => return Err(TransferEnd::File(FileError::Local)),
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(super::failed(&error)),
        };
        let mut left = filled;
        while left > 0 {
            match link
                .unstalled(socket, socket.splice_from(&pipe, left))
                .await?
            {
                Ok(0) => return Err(TransferEnd::ConnectionLost),
                Ok(sent) => {
                    left = left.saturating_sub(sent);
                    link.moved(u64::from(sent));
                    link.handle.add(u64::from(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    link.handle.check()?;
                    return Err(lost(error));
                }
            }
        }
        rest.offset += u64::from(filled);
    }
    Ok(())
}
