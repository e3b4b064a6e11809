//! Virtual hosts: what `[[hosts]]` of the configuration file says, and what is made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::Place;
use super::file_rules::warn_of_mounts;
use super::serve::load_identity;
use super::{AccountSource, CertificateFiles, Checked, Exit, Failure, Privileges};
use crate::auth::{Account, Accounts, Authenticator, Welcome};
use crate::control;
use crate::proto::{Charset, session};
use crate::sys::keeper::Keeper;
use crate::tls;
use crate::vhosts::Table;

/// One `[[hosts]]`; what it does not say is as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOptions {
    /// Its first name.
    pub name: String,
    /// Where it begins in the file.
    pub place: Place,
    /// Its certificate and key.
    pub certificate: Option<CertificateFiles>,
    /// The directory that accounts without a home of their own see as `/`.
    pub directory: Option<PathBuf>,
    /// Its users file.
    pub users: Option<PathBuf>,
    /// Whether `anonymous` may log in.
    pub anonymous: Option<bool>,
    /// The text of its 220.
    pub greeting: Option<String>,
    /// What its users are told at login.
    pub welcome: Option<Welcome>,
    /// How names are written for its users.
    pub charset: Option<Charset>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostsOptions {
    /// Their names.
    pub names: Arc<Table>,
    /// In the order of the names' indices.
    pub list: Vec<HostOptions>,
}

impl HostOptions {
    /// Every file that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let certificate = self.certificate.clone();
        let pair = certificate.map(|files| [files.certificate, files.key]);
        pair.into_iter().flatten().chain(self.users.clone())
    }

    /// The paths of it, to be made absolute.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let certificate = self.certificate.as_mut();
        let pair = certificate.map(|files| [&mut files.certificate, &mut files.key]);
        let others = [self.directory.as_mut(), self.users.as_mut()];
        pair.into_iter()
            .flatten()
            .chain(others.into_iter().flatten())
    }

    /// Whether it has the server's accounts.
    fn shares_accounts(&self) -> bool {
        self.users.is_none() && self.anonymous.is_none() && self.directory.is_none()
    }

    /// Puts its place and name before the message of a failure.
    fn locate(&self, checked: &Checked, failure: Failure) -> Failure {
        let file = checked
            .config_file
            .as_deref()
            .unwrap_or_else(|| Path::new("-"));
        let (place, name) = (self.place, &self.name);
        let message = format!(
            "{}:{place}: host {name}: {}",
            file.display(),
            failure.message
        );
        Failure::new(failure.exit, message)
    }
}

/// The accounts of the server, and of those hosts that have others.
pub(super) struct AllAccounts {
    pub(super) own: Accounts,
    pub(super) hosts: Vec<Option<Accounts>>,
}

impl AllAccounts {
    /// Those of the server, then those of each host that has others.
    fn each(&self) -> impl Iterator<Item = &Accounts> {
        [&self.own].into_iter().chain(self.hosts.iter().flatten())
    }

    /// Every account of them.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.each().flat_map(Accounts::iter)
    }

    /// Warns of mounts that cannot be used now.
    pub(super) fn warn_of_mounts(&self) {
        self.each().for_each(warn_of_mounts);
    }

    /// Checks that each can use its home, as [`Privileges::check_homes`] does.
    pub(super) fn check_homes(&self, privileges: &Privileges, home: &Path) -> Result<(), Failure> {
        self.each()
            .try_for_each(|accounts| privileges.check_homes(accounts, home))
    }
}

/// Reads every users file; `home` is the server's directory. Blocks.
pub(super) fn load_accounts(
    checked: &Checked,
    hosts: &HostsOptions,
    source: &AccountSource,
    home: &Path,
) -> Result<AllAccounts, Failure> {
    let own = source.load(home)?;
    let load = |host: &HostOptions| {
        if host.shares_accounts() {
            return Ok(None);
        }
        let home = host.directory.as_deref().unwrap_or(home);
        let accounts = source.of_host(host).and_then(|source| source.load(home));
        accounts
            .map(Some)
            .map_err(|failure| host.locate(checked, failure))
    };
    let hosts: Result<_, _> = hosts.list.iter().map(load).collect();
    Ok(AllAccounts { own, hosts: hosts? })
}

/// Reads every certificate and key. Blocks.
pub(super) fn load_identities(
    checked: &Checked,
    hosts: &HostsOptions,
    own: tls::Identity,
    keeper: &Keeper,
) -> Result<tls::Identities, Failure> {
    let load = |host: &HostOptions| -> Result<_, Failure> {
        let Some(files) = &host.certificate else {
            return Ok(None);
        };
        let identity = load_identity(files, keeper);
        let identity = identity.map_err(|failure| host.locate(checked, failure))?;
        super::serve::warn_of_expiry(&identity, &host.name);
        Ok(Some(identity))
    };
    let list: Result<Vec<_>, _> = hosts.list.iter().map(load).collect();
    Ok(tls::Identities {
        names: Arc::clone(&hosts.names),
        hosts: list?,
        clients: checked.clients.load(keeper)?,
        own,
    })
}

/// Virtual hosts as connections see them.
#[derive(Clone, Default)]
pub(super) struct HostsInForce {
    pub(super) session: session::Hosts,
    pub(super) control: Arc<[control::Host]>,
}

impl HostsInForce {
    /// Those of the start.
    pub(super) fn first(
        hosts: &HostsOptions,
        accounts: Vec<Option<Accounts>>,
        server: &Authenticator,
    ) -> Self {
        Self::make(hosts, accounts, server, &Self::default())
    }

    /// Puts these into force. Where a host of the same name was there before, sessions that have not logged in yet get
    /// its new accounts, too.
    pub(super) fn make(
        hosts: &HostsOptions,
        accounts: Vec<Option<Accounts>>,
        server: &Authenticator,
        before: &Self,
    ) -> Self {
        let made = hosts.list.iter().zip(accounts).map(|(host, accounts)| {
            let authenticator = accounts.map(|accounts| {
                let old = before.authenticator(&host.name);
                match old {
                    Some(old) => {
                        old.replace(accounts);
                        old
                    }
                    None => server.beside(accounts),
                }
            });
            control::Host {
                authenticator,
                own_users: host.users.is_some(),
                welcome: host.welcome.clone(),
                charset: host.charset,
            }
        });
        let control: Arc<[control::Host]> = made.collect();
        before.retire(&control);
        let greetings = hosts.list.iter().map(|host| host.greeting.clone());
        Self {
            session: session::Hosts {
                names: Arc::clone(&hosts.names),
                greetings: greetings.collect(),
            },
            control,
        }
    }

    /// Connections that are still of hosts without accounts in this new list find none any more.
    fn retire(&self, new: &[control::Host]) {
        let kept: Vec<_> = new
            .iter()
            .filter_map(|h| h.authenticator.as_ref())
            .collect();
        for old in self.control.iter().filter_map(|h| h.authenticator.as_ref()) {
            if !kept.iter().any(|kept| Arc::ptr_eq(kept, old)) {
                old.replace(Accounts::none());
            }
        }
    }

    fn authenticator(&self, name: &str) -> Option<Arc<Authenticator>> {
        let host = self.session.names.hosts();
        let host = host.iter().find(|host| *host.name == *name)?;
        self.control.get(host.index)?.authenticator.clone()
    }
}

/// Tells the fingerprints of hosts that have certificates of their own.
pub(super) fn log_fingerprints(hosts: &HostsOptions, identities: &tls::Identities) {
    for (host, identity) in hosts.list.iter().zip(&identities.hosts) {
        if let Some(identity) = identity {
            let fingerprint = identity.sha256_fingerprint();
            tracing::info!(host = %host.name, %fingerprint, "certificate of a virtual host");
        }
    }
}

/// What is wrong with the files of a host.
pub(super) fn check_files(
    host: &HostOptions,
    check_users: fn(&Path) -> Result<(), Failure>,
    check_certificate: fn(&Path, &Path) -> Result<(), Failure>,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    if let Some(users) = &host.users {
        failures.extend(check_users(users).err());
    }
    if let Some(files) = &host.certificate {
        failures.extend(check_certificate(&files.certificate, &files.key).err());
    }
    if let Some(directory) = &host.directory
        && directory.exists()
        && !directory.is_dir()
    {
        let message = "this is no directory; give one to serve";
        failures.push(Failure::file(Exit::NoInput, directory, message));
    }
    failures
}
