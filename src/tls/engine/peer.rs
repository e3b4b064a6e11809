//! What the client has shown: its certificate, its application protocols.

use super::Engine;
use crate::tls::clients::{ClientCertificate, Clients, fingerprint};
use crate::tls::error::TlsError;

impl Engine {
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
