//! `ringftpd user`: the accounts of a users file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::bandwidth::parse_rate;
use super::failure::{Exit, Failure};
use super::quota::parse_quota;
use super::{prompt, users_store};
use crate::auth::{self, Bounds, Permissions, User, UsersError, UsersFile};
use crate::proto::Charset;

/// The subcommands of `ringftpd user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; makes the users file if there is none.
    Add {
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
        /// Directory that the account sees as `/` [default: the DIR of `ringftpd serve`].
        #[arg(long, value_name = "DIR")]
        home: Option<PathBuf>,
        /// Comma-separated: read, write, append, delete, rename, list, make-directory, change; or all.
        #[arg(long, value_name = "LIST", default_value = "all")]
        permissions: Permissions,
        #[command(flatten)]
        #[allow(missing_docs)]
        bounds: UserBounds,
        /// Character set of names for its clients, as GBK, Shift_JIS, windows-1252 or UTF-8 [default: --charset of `ringftpd serve`].
        #[arg(long, value_name = "LABEL")]
        charset: Option<Charset>,
        #[command(flatten)]
        #[allow(missing_docs)]
        source: PasswordSource,
    },
    /// Change the password of an account.
    Passwd {
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
        #[command(flatten)]
        #[allow(missing_docs)]
        source: PasswordSource,
    },
    /// Remove an account.
    Remove {
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
    },
    /// List the accounts: name, permissions, home.
    List {
        /// Users file.
        #[arg(long, value_name = "FILE")]
        users: PathBuf,
    },
}

/// Which account of which file.
#[derive(Debug, Args)]
pub struct Target {
    /// Users file.
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
    /// Name of the account.
    pub name: String,
}

/// How much an account may do, in place of what holds for all.
#[derive(Debug, Args)]
pub struct UserBounds {
    /// Downloads of all its sessions together, octets a second (500k, 10M, 10Mi; 0 for no limit) [default: --download-rate-per-user of `ringftpd serve`].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate_download: Option<u64>,
    /// Uploads, likewise [default: --upload-rate-per-user].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate_upload: Option<u64>,
    /// Sessions at a time; 0 for no limit [default: --sessions-per-user-max].
    #[arg(long, value_name = "N")]
    pub sessions_max: Option<u32>,
    /// Octets of the files below its home (500M, 10Gi; 0 for no quota) [default: --quota-per-user].
    #[arg(long, value_name = "OCTETS", value_parser = parse_quota)]
    pub quota: Option<u64>,
}

impl From<UserBounds> for Bounds {
    fn from(bounds: UserBounds) -> Self {
        Self {
            rate_download: bounds.rate_download,
            rate_upload: bounds.rate_upload,
            sessions_max: bounds.sessions_max,
            quota: bounds.quota,
        }
    }
}

/// Where the password comes from.
#[derive(Debug, Args)]
pub struct PasswordSource {
    /// Read the password from one line of standard input, instead of asking on the terminal.
    #[arg(long)]
    pub password_stdin: bool,
}

/// Performs the command.
///
/// # Errors
/// [`Failure`] with the remedy; the users file is then as it was.
pub fn run_user_command(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add {
            target,
            home,
            permissions,
            bounds,
            charset,
            source,
        } => {
            let account = |user: User| user.with_bounds(bounds.into()).with_charset(charset);
            add(&target, home, permissions, account, &source)
        }
        UserCommand::Passwd { target, source } => change_password(&target, &source),
        UserCommand::Remove { target } => {
            users_store::update(&target.users, false, |users| users.remove(&target.name))
        }
        UserCommand::List { users } => {
            let file = users_store::read(&users)?.ok_or_else(|| users_store::missing(&users))?;
            let written = io::stdout().write_all(list(&file).as_bytes());
            written.map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
        }
    }
}

fn add(
    target: &Target,
    home: Option<PathBuf>,
    permissions: Permissions,
    complete: impl FnOnce(User) -> User,
    source: &PasswordSource,
) -> Result<(), Failure> {
    let config = |error: UsersError| Failure::file(Exit::Config, &target.users, error);
    auth::check_user_name(&target.name)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let home = home.as_deref().map(usable_home).transpose()?;
    // Before anybody types a password in vain.
    if let Some(users) = users_store::read(&target.users)?
        && users.contains(&target.name)
    {
        return Err(config(UsersError::Exists(target.name.clone())));
    }
    let user = User::new(hashed_password(source)?, home, permissions).map_err(config)?;
    users_store::update(&target.users, true, |users| {
        users.add(&target.name, complete(user))
    })
}

fn change_password(target: &Target, source: &PasswordSource) -> Result<(), Failure> {
    let users = users_store::read(&target.users)?;
    let users = users.ok_or_else(|| users_store::missing(&target.users))?;
    if !users.contains(&target.name) {
        let error = UsersError::Unknown(target.name.clone());
        return Err(Failure::file(Exit::Config, &target.users, error));
    }
    let phc = hashed_password(source)?;
    users_store::update(&target.users, false, |users| {
        users.set_password(&target.name, phc)
    })
}

fn hashed_password(source: &PasswordSource) -> Result<String, Failure> {
    let password = prompt::new_password(source.password_stdin)?;
    auth::hash_password(&password).map_err(|error| Failure::new(Exit::System, error.to_string()))
}

fn usable_home(home: &Path) -> Result<PathBuf, Failure> {
    let wrong = |problem: &str| Failure::new(Exit::Usage, format!("--home: {problem}"));
    if home.to_str().is_none() {
        return Err(wrong("the path is not UTF-8, which a TOML file must be"));
    }
    std::path::absolute(home).map_err(|error| wrong(&error.to_string()))
}

/// A table of the accounts, columns separated by tabs.
fn list(users: &UsersFile) -> String {
    let lines = users.iter().map(|(name, user)| {
        let home = user
            .home()
            .map_or_else(|| "-".into(), Path::to_string_lossy);
        format!("{name}\t{}\t{home}\n", user.permissions())
    });
    lines.collect()
}
