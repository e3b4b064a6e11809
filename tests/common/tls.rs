//! The TLS side of the test client: certificates, session tickets, configurations.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use super::server::process_directory;

/// A certificate with its key, as files for the server and as octets for the client.
pub struct Identity {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub der: CertificateDer<'static>,
}

impl Identity {
    /// Makes a self-signed P-256 certificate; every client of this process then accepts it.
    pub fn generate(directory: &Path, name: &str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let identity = Self {
            certificate_file: directory.join(format!("{name}.crt")),
            key_file: directory.join(format!("{name}.key")),
            der: certificate.der().clone(),
        };
        std::fs::write(&identity.certificate_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        known().lock().unwrap().push(identity.der.clone());
        identity
    }

    /// The certificate that servers use when a test names no other.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Identity> = OnceLock::new();
        SHARED.get_or_init(|| Self::generate(process_directory(), "server"))
    }
}

fn known() -> &'static Mutex<Vec<CertificateDer<'static>>> {
    static KNOWN: Mutex<Vec<CertificateDer<'static>>> = Mutex::new(Vec::new());
    &KNOWN
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
}

/// Accepts exactly the certificates that this process made, after checking the signatures.
#[derive(Debug)]
struct Pinned;

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if known().lock().unwrap().iter().any(|der| der == end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("a certificate no test made".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The sessions that a client has received and may resume, newest offered first.
#[derive(Debug, Default)]
pub struct Tickets {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
    group: Mutex<Option<NamedGroup>>,
}

impl Tickets {
    /// TLS 1.3 tickets at hand.
    pub fn count(&self) -> usize {
        self.tls13.lock().unwrap().len()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.tls12.lock().unwrap().take();
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'_>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop_back()
    }
}

/// The protocol versions that a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

/// What a client wants of TLS: its configuration without and with resumption.
#[derive(Clone)]
pub struct Profile {
    base: ClientConfig,
    /// Sessions received on the control connection and its data connections.
    pub tickets: Arc<Tickets>,
}

impl Profile {
    /// A client that offers one version of TLS and no ALPN.
    pub fn new(version: Version) -> Self {
        Self {
            base: base(version).clone(),
            tickets: Arc::default(),
        }
    }

    /// A client that offers this cipher suite alone.
    pub fn of(suite: SupportedCipherSuite) -> Self {
        let mut provider = CryptoProvider::clone(provider());
        provider.cipher_suites = vec![suite];
        let version = match suite {
            SupportedCipherSuite::Tls12(_) => &TLS12,
            SupportedCipherSuite::Tls13(_) => &TLS13,
        };
        Self {
            base: make_base(provider.into(), version),
            tickets: Arc::default(),
        }
    }

    /// TLS 1.3, or what the variable `RINGFTPD_TEST_TLS` (`1.2`, `1.3`) says for the whole suite.
    pub fn usual() -> Self {
        match std::env::var("RINGFTPD_TEST_TLS").as_deref() {
            Ok("1.2") => Self::new(Version::Tls12),
            Ok("1.3") | Err(_) => Self::new(Version::Tls13),
            Ok(other) => panic!("RINGFTPD_TEST_TLS is {other:?}, not 1.2 or 1.3"),
        }
    }

    /// The same client offering these application protocols.
    pub fn with_alpn(mut self, protocols: &[&str]) -> Self {
        self.base.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        self
    }

    /// The same client with a certificate to show, a chain with its key in PEM.
    pub fn with_certificate(mut self, pem: &str) -> Self {
        let mut octets = pem.as_bytes();
        let chain = rustls_pemfile::certs(&mut octets);
        let chain: Vec<_> = chain.map(Result::unwrap).collect();
        let key = rustls_pemfile::private_key(&mut pem.as_bytes());
        let key = key.unwrap().unwrap();
        let provider = self.base.crypto_provider();
        let key = provider.key_provider.load_private_key(key).unwrap();
        let certified = rustls::sign::CertifiedKey::new(chain, key);
        self.base.client_auth_cert_resolver =
            Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        self
    }

    /// The same client without the server's name in its ClientHello.
    pub fn without_name(mut self) -> Self {
        self.base.enable_sni = false;
        self
    }

    /// A configuration that resumes sessions out of this profile's tickets.
    pub fn resuming(&self) -> Arc<ClientConfig> {
        self.resuming_from(&self.tickets)
    }

    /// A configuration that resumes sessions out of other tickets.
    pub fn resuming_from(&self, tickets: &Arc<Tickets>) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        config.resumption = Resumption::store(tickets.clone());
        Arc::new(config)
    }

    /// A configuration that always makes a full handshake.
    pub fn full(&self) -> Arc<ClientConfig> {
        let mut config = self.base.clone();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

/// One verifier and one set of client credentials for all: a ticket is only offered by
/// configurations that share them with the one that received it.
fn base(version: Version) -> &'static ClientConfig {
    static TLS12_BASE: OnceLock<ClientConfig> = OnceLock::new();
    static TLS13_BASE: OnceLock<ClientConfig> = OnceLock::new();
    let (cell, version) = match version {
        Version::Tls12 => (&TLS12_BASE, &TLS12),
        Version::Tls13 => (&TLS13_BASE, &TLS13),
    };
    cell.get_or_init(|| make_base(provider().clone(), version))
}

fn make_base(
    provider: Arc<CryptoProvider>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned))
        .with_no_client_auth()
}
