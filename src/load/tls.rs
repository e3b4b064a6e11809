//! TLS as an FTP client does it: a handshake by rustls, then records sealed and opened by this process, so
//! that one core of the generator outruns a server.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnectionData, Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};

use super::trouble::Trouble;
use crate::tls::record::complete_len;
use crate::tls::{Protection, RecordOpener, RecordSealer, Version};

/// Content types and messages (RFC 8446 §B.1, §B.3).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Octets of a message's type and length.
const MESSAGE_HEADER_OCTETS: usize = 4;

/// What a client insists on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// Only this version.
    pub(super) version: Option<Version>,
    /// Only this cipher.
    pub(super) cipher: Option<crate::tls::Cipher>,
}

/// A configuration that all sessions share, but for the store of their TLS sessions.
///
/// # Errors
/// `ca` cannot be read, or the wishes leave no cipher suite.
pub(super) fn config(ca: Option<&Path>, wishes: Wishes) -> io::Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| {
        let protection = Protection::of(suite.version().version, suite.suite());
        protection.is_some_and(|protection| {
            wishes
                .version
                .is_none_or(|version| version == protection.version)
                && wishes
                    .cipher
                    .is_none_or(|cipher| cipher == protection.cipher)
        })
    });
    let versions: &[&SupportedProtocolVersion] = match wishes.version {
        Some(Version::Tls12) => &[&rustls::version::TLS12],
        Some(Version::Tls13) => &[&rustls::version::TLS13],
        None => rustls::ALL_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?;
    let mut config = match ca {
        Some(path) => builder
            .with_root_certificates(roots(path)?)
            .with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(
                aws_lc_rs::default_provider(),
            )))
            .with_no_client_auth(),
    };
    config.enable_secret_extraction = true;
    Ok(config)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the command line, before the ring"
)]
fn roots(path: &Path) -> io::Result<RootCertStore> {
    let pem = fs::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate?).map_err(io::Error::other)?;
    }
    Ok(roots)
}

/// The configuration of one FTP session: it resumes what its own connections got. `resume` off: nothing.
pub(super) fn of_session(config: &ClientConfig, resume: bool) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = match resume {
        // Far more than the tickets of a control connection.
        true => Resumption::in_memory_sessions(32),
        false => Resumption::disabled(),
    };
    Arc::new(config)
}

/// Takes any certificate. Whose signature it is does not matter then, so none is checked: this client is
/// not to be slower than the server.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A handshake under way.
pub(super) struct Handshake {
    connection: UnbufferedClientConnection,
    /// Octets at the front of the input that rustls keeps there: a part of a message.
    held: usize,
}

impl Handshake {
    pub(super) fn new(
        config: &Arc<ClientConfig>,
        server: &ServerName<'static>,
    ) -> Result<Self, Trouble> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), server.clone())?;
        Ok(Self {
            connection,
            held: 0,
        })
    }

    /// Processes the whole records of the handshake in `incoming`; returns how many octets are done with.
    /// What is to be sent is appended to `outgoing`.
    pub(super) fn process(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<usize, Trouble> {
        let (mut consumed, mut end) = (0, self.held);
        loop {
            let window = incoming.get_mut(consumed..end).unwrap_or_default();
            let status = self.connection.process_tls_records(window);
            consumed += status.discard;
            self.held = end - consumed;
            match status.state? {
                ConnectionState::EncodeTlsData(mut data) => {
                    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                        let start = outgoing.len();
                        outgoing.resize(start + size.required_size, 0);
                        let written = data.encode(outgoing.get_mut(start..).unwrap_or_default());
                        outgoing.truncate(start + written.unwrap_or(0));
                    }
                    continue;
                }
                ConnectionState::TransmitTlsData(transmit) => {
                    transmit.done();
                    continue;
                }
                ConnectionState::BlockedHandshake => {}
                _ => return Ok(consumed),
            }
            match complete_len(incoming.get(end..).unwrap_or_default()) {
                Some(length) => end += length,
                // A part of a message stays where it is: the caller comes again with more.
                None => return Ok(consumed),
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// The connection after its handshake, and whether it resumed a session.
    pub(super) fn finish(self) -> Result<(Records, bool), Trouble> {
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let (secrets, connection) = self.connection.dangerous_into_kernel_connection()?;
        let suite = connection.negotiated_cipher_suite();
        let version = suite.version().version;
        let protection = Protection::of(version, suite.suite());
        let version = protection.ok_or(Trouble::Tls)?.version;
        let records = Records {
            sealer: RecordSealer::new(version, secrets.tx).map_err(|_| Trouble::Tls)?,
            opener: RecordOpener::new(version, secrets.rx).map_err(|_| Trouble::Tls)?,
            suite: suite.suite(),
            version,
            connection,
        };
        Ok((records, resumed))
    }
}

/// What a record of the server was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// So many octets.
    Data(usize),
    /// A ticket or new keys.
    Other,
    /// close_notify.
    Closed,
}

/// An established connection.
pub(super) struct Records {
    sealer: RecordSealer,
    opener: RecordOpener,
    connection: KernelConnection<ClientConnectionData>,
    suite: CipherSuite,
    version: Version,
}

impl Records {
    /// The cipher suite's name.
    pub(super) fn suite(&self) -> String {
        self.suite.as_str().unwrap_or("unknown").to_owned()
    }

    /// Opens a whole record into the front of `out`.
    pub(super) fn open(&mut self, record: &[u8], out: &mut [u8]) -> Result<Opened, Trouble> {
        let (record_type, count) = self.opener.open(record, out).map_err(|_| Trouble::Tls)?;
        let payload = out.get(..count).unwrap_or_default();
        match (record_type, payload) {
            (APPLICATION_DATA, _) => Ok(Opened::Data(count)),
            (ALERT, [_, 0]) => Ok(Opened::Closed),
            (HANDSHAKE, messages) if self.version == Version::Tls13 => {
                let messages = messages.to_vec();
                self.heed(&messages)
            }
            _ => Err(Trouble::Tls),
        }
    }

    fn heed(&mut self, mut messages: &[u8]) -> Result<Opened, Trouble> {
        while let Some((&[kind, high, middle, low], rest)) =
            messages.split_first_chunk::<MESSAGE_HEADER_OCTETS>()
        {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let (body, rest) = rest.split_at_checked(length).ok_or(Trouble::Tls)?;
            match kind {
                NEW_SESSION_TICKET => self.connection.handle_new_session_ticket(body)?,
                KEY_UPDATE => {
                    let secrets = self.connection.update_rx_secret()?;
                    self.opener =
                        RecordOpener::new(self.version, secrets).map_err(|_| Trouble::Tls)?;
                }
                _ => return Err(Trouble::Tls),
            }
            messages = rest;
        }
        Ok(Opened::Other)
    }

    /// Appends the records of the octets.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble> {
        self.append(out, plain.len(), |sealer, free| {
            sealer.seal_data(plain, free)
        })
    }

    /// Appends close_notify.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Trouble> {
        self.append(out, 2, |sealer, free| sealer.seal(ALERT, &[1, 0], free))
    }

    fn append(
        &mut self,
        out: &mut Vec<u8>,
        octets: usize,
        seal: impl FnOnce(&mut RecordSealer, &mut [u8]) -> Result<usize, crate::tls::BadKey>,
    ) -> Result<(), Trouble> {
        let start = out.len();
        out.resize(start + crate::tls::sealed_len(octets), 0);
        let free = out.get_mut(start..).unwrap_or_default();
        let count = seal(&mut self.sealer, free).map_err(|_| Trouble::Tls)?;
        out.truncate(start + count);
        Ok(())
    }
}
