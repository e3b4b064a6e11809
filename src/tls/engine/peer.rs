//! What was agreed upon with the client, and what it has shown: version, cipher suite, application protocols, its
//! certificate.

use rustls::{CipherSuite, ProtocolVersion};

use super::Engine;
use crate::tls::clients::{ClientCertificate, Clients, fingerprint};
use crate::tls::error::TlsError;

impl Engine {
    /// Is it TLS 1.3 that was negotiated?
    pub fn is_tls13(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Name of the protocol version, "" before it is negotiated.
    pub fn version(&self) -> &'static str {
        match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(_) => "TLS",
            None => "",
        }
    }

    /// IANA name of the cipher suite, "" before it is negotiated.
    pub fn suite(&self) -> &'static str {
        match self.connection.negotiated_cipher_suite() {
            Some(suite) => suite_name(suite.suite()),
            None => "",
        }
    }

    /// The application protocol selected, if the client offered any (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// What the client has presented in this handshake, or in the one that this session goes back to; `None` for nothing.
    ///
    /// # Errors
    /// It is none that these settings accept, now, or there is none and must be one.
    pub fn client_certificate(
        &self,
        clients: &Clients,
    ) -> Result<Option<ClientCertificate>, TlsError> {
        let shown = clients.examine(self.connection.peer_certificates());
        shown.map_err(TlsError::from)
    }

    /// SHA-256 of it.
    pub(in crate::tls) fn client_fingerprint(&self) -> Option<[u8; 32]> {
        let chain = self.connection.peer_certificates()?;
        chain.first().map(fingerprint)
    }
}

/// IANA name; rustls' own has another prefix in TLS 1.3.
fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
