//! TLS as a client does it: one configuration for a run, one session cache for each session.
//!
//! The handshake is rustls'. After it, rustls gives the keys away and records are opened and sealed
//! here, in the buffers that the socket fills and empties: rustls itself copies every payload into a
//! vector of its own, and a load generator must cost less than what it measures.

mod cache;
mod connection;
mod sealer;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::settings::{Suite, Trust};
use crate::tls::{Cipher, Protection, Version};

pub use cache::SessionCache;
pub use connection::{Established, Handshake, Incoming, Step};

/// What TLS connections of a run have in common.
#[derive(Debug, Clone)]
pub struct ClientTls {
    base: ClientConfig,
    name: ServerName<'static>,
}

impl ClientTls {
    /// Makes the configuration.
    ///
    /// # Errors
    /// A sentence: there is no suite for the version, or the name is none.
    pub fn new(
        host: &str,
        version: Option<Version>,
        suite: Option<Suite>,
        trust: &Trust,
    ) -> Result<Self, String> {
        let mut provider: CryptoProvider = aws_lc_rs::default_provider();
        if let Some(suite) = suite {
            let cipher = match suite {
                Suite::Aes128 => Cipher::Aes128Gcm,
                Suite::Aes256 => Cipher::Aes256Gcm,
                Suite::Chacha20 => Cipher::ChaCha20Poly1305,
            };
            provider.cipher_suites.retain(|suite| {
                Protection::of(suite.version().version, suite.suite())
                    .is_some_and(|protection| protection.cipher == cipher)
            });
        }
        let algorithms = provider.signature_verification_algorithms;
        let versions: &[&SupportedProtocolVersion] = match version {
            Some(Version::Tls12) => &[&TLS12],
            Some(Version::Tls13) => &[&TLS13],
            None => &[&TLS13, &TLS12],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let mut base = match trust {
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
                .with_no_client_auth(),
            Trust::Roots(roots) => {
                let mut store = RootCertStore::empty();
                let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
                if added == 0 {
                    return Err("no certificate to trust: give a PEM file to --ca".to_owned());
                }
                builder.with_root_certificates(store).with_no_client_auth()
            }
        };
        base.enable_secret_extraction = true;
        base.resumption = Resumption::disabled();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is no name that a certificate could have"))?;
        Ok(Self { base, name })
    }

    /// The configuration of connections that resume, and remember, sessions of this cache.
    #[must_use]
    pub fn resuming(&self, cache: &Arc<SessionCache>) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        config.resumption = Resumption::store(Arc::clone(cache) as _);
        Arc::new(config)
    }

    /// The configuration of connections that never resume.
    #[must_use]
    pub fn fresh(&self) -> Arc<ClientConfig> {
        Arc::new(self.base.clone())
    }

    /// Whose certificate is expected.
    #[must_use]
    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}

/// Takes every certificate, as `--insecure` says, but still checks that the server has its key: that
/// is work which real clients do, too.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
