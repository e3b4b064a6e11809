//! From checked options to a running server: each module gets its settings, in the order in which
//! rights are needed and given away.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::file::{Loaded, Refusal, Reloader, Sources};
use super::file_rules;
use super::hosts::{self, HostsInForce};
use super::restart::Origin;
use super::running::{self, Running};
use super::{
    Access, AccountSource, ActiveSourcePort, CertificateFiles, Checked, CurlTrust, Exit, Failure,
    Privileges, Protect, cause, kernel_tls, log_kernel_tls, print_listeners, print_metrics,
    print_welcome,
};
use crate::admission::Admission;
use crate::auth::{Accounts, Authenticator};
use crate::bandwidth::Bandwidth;
use crate::logging;
use crate::proto::session::{self, Requirement};
use crate::server::{self, Listeners, Outlets, PassiveNames};
use crate::sys::host;
use crate::sys::keeper::Keeper;
use crate::{data, limits, rt, tls, vfs};

/// Lets SIGHUP, SIGUSR1 and SIGUSR2 wait until the server answers them. To be called before everything else.
///
/// # Errors
/// [`Failure`]: the system's.
pub fn hold_signals() -> Result<(), Failure> {
    server::hold_signals().map_err(|error| Failure::new(Exit::System, cause(&error)))
}

/// Serves until a signal ends it.
///
/// # Errors
/// [`Failure`]: what keeps the server from starting, with the remedy.
pub fn serve(sources: &Sources) -> Result<ExitCode, Refusal> {
    let loaded = sources.load()?;
    let located = |failure| Refusal::Failure(loaded.origins.locate(failure));
    serve_loaded(sources, &loaded).map_err(located)
}

fn serve_loaded(sources: &Sources, loaded: &Loaded) -> Result<ExitCode, Failure> {
    let checked = &loaded.checked;
    let mut log = checked.log.install();
    let mut origin = Origin::new(checked)?;
    host::probe_ring()?;
    let descriptors = host::raise_descriptor_limit();
    let began = rt::now();
    let (report, policy) = kernel_tls(checked.routes, began)?;
    let hosts = &loaded.structures.hosts;
    let mut privileges = Privileges::prepare(checked, &hosts.list)?;
    let source = AccountSource::new(checked, hosts, privileges.keeper())?;
    let (listeners, metrics) = listeners(loaded, &mut origin, &privileges)?;
    let certificate = CertificateSource::new(checked, privileges.keeper());
    let early = certificate.load_early();
    let home = privileges.drop()?;
    let own = early.unwrap_or_else(|| certificate.load())?;
    let identities = hosts::load_identities(checked, hosts, own, &privileges.keeper())?;
    let tls = tls::Settings::of(&identities, resume(checked))
        .map_err(|error| Failure::new(Exit::System, error.to_string()))?;
    let accounts = hosts::load_accounts(checked, hosts, &source, &home)?;
    accounts.check_homes(&privileges, &home)?;
    file_rules::check_mounts(&checked.file_rules)?;
    accounts.warn_of_mounts();
    // Threads begin here, and what takes long is over: who has read `ready` may end the server as it should end.
    server::hold_ends().map_err(|error| Failure::new(Exit::System, cause(&error)))?;
    let state_directory = privileges.state_directory();
    let quotas = super::quota::quotas(state_directory, &accounts, checked.quota_per_user);
    let transfer_log = super::logs::open(&mut log, checked.transfer_log.as_ref())?;
    let authenticator = authenticator(accounts.own, &mut privileges)?;
    let outlets = super::metrics::outlets(
        metrics,
        checked.histogram_log.as_deref(),
        checked.histogram_interval,
    )?;
    hosts::log_fingerprints(hosts, &identities);
    log_kernel_tls(&report, &policy, checked.routes, began);
    let running = Running {
        hosts: HostsInForce::first(hosts, accounts.hosts, &authenticator),
        keeper: privileges.keeper(),
        home,
        one_time: source.one_time().cloned(),
        report,
        probed: checked.routes.asks_kernel(),
        descriptors,
        authenticator,
        admission: admission(checked, descriptors),
        bandwidth: Bandwidth::new(checked.rates, rt::now()),
        directory_cache: vfs::DirectoryCache::new(checked.listing_cache_octets),
        quotas: Arc::clone(&quotas),
        transfer_log,
        kernel_tls: Arc::new(policy),
        tls,
    };
    let (mut settings, tls) = (running.settings(checked), running.tls.clone());
    warn_of_doubts(checked);
    settings.passive.look_up_first();
    welcome(checked, &listeners, &outlets, &source, &identities.own)
        .map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))?;
    let mut reloader = Reloader::new(sources, loaded, running);
    let lifecycle = origin.lifecycle();
    let reload = || {
        logging::reopen();
        reloader.reload()
    };
    server::run(&settings, &tls, listeners, outlets, lifecycle, reload)
        .map_err(|error| Failure::new(Exit::System, format!("cannot serve: {error}")))?;
    quotas.finish();
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Every address that the configuration names, and that of the metrics.
fn listeners(
    loaded: &Loaded,
    origin: &mut Origin,
    privileges: &Privileges,
) -> Result<(Listeners, Option<TcpListener>), Failure> {
    let Loaded {
        checked, origins, ..
    } = loaded;
    let listening = |address, error| {
        let explicit = checked.explicit.contains(&address);
        let key = if explicit { "explicit" } else { "implicit" };
        origins.locate_at(key, Failure::bind(address, &error))
    };
    let mut listeners = origin.listeners(checked, privileges, listening)?;
    let there = origin.metrics(checked);
    let metrics = super::metrics::bind(checked.metrics, there, &mut listeners)
        .map_err(|failure| origins.locate_at("metrics", failure))?;
    Ok((listeners, metrics))
}

/// Who checks passwords, with the helpers of PAM if there are any.
fn authenticator(
    accounts: Accounts,
    privileges: &mut Privileges,
) -> Result<Arc<Authenticator>, Failure> {
    let authenticator = Authenticator::new(accounts)
        .map_err(|_| Failure::new(Exit::System, "the system gives no random numbers"))?;
    if let Some(helpers) = privileges.take_pam() {
        authenticator.ask_pam(super::pam::start(helpers)?);
    }
    Ok(authenticator)
}

/// Where certificate and key come from, at the start and on every reload.
pub(super) enum CertificateSource {
    Files {
        certificate: PathBuf,
        key: PathBuf,
        keeper: Arc<Keeper>,
    },
    SelfSigned(PathBuf),
}

impl CertificateSource {
    pub(super) fn new(checked: &Checked, keeper: Arc<Keeper>) -> Self {
        match &checked.certificate {
            Some(files) => Self::Files {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                keeper,
            },
            None => Self::SelfSigned(checked.state_directory.clone()),
        }
    }

    /// As root, before it is given away; `None` where only the account can: root without CAP_DAC_OVERRIDE cannot read what
    /// is closed and belongs to the account.
    fn load_early(&self) -> Option<Result<tls::Identity, Failure>> {
        let closed = |path: &Path| {
            let opened = std::fs::File::open(path);
            opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        };
        let later = match self {
            Self::SelfSigned(directory) => closed(directory),
            Self::Files {
                certificate, key, ..
            } => closed(certificate) || closed(key),
        };
        (!later).then(|| self.load())
    }

    pub(super) fn load(&self) -> Result<tls::Identity, Failure> {
        let identity = match self {
            Self::Files {
                certificate,
                key,
                keeper,
            } => {
                let (certificate, key) = (certificate.clone(), key.clone());
                load_identity(&CertificateFiles { certificate, key }, keeper)
            }
            Self::SelfSigned(directory) => tls::Identity::self_signed_in(directory)
                .map_err(|error| Failure::new(Exit::Config, error.to_string())),
        }?;
        warn_of_expiry(&identity, "the server");
        Ok(identity)
    }
}

/// Reads a certificate and its key.
pub(super) fn load_identity(
    files: &CertificateFiles,
    keeper: &Keeper,
) -> Result<tls::Identity, Failure> {
    let CertificateFiles { certificate, key } = files;
    let read = |path: &Path| {
        keeper
            .read(path)
            .map_err(|error| Failure::file(Exit::NoInput, path, error))
    };
    tls::Identity::from_pem(&read(certificate)?, &read(key)?).map_err(|error| {
        let files = format!("{}, {}", certificate.display(), key.display());
        Failure::new(Exit::Config, format!("{files}: {error}"))
    })
}

pub(super) fn warn_of_expiry(identity: &tls::Identity, of: &str) {
    let soon = std::time::SystemTime::now() + limits::CERTIFICATE_EXPIRY_WARNING;
    if identity.expires().is_some_and(|expires| expires < soon) {
        tracing::warn!(
            "the certificate of {of} expires within 14 days: renew it, then send SIGHUP"
        );
    }
}

pub(super) fn resume(checked: &Checked) -> tls::Resume {
    match checked.resume {
        super::Resume::Off => tls::Resume::Off,
        super::Resume::Prefer => tls::Resume::Prefer,
        super::Resume::Require => tls::Resume::Require,
    }
}

fn requirement(protect: Protect) -> Requirement {
    match protect {
        Protect::Required => Requirement::Required,
        Protect::Optional => Requirement::Optional,
    }
}

pub(super) fn settings(checked: &Checked, running: &Running) -> server::Settings {
    let timers = &checked.timers;
    server::Settings {
        cores: checked.cores.clone(),
        busy_poll: checked.busy_poll,
        grace: timers.grace,
        retire: timers.retire,
        session: Arc::new(session::Settings {
            tls_control: requirement(checked.protect_control),
            tls_data: requirement(checked.protect_data),
            tls_available: true,
            ccc: checked.ccc,
            charset: checked.charset,
            active: checked.active,
            login_time_max: timers.login,
            idle_time_max: timers.idle,
            bad_login_delay: timers.bad_login_delay,
            hosts: running.hosts.session.clone(),
            ..session::Settings::default()
        }),
        data: Arc::new(data::Settings {
            connect_time_max: timers.connect,
            handshake_time_max: timers.handshake,
            stall_time_max: timers.stall,
            drain_time_max: timers.drain,
            strict_eof: checked.strict_eof,
            fsync: checked.fsync,
            remove_partial: checked.remove_partial,
            passive_ports: checked.passive_ports.clone(),
            peers_elsewhere: checked.peers_elsewhere,
            active_source_standard: checked.active_source_port == ActiveSourcePort::Standard,
            kernel_tls: Arc::clone(&running.kernel_tls),
            proxies: checked.proxies.clone(),
        }),
        bandwidth: Arc::clone(&running.bandwidth),
        files: vfs::Settings {
            list_zone: checked.list_zone.clone(),
            storing: checked.storing,
            directory_cache: Arc::clone(&running.directory_cache),
            quotas: Arc::clone(&running.quotas),
            ..vfs::Settings::default()
        },
        file_rules: Arc::clone(&checked.file_rules),
        handshake_time_max: timers.handshake,
        close_time_max: timers.close,
        drain_time_max: timers.drain,
        admission: Arc::clone(&running.admission),
        authenticator: Arc::clone(&running.authenticator),
        hosts: Arc::clone(&running.hosts.control),
        transfer_log: running.transfer_log.clone(),
        passive: PassiveNames::new(checked.passive.clone()),
    }
}

fn admission(checked: &Checked, descriptors: u64) -> Arc<Admission> {
    let Access { list, bans } = checked.access.clone();
    Admission::new(running::bounds(checked, descriptors), list, bans, rt::now())
}

/// Says what can hardly be meant about addresses and proxies.
pub(super) fn warn_of_doubts(checked: &Checked) {
    let listeners = [&checked.explicit[..], &checked.implicit].concat();
    for doubt in super::network::doubts(&checked.passive, &checked.proxies, &listeners) {
        tracing::warn!("{doubt}");
    }
}

/// Tells on standard output where the server listens, and how to try it.
fn welcome(
    checked: &Checked,
    listeners: &Listeners,
    outlets: &Outlets,
    source: &AccountSource,
    identity: &tls::Identity,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "Certificate SHA-256 fingerprint: {}",
        identity.sha256_fingerprint()
    )?;
    let own = checked
        .state_directory
        .join(tls::SELF_SIGNED_CERTIFICATE_FILE);
    let trust = match checked.certificate {
        Some(_) => CurlTrust::Unchecked,
        None => CurlTrust::SelfSigned(&own),
    };
    let (explicit, implicit) = (&listeners.explicit, &listeners.implicit);
    if source.one_time().is_some() || checked.anonymous {
        print_welcome(&mut out, explicit, implicit, source.one_time(), trust)?;
    }
    if let Some(listener) = &outlets.listener {
        print_metrics(&mut out, listener.local_addr()?)?;
    }
    print_listeners(&mut out, explicit, implicit)
}
