//! Socket to file.

use std::io;
use std::pin::Pin;

use super::{Link, lost, secure::Secured};
use crate::proto::{TransferEnd, ascii};
use crate::rt::{self, Socket, Span};
use crate::tls::Progress;
use crate::vfs;

/// Where the octets go: one write runs while the next octets are received.
struct Sink {
    file: rt::File,
    offset: u64,
    converter: Option<ascii::FromNetwork>,
    writing: Option<Writing>,
}

type Writing = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<u8>)>>>;

impl Sink {
    /// Starts to write the octets; waits for the write before. Returns an empty vector for the
    /// next ones.
    async fn write(&mut self, octets: Vec<u8>, link: &Link) -> Result<Vec<u8>, TransferEnd> {
        let octets = match &mut self.converter {
            Some(converter) => {
                let mut converted = rt::take_vector();
                converter.convert(&octets, &mut converted);
                rt::give_vector(octets);
                converted
            }
            None => octets,
        };
        self.settle().await?;
        link.handle.add(octets.len() as u64);
        self.start(octets);
        Ok(rt::take_vector())
    }

    fn start(&mut self, octets: Vec<u8>) {
        let file = self.file.clone();
        let offset = self.offset;
        self.offset += octets.len() as u64;
        let span = Span {
            start: 0,
            end: octets.len(),
            buffer: octets,
        };
        self.writing = Some(Box::pin(async move { file.write_all(span, offset).await }));
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<(), TransferEnd> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        let (result, buffer) = writing.await;
        rt::give_vector(buffer);
        result.map_err(|error| super::failed(&error))
    }

    /// Waits until every octet is in the file, and on the disk if that is wanted.
    async fn finish(&mut self, link: &Link) -> Result<(), TransferEnd> {
        if let Some(converter) = self.converter.take() {
            let mut held = Vec::new();
            converter.finish(&mut held);
            if !held.is_empty() {
                self.settle().await?;
                link.handle.add(held.len() as u64);
                self.start(held);
            }
        }
        self.settle().await?;
        if link.settings.fsync {
            self.file
                .sync()
                .await
                .map_err(|error| super::failed(&error))?;
        }
        Ok(())
    }

    /// Polls the write under way together with a wait for the network, so that it makes progress.
    async fn beside<F: Future>(&mut self, operation: F) -> (F::Output, Option<io::Error>) {
        let Some(writing) = self.writing.as_mut() else {
            return (operation.await, None);
        };
        let (output, (result, buffer)) = tokio::join!(operation, writing);
        self.writing = None;
        rt::give_vector(buffer);
        (output, result.err())
    }
}

/// Receives until the client's end of the connection, into the file.
///
/// # Errors
/// How the transfer ended instead; what arrived until then is in the file.
pub(super) async fn run(
    socket: &Socket,
    secured: Option<Secured>,
    upload: vfs::Upload,
    convert: bool,
    link: &Link,
) -> Result<(), TransferEnd> {
    upload.begin().await.map_err(TransferEnd::File)?;
    let mut sink = Sink {
        offset: upload.offset,
        file: upload.file,
        converter: convert.then(ascii::FromNetwork::default),
        writing: None,
    };
    let received = match secured {
        Some(secured) => receive_sealed(socket, secured, &mut sink, link).await,
        None => receive_clear(socket, &mut sink, link).await,
    };
    // What arrived before an error is kept for a restart, so it is written in any case.
    let finished = sink.finish(link).await;
    received.and(finished)
}

async fn receive_clear(socket: &Socket, sink: &mut Sink, link: &Link) -> Result<(), TransferEnd> {
    let mut buffer = rt::take_buffer();
    loop {
        let end = buffer.len().min(crate::limits::TRANSFER_CHUNK_OCTETS);
        let operation = link.unstalled(
            socket,
            socket.receive(Span {
                buffer,
                start: 0,
                end,
            }),
        );
        let (received, write_error) = sink.beside(operation).await;
        let (result, (_, span)) = received?;
        if let Some(error) = write_error {
            return Err(super::failed(&error));
        }
        buffer = span.buffer;
        match result {
            Ok(0) => break,
            Ok(count) => {
                let mut octets = rt::take_vector();
                octets.extend_from_slice(buffer.get(..count as usize).unwrap_or_default());
                rt::give_vector(sink.write(octets, link).await?);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(error)),
        }
    }
    rt::give_buffer(buffer);
    // FIN is the end in the clear (RFC 959 §3.4.1); an abort looks the same.
    link.handle.check()
}

/// Receives TLS records. The upload is complete only on close_notify; FIN without it, or a record
/// cut short, is a truncation that anybody on the path could have made.
async fn receive_sealed(
    socket: &Socket,
    secured: Secured,
    sink: &mut Sink,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut secured = secured;
    let mut plain = std::mem::take(&mut secured.early);
    let mut buffer = rt::take_buffer();
    let mut held = secured.incoming.len();
    if let Some(front) = buffer.get_mut(..held) {
        front.copy_from_slice(&secured.incoming);
    }
    let mut closed = secured.engine.peer_closed();
    while !closed {
        if !plain.is_empty() {
            plain = sink.write(plain, link).await?;
        }
        let end = buffer.len();
        let operation = link.unstalled(
            socket,
            socket.receive(Span {
                buffer,
                start: held,
                end,
            }),
        );
        let (received, write_error) = sink.beside(operation).await;
        let (result, (_, span)) = received?;
        if let Some(error) = write_error {
            return Err(super::failed(&error));
        }
        buffer = span.buffer;
        match result {
            Ok(0) => return end_of_stream(held, link),
            Ok(count) => held += count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(error)),
        }
        (held, closed) = open_records(socket, &mut secured, &mut buffer, held, &mut plain)?;
    }
    // Answered at once: some clients wait for it before they close.
    secured.close(socket);
    if !plain.is_empty() {
        rt::give_vector(sink.write(plain, link).await?);
    }
    rt::give_buffer(buffer);
    let _ = socket.finish_sending();
    link.handle.check()
}

/// Opens the whole records at the front of the buffer and moves the rest to the front. Returns the
/// length of the rest and whether the client has closed.
fn open_records(
    socket: &Socket,
    secured: &mut Secured,
    buffer: &mut [u8],
    held: usize,
    plain: &mut Vec<u8>,
) -> Result<(usize, bool), TransferEnd> {
    let mut outgoing = Vec::new();
    let records = buffer.get_mut(..held).unwrap_or_default();
    let opened = secured.engine.process_slice(records, plain, &mut outgoing);
    if !outgoing.is_empty() {
        // An alert, or the answer to a key update: a few octets on an otherwise unused direction.
        let _ = socket.send_now(&outgoing);
    }
    let (consumed, progress) = opened.map_err(|error| lost(io::Error::other(error)))?;
    buffer.copy_within(consumed..held, 0);
    Ok((held - consumed, progress == Progress::PeerClosed))
}

/// FIN without close_notify. In the middle of a record no policy makes it an end.
fn end_of_stream(held: usize, link: &Link) -> Result<(), TransferEnd> {
    link.handle.check()?;
    if link.settings.strict_eof || held > 0 {
        Err(TransferEnd::Truncated)
    } else {
        Ok(())
    }
}
