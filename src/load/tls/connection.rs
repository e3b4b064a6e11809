//! One TLS connection of the client: handshake by rustls, records by ourselves. No I/O.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::sealer::RecordSealer;
use crate::limits;
use crate::load::failure::{Failure, Kind};
use crate::tls::record::{ALERT, CLOSE_NOTIFY, KEY_UPDATE, KEY_UPDATE_TYPE, complete_len};
use crate::tls::{RecordOpener, Version};

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Messages of the handshake protocol (RFC 8446 §4).
const NEW_SESSION_TICKET: u8 = 4;
const MESSAGE_KEY_UPDATE: u8 = 24;

/// A handshake under way.
pub struct Handshake {
    connection: UnbufferedClientConnection,
    /// Octets at the front of the input that rustls has seen and keeps there.
    held: usize,
}

/// What a handshake needs next.
pub enum Step {
    /// More octets of the server.
    Receive,
    /// It is complete: call [`Handshake::finish`].
    Complete,
}

impl Handshake {
    /// Starts one.
    ///
    /// # Errors
    /// rustls', about the configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Failure> {
        Ok(Self {
            connection: UnbufferedClientConnection::new(config, name)?,
            held: 0,
        })
    }

    /// Takes what the server has sent, returns how many octets of it are done with, and appends what is
    /// to be sent. The others must be at the front of the next call's input, unchanged.
    ///
    /// Records go to rustls one at a time, so that none behind the handshake ever does.
    ///
    /// # Errors
    /// The handshake has failed; an alert for the server may be in `outgoing`.
    pub fn process(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(usize, Step), Failure> {
        let mut consumed = 0;
        let mut end = self.held;
        loop {
            let window = incoming.get_mut(consumed..end).unwrap_or_default();
            let status = self.connection.process_tls_records(window);
            consumed += status.discard;
            match status.state {
                Ok(ConnectionState::EncodeTlsData(data)) => append_encoded(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::BlockedHandshake) => {
                    self.held = end - consumed;
                    if self.held > limits::TLS_HANDSHAKE_OCTETS_HELD_MAX {
                        return Err(Failure::new(Kind::Tls, "handshake message too long"));
                    }
                    match complete_len(incoming.get(end..).unwrap_or_default()) {
                        Some(length) => end += length,
                        None => return Ok((consumed, Step::Receive)),
                    }
                }
                Ok(ConnectionState::WriteTraffic(_)) => return Ok((consumed, Step::Complete)),
                Ok(_) => return Err(Failure::new(Kind::Tls, "closed during the handshake")),
                Err(error) => {
                    self.flush_alert(outgoing);
                    return Err(error.into());
                }
            }
        }
    }

    fn flush_alert(&mut self, outgoing: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => append_encoded(data, outgoing),
                _ => return,
            }
        }
    }

    /// The connection after its handshake.
    ///
    /// # Errors
    /// The keys are not to be had.
    pub fn finish(self) -> Result<Established, Failure> {
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => Version::Tls13,
        };
        let suite = self.connection.negotiated_cipher_suite();
        let suite = suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()));
        let (secrets, keys) = self.connection.dangerous_into_kernel_connection()?;
        Ok(Established {
            opener: RecordOpener::new(version, secrets.rx)?,
            sealer: RecordSealer::new(version, secrets.tx)?,
            keys,
            version,
            suite,
            resumed,
            ticket: None,
            message: Vec::new(),
            reply_key_update: false,
        })
    }
}

/// What a record of the server was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Payload.
    Data(&'a [u8]),
    /// Something of TLS' own, dealt with.
    Other,
    /// close_notify: nothing follows.
    Closed,
}

/// A connection after its handshake.
pub struct Established {
    opener: RecordOpener,
    sealer: RecordSealer,
    keys: KernelConnection<ClientConnectionData>,
    version: Version,
    suite: String,
    resumed: bool,
    /// The newest ticket of this connection.
    ticket: Option<Vec<u8>>,
    /// Handshake messages that have come in part.
    message: Vec<u8>,
    reply_key_update: bool,
}

impl Established {
    /// Whether the handshake resumed a session.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Version and suite in words.
    #[must_use]
    pub fn protection(&self) -> String {
        let version = match self.version {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        };
        format!("{version} {}", self.suite.replace("TLS13_", "TLS_"))
    }

    /// Opens a whole record in place.
    ///
    /// # Errors
    /// It cannot be opened, is an alert, or must not come here.
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<Incoming<'a>, Failure> {
        let (record_type, payload) = self.opener.open(record)?;
        match (record_type, payload) {
            (APPLICATION_DATA, payload) => Ok(Incoming::Data(payload)),
            (ALERT, [_, 0]) => Ok(Incoming::Closed),
            (ALERT, [_, description]) => {
                let what = format!("the server sent the alert {description}");
                Err(Failure::new(Kind::Tls, what))
            }
            (HANDSHAKE, payload) if self.version == Version::Tls13 => {
                self.message.extend_from_slice(payload);
                self.take_messages()?;
                Ok(Incoming::Other)
            }
            (other, _) => {
                let what = format!("a record of type {other} came after the handshake");
                Err(Failure::new(Kind::Tls, what))
            }
        }
    }

    fn take_messages(&mut self) -> Result<(), Failure> {
        while let &[kind, a, b, c, ..] = self.message.as_slice() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > limits::TLS_HANDSHAKE_OCTETS_HELD_MAX {
                return Err(Failure::new(Kind::Tls, "handshake message too long"));
            }
            let Some(body) = self.message.get(4..4 + length) else {
                break;
            };
            match (kind, body) {
                (NEW_SESSION_TICKET, body) => {
                    self.keys.handle_new_session_ticket(body)?;
                    self.ticket = Some(body.to_vec());
                }
                (MESSAGE_KEY_UPDATE, &[requested @ (0 | 1)]) => {
                    let secrets = self.keys.update_rx_secret()?;
                    self.opener = RecordOpener::new(self.version, secrets)?;
                    self.reply_key_update |= requested == 1;
                }
                (other, _) => {
                    let what = format!("handshake message {other} after the handshake");
                    return Err(Failure::new(Kind::Tls, what));
                }
            }
            self.message.drain(..4 + length);
        }
        Ok(())
    }

    /// Puts the newest ticket of this connection into the session cache once more. Programs over OpenSSL
    /// and GnuTLS offer the control connection's session on every data connection, so this is what is
    /// done when no unused ticket is left: uploads bring none on some servers.
    pub fn offer_ticket_again(&mut self) {
        if let Some(ticket) = &self.ticket {
            // It was taken before; a failure means a full handshake.
            let _ = self.keys.handle_new_session_ticket(ticket);
        }
    }

    /// Appends records with this payload, and what has to go before them.
    ///
    /// # Errors
    /// The keys are used up.
    pub fn seal(&mut self, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Failure> {
        if std::mem::take(&mut self.reply_key_update) {
            self.sealer.seal(KEY_UPDATE_TYPE, &KEY_UPDATE, outgoing)?;
            let secrets = self.keys.update_tx_secret()?;
            self.sealer = RecordSealer::new(self.version, secrets)?;
        }
        Ok(self.sealer.seal(APPLICATION_DATA, payload, outgoing)?)
    }

    /// Appends close_notify.
    ///
    /// # Errors
    /// The keys are used up.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Failure> {
        Ok(self.sealer.seal(ALERT, &CLOSE_NOTIFY, outgoing)?)
    }
}

/// Appends a record that rustls has ready.
fn append_encoded(mut data: EncodeTlsData<'_, ClientConnectionData>, outgoing: &mut Vec<u8>) {
    // Asking with no room tells the size without a copy; the second call has exactly that.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let start = outgoing.len();
        outgoing.resize(start + size.required_size, 0);
        let written = data.encode(outgoing.get_mut(start..).unwrap_or_default());
        outgoing.truncate(start + written.unwrap_or(0));
    }
}
