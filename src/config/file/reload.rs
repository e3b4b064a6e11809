//! SIGHUP: reads everything again, and puts into force what can change while sessions go on.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::sections::Structures;
use super::sources::{Effective, Loaded, Refusal, Sources};
use super::table::Change;
use crate::config::file_rules::check_mounts;
use crate::config::hosts::{self, AllAccounts};
use crate::config::running::Running;
use crate::config::serve::CertificateSource;
use crate::config::{AccountSource, Checked, Exit, Failure};
use crate::data::KernelTlsPolicy;
use crate::server::Reloaded;
use crate::{rt, tls};

/// The keys of kernel TLS, which is only examined at the start.
const KERNEL_TLS: [&str; 3] = ["ktls", "ktls-download", "ktls-upload"];

/// What a running server is made of, and what it can be made of again.
pub(in crate::config) struct Reloader<'a> {
    sources: &'a Sources,
    running: Running,
    /// The configuration in force.
    checked: Checked,
    structures: Structures,
    /// Its values; of keys that only a new process takes, those of the start.
    in_force: Effective,
    /// Chosen at the start.
    state_directory: PathBuf,
}

/// A new configuration, and how it differs.
struct Changed {
    checked: Checked,
    structures: Structures,
    in_force: Effective,
    /// Words for the log: what is in force from now on.
    live: Vec<String>,
    /// And what is not.
    restart: Vec<String>,
}

/// Accounts and certificate for a configuration.
struct Parts {
    accounts: Result<AllAccounts, Failure>,
    identities: Result<tls::Identities, Failure>,
}

impl<'a> Reloader<'a> {
    pub(in crate::config) fn new(sources: &'a Sources, loaded: &Loaded, running: Running) -> Self {
        let state_directory = loaded.checked.state_directory.clone();
        let mut in_force = loaded.effective.clone();
        // Where nothing names it, root gets another one than the account that it became.
        let chosen = (vec![state_directory.clone().into()], true);
        in_force.insert("state-dir".to_owned(), chosen);
        Self {
            sources,
            running,
            checked: loaded.checked.clone(),
            structures: loaded.structures.clone(),
            in_force,
            state_directory,
        }
    }

    /// Reads configuration, users, certificate and key again. What is bad stays as it was, and the log says why.
    pub(in crate::config) fn reload(&mut self) -> Option<Reloaded> {
        let changed = self.read().unwrap_or_else(|lines| {
            for line in lines {
                tracing::error!("configuration not reloaded, the old one stays: {line}");
            }
            None
        });
        let Some(changed) = changed else {
            let parts = self.parts(&self.checked, &self.structures);
            return self.renew(parts);
        };
        let parts = self.parts(&changed.checked, &changed.structures);
        match self.take(changed, parts) {
            Ok(reloaded) => Some(reloaded),
            Err(failure) => {
                tracing::error!("configuration not reloaded, the old one stays: {failure}");
                let parts = self.parts(&self.checked, &self.structures);
                self.renew(parts)
            }
        }
    }

    /// Reads the file; `None` when nothing has changed that can.
    fn read(&self) -> Result<Option<Changed>, Vec<String>> {
        let Some(file) = self.sources.file() else {
            return Ok(None);
        };
        let one = |failure: Failure| vec![failure.message];
        let octets = self.running.keeper.read(file);
        let octets = octets.map_err(|error| one(Failure::io(Exit::NoInput, file, &error)))?;
        let state_directory = Some(self.state_directory.as_path());
        let loaded = self.sources.load_from(&octets, state_directory);
        let loaded = loaded.map_err(|refusal| match refusal {
            Refusal::File(problems) => problems.lines().collect(),
            Refusal::Failure(failure) => one(failure),
            Refusal::Usage(error) => vec![error.to_string().replace('\n', " ")],
        })?;
        let changed = self
            .compare(&loaded)
            .map_err(|failure| one(loaded.origins.locate(failure)))?;
        if changed.live.is_empty() && changed.restart.is_empty() {
            tracing::info!(file = %file.display(), "configuration read again: nothing has changed");
            return Ok(None);
        }
        if !changed.restart.is_empty() {
            let keys = changed.restart.join(", ");
            tracing::warn!(%keys, "needs a restart: these keys stay as they were when the server started");
        }
        Ok((!changed.live.is_empty()).then_some(changed))
    }

    fn compare(&self, loaded: &Loaded) -> Result<Changed, Failure> {
        let new = &loaded.effective;
        let names: BTreeSet<&String> = new.keys().chain(self.in_force.keys()).collect();
        let (mut live, mut restart) = (Vec::new(), Vec::new());
        for name in names {
            // Other words are another value; whether they mean the same is not asked.
            let old = self.in_force.get(name).map(|(words, _)| words);
            let words = new.get(name).map(|(words, _)| words);
            if old == words {
                continue;
            }
            if self.is_live(name) {
                live.push(self.describe(name, old, words));
            } else {
                restart.push(self.describe(name, old, words));
            }
        }
        let (mut checked, in_force) = self
            .sources
            .pin(new, &self.in_force, |name| self.is_live(name))?;
        checked.take_structures(&loaded.structures);
        Ok(Changed {
            checked,
            structures: loaded.structures.clone(),
            in_force,
            live,
            restart,
        })
    }

    fn is_live(&self, name: &str) -> bool {
        if KERNEL_TLS.contains(&name) && !self.running.probed {
            return false;
        }
        self.sources.change(name) == Change::Live
    }

    /// `idle-timeout (300s -> 60s)`.
    fn describe(
        &self,
        name: &str,
        old: Option<&Vec<std::ffi::OsString>>,
        new: Option<&Vec<std::ffi::OsString>>,
    ) -> String {
        if self.sources.is_secret(name) {
            return name.to_owned();
        }
        let words = |words: Option<&Vec<std::ffi::OsString>>| {
            let words = words.into_iter().flatten();
            let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
            if words.is_empty() {
                "not set".to_owned()
            } else {
                words.join(" ")
            }
        };
        format!("{name} ({} -> {})", words(old), words(new))
    }

    fn parts(&self, checked: &Checked, structures: &Structures) -> Parts {
        let running = &self.running;
        let hosts = &structures.hosts;
        let one_time = running.one_time.as_ref();
        let accounts = AccountSource::again(checked, hosts, &running.keeper, one_time);
        Parts {
            accounts: accounts
                .and_then(|source| hosts::load_accounts(checked, hosts, &source, &running.home))
                .inspect(AllAccounts::warn_of_mounts),
            identities: CertificateSource::new(checked, Arc::clone(&running.keeper))
                .load()
                .and_then(|own| hosts::load_identities(checked, hosts, own, &running.keeper)),
        }
    }

    /// Puts a changed configuration into force, as a whole or not at all.
    fn take(&mut self, changed: Changed, parts: Parts) -> Result<Reloaded, Failure> {
        let (accounts, identities) = (parts.accounts?, parts.identities?);
        if changed.checked.file_rules != self.checked.file_rules {
            check_mounts(&changed.checked.file_rules)?;
        }
        let running = &mut self.running;
        let tls = running.renewed_tls(&identities, &changed.checked)?;
        let kernel_tls = if changed.checked.routes == self.checked.routes {
            None
        } else {
            let wishes = changed.checked.routes;
            crate::config::routes::demand(&running.report, wishes)?;
            Some(KernelTlsPolicy::new(&running.report, wishes, rt::now()))
        };
        // Nothing fails from here on.
        let per_user = changed.checked.quota_per_user;
        running.replace_accounts(&changed.structures.hosts, accounts, per_user);
        running.tls = tls;
        if let Some(policy) = kernel_tls {
            running.kernel_tls = Arc::new(policy);
        }
        let fingerprint = identities.own.sha256_fingerprint();
        let live = changed.live.join(", ");
        let tell = || tracing::info!(changed = %live, %fingerprint, "configuration reloaded");
        // With the level that lets it through, the old one or the new one.
        let told = tracing::enabled!(tracing::Level::INFO);
        if told {
            tell();
        }
        running.apply(&changed.checked);
        if !told {
            tell();
        }
        hosts::log_fingerprints(&changed.structures.hosts, &identities);
        self.checked = changed.checked;
        self.structures = changed.structures;
        self.in_force = changed.in_force;
        Ok((
            self.running.settings(&self.checked),
            self.running.tls.clone(),
        ))
    }

    /// The configuration stays: renews accounts and certificate, each by itself.
    fn renew(&mut self, parts: Parts) -> Option<Reloaded> {
        match parts.accounts {
            Ok(accounts) => {
                let hosts = &self.structures.hosts;
                let per_user = self.checked.quota_per_user;
                self.running.replace_accounts(hosts, accounts, per_user);
                tracing::info!("accounts reloaded");
            }
            Err(failure) => tracing::error!("accounts not reloaded, the old ones stay: {failure}"),
        }
        let renewed = parts.identities.and_then(|identities| {
            let tls = self.running.renewed_tls(&identities, &self.checked)?;
            Ok((tls, identities.own.sha256_fingerprint()))
        });
        match renewed {
            Ok((tls, fingerprint)) => {
                tracing::info!(%fingerprint, "certificate reloaded");
                self.running.tls = tls;
                let settings = self.running.settings(&self.checked);
                Some((settings, self.running.tls.clone()))
            }
            Err(failure) => {
                tracing::error!("certificate not reloaded, the old one stays: {failure}");
                None
            }
        }
    }
}
