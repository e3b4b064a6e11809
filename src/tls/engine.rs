//! One TLS server connection as a machine from octets to octets; the caller does the I/O.
//!
//! Records are handed to rustls one at a time and only when complete. So the engine knows exactly
//! which octets rustls has looked at, and nothing behind a close_notify is ever touched.

mod peer;

use std::rc::Rc;
use std::sync::Arc;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic, WriteTraffic,
};
use rustls::{ExtractedSecrets, HandshakeKind, ServerConfig};

use super::hello::prefers_chacha20;
use super::protection::Protection;
use super::record::complete_len;
use super::sessions::{Holding, Scope, SessionKey};
use super::{ControlTls, Role, Settings, Summary, TlsError};
use crate::limits;

/// At least what a cipher suite adds: header 5, explicit nonce 8, tag 16.
const RECORD_OVERHEAD_OCTETS_MAX: usize = 32;
/// At least two KeyUpdate records and an alert, which may precede the records of one call.
const RECORDS_PENDING_OCTETS_MAX: usize = 128;

/// Octets that are always enough for the records that protect `plain` octets of plaintext.
pub const fn sealed_len(plain: usize) -> usize {
    let records = plain.div_ceil(limits::TLS_RECORD_PLAINTEXT_MAX);
    plain + records * RECORD_OVERHEAD_OCTETS_MAX + RECORDS_PENDING_OCTETS_MAX
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake needs more octets of the client.
    Handshaking,
    /// The handshake is complete; plaintext flows.
    Established,
    /// The client sent close_notify; it may still receive.
    PeerClosed,
}

/// This side's half of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    /// close_notify was sent.
    Closed,
    /// A fatal error happened in either direction.
    Failed,
}

/// One TLS server connection.
///
/// Calls: [`Engine::process`] with everything received until it reports
/// [`Progress::Established`], then [`Engine::seal`] and [`Engine::process`] in any order, and
/// [`Engine::close`] at the end. Octets that `process` leaves in its input must stay at the front
/// of the next call's input, unchanged.
pub struct Engine {
    connection: UnbufferedServerConnection,
    /// Until the first record has come: for a client that is to choose the cipher.
    of_client: Option<Arc<ServerConfig>>,
    control: Rc<ControlTls>,
    role: Role,
    sending: Sending,
    peer_closed: bool,
    foreign: bool,
    /// The session offered goes back to a control connection of the same client.
    rooted: bool,
    /// Sessions issued to this data connection.
    issued: Vec<SessionKey>,
    /// What sessions the client had when the handshake began; of a control connection none.
    holding: Holding,
    /// After the handshake the client has sent something else than data and its end, which rustls may
    /// have an answer to that it does not show yet (RFC 8446 §4.6.3).
    spoke: bool,
    /// Octets at the front of the input that rustls has decrypted in place and keeps there,
    /// because they hold an incomplete handshake message.
    held: usize,
}

impl Engine {
    /// A connection before its handshake.
    ///
    /// # Errors
    /// When the settings are not usable; a defect, since they are checked when made.
    pub fn new(
        settings: &Settings,
        role: Role,
        control: &Rc<ControlTls>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(settings.config(role))?,
            of_client: Some(settings.config_of_client(role)),
            control: Rc::clone(control),
            role,
            sending: Sending::Open,
            peer_closed: false,
            foreign: false,
            rooted: false,
            issued: Vec::new(),
            holding: control.begin(role),
            spoke: false,
            held: 0,
        })
    }

    /// Tells what a data connection is for, where that was not known when its handshake began. To be
    /// called before the client's Finished is processed: tickets follow it.
    pub fn set_role(&mut self, role: Role) {
        self.role = role;
    }

    /// Processes the complete records at the front of `incoming` and removes them, appends
    /// decrypted octets to `plain` and octets for the client to `outgoing`.
    ///
    /// Stops right behind the client's close_notify; what follows stays in `incoming` and belongs
    /// to whatever comes next (REIN, CCC). When it reports that the handshake is complete, all of
    /// the handshake's octets including tickets are in `outgoing`.
    ///
    /// The answer to a client's KeyUpdate is not in `outgoing`: it precedes the next record that
    /// is sealed, or close_notify (RFC 8446 §4.6.3 asks no more).
    ///
    /// # Errors
    /// [`TlsError`]; the connection is then dead, and `outgoing` ends with the fatal alert to be
    /// sent, if there is one.
    pub fn process(
        &mut self,
        incoming: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let (consumed, progress) = self.process_slice(incoming, plain, outgoing)?;
        if consumed == incoming.len() {
            incoming.clear();
        } else {
            incoming.drain(..consumed);
        }
        Ok(progress)
    }

    /// As [`Engine::process`] without moving octets: returns how many at the front of `incoming`
    /// are done with. The others may have been changed in place; the next call's `incoming` must
    /// start with them as they are.
    ///
    /// # Errors
    /// As [`Engine::process`].
    pub fn process_slice(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(usize, Progress), TlsError> {
        if self.sending == Sending::Failed {
            return Err(TlsError::Closed);
        }
        if self.peer_closed {
            return Ok((0, Progress::PeerClosed));
        }
        let resumes_rooted = self.rooted && self.resumes();
        let scope = Scope::enter(&self.control, self.role, resumes_rooted);
        let result = self.process_records(incoming, plain, outgoing);
        self.foreign |= scope.foreign();
        self.rooted |= scope.rooted();
        self.issued.append(&mut scope.take_issued());
        let offered = scope.take_offered();
        drop(scope);
        if let Some(client) = offered
            && self.resumes()
        {
            match self.role {
                Role::Control => self.control.join(client),
                Role::Download | Role::Upload => self.control.merge(&client),
            }
        }
        let consumed = match result {
            Ok(consumed) => consumed,
            Err(error) => {
                // Nothing may follow close_notify (RFC 8446 §6.1), an alert neither.
                if self.sending == Sending::Open {
                    self.flush_alert(outgoing);
                }
                self.sending = Sending::Failed;
                return Err(error);
            }
        };
        let progress = match () {
            () if self.peer_closed => Progress::PeerClosed,
            () if self.is_established() => Progress::Established,
            () => Progress::Handshaking,
        };
        Ok((consumed, progress))
    }

    /// Feeds records until none is complete or the client closed; returns the octets consumed.
    ///
    /// The window `incoming[consumed..end]` is what rustls has been given and not released.
    fn process_records(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut consumed = 0;
        let mut end = self.held;
        // A record was given to an established connection, and no data came of it yet.
        let mut silent = false;
        // Every round releases a record, takes pending output, or is the last.
        loop {
            let window = incoming.get_mut(consumed..end).ok_or(TlsError::InputLost)?;
            let status = self.connection.process_tls_records(window);
            consumed += status.discard;
            let settled = match status.state? {
                ConnectionState::ReadTraffic(traffic) => {
                    silent = false;
                    consumed += take_plaintext(traffic, plain)?;
                    // Application data leaves nothing else behind, so the next record can follow
                    // without another look at the connection.
                    !self.connection.wants_write()
                }
                ConnectionState::EncodeTlsData(data) => {
                    append_encoded(data, outgoing);
                    false
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    silent = false;
                    self.peer_closed = true;
                    false
                }
                // Blocked, ready or closed. Early data is never accepted.
                _ => true,
            };
            if !settled {
                continue;
            }
            self.spoke |= silent;
            self.held = end - consumed;
            if self.held > limits::TLS_HANDSHAKE_OCTETS_HELD_MAX {
                return Err(TlsError::HandshakeOversized);
            }
            let next = incoming.get(end..).unwrap_or_default();
            match complete_len(next) {
                Some(len) if !self.peer_closed => {
                    if let Some(config) = self.of_client.take()
                        && prefers_chacha20(next)
                    {
                        self.connection = UnbufferedServerConnection::new(config)?;
                    }
                    silent = self.is_established();
                    end += len;
                }
                _ => return Ok(consumed),
            }
        }
    }

    /// Takes the fatal alert out of a connection that has just failed.
    fn flush_alert(&mut self, outgoing: &mut Vec<u8>) {
        // Pending output comes before any look at the input, so none has to be given.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => append_encoded(data, outgoing),
                _ => return,
            }
        }
    }

    /// Protects `plain` in records as large as possible and appends them to `outgoing`.
    ///
    /// # Errors
    /// When the handshake is not complete, the connection is closed, or its keys are used up.
    pub fn seal(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let start = outgoing.len();
        outgoing.resize(start + sealed_len(plain.len()), 0);
        let free = outgoing.get_mut(start..).unwrap_or_default();
        let result = self.seal_into(plain, free);
        outgoing.truncate(start + result.as_ref().copied().unwrap_or(0));
        result.map(|_| ())
    }

    /// Protects `plain` in records as large as possible, written to the front of `out`, which
    /// should have [`sealed_len`] octets; returns how many were written.
    ///
    /// # Errors
    /// As [`Engine::seal`], and [`TlsError::OutputTooSmall`].
    pub fn seal_into(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, TlsError> {
        match self.sending {
            Sending::Closed | Sending::Failed => return Err(TlsError::Closed),
            Sending::Open if !self.is_established() => return Err(TlsError::NotEstablished),
            Sending::Open if plain.is_empty() => return Ok(0),
            Sending::Open => {}
        }
        self.write(out, |traffic, free| traffic.encrypt(plain, free))
    }

    /// Appends close_notify to `outgoing`; does nothing before the handshake is complete, after a
    /// failure, or the second time.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) {
        if self.sending != Sending::Open || !self.is_established() {
            return;
        }
        let start = outgoing.len();
        outgoing.resize(start + RECORDS_PENDING_OCTETS_MAX, 0);
        let free = outgoing.get_mut(start..).unwrap_or_default();
        let result = self.write(free, |traffic, free| traffic.queue_close_notify(free));
        // Without room for an alert in the cipher's limits the client sees a bare end, as it
        // would after a crash; nothing better can be sent.
        outgoing.truncate(start + result.unwrap_or(0));
        self.sending = Sending::Closed;
    }

    /// Brings the connection to the point where records can be written and runs `action` there.
    fn write(
        &mut self,
        out: &mut [u8],
        mut action: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<usize, TlsError> {
        // rustls indexes its input behind the octets it holds even when there is nothing to read,
        // so it gets as many, whatever they are: it looks at held octets only once more follow.
        let mut stand_in = vec![0; self.held];
        let mut written = 0;
        loop {
            let free = out.get_mut(written..).unwrap_or_default();
            match self.connection.process_tls_records(&mut stand_in).state? {
                ConnectionState::EncodeTlsData(mut data) => match data.encode(free) {
                    Ok(len) => written += len,
                    Err(EncodeError::InsufficientSize(size)) => {
                        // The record is lost with `data`, and with it the sequence.
                        self.sending = Sending::Failed;
                        return Err(TlsError::OutputTooSmall(written + size.required_size));
                    }
                    Err(EncodeError::AlreadyEncoded) => {}
                },
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    return Ok(written + action(&mut traffic, free)?);
                }
                _ => return Err(TlsError::Closed),
            }
        }
    }

    /// Can the connection leave for the kernel now? Not while rustls has something to say, or part of
    /// a handshake message, and not any more once the client has changed its keys: rustls keeps the
    /// answer to that to itself until it sends next.
    pub fn can_leave(&self) -> bool {
        self.held == 0
            && !self.spoke
            && self.is_established()
            && !self.peer_closed
            && self.sending == Sending::Open
            && !self.connection.wants_write()
    }

    /// Version and cipher, once negotiated, if the kernel could know them.
    pub fn protection(&self) -> Option<Protection> {
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        Protection::of(self.connection.protocol_version()?, suite)
    }

    /// Gives up the connection: its secrets, and what computes later ones.
    ///
    /// Everything of `outgoing` must have been sent and `incoming` must be empty.
    ///
    /// # Errors
    /// When the handshake is not complete, part of a handshake message has been received, either
    /// side has closed, or this is a control connection.
    pub fn into_kernel_connection(
        self,
    ) -> Result<(ExtractedSecrets, KernelConnection<ServerConnectionData>), TlsError> {
        if self.held != 0 || !self.is_established() {
            return Err(TlsError::NotEstablished);
        }
        if self.peer_closed || self.sending != Sending::Open {
            return Err(TlsError::Closed);
        }
        Ok(self.connection.dangerous_into_kernel_connection()?)
    }

    /// Version, cipher suite and resumption, for logs.
    pub fn summary(&self) -> Summary {
        let (version, suite, resumed) = (self.version(), self.suite(), self.resumed());
        Summary {
            version,
            suite,
            resumed,
        }
    }

    /// Is the handshake complete?
    pub fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Has the client sent close_notify?
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Did the handshake resume a session? False before it is complete.
    pub fn resumed(&self) -> bool {
        self.is_established() && self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Is the handshake, which need not be complete, a resumption?
    pub(super) fn resumes(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Does the connection resume a session that goes back to a control connection of its client?
    pub(super) fn resumes_control(&self) -> bool {
        self.rooted && self.resumed()
    }

    /// The sessions issued to this data connection.
    pub(super) fn issued(&self) -> &[SessionKey] {
        &self.issued
    }

    /// Must the client have a session which it could have resumed?
    pub(super) fn client_has_session(&self) -> bool {
        self.holding.can_resume(self.connection.protocol_version())
    }

    /// Did the client offer a session of another client?
    pub fn foreign(&self) -> bool {
        self.foreign
    }
}

/// Appends the plaintext of application data; returns further octets of input to release.
fn take_plaintext(
    mut traffic: ReadTraffic<'_, '_, ServerConnectionData>,
    plain: &mut Vec<u8>,
) -> Result<usize, rustls::Error> {
    let mut discard = 0;
    while let Some(record) = traffic.next_record() {
        let record = record?;
        discard += record.discard;
        plain.extend_from_slice(record.payload);
    }
    Ok(discard)
}

/// Appends a record that rustls has ready.
fn append_encoded(mut data: EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    // Asking with no room tells the size without a copy; the second call has exactly that.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let start = outgoing.len();
        outgoing.resize(start + size.required_size, 0);
        let written = data.encode(outgoing.get_mut(start..).unwrap_or_default());
        outgoing.truncate(start + written.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests;
