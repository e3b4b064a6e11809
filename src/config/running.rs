//! What a running server keeps, so that its settings can be made again from another configuration.

use std::path::PathBuf;
use std::sync::Arc;

use super::hosts::{AllAccounts, HostsInForce, HostsOptions};
use super::serve::{resume, settings, warn_of_doubts};
use super::{Access, Checked, Exit, Failure, OneTimeAccount};
use crate::admission::{Admission, Limits};
use crate::auth::Authenticator;
use crate::bandwidth::Bandwidth;
use crate::data::KernelTlsPolicy;
use crate::logging::TransferLog;
use crate::quota::Quotas;
use crate::sys::keeper::Keeper;
use crate::tls::probe::Report;
use crate::vfs::DirectoryCache;
use crate::{limits, server, tls};

/// Made at the start; no reload makes it anew.
pub(super) struct Running {
    /// Reads the files that only root may read.
    pub(super) keeper: Arc<Keeper>,
    /// The directory that is served, as the server's account reaches it.
    pub(super) home: PathBuf,
    pub(super) one_time: Option<OneTimeAccount>,
    /// What the kernel's TLS can do.
    pub(super) report: Report,
    /// Whether that was tried out.
    pub(super) probed: bool,
    /// How many descriptors the process may have.
    pub(super) descriptors: u64,
    /// Virtual hosts, in force.
    pub(super) hosts: HostsInForce,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) admission: Arc<Admission>,
    pub(super) bandwidth: Arc<Bandwidth>,
    pub(super) directory_cache: Arc<DirectoryCache>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) transfer_log: Option<Arc<TransferLog>>,
    /// In force; so is what follows.
    pub(super) kernel_tls: Arc<KernelTlsPolicy>,
    pub(super) tls: tls::Settings,
}

impl Running {
    /// TLS settings with this certificate and the policy of that configuration.
    pub(super) fn renewed_tls(
        &self,
        identities: &tls::Identities,
        checked: &Checked,
    ) -> Result<tls::Settings, Failure> {
        let renewed = self.tls.renewed(identities, resume(checked));
        renewed.map_err(|error| Failure::new(Exit::System, error.to_string()))
    }

    /// Puts these accounts into force, and the virtual hosts that they are of.
    pub(super) fn replace_accounts(
        &mut self,
        hosts: &HostsOptions,
        accounts: AllAccounts,
        quota_per_user: u64,
    ) {
        super::quota::follow(&self.quotas, &accounts, quota_per_user);
        self.authenticator.replace(accounts.own);
        self.hosts = HostsInForce::make(hosts, accounts.hosts, &self.authenticator, &self.hosts);
    }

    /// Puts into force what all cores share: who may come in, rates, and the level of logs.
    pub(super) fn apply(&self, checked: &Checked) {
        let Access { list, bans } = checked.access.clone();
        self.admission.set_limits(bounds(checked, self.descriptors));
        self.admission.set_access(list);
        self.admission.guard().set_policy(bans);
        self.bandwidth.set_limits(checked.rates);
        warn_of_doubts(checked);
        checked.log.change_level();
    }

    /// The settings for new connections.
    pub(super) fn settings(&self, checked: &Checked) -> server::Settings {
        settings(checked, self)
    }
}

/// The bounds on connections; without one of their own they are bounded by the descriptors.
pub(super) fn bounds(checked: &Checked, descriptors: u64) -> Limits {
    let number =
        |limit: Option<std::num::NonZeroU32>| limit.map_or(0, |limit| limit.get() as usize);
    let by_descriptors = usize::try_from(descriptors)
        .unwrap_or(usize::MAX)
        .saturating_sub(limits::DESCRIPTORS_KEPT);
    Limits {
        connections_max: checked
            .bounds
            .connections_max
            .map_or(by_descriptors, |limit| limit.get() as usize),
        connections_per_address_max: number(checked.bounds.connections_per_address_max),
        sessions_per_user_max: number(checked.bounds.sessions_per_user_max),
    }
}
