//! `ringftpd user`: the accounts of a users file.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::bandwidth::parse_rate;
use super::failure::{Exit, Failure};
use super::quota::parse_quota;
use super::user_options::{Own, UserOptions, summary, unusable};
use super::{prompt, users_store};
use crate::auth::{self, Bounds, Permissions, User, UsersError, UsersFile};

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
        #[command(flatten)]
        #[allow(missing_docs)]
        own: Box<UserOptions>,
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
    /// Show an account as the users file has it, without the password.
    Show {
        #[command(flatten)]
        #[allow(missing_docs)]
        target: Target,
    },
    /// List the accounts: name, permissions, home, and what else each has of its own.
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
            own,
            source,
        } => {
            let new = New {
                home,
                permissions,
                bounds: bounds.into(),
                own: own.check()?,
            };
            add(&target, new, &source)
        }
        UserCommand::Passwd { target, source } => change_password(&target, &source),
        UserCommand::Remove { target } => {
            users_store::update(&target.users, false, |users| users.remove(&target.name))
        }
        UserCommand::Show { target } => {
            let file = existing(&target.users)?;
            let table = file.table_of(&target.name);
            print(&table.map_err(|error| Failure::file(Exit::Config, &target.users, error))?)
        }
        UserCommand::List { users } => print(&list(&existing(&users)?)),
    }
}

fn existing(users: &Path) -> Result<UsersFile, Failure> {
    users_store::read(users)?.ok_or_else(|| users_store::missing(users))
}

fn print(text: &str) -> Result<(), Failure> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
}

/// An account that is to be made.
struct New {
    home: Option<PathBuf>,
    permissions: Permissions,
    bounds: Bounds,
    own: Own,
}

fn add(target: &Target, new: New, source: &PasswordSource) -> Result<(), Failure> {
    let config = |error: UsersError| Failure::file(Exit::Config, &target.users, error);
    auth::check_user_name(&target.name)
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let home = new.home.as_deref().map(usable_home).transpose()?;
    // Before anybody types a password in vain.
    if let Some(users) = users_store::read(&target.users)?
        && users.contains(&target.name)
    {
        return Err(config(UsersError::Exists(target.name.clone())));
    }
    let phc = if new.own.needs_no_password() && !source.password_stdin {
        // One that nobody knows.
        let password = auth::random_password();
        hash(
            password
                .map_err(|error| Failure::new(Exit::System, error.to_string()))?
                .as_bytes(),
        )?
    } else {
        hashed_password(source)?
    };
    let missing = home.as_deref().and_then(|home| {
        let given = format!("--home {}", home.display());
        unusable(&given, home)
    });
    let warnings: Vec<String> = missing.into_iter().chain(new.own.warnings()).collect();
    let user = User::new(phc, home, new.permissions).map_err(config)?;
    let user = new.own.give_to(user.with_bounds(new.bounds));
    users_store::update(&target.users, true, |users| users.add(&target.name, user))?;
    for warning in warnings {
        eprintln!("ringftpd: warning: {warning}");
    }
    Ok(())
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
    hash(&prompt::new_password(source.password_stdin)?)
}

fn hash(password: &[u8]) -> Result<String, Failure> {
    auth::hash_password(password).map_err(|error| Failure::new(Exit::System, error.to_string()))
}

fn usable_home(home: &Path) -> Result<PathBuf, Failure> {
    let wrong = |problem: &str| Failure::new(Exit::Usage, format!("--home: {problem}"));
    if home.to_str().is_none() {
        return Err(wrong("the path is not UTF-8, which a TOML file must be"));
    }
    std::path::absolute(home).map_err(|error| wrong(&error.to_string()))
}

/// A table of the accounts, columns separated by tabs; the last one only where there is something in it.
fn list(users: &UsersFile) -> String {
    let lines = users.iter().map(|(name, user)| {
        let home = user
            .home()
            .map_or_else(|| "-".into(), Path::to_string_lossy);
        let own = match summary(user) {
            own if own.is_empty() => own,
            own => format!("\t{own}"),
        };
        format!("{name}\t{}\t{home}{own}\n", user.permissions())
    });
    lines.collect()
}
