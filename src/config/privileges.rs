//! Which account the server becomes, and what that account must be able to reach.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Exit, Failure, cause};
use super::{Checked, HostOptions, pam, users_store};
use crate::auth::{Accounts, Permissions};
use crate::quota;
use crate::server::{SOCKET_FILE, protect_as_told};
use crate::sys::identity::{self, Identity, Use};
use crate::sys::keeper::Keeper;
use crate::sys::pam::Helpers;

/// Files that the server itself puts into the state directory begin so.
const STATE_FILE_PREFIXES: [&str; 2] = ["self-signed-", quota::FILE_PREFIX];

/// Whether it is a file that the server's account has to be able to read and write there.
fn is_state(name: &str) -> bool {
    STATE_FILE_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether the server itself puts files of that name there.
fn is_own(name: &str) -> bool {
    is_state(name) || name.starts_with(SOCKET_FILE)
}

/// The way from root to an unprivileged account:
///
/// 1. [`Privileges::prepare`], as root, before any thread is started;
/// 2. binding of the listeners, reading of the certificate, as root;
/// 3. [`Privileges::drop`], still before any thread is started: threads inherit what is kept;
/// 4. [`Privileges::check_homes`], as the account.
///
/// Started by somebody else than root, all of them are checks only.
pub struct Privileges {
    directory: PathBuf,
    /// `None` where it cannot be made and is not needed.
    state_directory: Option<PathBuf>,
    /// The self-signed certificate needs it; without that it is for hand-over only.
    state_needed: bool,
    /// The account to become; `None` when the process stays what it is.
    identity: Option<Identity>,
    keep_bind_right: bool,
    keeper: Arc<Keeper>,
    pam: Option<Helpers>,
}

impl Privileges {
    /// Chooses the account; makes the directory and the state directory where they are missing,
    /// and gives what it made to the account; starts the keeper that reads certificate, key and
    /// users file on reloads, and what PAM needs.
    ///
    /// # Errors
    /// [`Failure`] with the remedy.
    pub fn prepare(checked: &Checked, hosts: &[HostOptions]) -> Result<Self, Failure> {
        let identity = choose(checked)?;
        if identity.is_none() {
            protect_as_told().map_err(|error| Failure::new(Exit::System, cause(&error)))?;
        }
        prepare_directory(&checked.directory, identity.as_ref())?;
        for directory in hosts.iter().filter_map(|host| host.directory.as_deref()) {
            prepare_directory(directory, identity.as_ref())?;
        }
        let state_needed = checked.certificate.is_none();
        let state = &checked.state_directory;
        let state_directory = match users_store::make_directory(state, true) {
            Ok(()) => Some(state.clone()),
            Err(error) => {
                let remedy = format!("{}; choose another with --state-dir DIR", cause(&error));
                let failure = Failure::file(Exit::CannotCreate, state, remedy);
                if state_needed {
                    return Err(failure);
                }
                tracing::warn!("no process can take over from this one: {failure}");
                None
            }
        };
        let certificate = checked.certificate.iter();
        let files: Vec<PathBuf> = certificate
            .flat_map(|files| [files.certificate.clone(), files.key.clone()])
            .chain(checked.users.clone())
            .chain(checked.config_file.clone())
            .chain(checked.clients.files())
            .chain(hosts.iter().flat_map(HostOptions::files))
            .collect();
        let keeper = if identity.is_some() && !files.is_empty() {
            Keeper::fork(files).map_err(|error| Failure::new(Exit::System, cause(&error)))?
        } else {
            Keeper::direct(files)
        };
        Ok(Self {
            directory: checked.directory.clone(),
            state_directory,
            state_needed,
            identity,
            keep_bind_right: checked.needs_bind_right(),
            keeper: Arc::new(keeper),
            pam: pam::prepare(checked.pam.as_ref())?,
        })
    }

    /// The helper processes of PAM, where it is to be asked.
    pub fn take_pam(&mut self) -> Option<Helpers> {
        self.pam.take()
    }

    /// Reads certificate, key and users file, also after [`Privileges::drop`].
    #[must_use]
    pub fn keeper(&self) -> Arc<Keeper> {
        Arc::clone(&self.keeper)
    }

    /// The state directory, unless it could not be made.
    #[must_use]
    pub fn state_directory(&self) -> Option<&Path> {
        self.state_directory.as_deref()
    }

    /// The user id of the account to become.
    #[must_use]
    pub fn account(&self) -> Option<u32> {
        self.identity.as_ref().map(|identity| identity.user)
    }

    /// Becomes the account, for good, and returns the path by which it reaches the directory.
    ///
    /// # Errors
    /// [`Failure`]; the process must end then.
    pub fn drop(&self) -> Result<PathBuf, Failure> {
        let Some(identity) = &self.identity else {
            // Nothing here depends on it: refused, the process is as it was.
            let _ = identity::forbid_new_privileges();
            return self.reach_directory();
        };
        if let Some(state) = &self.state_directory
            && let Err(error) = give_state_directory(state, identity)
            && self.state_needed
        {
            return Err({
                let remedy = format!(
                    "{}; give it to the server with `chown {} {}`, or choose another with --state-dir DIR",
                    cause(&error),
                    identity.name,
                    state.display()
                );
                Failure::file(Exit::NoPermission, state, remedy)
            });
        }
        // The account may lack the right to pass a directory above (as /root): it starts inside.
        std::env::set_current_dir(&self.directory)
            .map_err(|error| Failure::io(Exit::NoInput, &self.directory, &error))?;
        identity::become_identity(identity, self.keep_bind_right).map_err(|error| {
            let message = format!(
                "cannot become `{}`: {}; name another account with --run-as USER, or serve as root with `--run-as root`",
                identity.name,
                cause(&error)
            );
            Failure::new(Exit::NoPermission, message)
        })?;
        tracing::info!(account = %identity.name, "root was given away");
        self.reach_directory()
    }

    fn reach_directory(&self) -> Result<PathBuf, Failure> {
        let by_path = identity::check_directory(&self.directory, Use::Read);
        let here = Path::new(".");
        match by_path {
            Ok(()) => Ok(self.directory.clone()),
            Err(_)
                if self.identity.is_some()
                    && identity::check_directory(here, Use::Read).is_ok() =>
            {
                Ok(here.to_path_buf())
            }
            Err(error) => Err(self.unusable("read", &error)),
        }
    }

    /// Checks that the accounts can use their homes: that of `home`, as [`Privileges::drop`]
    /// returned it, must be writable if one of them may write there; others are warned of.
    ///
    /// # Errors
    /// [`Failure`] with the remedy.
    pub fn check_homes(&self, accounts: &Accounts, home: &Path) -> Result<(), Failure> {
        let mut checked: Vec<(&Path, Use)> = Vec::new();
        for account in accounts.iter() {
            let wanted = if account.permissions.intersects(Permissions::CHANGING) {
                Use::Write
            } else {
                Use::Read
            };
            let pair = (account.home.as_path(), wanted);
            if checked.contains(&pair) || checked.len() >= HOMES_CHECKED_MAX {
                continue;
            }
            checked.push(pair);
            let result = identity::check_directory(&account.home, wanted);
            match result {
                Ok(()) => {}
                Err(error) if account.home == home && self.identity.is_some() => {
                    return Err(self.unusable("write", &error));
                }
                Err(error) => tracing::warn!(
                    "the home of `{}`, {}, cannot be used as its permissions say: {}",
                    account.name,
                    account.home.display(),
                    cause(&error)
                ),
            }
        }
        Ok(())
    }

    fn unusable(&self, verb: &str, error: &io::Error) -> Failure {
        let directory = self.directory.display();
        let error = cause(error);
        let message = match &self.identity {
            Some(identity) => format!(
                "{directory}: the account `{name}` cannot {verb} there ({error}); give it the directory with \
                 `chown {name} {directory}`, or name another account with --run-as USER, or serve as root with `--run-as root`",
                name = identity.name
            ),
            None => format!(
                "{directory}: cannot {verb} there ({error}); choose a directory of your own, or change its mode with chmod"
            ),
        };
        Failure::new(Exit::NoPermission, message)
    }
}

/// Homes that are looked at when the server starts; the others show at login.
const HOMES_CHECKED_MAX: usize = 1000;

/// The account to become: the one named; else, as root, the owner of the directory, `ringftpd`,
/// or `nobody`. `None` to stay what this process is.
fn choose(checked: &Checked) -> Result<Option<Identity>, Failure> {
    let find = |name: &str| {
        identity::find_by_name(name).map_err(|error| {
            Failure::new(
                Exit::System,
                format!("cannot look up the account `{name}`: {}", cause(&error)),
            )
        })
    };
    if let Some(name) = &checked.run_as {
        let identity = find(name)?.ok_or_else(|| {
            let message = format!(
                "--run-as: there is no account `{name}`; make it with `useradd --system {name}`"
            );
            Failure::new(Exit::Usage, message)
        })?;
        if identity.user == rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        if !identity::is_root() {
            let message =
                format!("--run-as {name}: only root can become another account; leave it out");
            return Err(Failure::new(Exit::NoPermission, message));
        }
        return Ok(Some(identity));
    }
    if !identity::is_root() {
        return Ok(None);
    }
    if let Some(owner) = owner_of(&checked.directory)? {
        return Ok(Some(owner));
    }
    for name in ["ringftpd", "nobody"] {
        if let Some(identity) = find(name)? {
            return Ok(Some(identity));
        }
    }
    let message =
        "there is no account `ringftpd` or `nobody` to become: name one with --run-as USER";
    Err(Failure::new(Exit::NoPermission, message))
}

/// The owner of the directory, if it exists and is not root's.
fn owner_of(directory: &Path) -> Result<Option<Identity>, Failure> {
    let Ok(metadata) = std::fs::metadata(directory) else {
        return Ok(None);
    };
    if metadata.uid() == 0 {
        return Ok(None);
    }
    let named = identity::find_by_id(metadata.uid())
        .map_err(|error| Failure::new(Exit::System, cause(&error)))?;
    Ok(Some(named.unwrap_or_else(|| Identity {
        name: metadata.uid().to_string(),
        user: metadata.uid(),
        group: metadata.gid(),
    })))
}

/// Makes the directory if there is none, and gives it to the account.
fn prepare_directory(directory: &Path, identity: Option<&Identity>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(Exit::CannotCreate, directory, &error);
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => {
            let message = "this is no directory; give one to serve";
            return Err(Failure::file(Exit::NoInput, directory, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::io(Exit::NoInput, directory, &error)),
    }
    users_store::make_directory(directory, false).map_err(failed)?;
    if let Some(identity) = identity {
        chown(directory, Some(identity.user), Some(identity.group)).map_err(failed)?;
    }
    Ok(())
}

/// Gives the state directory and what the server put there to the account.
///
/// SECURITY: `--state-dir /etc` must not give `/etc` away: a directory that holds anything else is
/// left as it is, and refused unless the account owns it.
fn give_state_directory(state: &Path, identity: &Identity) -> io::Result<()> {
    if std::fs::metadata(state)?.uid() == identity.user {
        return match give_files(state, identity) {
            // Root without CAP_DAC_OVERRIDE; then it put nothing there either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            given => given,
        };
    }
    for entry in std::fs::read_dir(state)? {
        let name = entry?.file_name();
        if !is_own(&name.to_string_lossy()) {
            return Err(io::Error::other("it belongs to another account"));
        }
    }
    give_files(state, identity)?;
    chown(state, Some(identity.user), Some(identity.group))?;
    File::open(state)?.sync_all()
}

fn give_files(state: &Path, identity: &Identity) -> io::Result<()> {
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // SECURITY: not what a link leads to, and no file that has another name elsewhere.
        let ours = is_state(&entry.file_name().to_string_lossy())
            && metadata.is_file()
            && metadata.nlink() == 1;
        if ours && metadata.uid() != identity.user {
            lchown(entry.path(), Some(identity.user), Some(identity.group))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: u32, group: u32) -> Identity {
        Identity {
            name: "somebody".to_owned(),
            user,
            group,
        }
    }

    #[test]
    fn a_directory_with_other_files_is_not_given_away() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("passwd"), "").unwrap();
        let own = std::fs::metadata(directory.path()).unwrap();
        let other = identity(own.uid() + 1, own.gid());
        assert!(give_state_directory(directory.path(), &other).is_err());
        let after = std::fs::metadata(directory.path()).unwrap();
        assert_eq!(after.uid(), own.uid());
        assert!(is_own("quota-run") && is_own("handover.sock") && !is_own("passwd"));
        let owner = identity(own.uid(), own.gid());
        give_state_directory(directory.path(), &owner).unwrap();
    }

    #[test]
    fn a_missing_directory_is_made_and_a_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b");
        prepare_directory(&deep, None).unwrap();
        prepare_directory(&deep, None).unwrap();
        assert!(deep.is_dir());
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let failure = prepare_directory(&file, None).unwrap_err();
        assert_eq!(failure.exit, Exit::NoInput);
        let below = prepare_directory(&file.join("x"), None).unwrap_err();
        assert_eq!(below.exit, Exit::NoInput);
        assert_eq!(owner_of(&directory.path().join("missing")), Ok(None));
    }
}
