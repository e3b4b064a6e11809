//! Socket to file.

use std::io;
use std::time::Duration;

use super::detached::Detached;
use super::route::{Choice, Fallback, Route};
use super::secure::Secured;
use super::sink::{Sink, put, whole};
use super::take_over::{self, TakeOver};
use super::{Link, Records, elapsed, lost};
use crate::limits;
use crate::proto::TransferEnd;
use crate::rt::{self, Received, Socket, Span};
use crate::tls::record::Record;
use crate::tls::{Parties, Party, Progress};
use crate::vfs;

/// Pause where a socket claims to be readable and is not; each is twice as long as the one before.
const RECEIVE_PAUSE: Duration = Duration::from_micros(250);
/// The longest such pause.
const RECEIVE_PAUSE_MAX: Duration = Duration::from_millis(16);

/// Receives until the client's end of the connection, into the file. `choice` says at the end which
/// way the octets went.
///
/// # Errors
/// How the transfer ended instead; what arrived until then is in the file.
pub(super) async fn run(
    socket: &Socket,
    records: Records,
    upload: vfs::Upload,
    choice: &mut Choice,
    link: &Link,
) -> Result<(), TransferEnd> {
    upload.begin().await.map_err(TransferEnd::File)?;
    let publication = upload.publication();
    let convert = matches!(choice.route, Route::ClearAscii | Route::UserTlsAscii);
    let mut sink = Sink::new(upload, convert);
    let received = match records {
        Records::Rustls(secured) => receive_sealed(socket, secured, &mut sink, choice, link).await,
        Records::None => receive_clear(socket, &mut sink, link).await,
        Records::Detached(detached) => receive_kernel(socket, detached, &mut sink, link).await,
    };
    // What arrived before an error is kept for a restart, so it is written in any case.
    let finished = sink.finish(link).await;
    received.and(finished)?;
    let Some(publication) = publication else {
        return Ok(());
    };
    // The last moment for ABOR.
    link.handle.check()?;
    publication.run().await.map_err(TransferEnd::File)?;
    if link.settings.fsync {
        let synced = publication.sync().await;
        synced.map_err(|_| TransferEnd::Unsynced)?;
    }
    Ok(())
}

async fn receive_clear(socket: &Socket, sink: &mut Sink, link: &Link) -> Result<(), TransferEnd> {
    loop {
        let span = Span {
            buffer: rt::take_buffer(),
            start: 0,
            end: limits::TRANSFER_CHUNK_OCTETS,
        };
        let (buffer, end) = sink.receive_beside(socket, span, link).await?;
        if end == 0 {
            rt::give_buffer(buffer);
            break;
        }
        let start = 0;
        sink.write(Span { buffer, start, end }, link).await?;
    }
    // FIN is the end in the clear (RFC 959 §3.4.1); an abort looks the same.
    link.handle.check()
}

/// Receives TLS records. The upload is complete only on close_notify; FIN without it, or a record
/// cut short, is a truncation that anybody on the path could have made.
///
/// It begins with rustls. Once so much has come that it is worth it, and between two records, the kernel
/// or this process by itself takes over.
async fn receive_sealed(
    socket: &Socket,
    secured: Box<Secured>,
    sink: &mut Sink,
    choice: &mut Choice,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut move_to = Some(moves(&secured, choice, link));
    let mut opener = Opener::new(secured);
    while !opener.closed {
        opener.write_plain(sink, link).await?;
        if let Some((party, octets)) = move_to
            && link.handle.octets() >= octets
        {
            let parties = Parties {
                seals: party,
                opens: party,
            };
            match take_over::take_over(socket, opener.into_secured(), parties, link).await? {
                TakeOver::Done { detached, early } => {
                    if !early.is_empty() {
                        sink.write(whole(early), link).await?;
                    }
                    if party == Party::Process {
                        return receive_records(socket, detached, sink, link).await;
                    }
                    *choice = Route::KernelTlsReceive.into();
                    link.handle.choice.set(Some(*choice));
                    return receive_kernel(socket, detached, sink, link).await;
                }
                TakeOver::Declined { secured, reason } => {
                    if party == Party::Kernel {
                        choice.fallback = Some(reason);
                    }
                    move_to = None;
                    opener = Opener::new(secured);
                    continue;
                }
            }
        }
        if !opener.receive(socket, sink, link).await? {
            return end_of_stream(opener.held, link);
        }
    }
    // Answered at once: some clients wait for it before they close.
    opener.secured.close(socket);
    opener.write_plain(sink, link).await?;
    rt::give_buffer(opener.buffer);
    let _ = socket.finish_sending();
    link.handle.check()
}

/// Opens the client's records in this process.
struct Opener {
    secured: Box<Secured>,
    /// What was received; opened in place.
    buffer: Vec<u8>,
    /// Octets at the front of `buffer` that are not opened yet.
    held: usize,
    /// What was opened, to be written.
    plain: Vec<u8>,
    /// close_notify has come.
    closed: bool,
}

impl Opener {
    fn new(mut secured: Box<Secured>) -> Self {
        let mut buffer = rt::take_buffer();
        let held = secured.incoming.len();
        if let Some(front) = buffer.get_mut(..held) {
            front.copy_from_slice(&secured.incoming);
        }
        let plain = std::mem::take(&mut secured.early);
        let closed = secured.engine.peer_closed();
        Self {
            secured,
            buffer,
            held,
            plain,
            closed,
        }
    }

    /// Gives the connection back, with what is not opened yet.
    fn into_secured(mut self) -> Box<Secured> {
        let rest = self.buffer.get(..self.held).unwrap_or_default();
        self.secured.incoming = rest.to_vec();
        self.secured.early = self.plain;
        rt::give_buffer(self.buffer);
        self.secured
    }

    async fn write_plain(&mut self, sink: &mut Sink, link: &Link) -> Result<(), TransferEnd> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let plain = std::mem::replace(&mut self.plain, rt::take_vector());
        sink.write(whole(plain), link).await
    }

    /// Receives what there is, opens the whole records of it and keeps the rest at the front; tells
    /// whether anything came.
    async fn receive(
        &mut self,
        socket: &Socket,
        sink: &mut Sink,
        link: &Link,
    ) -> Result<bool, TransferEnd> {
        let buffer = std::mem::take(&mut self.buffer);
        let span = Span {
            start: self.held,
            end: buffer.len(),
            buffer,
        };
        let (buffer, count) = sink.receive_beside(socket, span, link).await?;
        self.buffer = buffer;
        if count == 0 {
            return Ok(false);
        }
        let mut outgoing = Vec::new();
        let end = self.held + count;
        let records = self.buffer.get_mut(..end).unwrap_or_default();
        let engine = &mut self.secured.engine;
        let opened = engine.process_slice(records, &mut self.plain, &mut outgoing);
        if !outgoing.is_empty() {
            // An alert, or the answer to a key update: a few octets on an otherwise unused direction.
            let _ = socket.send_now(&outgoing);
        }
        let (consumed, progress) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // The records before the bad one are kept for a restart.
                self.write_plain(sink, link).await?;
                return Err(lost(io::Error::other(error)));
            }
        };
        self.buffer.copy_within(consumed..end, 0);
        self.held = end - consumed;
        self.closed = progress == Progress::PeerClosed;
        Ok(true)
    }
}

/// Who shall take over, and after how many octets.
fn moves(secured: &Secured, choice: &mut Choice, link: &Link) -> (Party, u64) {
    let process = (Party::Process, limits::DETACHED_OCTETS_MIN);
    if choice.route != Route::UserTls || choice.fallback.is_some() {
        return process;
    }
    let protection = secured.engine.protection();
    let offer = link.settings.kernel_tls.upload(protection, rt::now());
    let octets = offer.ok().map(|offer| offer.octets_min);
    // Unless it gets there, the upload was too short; where any is long enough, its end came first.
    choice.fallback = Some(match octets {
        Some(0) => Fallback::Late,
        _ => Fallback::Short,
    });
    octets.map_or(process, |octets| (Party::Kernel, octets))
}

/// Receives records that this process opens by itself: from one buffer into another, which goes to the
/// file as it is. While it waits it keeps only the record that has come in part, so that all uploads of a
/// core share buffers that the processor's cache still holds.
async fn receive_records(
    socket: &Socket,
    mut detached: Box<Detached>,
    sink: &mut Sink,
    link: &Link,
) -> Result<(), TransferEnd> {
    let mut rest = detached.take_incoming();
    let mut buffer = rt::take_buffer();
    let mut filled = put(&mut buffer, &rest);
    loop {
        let mut plain = rt::take_buffer();
        let opened = detached.open(buffer.get(..filled).unwrap_or_default(), &mut plain);
        rest.clear();
        rest.extend_from_slice(buffer.get(opened.consumed..filled).unwrap_or_default());
        rt::give_buffer(buffer);
        let closed = opened.other == Some(Record::CloseNotify);
        if closed {
            // Answered at once: some clients wait for it before they close.
            detached.close_now(socket);
        }
        if opened.filled > 0 {
            let span = Span {
                buffer: plain,
                start: 0,
                end: opened.filled,
            };
            sink.write(span, link).await?;
        } else {
            rt::give_buffer(plain);
        }
        match opened.other {
            Some(Record::CloseNotify) => break,
            Some(record) => {
                detached.heed(record, socket, link).await?;
                detached.flush(socket);
                buffer = rt::take_buffer();
                filled = put(&mut buffer, &rest);
                continue;
            }
            None => {}
        }
        let (received, count) = sink.receive_behind(socket, &rest, link).await?;
        buffer = received;
        if count == 0 {
            rt::give_buffer(buffer);
            return end_of_stream(rest.len(), link);
        }
        filled = rest.len() + count;
    }
    let _ = socket.finish_sending();
    link.handle.check()
}

/// Receives what the kernel decrypts. Its buffers go to the file as they are.
async fn receive_kernel(
    socket: &Socket,
    mut kernel: Box<Detached>,
    sink: &mut Sink,
    link: &Link,
) -> Result<(), TransferEnd> {
    loop {
        let mut buffer = rt::take_buffer();
        let received = receive_record(socket, &mut buffer, sink, link).await?;
        let record = kernel.read(received, &buffer);
        match record {
            Record::CloseNotify => break,
            Record::EndOfStream => return end_of_stream(0, link),
            record => kernel.heed(record, socket, link).await?,
        }
        if record == Record::Data && received.count > 0 {
            let span = Span {
                buffer,
                start: 0,
                end: received.count,
            };
            sink.write(span, link).await?;
        } else {
            rt::give_buffer(buffer);
        }
    }
    kernel.close_now(socket);
    let _ = socket.finish_sending();
    link.handle.check()
}

/// Receives what the kernel has decrypted, or waits for it.
///
/// Before Linux 6.5 a socket with a part of a record counts as readable; a ring operation would try
/// again and again, then hold a thread. So this asks, and pauses where it is told nonsense.
async fn receive_record(
    socket: &Socket,
    buffer: &mut [u8],
    sink: &mut Sink,
    link: &Link,
) -> Result<Received, TransferEnd> {
    let chunk = limits::TRANSFER_CHUNK_OCTETS;
    let permitted = link.permitted(chunk as u64).await?;
    let permitted = usize::try_from(permitted).unwrap_or(chunk);
    // Room for an alert or a new key as a whole: half of one would be another.
    let permitted = permitted.clamp(limits::CONTROL_RECORD_OCTETS_MAX, chunk);
    let began = rt::now();
    let mut pause = None;
    loop {
        let room = buffer.get_mut(..permitted);
        match socket.receive_record_now(room.unwrap_or_default()) {
            Ok(received) => {
                link.moved(received.count as u64);
                return Ok(received);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                link.handle.check()?;
                return Err(lost(error));
            }
        }
        if let Some(time) = pause {
            rt::sleep(time).await;
            if elapsed(began) > link.settings.stall_time_max {
                return Err(TransferEnd::Stalled);
            }
        }
        pause = Some(pause.map_or(RECEIVE_PAUSE, |time| (2 * time).min(RECEIVE_PAUSE_MAX)));
        let readable = sink.beside(socket, socket.readable(), link).await?;
        readable.map_err(lost)?;
        link.handle.check()?;
    }
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
