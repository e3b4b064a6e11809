//! File or listing to socket.

use std::io;

use super::{Link, Opened, lost, secure::Secured};
use crate::proto::{FileError, TransferEnd, ascii};
use crate::rt::{self, Socket, Span};
use crate::tls::{self, Progress};
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
    async fn next(&mut self) -> Result<Chunk, TransferEnd> {
        match self {
            Self::File { file, offset, end } => {
                let (buffer, filled) = read(file, *offset, *end).await?;
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
                let (buffer, filled) = read(file, *offset, *end).await?;
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

/// Sends everything, then the end: close_notify, FIN, and a wait for the client to close too.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn run(
    socket: &Socket,
    mut secured: Option<Secured>,
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
    let mut chunk = source.next().await?;
    loop {
        let Chunk { span, octets, last } = chunk;
        let outgoing = match secured.as_mut() {
            Some(secured) => seal(secured, &source, span, last)?,
            None => span,
        };
        if last {
            let buffer = send(socket, outgoing, link).await?;
            recycle(&source, secured.is_some(), buffer);
            link.handle.add(octets);
            break;
        }
        // The next chunk is read while this one is sent.
        let (sent, next) = tokio::join!(send(socket, outgoing, link), source.next());
        recycle(&source, secured.is_some(), sent?);
        link.handle.add(octets);
        chunk = next?;
    }
    end(socket, secured, link).await
}

/// Sends FIN behind the last octet and waits for the client to close too.
///
/// # Errors
/// How the transfer ended instead.
pub(super) async fn end(
    socket: &Socket,
    secured: Option<Secured>,
    link: &Link,
) -> Result<(), TransferEnd> {
    socket.finish_sending().map_err(lost)?;
    drain(socket, secured, link).await
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
    let mut buffer = rt::take_buffer();
    let needed = tls::sealed_len(plain.end - plain.start) + tls::sealed_len(0);
    if buffer.len() < needed {
        // A listing's chunk may be a little longer than it aims at.
        buffer.resize(needed, 0);
    }
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

/// Sends a whole span, each step of it within the time that a transfer may stall.
async fn send(socket: &Socket, mut span: Span, link: &Link) -> Result<Vec<u8>, TransferEnd> {
    while span.start < span.end {
        link.handle.check()?;
        let (result, (_, back)) = link.unstalled(socket, socket.send(span)).await?;
        span = back;
        match result {
            Ok(count) => span.start += count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(error)),
        }
    }
    Ok(span.buffer)
}

/// Reads until the client has closed its direction, of TLS or of TCP: closing with its close_notify
/// unread would send RST and destroy what is still on its way to it. A reset here means that the
/// client did not want the rest.
///
/// Some clients close only when they have read the final reply. So the wait also ends, a little
/// later, when the client's kernel has acknowledged everything including our FIN; after the client's
/// close_notify, behind which nothing but FIN can follow, at once.
async fn drain(
    socket: &Socket,
    mut secured: Option<Secured>,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut readiness = None;
    let mut patience = limits::DRAIN_ACKNOWLEDGED_WAIT;
    let wait = async {
        let mut octets = [0; 2048];
        // A client that sends and sends instead of closing is cut off: it must neither keep the core
        // busy for as long as it likes nor have all of it remembered.
        let mut reads_left = limits::DRAIN_READS_MAX;
        while reads_left > 0 {
            match socket.receive_now(&mut octets) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    reads_left -= 1;
                    let received = octets.get(..count).unwrap_or_default();
                    let ended = secured
                        .as_mut()
                        .is_some_and(|secured| absorb(secured, received));
                    if ended && socket.all_acknowledged() {
                        return Ok(());
                    }
                    if ended {
                        patience = limits::DRAIN_CLOSED_WAIT;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = socket.readable_within(patience, &mut readiness).await?;
                    if !ready && socket.all_acknowledged() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    let waited = rt::within(link.settings.drain_time_max, socket, wait).await;
    // A poll may still be in flight; it holds the descriptor.
    socket.shut_down();
    match waited {
        Ok(Err(error)) => Err(lost(error)),
        // Not closed in time: every octet and the FIN have left, which is all we can do.
        Ok(Ok(())) | Err(rt::TimedOut) => link.handle.check(),
    }
}

/// Whether close_notify is among what the client sent; anything else of it is of no interest.
fn absorb(secured: &mut Secured, received: &[u8]) -> bool {
    let (mut ignored, mut unsent) = (Vec::new(), Vec::new());
    secured.incoming.extend_from_slice(received);
    let progress = secured
        .engine
        .process(&mut secured.incoming, &mut ignored, &mut unsent);
    matches!(progress, Ok(Progress::PeerClosed))
}
