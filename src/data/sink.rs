//! The file that an upload goes to.

use std::io;
use std::pin::Pin;
use std::rc::Rc;

use super::{Link, lost};
use crate::limits;
use crate::proto::{TransferEnd, ascii};
use crate::quota::Charge;
use crate::rt::{self, Socket, Span};
use crate::vfs;

/// Where the octets go: one write runs while the next octets are received.
pub(super) struct Sink {
    file: rt::File,
    offset: u64,
    converter: Option<ascii::FromNetwork>,
    /// What the octets are charged to, where there is a quota.
    charge: Option<Rc<Charge>>,
    writing: Option<Writing>,
    /// So much came last time that there is probably more.
    behind: bool,
    /// Octets received since the last wait.
    since_turn: usize,
}

type Writing = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<u8>)>>>;

impl Sink {
    /// A sink that begins where the upload does. `convert`: TYPE A.
    pub(super) fn new(upload: vfs::Upload, convert: bool) -> Self {
        Self {
            file: upload.file,
            offset: upload.offset,
            charge: upload.charge,
            converter: convert.then(ascii::FromNetwork::default),
            writing: None,
            behind: false,
            since_turn: 0,
        }
    }

    /// Starts to write the octets, once the write before is done. The buffer goes with them.
    pub(super) async fn write(&mut self, octets: Span, link: &Link) -> Result<(), TransferEnd> {
        let octets = match &mut self.converter {
            Some(converter) => {
                let mut converted = rt::take_vector();
                converter.convert(octets.octets(), &mut converted);
                recycle(octets.buffer);
                whole(converted)
            }
            None => octets,
        };
        self.settle().await?;
        let started = self.start(octets, link);
        if started.is_err() {
            // The file is cut here: a CR that is held would land behind the cut.
            self.converter = None;
        }
        started
    }

    fn start(&mut self, mut octets: Span, link: &Link) -> Result<(), TransferEnd> {
        let Some(charge) = &self.charge else {
            self.start_charged(octets, link);
            return Ok(());
        };
        let count = octets.octets().len();
        let granted = charge.charge(self.offset, count);
        octets.end = octets.start + granted;
        let end = (granted < count).then(|| {
            charge.ran_out();
            TransferEnd::File(vfs::over_quota(charge.quota()))
        });
        // What there is still room for is kept, as is what came before.
        self.start_charged(octets, link);
        end.map_or(Ok(()), Err)
    }

    fn start_charged(&mut self, mut octets: Span, link: &Link) {
        let count = octets.octets().len();
        // Now, while the octets are in the processor's cache, if it needs no waiting.
        let written = self.file.write_now(octets.octets(), self.offset);
        octets.start += written;
        let offset = self.offset + written as u64;
        self.offset += count as u64;
        link.handle.add(count as u64);
        if written == count {
            recycle(octets.buffer);
            return;
        }
        let file = self.file.clone();
        self.writing = Some(Box::pin(
            async move { file.write_all(octets, offset).await },
        ));
    }

    /// Waits for the write under way.
    async fn settle(&mut self) -> Result<(), TransferEnd> {
        let Some(writing) = self.writing.take() else {
            return Ok(());
        };
        let (result, buffer) = writing.await;
        recycle(buffer);
        result.map_err(|error| super::failed(&error))
    }

    /// Waits until every octet is in the file, and on the disk if that is wanted.
    pub(super) async fn finish(&mut self, link: &Link) -> Result<(), TransferEnd> {
        if let Some(converter) = self.converter.take() {
            let mut held = Vec::new();
            converter.finish(&mut held);
            if !held.is_empty() {
                self.settle().await?;
                self.start(whole(held), link)?;
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

    /// Awaits what `receive` starts on the socket while the write under way goes on.
    pub(super) async fn beside<T>(
        &mut self,
        socket: &Socket,
        receiving: impl Future<Output = T>,
        link: &Link,
    ) -> Result<T, TransferEnd> {
        let receiving = link.unstalled(socket, receiving);
        match self.writing.as_mut() {
            None => receiving.await,
            Some(writing) => {
                let (received, (written, buffer)) = tokio::join!(receiving, writing);
                self.writing = None;
                recycle(buffer);
                written.map_err(|error| super::failed(&error))?;
                received
            }
        }
    }

    /// Receives into the span while the write under way goes on. Returns the buffer and how many
    /// octets came, 0 at the end of the stream.
    pub(super) async fn receive_beside(
        &mut self,
        socket: &Socket,
        mut span: Span,
        link: &Link,
    ) -> Result<(Vec<u8>, usize), TransferEnd> {
        let room = span.end - span.start;
        let permitted = link.permitted(room as u64).await?;
        span.end = span.start + usize::try_from(permitted).unwrap_or(room).min(room);
        // A client that is ahead of us has more there already.
        if self.behind {
            let room = span.buffer.get_mut(span.start..span.end);
            match socket.receive_now(room.unwrap_or_default()) {
                Ok(count) => return Ok((span.buffer, self.note(count, link))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error)),
            }
        }
        loop {
            let (result, (_, back)) = self.beside(socket, socket.receive(span), link).await?;
            span = back;
            match result {
                Ok(count) => return Ok((span.buffer, self.note(count as usize, link))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
    }

    /// Receives into a buffer of the core, behind a copy of `front`, while the write under way goes on. No
    /// buffer is held while nothing comes. Returns the buffer and how many octets came, 0 at the end of
    /// the stream.
    pub(super) async fn receive_behind(
        &mut self,
        socket: &Socket,
        front: &[u8],
        link: &Link,
    ) -> Result<(Vec<u8>, usize), TransferEnd> {
        let room = rt::BUFFER_OCTETS.saturating_sub(front.len());
        let permitted = link.permitted(room as u64).await?;
        let room = usize::try_from(permitted).unwrap_or(room).min(room);
        loop {
            if self.behind {
                let mut buffer = rt::take_buffer();
                let held = put(&mut buffer, front);
                let place = buffer.get_mut(held..held + room);
                match socket.receive_now(place.unwrap_or_default()) {
                    Ok(count) => return Ok((buffer, self.note(count, link))),
                    Err(error) => {
                        rt::give_buffer(buffer);
                        if error.kind() != io::ErrorKind::WouldBlock {
                            return Err(lost(error));
                        }
                    }
                }
            }
            let readable = self.beside(socket, socket.readable(), link).await?;
            readable.map_err(lost)?;
            self.behind = true;
        }
    }

    /// Notes how much came at once. Every so often it is better to wait for the ring: others have their turn.
    fn note(&mut self, count: usize, link: &Link) -> usize {
        link.moved(count as u64);
        self.since_turn += count;
        self.behind = count >= limits::TRANSFER_CHUNK_OCTETS / 2
            && self.since_turn < limits::TURN_OCTETS as usize;
        if !self.behind {
            self.since_turn = 0;
        }
        count
    }
}

/// All of a vector.
pub(super) fn whole(buffer: Vec<u8>) -> Span {
    Span {
        start: 0,
        end: buffer.len(),
        buffer,
    }
}

/// Copies to the front of a buffer; returns how many octets.
pub(super) fn put(buffer: &mut [u8], front: &[u8]) -> usize {
    if let Some(place) = buffer.get_mut(..front.len()) {
        place.copy_from_slice(front);
    }
    front.len()
}

/// Back to the pool that it is for.
fn recycle(buffer: Vec<u8>) {
    if buffer.len() == rt::BUFFER_OCTETS {
        rt::give_buffer(buffer);
    } else {
        rt::give_vector(buffer);
    }
}
