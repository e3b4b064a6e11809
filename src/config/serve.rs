//! From checked options to a running server: each module gets its settings, in the order in which
//! rights are needed and given away.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use super::restart::Origin;
use super::{
    Access, AccountSource, ActiveSourcePort, Checked, CurlTrust, Exit, Failure, Privileges,
    Protect, kernel_tls, log_kernel_tls, print_listeners, print_metrics, print_welcome,
};
use crate::admission::{Admission, Limits};
use crate::auth::Authenticator;
use crate::bandwidth::Bandwidth;
use crate::data::KernelTlsPolicy;
use crate::logging;
use crate::proto::session::{self, Requirement};
use crate::server::{self, Listeners, Outlets, PassiveNames};
use crate::sys::host;
use crate::sys::keeper::Keeper;
use crate::{data, limits, rt, tls, vfs};

/// Serves until a signal ends it.
///
/// # Errors
/// [`Failure`]: what keeps the server from starting, with the remedy.
pub fn serve(checked: &Checked) -> Result<ExitCode, Failure> {
    let mut log = checked.log.install();
    let mut origin = Origin::new(checked)?;
    host::probe_ring()?;
    let descriptors = host::raise_descriptor_limit();
    let began = rt::now();
    let (report, policy) = kernel_tls(checked.routes, began)?;
    let privileges = Privileges::prepare(checked)?;
    let source = AccountSource::new(checked, privileges.keeper())?;
    let mut listeners = origin.listeners(checked, &privileges)?;
    let there = origin.metrics(checked);
    let metrics = super::metrics::bind(checked.metrics, there, &mut listeners)?;
    let certificate = CertificateSource::new(checked, privileges.keeper());
    let identity = certificate.load()?;
    let tls = tls::Settings::new(&identity, resume(checked))
        .map_err(|error| Failure::new(Exit::System, error.to_string()))?;
    let home = privileges.drop()?;
    let accounts = source.load(&home)?;
    privileges.check_homes(&accounts, &home)?;
    let transfer_log = super::logs::open(&mut log, checked.transfer_log.as_ref())?;
    let authenticator = Authenticator::new(accounts)
        .map_err(|_| Failure::new(Exit::System, "the system gives no random numbers"))?;
    let outlets = super::metrics::outlets(
        metrics,
        checked.histogram_log.as_deref(),
        checked.histogram_interval,
    )?;
    log_kernel_tls(&report, &policy, checked.routes, began);
    let mut settings = settings(checked, descriptors, &authenticator, policy);
    settings.transfer_log = transfer_log;
    welcome(checked, &listeners, &outlets, &source, &identity)
        .map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))?;
    let mut in_force = tls.clone();
    let lifecycle = origin.lifecycle();
    server::run(&settings, &tls, listeners, outlets, lifecycle, || {
        logging::reopen();
        reload_accounts(&source, &home, &authenticator);
        let renewed = reload_certificate(&certificate, &in_force)?;
        in_force = renewed.clone();
        Some(renewed)
    })
    .map_err(|error| Failure::new(Exit::System, format!("cannot serve: {error}")))?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Where certificate and key come from, at the start and on every reload.
enum CertificateSource {
    Files {
        certificate: PathBuf,
        key: PathBuf,
        keeper: Arc<Keeper>,
    },
    SelfSigned(PathBuf),
}

impl CertificateSource {
    fn new(checked: &Checked, keeper: Arc<Keeper>) -> Self {
        match &checked.certificate {
            Some(files) => Self::Files {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                keeper,
            },
            None => Self::SelfSigned(checked.state_directory.clone()),
        }
    }

    fn load(&self) -> Result<tls::Identity, Failure> {
        let identity = match self {
            Self::Files {
                certificate,
                key,
                keeper,
            } => {
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
            Self::SelfSigned(directory) => tls::Identity::self_signed_in(directory)
                .map_err(|error| Failure::new(Exit::Config, error.to_string())),
        }?;
        warn_of_expiry(&identity);
        Ok(identity)
    }
}

fn warn_of_expiry(identity: &tls::Identity) {
    let soon = std::time::SystemTime::now() + limits::CERTIFICATE_EXPIRY_WARNING;
    if identity.expires().is_some_and(|expires| expires < soon) {
        tracing::warn!("the certificate expires within 14 days: renew it, then send SIGHUP");
    }
}

fn reload_accounts(source: &AccountSource, home: &Path, authenticator: &Authenticator) {
    match source.load(home) {
        Ok(accounts) => {
            authenticator.replace(accounts);
            tracing::info!("accounts reloaded");
        }
        Err(failure) => tracing::error!("accounts not reloaded, the old ones stay: {failure}"),
    }
}

fn reload_certificate(source: &CertificateSource, old: &tls::Settings) -> Option<tls::Settings> {
    let renewed = source.load().and_then(|identity| {
        let settings = old.with_identity(&identity);
        let settings = settings.map_err(|error| Failure::new(Exit::System, error.to_string()))?;
        Ok((settings, identity.sha256_fingerprint()))
    });
    match renewed {
        Ok((settings, fingerprint)) => {
            tracing::info!(%fingerprint, "certificate reloaded");
            Some(settings)
        }
        Err(failure) => {
            tracing::error!("certificate not reloaded, the old one stays: {failure}");
            None
        }
    }
}

fn resume(checked: &Checked) -> tls::Resume {
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

fn settings(
    checked: &Checked,
    descriptors: u64,
    authenticator: &Arc<Authenticator>,
    kernel_tls: KernelTlsPolicy,
) -> server::Settings {
    let timers = &checked.timers;
    let number =
        |limit: Option<std::num::NonZeroU32>| limit.map_or(0, |limit| limit.get() as usize);
    let by_descriptors = usize::try_from(descriptors)
        .unwrap_or(usize::MAX)
        .saturating_sub(limits::DESCRIPTORS_KEPT);
    let limits = Limits {
        connections_max: checked
            .bounds
            .connections_max
            .map_or(by_descriptors, |limit| limit.get() as usize),
        connections_per_address_max: number(checked.bounds.connections_per_address_max),
        sessions_per_user_max: number(checked.bounds.sessions_per_user_max),
    };
    let Access { list, bans } = checked.access.clone();
    let admission = Admission::new(limits, list, bans, rt::now());
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
            active: checked.active,
            login_time_max: timers.login,
            idle_time_max: timers.idle,
            bad_login_delay: timers.bad_login_delay,
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
            active_source_standard: checked.active_source_port == ActiveSourcePort::Standard,
            kernel_tls: Arc::new(kernel_tls),
            proxies: checked.proxies.clone(),
        }),
        bandwidth: Bandwidth::new(checked.rates, rt::now()),
        files: vfs::Settings {
            directory_cache: vfs::DirectoryCache::new(checked.listing_cache_octets),
            ..vfs::Settings::default()
        },
        handshake_time_max: timers.handshake,
        close_time_max: timers.close,
        drain_time_max: timers.drain,
        admission,
        authenticator: Arc::clone(authenticator),
        transfer_log: None,
        passive: passive_names(checked),
    }
}

/// What PASV names, with the names looked up for the first time.
fn passive_names(checked: &Checked) -> PassiveNames {
    let listeners = [&checked.explicit[..], &checked.implicit].concat();
    for doubt in super::network::doubts(&checked.passive, &checked.proxies, &listeners) {
        tracing::warn!("{doubt}");
    }
    let mut names = PassiveNames::new(checked.passive.clone());
    names.look_up_first();
    names
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
