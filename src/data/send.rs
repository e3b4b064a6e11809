//! File or listing to socket, through buffers of this process.

use std::io;

use super::detached::Detached;
use super::secure::Secured;
use super::{Link, Opened, Records, lost};
use crate::proto::{FileError, TransferEnd, ascii};
use crate::rt::{self, Socket, Span};
use crate::tls;
use crate::{limits, vfs};

/// A chunk of what is to be sent.
struct Chunk {
    span: Span,
    /// Octets of the file that it stands for.
    octets: u64,
    last: bool,
}

/// Where the octets come from.
enum Source {
    File {
        file: rt::File,
        offset: u64,
        end: u64,
    },
    Ascii {
        file: rt::File,
        offset: u64,
        end: u64,
        converter: ascii::ToNetwork,
    },
    Listing(Box<vfs::Listing>),
}

impl Source {
    /// The next chunk. The last one may be empty.
    async fn next(&mut self, link: &Link) -> Result<Chunk, TransferEnd> {
        match self {
            Self::File { file, offset, end } => {
                let to = permitted(*offset, *end, link).await?;
                let (buffer, filled) = read(file, *offset, to).await?;
                *offset += filled as u64;
                let span = Span {
                    buffer,
                    start: 0,
                    end: filled,
                };
                Ok(Chunk {
                    span,
                    octets: filled as u64,
                    last: *offset == *end,
                })
            }
            Self::Ascii {
                file,
                offset,
                end,
                converter,
            } => {
                let to = permitted(*offset, *end, link).await?;
                let (buffer, filled) = read(file, *offset, to).await?;
                *offset += filled as u64;
                let mut converted = rt::take_vector();
                converter.convert(buffer.get(..filled).unwrap_or_default(), &mut converted);
                rt::give_buffer(buffer);
                let span = Span {
                    start: 0,
                    end: converted.len(),
                    buffer: converted,
                };
                Ok(Chunk {
                    span,
                    octets: filled as u64,
                    last: *offset == *end,
                })
            }
            Self::Listing(listing) => {
                let (lines, more) = listing
                    .next(rt::take_vector())
                    .await
                    .map_err(TransferEnd::File)?;
                let octets = lines.len() as u64;
                link.pay(octets).await?;
                let span = Span {
                    start: 0,
                    end: lines.len(),
                    buffer: lines,
                };
                Ok(Chunk {
                    span,
                    octets,
                    last: !more,
                })
            }
        }
    }

    fn recycle(&self, buffer: Vec<u8>) {
        match self {
            Self::File { .. } => rt::give_buffer(buffer),
            Self::Ascii { .. } | Self::Listing(_) => rt::give_vector(buffer),
        }
    }
}

/// How far the next chunk may go.
async fn permitted(offset: u64, end: u64, link: &Link) -> Result<u64, TransferEnd> {
    let wanted = (end - offset).min(limits::TRANSFER_CHUNK_OCTETS as u64);
    // An empty file asks for nothing.
    let permitted = match wanted {
        0 => 0,
        wanted => link.permitted(wanted).await?,
    };
    link.moved(permitted);
    Ok(offset + permitted)
}

/// Reads a chunk, or what is left up to `end`.
pub(super) async fn read(
    file: &rt::File,
    offset: u64,
    end: u64,
) -> Result<(Vec<u8>, usize), TransferEnd> {
    let chunk = limits::TRANSFER_CHUNK_OCTETS;
    let wanted = usize::try_from(end - offset).unwrap_or(chunk).min(chunk);
    let span = Span {
        buffer: rt::take_buffer(),
        start: 0,
        end: wanted,
    };
    let (result, buffer) = file.read_full(span, offset).await;
    match result {
        Ok(filled) if filled == wanted => Ok((buffer, filled)),
        // The file became shorter while it was sent: what the client has is not the file.
        Ok(_) => Err(TransferEnd::File(FileError::Local)),
        Err(error) => Err(super::failed(&error)),
    }
}

/// Sends everything. In user space close_notify goes with the last octets; otherwise the end is left
/// to `end::exchange`.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn run(
    socket: &Socket,
    records: &mut Records,
    opened: Opened,
    convert: bool,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut source = match opened {
        Opened::Download { file, offset, end } if convert => Source::Ascii {
            file,
            offset,
            end,
            converter: ascii::ToNetwork::default(),
        },
        Opened::Download { file, offset, end } => Source::File { file, offset, end },
        Opened::Listing(listing) => Source::Listing(Box::new(listing)),
        Opened::Upload(_) => return Err(TransferEnd::File(FileError::Local)),
    };
    let mut chunk = source.next(link).await?;
    let mut until_look = limits::CHUNKS_PER_LOOK;
    let mut since_turn = 0;
    loop {
        let Chunk { span, octets, last } = chunk;
        let sealed = match records {
            Records::Rustls(_) => true,
            Records::Detached(detached) => detached.seals(),
            Records::None => false,
        };
        let outgoing = match records {
            Records::Rustls(secured) => {
                until_look -= 1;
                if until_look == 0 {
                    until_look = limits::CHUNKS_PER_LOOK;
                    listen(socket, secured)?;
                }
                seal(secured, &source, span, last)?
            }
            Records::Detached(detached) => {
                let count = span.octets().len() as u64;
                detached.attend(socket, count, link).await?;
                if sealed {
                    seal_by_ourselves(detached, &source, span, last)?
                } else {
                    span
                }
            }
            Records::None => span,
        };
        if last {
            let buffer = send(socket, outgoing, records, true, link).await?;
            recycle(&source, sealed, buffer);
            link.handle.add(octets);
            return Ok(());
        }
        // A reader that is never behind, and a file in memory, would keep the others from their turn.
        since_turn += octets;
        if since_turn >= limits::TURN_OCTETS {
            since_turn = 0;
            rt::yield_to_ring().await;
        }
        // The next chunk is read while this one is sent.
        let sending = send(socket, outgoing, records, false, link);
        let (sent, next) = tokio::join!(sending, source.next(link));
        recycle(&source, sealed, sent?);
        link.handle.add(octets);
        chunk = next?;
    }
}

/// Looks at what the client says during a download, which should be nothing: an alert ends it, a
/// key update is answered with the next record.
fn listen(socket: &Socket, secured: &mut Secured) -> Result<(), TransferEnd> {
    if secured.engine.peer_closed() {
        return Ok(());
    }
    let mut octets = [0; 2048];
    match socket.receive_now(&mut octets) {
        Ok(count) => {
            secured
                .incoming
                .extend_from_slice(octets.get(..count).unwrap_or_default());
            secured.open_incoming(socket)?;
            // Of no interest; the client is not to fill our memory with it.
            secured.early.clear();
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(lost(error)),
    }
}

fn recycle(source: &Source, sealed: bool, buffer: Vec<u8>) {
    if sealed {
        rt::give_buffer(buffer);
    } else {
        source.recycle(buffer);
    }
}

/// Seals a chunk into full records; the last one is followed by close_notify in the same send, so
/// that a client which stops reading at the size it expects has it all the same.
fn seal(
    secured: &mut Secured,
    source: &Source,
    plain: Span,
    last: bool,
) -> Result<Span, TransferEnd> {
    let mut buffer = room_for(&plain);
    let mut end = 0;
    if plain.end > plain.start {
        let sealed = secured.engine.seal_into(plain.octets(), &mut buffer);
        end = sealed.map_err(|error| lost(io::Error::other(error)))?;
    }
    source.recycle(plain.buffer);
    if last {
        let mut notify = Vec::with_capacity(64);
        secured.engine.close(&mut notify);
        if let Some(tail) = buffer.get_mut(end..end + notify.len()) {
            tail.copy_from_slice(&notify);
            end += notify.len();
        }
    }
    Ok(Span {
        buffer,
        start: 0,
        end,
    })
}

/// As [`seal`], without rustls.
fn seal_by_ourselves(
    detached: &mut Detached,
    source: &Source,
    plain: Span,
    last: bool,
) -> Result<Span, TransferEnd> {
    let mut buffer = room_for(&plain);
    let end = detached.seal(plain.octets(), last, &mut buffer)?;
    source.recycle(plain.buffer);
    Ok(Span {
        buffer,
        start: 0,
        end,
    })
}

/// A buffer for the records of a chunk.
fn room_for(plain: &Span) -> Vec<u8> {
    let mut buffer = rt::take_buffer();
    let needed = tls::sealed_len(plain.end - plain.start) + tls::sealed_len(0);
    if buffer.len() < needed {
        // A listing's chunk may be a little longer than it aims at.
        buffer.resize(needed, 0);
    }
    buffer
}

/// Sends a whole span, each step of it within the time that a transfer may stall.
async fn send(
    socket: &Socket,
    mut span: Span,
    records: &Records,
    last: bool,
    link: &Link,
) -> Result<Vec<u8>, TransferEnd> {
    let kernel = match records {
        Records::Detached(detached) => !detached.seals(),
        Records::Rustls(_) | Records::None => false,
    };
    // What fits at once needs no turn of the loop.
    if !kernel {
        link.handle.check()?;
        // FIN goes with the last octets.
        let now = match last {
            true => socket.send_more_now(span.octets()),
            false => socket.send_now(span.octets()),
        };
        match now {
            Ok(count) => {
                link.handle.moves();
                span.start += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(lost(error)),
        }
    }
    while span.start < span.end {
        link.handle.check()?;
        let (result, (_, back)) = link.unstalled(socket, socket.send(span)).await?;
        span = back;
        match result {
            Ok(count) => {
                link.handle.moves();
                span.start += count as usize;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if let Records::Detached(detached) = records {
                    detached.blame(&error, link);
                }
                return Err(lost(error));
            }
        }
    }
    Ok(span.buffer)
}
