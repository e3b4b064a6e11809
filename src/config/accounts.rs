//! Where the accounts of a running server come from, at the start and on every reload.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::{Checked, HostOptions, HostsOptions, users_store};
use crate::auth::{self, Accounts, PamAccounts};
use crate::sys::keeper::Keeper;

/// The account of a server that was started without any.
#[derive(Clone)]
pub struct OneTimeAccount {
    /// Its name.
    pub name: &'static str,
    /// Its random password, to be printed once.
    pub password: Zeroizing<String>,
}

/// Makes the table of accounts, as often as asked.
pub struct AccountSource {
    users: Option<PathBuf>,
    anonymous: bool,
    pam: Option<PamAccounts>,
    one_time: Option<OneTimeAccount>,
    keeper: Arc<Keeper>,
}

impl AccountSource {
    /// The source that the options name: a users file, the anonymous account, PAM, or a one-time account where there is
    /// none of them, nor an account of a virtual host.
    ///
    /// # Errors
    /// [`Failure`] when the system gives no random numbers.
    pub fn new(
        checked: &Checked,
        hosts: &HostsOptions,
        keeper: Arc<Keeper>,
    ) -> Result<Self, Failure> {
        let one_time = if is_empty(checked, hosts) {
            let password = auth::random_password()
                .map_err(|error| Failure::new(Exit::System, error.to_string()))?;
            Some(OneTimeAccount {
                name: "user",
                password,
            })
        } else {
            None
        };
        if let Some(path) = &checked.users {
            warn_of_mode(path);
        }
        Ok(Self {
            users: checked.users.clone(),
            anonymous: checked.anonymous,
            pam: checked.pam.as_ref().map(|pam| pam.accounts.clone()),
            one_time,
            keeper,
        })
    }

    /// The source that a changed configuration names. `one_time`: the account that was made at the start, if one was.
    ///
    /// # Errors
    /// There would be no account at all, and a new password would reach nobody.
    pub(super) fn again(
        checked: &Checked,
        hosts: &HostsOptions,
        keeper: &Arc<Keeper>,
        one_time: Option<&OneTimeAccount>,
    ) -> Result<Self, Failure> {
        let needed = is_empty(checked, hosts);
        if needed && one_time.is_none() {
            let message =
                "no account would be left: name --users or --anonymous, or start the server again";
            return Err(Failure::new(Exit::Config, message));
        }
        Ok(Self {
            users: checked.users.clone(),
            anonymous: checked.anonymous,
            pam: checked.pam.as_ref().map(|pam| pam.accounts.clone()),
            one_time: one_time.filter(|_| needed).cloned(),
            keeper: Arc::clone(keeper),
        })
    }

    /// The source of a virtual host's accounts: what it does not name is the server's.
    ///
    /// # Errors
    /// Nobody could log in there.
    pub(super) fn of_host(&self, host: &HostOptions) -> Result<Self, Failure> {
        let one_time = self.one_time.clone().filter(|_| host.users.is_none());
        let source = Self {
            users: host.users.clone().or_else(|| self.users.clone()),
            anonymous: host.anonymous.unwrap_or(self.anonymous),
            one_time,
            // Users of its own are all that it has.
            pam: self.pam.clone().filter(|_| host.users.is_none()),
            keeper: Arc::clone(&self.keeper),
        };
        let someone = source.users.is_some() || source.one_time.is_some() || source.pam.is_some();
        if !someone && !source.anonymous {
            let message = "nobody could log in here; give it `users`";
            return Err(Failure::new(Exit::Config, message));
        }
        if let Some(path) = &host.users {
            warn_of_mode(path);
        }
        Ok(source)
    }

    /// The one-time account, if there is one.
    #[must_use]
    pub fn one_time(&self) -> Option<&OneTimeAccount> {
        self.one_time.as_ref()
    }

    /// Reads the users file and makes the accounts; those without a home get `home`. Blocks; also
    /// for reloads, after root has been given away.
    ///
    /// # Errors
    /// [`Failure`] when the users file cannot be read or is wrong; keep the old accounts then.
    pub fn load(&self, home: &Path) -> Result<Accounts, Failure> {
        let mut accounts = match (&self.users, &self.one_time) {
            (Some(path), _) => {
                let octets = self.keeper.read(path);
                let octets = octets.map_err(|error| Failure::io(Exit::NoInput, path, &error))?;
                let users = users_store::parse(path, &octets)?;
                Accounts::from_users(&users, home)
                    .map_err(|error| Failure::file(Exit::Config, path, error))?
            }
            (None, Some(one_time)) => Accounts::one_time(one_time.name, &one_time.password, home),
            (None, None) => Accounts::none(),
        };
        if self.anonymous {
            accounts = accounts.with_anonymous(home);
        }
        if let Some(pam) = &self.pam {
            accounts = accounts.with_pam(pam.clone());
        }
        Ok(accounts)
    }
}

/// Whether nobody could log in.
///
/// SECURITY: accounts of virtual hosts count: a server that has only those is not open to whoever reads its output.
fn is_empty(checked: &Checked, hosts: &HostsOptions) -> bool {
    let own = checked.users.is_some() || checked.anonymous || checked.pam.is_some();
    let has_own = |host: &HostOptions| host.users.is_some() || host.anonymous == Some(true);
    !own && !hosts.list.iter().any(has_own)
}

/// Warns when others than the owner and the group may read the users file, or the group may write it.
fn warn_of_mode(path: &Path) {
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o037 != 0 {
        tracing::warn!(
            "{} has mode {mode:o} and can be used by others than its owner and group: `chmod 640 {}`",
            path.display(),
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn accounts_of_hosts_are_accounts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ringftpd.toml");
        std::fs::write(directory.path().join("users.toml"), "").unwrap();
        for (keys, made) in [
            ("", true),
            ("directory = '.'", true),
            ("anonymous = false", true),
            ("anonymous = true", false),
            ("users = 'users.toml'", false),
        ] {
            let text = format!("[[hosts]]\nnames = 'a.example'\n{keys}\n");
            std::fs::write(&file, text).unwrap();
            let words = ["--config".into(), file.clone().into()];
            let loaded = Sources::new(words.to_vec()).unwrap().load().unwrap();
            let (checked, hosts) = (&loaded.checked, &loaded.structures.hosts);
            let keeper = Arc::new(Keeper::direct(Vec::new()));
            let source = AccountSource::new(checked, hosts, Arc::clone(&keeper)).unwrap();
            assert_eq!(source.one_time().is_some(), made, "{keys}");
            let again = AccountSource::again(checked, hosts, &keeper, source.one_time());
            assert_eq!(again.unwrap().one_time().is_some(), made, "{keys}");
            let fails = AccountSource::again(checked, hosts, &keeper, None).is_err();
            assert_eq!(fails, made, "{keys}");
        }
    }
}
