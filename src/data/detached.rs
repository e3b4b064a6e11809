//! Data connections that rustls has given away, to the kernel or to our own sealing and opening: the
//! take-over, what the client says meanwhile, new keys, and the end.

use std::io;
use std::time::Duration;

use tracing::{debug, info};

use super::kernel::Traits;
use super::{Link, lost};
use crate::limits;
use crate::proto::TransferEnd;
use crate::rt::{self, Received, SendBuffer, Socket};
use crate::tls::record::{self, Record};
use crate::tls::{self, BadKey, DetachError, DetachedTls, Party, Protection};

/// Octets received in one go where the client should be silent.
const LISTEN_OCTETS: usize = 2048;
/// Changes of its keys that a client may make without sending data between them; rustls permits as many.
const KEY_UPDATES_MAX: u32 = 32;
/// Room in the socket's buffer for the records which the kernel has encrypted but not passed on to TCP
/// yet: no more than one or two.
const PENDING_OCTETS: u32 = 64 * 1024;
/// Pause before the socket's buffer is looked at again; each is twice as long as the one before.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);
/// The longest such pause.
const SETTLE_PAUSE_MAX: Duration = Duration::from_millis(256);

/// What still comes from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Open,
    /// It has sent close_notify or FIN.
    Ended,
    /// It has sent what cannot be understood.
    Deaf,
}

/// A connection without rustls.
pub(super) struct Detached {
    tls: DetachedTls,
    traits: Traits,
    hearing: Hearing,
    /// What came of the client, where this process opens its records: the beginning of one.
    incoming: Vec<u8>,
    /// Records to be sent before the next ones, where this process seals them.
    outgoing: Vec<u8>,
    until_look: u32,
    /// Changes of the client's keys since its last data.
    key_updates: u32,
}

/// What [`Detached::open`] did.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Octets of whole records that are done with.
    pub(super) consumed: usize,
    /// Octets of the file.
    pub(super) filled: usize,
    /// The last of the records, if it is not data.
    pub(super) other: Option<Record>,
}

/// What the client said after a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Octets of no interest.
    Noise,
    /// close_notify.
    Closed,
    /// FIN.
    End,
}

impl Detached {
    /// A connection whose client has sent these octets, which nobody has opened yet.
    pub(super) fn new(tls: DetachedTls, traits: Traits, incoming: Vec<u8>) -> Self {
        Self {
            tls,
            traits,
            hearing: Hearing::Open,
            incoming,
            outgoing: Vec::new(),
            until_look: limits::CHUNKS_PER_LOOK,
            key_updates: 0,
        }
    }

    /// Does this process seal our records?
    pub(super) fn seals(&self) -> bool {
        self.tls.parties().seals == Party::Process
    }

    /// Does this process open the client's records?
    pub(super) fn opens(&self) -> bool {
        self.tls.parties().opens == Party::Process
    }

    /// Between two chunks of a download: is the client still there, does it say anything, do the keys
    /// last for so many octets more?
    ///
    /// sendfile(2) with kernel TLS can report success for a whole file to a connection that was reset:
    /// the error is taken by a record that counts as sent. The state of the connection tells.
    ///
    /// # Errors
    /// How the transfer ended instead.
    pub(super) async fn attend(
        &mut self,
        socket: &Socket,
        octets: u64,
        link: &Link,
    ) -> Result<(), TransferEnd> {
        let listens = if self.seals() {
            // Whether the connection is gone, sending tells.
            self.until_look -= 1;
            self.until_look == 0
        } else {
            let glance = socket.glance().map_err(lost)?;
            if glance.gone {
                link.handle.check()?;
                return Err(TransferEnd::ConnectionLost);
            }
            glance.readable
        };
        if listens {
            self.until_look = limits::CHUNKS_PER_LOOK;
            if self.hearing == Hearing::Open {
                self.listen(socket, link).await?;
            }
        }
        // One more, for a record that was closed early.
        let records = octets.div_ceil(limits::TLS_RECORD_PLAINTEXT_MAX as u64) + 1;
        if self.tls.count(records) > self.traits.records_max {
            if !self.tls.is_tls13() {
                info!("the keys of a data connection are used up, and TLS 1.2 cannot change them");
                return Err(TransferEnd::ConnectionLost);
            }
            self.renew(socket, link).await?;
            self.tls.count(records);
        }
        Ok(())
    }

    /// Seals a chunk at the front of `out`, where this process seals; the last one is followed by
    /// close_notify. Returns how many octets it took.
    ///
    /// # Errors
    /// `out` is too short.
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        last: bool,
        out: &mut [u8],
    ) -> Result<usize, TransferEnd> {
        let Some(sealer) = self.tls.sealer() else {
            return Err(TransferEnd::ConnectionLost);
        };
        let mut end = self.outgoing.len();
        if let Some(front) = out.get_mut(..end) {
            front.copy_from_slice(&self.outgoing);
            self.outgoing.clear();
        }
        let mut sealed = || {
            end += sealer.seal_data(plain, out.get_mut(end..).unwrap_or_default())?;
            if last {
                let free = out.get_mut(end..).unwrap_or_default();
                end += sealer.seal(record::ALERT, &record::CLOSE_NOTIFY, free)?;
            }
            Ok(end)
        };
        sealed().map_err(|error: BadKey| lost(io::Error::other(error)))
    }

    /// Opens the whole records in `incoming` into the front of `out`, which must be as long, up to one that is
    /// not data. Returns how many octets they took, how many they gave, and that record.
    pub(super) fn open(&mut self, incoming: &[u8], out: &mut [u8]) -> Opened {
        let tls13 = self.tls.is_tls13();
        let mut opened = Opened::default();
        let Some(opener) = self.tls.opener() else {
            return opened;
        };
        loop {
            let rest = incoming.get(opened.consumed..).unwrap_or_default();
            let free = out.get_mut(opened.filled..).unwrap_or_default();
            let Some(length) = record::complete_len(rest) else {
                return opened;
            };
            let record = match opener.open(rest.get(..length).unwrap_or_default(), free) {
                Ok((record_type, count)) => {
                    let payload = free.get(..count).unwrap_or_default();
                    let record = Record::read(Some(record_type), payload, tls13);
                    if record == Record::Data {
                        opened.filled += count;
                    }
                    record
                }
                Err(_) => Record::Bad,
            };
            opened.consumed += length;
            if record != Record::Data {
                opened.other = Some(record);
                return opened;
            }
            self.key_updates = 0;
        }
    }

    /// Octets of the client that came before the take-over and are not opened yet.
    pub(super) fn take_incoming(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.incoming)
    }

    /// Looks at what the client says during a download.
    async fn listen(&mut self, socket: &Socket, link: &Link) -> Result<(), TransferEnd> {
        for _ in 0..limits::RECORDS_PER_LOOK_MAX {
            match self.next_record(socket) {
                Ok(Record::EndOfStream | Record::CloseNotify) => {
                    self.hearing = Hearing::Ended;
                    break;
                }
                Ok(record) => self.heed(record, socket, link).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(())
    }

    /// The client's next record, where this process opens them.
    fn next_record(&mut self, socket: &Socket) -> io::Result<Record> {
        loop {
            if record::complete_len(&self.incoming).is_some() {
                let incoming = std::mem::take(&mut self.incoming);
                let mut ignored = vec![0; incoming.len()];
                let opened = self.open(&incoming, &mut ignored);
                self.incoming = incoming;
                self.incoming.drain(..opened.consumed);
                return Ok(opened.other.unwrap_or(Record::Data));
            }
            let mut octets = [0; LISTEN_OCTETS];
            let count = socket.receive_now(&mut octets)?;
            if count == 0 {
                return Ok(Record::EndOfStream);
            }
            let received = octets.get(..count).unwrap_or_default();
            self.incoming.extend_from_slice(received);
        }
    }

    /// What a record is that the kernel has opened.
    pub(super) fn read(&self, received: Received, octets: &[u8]) -> Record {
        let payload = octets.get(..received.count).unwrap_or_default();
        Record::read(received.record_type, payload, self.tls.is_tls13())
    }

    /// Does what a record demands that is neither data nor an end.
    ///
    /// # Errors
    /// It ends the transfer.
    pub(super) async fn heed(
        &mut self,
        record: Record,
        socket: &Socket,
        link: &Link,
    ) -> Result<(), TransferEnd> {
        match record {
            Record::Data => {
                self.key_updates = 0;
                Ok(())
            }
            Record::EndOfStream | Record::CloseNotify => Ok(()),
            Record::KeyUpdate { requested } => {
                self.key_updates += 1;
                if self.key_updates > KEY_UPDATES_MAX {
                    return Err(TransferEnd::ConnectionLost);
                }
                self.follow(socket, link)?;
                if requested {
                    self.renew(socket, link).await?;
                }
                Ok(())
            }
            Record::Alert(record::USER_CANCELED) => Ok(()),
            Record::Alert(description) => {
                debug!(description, "alert on a data connection");
                Err(TransferEnd::ConnectionLost)
            }
            Record::Bad => {
                self.alert(socket, record::BAD_RECORD);
                Err(TransferEnd::ConnectionLost)
            }
            Record::Unexpected(record_type) => {
                debug!(record_type, "unexpected record on a data connection");
                self.alert(socket, record::UNEXPECTED_MESSAGE);
                Err(TransferEnd::ConnectionLost)
            }
        }
    }

    /// Takes the client's new keys into use (RFC 8446 §4.6.3).
    fn follow(&mut self, socket: &Socket, link: &Link) -> Result<(), TransferEnd> {
        if !self.opens() && !self.traits.rekey {
            return Err(cannot_rekey());
        }
        // The kernel may refuse, although the probe saw it take new keys.
        let updated = self.tls.update_receiving(socket);
        updated.map_err(|error| failed(&error, self.tls.protection(), link))
    }

    /// Announces new keys for what we send, and takes them into use.
    async fn renew(&mut self, socket: &Socket, link: &Link) -> Result<(), TransferEnd> {
        if self.seals() {
            self.queue(record::KEY_UPDATE_TYPE, &record::KEY_UPDATE)?;
        } else if self.traits.rekey {
            send_record(socket, record::KEY_UPDATE_TYPE, &record::KEY_UPDATE, link).await?;
        } else {
            return Err(cannot_rekey());
        }
        let updated = self.tls.update_sending(socket);
        updated.map_err(|error| failed(&error, self.tls.protection(), link))
    }

    /// Seals a short record for the next time that something is sent.
    fn queue(&mut self, record_type: u8, payload: &[u8]) -> Result<(), TransferEnd> {
        let mut record = [0; tls::sealed_len(8)];
        let Some(sealer) = self.tls.sealer() else {
            return Err(TransferEnd::ConnectionLost);
        };
        let sealed = sealer.seal(record_type, payload, &mut record);
        let count = sealed.map_err(|error| lost(io::Error::other(error)))?;
        self.outgoing
            .extend_from_slice(record.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Sends what is queued, if the socket takes it: a few octets on a direction that is otherwise unused,
    /// or about to be closed.
    pub(super) fn flush(&mut self, socket: &Socket) {
        if !self.outgoing.is_empty() {
            let _ = socket.send_now(&self.outgoing);
            self.outgoing.clear();
        }
    }

    /// Tells the client that it is not understood, if the socket takes that.
    fn alert(&mut self, socket: &Socket, alert: [u8; 2]) {
        if !self.seals() {
            let _ = socket.send_record_now(record::ALERT, &alert);
        } else if self.queue(record::ALERT, &alert).is_ok() {
            self.flush(socket);
        }
    }

    /// Counts an error of the kernel's when sending, where it is not one of the network.
    pub(super) fn blame(&self, error: &io::Error, link: &Link) {
        if !self.seals() && is_fault_of_kernel(error) {
            let policy = &link.settings.kernel_tls;
            policy.failed(self.tls.protection(), rt::now(), error);
        }
    }

    /// Sends close_notify behind the last octet, where [`Self::seal`] has not.
    ///
    /// A record that the kernel has accepted may still wait in it, encrypted, for room in TCP's
    /// buffer, and FIN would overtake it. So close_notify is sent by an operation that ends only when
    /// TCP has everything. It holds a thread of the kernel for so long; therefore it begins when there
    /// is room, and seldom waits.
    ///
    /// # Errors
    /// How the transfer ended instead.
    pub(super) async fn close(&mut self, socket: &Socket, link: &Link) -> Result<(), TransferEnd> {
        if self.seals() {
            return Ok(());
        }
        let settled = async {
            let mut pause = SETTLE_PAUSE;
            while !has_room(socket.send_buffer().map_err(lost)?) {
                socket.uncork();
                rt::sleep(pause).await;
                pause = (2 * pause).min(SETTLE_PAUSE_MAX);
                if socket.glance().map_err(lost)?.gone {
                    return Err(TransferEnd::ConnectionLost);
                }
                link.handle.check()?;
            }
            Ok(())
        };
        link.unstalled(socket, settled).await??;
        socket.set_non_blocking(false).map_err(lost)?;
        let sending = socket.send_record(record::ALERT, &record::CLOSE_NOTIFY);
        link.unstalled(socket, sending).await?.map_err(lost)
    }

    /// As much of [`Self::close`] as can be done at once: on a connection that is about to be closed
    /// there is nobody to wait for.
    pub(super) fn close_now(&mut self, socket: &Socket) {
        self.alert(socket, record::CLOSE_NOTIFY);
    }

    /// After a download: what the client says.
    ///
    /// # Errors
    /// `WouldBlock` when it says nothing; otherwise it has failed.
    pub(super) fn absorb(&mut self, socket: &Socket) -> io::Result<Heard> {
        if self.hearing == Hearing::Deaf {
            let count = socket.receive_now(&mut [0; LISTEN_OCTETS])?;
            return Ok(if count == 0 { Heard::End } else { Heard::Noise });
        }
        Ok(match self.next_record(socket)? {
            Record::EndOfStream => Heard::End,
            Record::CloseNotify => Heard::Closed,
            Record::Data | Record::Alert(record::USER_CANCELED) => Heard::Noise,
            // It could not make sense of what it got.
            Record::Alert(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            // We send nothing any more, so only what the client sends changes.
            Record::KeyUpdate { .. } => {
                if self.tls.update_receiving(socket).is_err() {
                    self.hearing = Hearing::Deaf;
                }
                Heard::Noise
            }
            Record::Bad | Record::Unexpected(_) => {
                self.hearing = Hearing::Deaf;
                Heard::Noise
            }
        })
    }
}

/// A connection whose keys nobody has any more. The kernel's failures are counted.
pub(super) fn failed(error: &DetachError, protection: Protection, link: &Link) -> TransferEnd {
    if let DetachError::Kernel(error) = error {
        link.settings
            .kernel_tls
            .failed(protection, rt::now(), error);
    } else {
        debug!(%error, "a data connection could not leave rustls");
    }
    TransferEnd::ConnectionLost
}

fn cannot_rekey() -> TransferEnd {
    info!(
        "a client changed its TLS keys, which kernel TLS cannot follow before Linux 6.14: transfer ended; \
         for such clients choose --ktls off"
    );
    TransferEnd::ConnectionLost
}

async fn send_record(
    socket: &Socket,
    record_type: u8,
    payload: &[u8],
    link: &Link,
) -> Result<(), TransferEnd> {
    loop {
        match socket.send_record_now(record_type, payload) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.unstalled(socket, socket.writable())
                    .await?
                    .map_err(lost)?;
                link.handle.check()?;
            }
            other => return other.map_err(lost),
        }
    }
}

fn has_room(buffer: SendBuffer) -> bool {
    buffer.queued == 0 || buffer.size.saturating_sub(buffer.queued) >= PENDING_OCTETS
}

/// Errors that no client can bring about.
fn is_fault_of_kernel(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::InvalidInput
            | Kind::OutOfMemory
            | Kind::Unsupported
            | Kind::NotFound
            | Kind::ResourceBusy
    )
}
