//! TLS of control and data connections (RFC 4217) with rustls: settings, certificates, the session
//! store that ties data connections to their control connection, and the record engine.
//!
//! Nothing here does network I/O: [`Engine`] turns octets into octets. The settings are immutable
//! and shared by all cores; one [`ControlTls`] belongs to each control connection, and every engine
//! of that control connection and of its data connections refers to it.
//!
//! The order of calls: [`Settings::new`] once, [`ControlTls::new`] at implicit TLS or AUTH,
//! [`Engine::new`] with [`Role::Control`]; then for each protected transfer [`Engine::new`] with
//! [`Role::Download`] or [`Role::Upload`], its handshake, and [`check_resumption`].

mod clients;
mod detached;
mod engine;
mod error;
mod hello;
mod hosts;
mod identity;
mod offload;
mod opener;
pub mod probe;
mod protection;
pub mod record;
mod record_key;
#[cfg(test)]
mod records_tests;
mod sealer;
mod sessions;
#[cfg(test)]
mod testing;

use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::limits;

pub use clients::{ClientCertificate, Clients, ClientsError};
pub use detached::{DetachError, DetachedTls, Parties, Party};
pub use engine::{Engine, Progress, sealed_len};
pub use error::TlsError;
pub use hosts::Identities;
pub use identity::{CERTIFICATE_FILE as SELF_SIGNED_CERTIFICATE_FILE, Identity, IdentityError};
pub use offload::OffloadError;
pub use opener::{BadRecord, RecordOpener};
pub use protection::{Cipher, Protection, Version};
pub use record_key::BadKey;
pub use sealer::RecordSealer;
pub use sessions::{ControlTls, SessionStore};

/// First octets of TLS records that may follow a handshake: change_cipher_spec, alert, handshake,
/// application_data (RFC 8446 §5.1). No command begins with one of them.
pub const RECORD_TYPES: RangeInclusive<u8> = 20..=23;

/// Must a data connection resume a TLS session of its control connection?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// No session is ever stored or resumed.
    Off,
    /// Resumption is offered; once a client has resumed on a control connection, all its later
    /// data connections must.
    Prefer,
    /// Every protected data connection must resume.
    Require,
}

/// What a TLS connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A control connection.
    Control,
    /// A data connection on which the server sends: RETR and the listings.
    Download,
    /// A data connection on which the server receives: STOR, APPE, STOU.
    Upload,
}

/// A connection's protection in a few words, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub suite: &'static str,
    /// Whether a session was resumed.
    pub resumed: bool,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resumed = if self.resumed { " resumed" } else { "" };
        write!(f, "{} {}{resumed}", self.version, self.suite)
    }
}

/// Two configurations that differ only in who chooses the cipher.
#[derive(Clone, Debug)]
struct Ordered {
    server: Arc<ServerConfig>,
    client: Arc<ServerConfig>,
}

/// The TLS settings of the whole server, for one certificate and one policy.
///
/// Cheap to clone. A reload makes a new value with [`Settings::renewed`], which shares the
/// sessions, so that clients connected before keep resuming.
#[derive(Clone, Debug)]
pub struct Settings {
    control: Ordered,
    data: Ordered,
    resume: Resume,
    store: Arc<SessionStore>,
    clients: Option<Arc<Clients>>,
}

impl Settings {
    /// Settings with an empty session store.
    ///
    /// # Errors
    /// When the cryptographic provider does not support TLS 1.2 and TLS 1.3.
    pub fn new(identity: &Identity, resume: Resume) -> Result<Self, rustls::Error> {
        Self::of(&identity.clone().into(), resume)
    }

    /// The same with virtual hosts.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn of(identities: &Identities, resume: Resume) -> Result<Self, rustls::Error> {
        let store = Arc::new(SessionStore::new(resume != Resume::Off));
        Self::build(identities, resume, store)
    }

    /// Other certificates and policy. The sessions stay, unless resumption is switched on or off.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn renewed(&self, identities: &Identities, resume: Resume) -> Result<Self, rustls::Error> {
        if self.store.enabled() == (resume != Resume::Off) {
            return Self::build(identities, resume, Arc::clone(&self.store));
        }
        Self::of(identities, resume)
    }

    /// The policy these settings were made with.
    pub fn resume(&self) -> Resume {
        self.resume
    }

    /// Which certificates clients are asked for; `None` for none.
    pub fn clients(&self) -> Option<&Clients> {
        self.clients.as_deref()
    }

    /// The sessions that can be resumed now.
    pub fn store(&self) -> &Arc<SessionStore> {
        &self.store
    }

    fn build(
        identities: &Identities,
        resume: Resume,
        store: Arc<SessionStore>,
    ) -> Result<Self, rustls::Error> {
        let config = |role| {
            let mut server = configure(identities, &store, resume, role)?;
            let client = Arc::new(server.clone());
            server.ignore_client_order = true;
            Ok::<_, rustls::Error>(Ordered {
                server: Arc::new(server),
                client,
            })
        };
        Ok(Self {
            control: config(Role::Control)?,
            data: config(Role::Download)?,
            resume,
            store,
            clients: identities.clients.clone(),
        })
    }

    fn ordered(&self, role: Role) -> &Ordered {
        match role {
            Role::Control => &self.control,
            Role::Download | Role::Upload => &self.data,
        }
    }

    /// The configuration for nearly all clients: the server chooses the cipher.
    fn config(&self, role: Role) -> Arc<ServerConfig> {
        Arc::clone(&self.ordered(role).server)
    }

    /// The configuration for clients that [`hello::prefers_chacha20`].
    fn config_of_client(&self, role: Role) -> Arc<ServerConfig> {
        Arc::clone(&self.ordered(role).client)
    }
}

/// AES-128-GCM first: its suites hash with SHA-256, which processors have instructions for. SHA-384 took a
/// sixth of the CPU time of a small download, and nobody breaks either.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let protection = Protection::of(suite.version().version, suite.suite());
        protection.map(|protection| protection.cipher as u8)
    });
    provider
}

/// One rustls configuration.
///
/// SECURITY: resumption is bound to the control connection by [`SessionStore`]; a stateless
/// ticketer would bypass it and stays off (the default). Early data stays refused: tickets are
/// multi-use, so it could be replayed (RFC 8446 §8).
fn configure(
    identities: &Identities,
    store: &Arc<SessionStore>,
    resume: Resume,
    role: Role,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?;
    let builder = match &identities.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier(role == Role::Control)),
    };
    let mut config = builder.with_cert_resolver(identities.resolver());
    config.session_storage = Arc::clone(store) as Arc<_>;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.send_tls13_tickets = match role {
        _ if !store.enabled() => 0,
        Role::Control if resume == Resume::Require => limits::TLS_TICKETS_CONTROL_REQUIRED,
        Role::Control => limits::TLS_TICKETS_CONTROL,
        // For an upload the store takes none, so none is sent: its client may never read, and then
        // a ticket would sit unread in the receive buffer when it closes, which makes its kernel
        // send a reset.
        Role::Download | Role::Upload => limits::TLS_TICKETS_DOWNLOAD,
    };
    // IANA registers "ftp" and "ftp-data" (RFC 7301 §6); rustls refuses a client that offers ALPN
    // without a protocol listed here with no_application_protocol, which defeats ALPACA.
    config.alpn_protocols = match role {
        Role::Control => vec![b"ftp".to_vec()],
        Role::Download | Role::Upload => vec![b"ftp-data".to_vec(), b"ftp".to_vec()],
    };
    // The kernel takes over the keys of data connections only.
    config.enable_secret_extraction = role != Role::Control;
    Ok(config)
}

/// Why a data connection is refused after its handshake (reply 522, RFC 4217 §10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotResumed {
    /// The client offered the session of another live control connection.
    #[error("the data connection offered the TLS session of another control connection")]
    Foreign,
    /// The policy demands resumption and the handshake was a full one.
    #[error("the data connection did not resume the TLS session of its control connection")]
    Full,
    /// The handshake was a full one, and without the certificate that the control connection has.
    #[error("the data connection did not show the client certificate of its control connection")]
    Certificate,
}

/// Judges a data connection whose handshake is complete, and remembers on `control` that this
/// client resumes.
///
/// # Errors
/// [`NotResumed`] when the data connection must be refused.
pub fn check_resumption(
    policy: Resume,
    control: &ControlTls,
    engine: &Engine,
) -> Result<(), NotResumed> {
    let verdict = judge(policy, control, engine);
    if verdict.is_err() {
        control.forget(engine.issued());
    }
    verdict
}

fn judge(policy: Resume, control: &ControlTls, engine: &Engine) -> Result<(), NotResumed> {
    // SECURITY: a session of another client means that somebody else's data connection reached
    // this port, whatever the policy.
    if engine.foreign() {
        return Err(NotResumed::Foreign);
    }
    // SECURITY: a client that is known by its certificate is known by it on every connection (RFC 4217 §15.1.2). Resuming
    // proves the same.
    if let Some(own) = control.certificate()
        && !engine.resumed()
        && engine.client_fingerprint() != Some(own.sha256)
    {
        return Err(NotResumed::Certificate);
    }
    if engine.resumes_control() {
        control.set_has_resumed();
    }
    match policy {
        _ if engine.resumed() => Ok(()),
        Resume::Require => Err(NotResumed::Full),
        Resume::Prefer if control.has_resumed() && engine.client_has_session() => {
            Err(NotResumed::Full)
        }
        Resume::Prefer | Resume::Off => Ok(()),
    }
}
