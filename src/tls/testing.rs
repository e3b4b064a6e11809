//! What the tests of this module share: a rustls client in memory, joined to an [`Engine`].

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, NamedGroup, RootCertStore, SupportedProtocolVersion, version,
};

use super::{ControlTls, Engine, Identity, Progress, Resume, Role, Settings, TlsError};

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// The time at which a test's control connection begins.
#[expect(clippy::disallowed_methods, reason = "a test has no runtime to ask")]
pub(super) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// A certificate with its key, both in PEM; one of two, made once.
pub(super) fn pem(index: usize) -> (&'static str, &'static str) {
    static MADE: OnceLock<[(String, String); 2]> = OnceLock::new();
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (certificate, key) = &MADE.get_or_init(|| [make(), make()])[index];
    (certificate, key)
}

pub(super) fn identity(index: usize) -> Identity {
    let (certificate, key) = pem(index);
    Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
}

pub(super) fn settings(resume: Resume) -> Settings {
    Settings::new(&identity(0), resume).unwrap()
}

/// Which session a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Newest,
    Oldest,
}

/// A client's sessions: those of TLS 1.2 kept for ever, tickets of TLS 1.3 used once.
#[derive(Debug)]
pub(super) struct Sessions {
    offer: Offer,
    received: AtomicUsize,
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    sessions: Mutex<Vec<Tls12ClientSessionValue>>,
}

impl Sessions {
    pub(super) fn new(offer: Offer) -> Arc<Self> {
        Arc::new(Self {
            offer,
            received: AtomicUsize::new(0),
            tickets: Mutex::default(),
            sessions: Mutex::default(),
        })
    }

    /// Sessions and tickets received so far.
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.sessions.lock().unwrap().push(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let sessions = self.sessions.lock().unwrap();
        match self.offer {
            Offer::Newest => sessions.last().cloned(),
            Offer::Oldest => sessions.first().cloned(),
        }
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.tickets.lock().unwrap().push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut tickets = self.tickets.lock().unwrap();
        match self.offer {
            Offer::Newest => tickets.pop_back(),
            Offer::Oldest => tickets.pop_front(),
        }
    }
}

/// A client's configuration that trusts both certificates.
pub(super) fn client_config(
    version: &'static SupportedProtocolVersion,
    sessions: &Arc<Sessions>,
) -> ClientConfig {
    // A rustls client offers a session only where verifier and credentials are the very same.
    static MADE: OnceLock<[ClientConfig; 2]> = OnceLock::new();
    let [tls12, tls13] = MADE.get_or_init(|| VERSIONS.map(make_client_config));
    let made = if version == VERSIONS[0] { tls12 } else { tls13 };
    let mut config = made.clone();
    config.resumption = Resumption::store(Arc::clone(sessions) as Arc<_>);
    config
}

fn make_client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for index in 0..2 {
        let (certificate, _) = pem(index);
        for certificate in rustls_pemfile::certs(&mut certificate.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}

/// Two ends of a connection and what the server end has received.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) engine: Engine,
    pub(super) incoming: Vec<u8>,
    pub(super) outgoing: Vec<u8>,
    pub(super) plain: Vec<u8>,
}

impl Pair {
    pub(super) fn new(
        settings: &Settings,
        role: Role,
        control: &Rc<ControlTls>,
        config: ClientConfig,
    ) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Self {
            client: ClientConnection::new(Arc::new(config), name).unwrap(),
            engine: Engine::new(settings, role, control).unwrap(),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// A pair whose handshake is complete.
    pub(super) fn established(
        settings: &Settings,
        role: Role,
        control: &Rc<ControlTls>,
        config: ClientConfig,
    ) -> Self {
        let mut pair = Self::new(settings, role, control, config);
        assert_eq!(pair.pump().unwrap(), Progress::Established);
        pair
    }

    /// Moves what the client has to send into `incoming`.
    pub(super) fn send(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.incoming).unwrap();
        }
    }

    pub(super) fn process(&mut self) -> Result<Progress, TlsError> {
        self.engine
            .process(&mut self.incoming, &mut self.plain, &mut self.outgoing)
    }

    /// Hands `outgoing` to the client; returns the plaintext it finds there.
    pub(super) fn deliver(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        let outgoing = std::mem::take(&mut self.outgoing);
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
            // Without plaintext this ends in WouldBlock, which is as good an end.
            let _ = self.client.reader().read_to_end(&mut received);
        }
        received
    }

    /// Moves octets until neither end has any; returns the server's last progress.
    pub(super) fn pump(&mut self) -> Result<Progress, TlsError> {
        loop {
            self.send();
            let progress = self.process()?;
            self.deliver();
            if !self.client.wants_write() {
                return Ok(progress);
            }
        }
    }

    /// Has the client send plaintext; everything arrives in `incoming`.
    pub(super) fn write(&mut self, mut plain: &[u8]) {
        while !plain.is_empty() {
            let accepted = self.client.writer().write(plain).unwrap();
            plain = &plain[accepted..];
            self.send();
        }
    }
}

/// A pair on a control connection of its own.
pub(super) fn control_pair(version: &'static SupportedProtocolVersion) -> Pair {
    let settings = settings(Resume::Prefer);
    let control = ControlTls::new(&settings, now());
    let config = client_config(version, &Sessions::new(Offer::Newest));
    Pair::established(&settings, Role::Control, &control, config)
}
