//! Rules for the files of every account: options, and the sections `[[paths]]` and `[[mounts]]` of the file.

use std::sync::Arc;

use clap::Args;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::DeValue;

use super::failure::{Exit, Failure, cause};
use super::file::{Change, Complaints, Section, Structures};
use crate::auth::{
    Accounts, FileRules, Mount, NamePattern, PathRule, Permissions, RawMount, RawPathRule,
};
use crate::proto::Charset;
use crate::sys::identity::{self, Use};

const FILES: &str = "Files";

/// Options about which names are served.
#[derive(Debug, Args)]
pub struct FileOptions {
    /// Names that listings leave out, as `*.tmp`; whoever knows such a name can use it. Repeatable.
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    pub hidden_name: Vec<NamePattern>,
    /// Names that are as if absent, of files, directories and what links lead to, as `.ht*`; none can be made. Repeatable.
    #[arg(long, value_name = "PATTERN", help_heading = FILES)]
    pub denied_name: Vec<NamePattern>,
    /// Character set of names in commands, replies and listings, as GBK, Shift_JIS or windows-1252; on disk they are UTF-8. OPTS UTF8 ON overrides it, `charset` in the users file goes before.
    #[arg(long, value_name = "LABEL", default_value = "UTF-8", help_heading = FILES)]
    pub charset: Charset,
}

impl FileOptions {
    /// The rules, still without those of the file's sections.
    pub(super) fn rules(self) -> Arc<FileRules> {
        Arc::new(FileRules::default().with_names(self.hidden_name, self.denied_name))
    }
}

/// `[[paths]]`.
pub(super) const PATHS: Section = Section {
    name: "paths",
    example: "\
# Permissions at a path and below it, for every account, instead of the account's own; the longest
# path counts. Where a user of the users file has a rule for the same path, that one holds. (live)
#
# [[paths]]
# path = \"/incoming\"
# permissions = [\"list\", \"write\", \"make-directory\"]
",
    change: Change::Live,
    parse: |structures: &mut Structures, value, complaints| {
        each::<RawPathRule>("paths", value, complaints, |raw| {
            let rule = PathRule::try_from(raw)?;
            structures.places.add_path(rule)
        });
    },
};

/// `[[mounts]]`.
pub(super) const MOUNTS: Section = Section {
    name: "mounts",
    example: "\
# Directories that every account sees at a path, wherever its home is. `permissions` may be left
# out: then those of the path hold. Symbolic links do not lead into a mount or out of it. (live)
#
# [[mounts]]
# at = \"/pub\"
# directory = \"/srv/pub\"
# permissions = [\"read\", \"list\"]
",
    change: Change::Live,
    parse: |structures: &mut Structures, value, complaints| {
        each::<RawMount>("mounts", value, complaints, |raw| {
            let mount = Mount::try_from(raw)?;
            structures.places.add_mount(mount)
        });
    },
};

/// Takes each table of an array, and tells what is wrong at its place.
fn each<T: DeserializeOwned>(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    complaints: &mut Complaints<'_>,
    mut add: impl FnMut(T) -> Result<(), crate::auth::RuleError>,
) {
    let Some(list) = value.get_ref().as_array() else {
        let message = format!("{name}: write [[{name}]] on a line of its own, and its keys below");
        return complaints.add(&value.span(), message);
    };
    for table in list {
        let deserializer = toml::de::ValueDeserializer::from(table.clone());
        let raw = T::deserialize(deserializer).map_err(|error| {
            let span = error.span().unwrap_or_else(|| table.span());
            // Serde's messages may run over several lines; the first says it.
            let message = error.message().lines().next().unwrap_or_default();
            (span, message.to_owned())
        });
        let added = raw.and_then(|raw| {
            let added = add(raw);
            added.map_err(|error| (table.span(), error.to_string()))
        });
        if let Err((span, message)) = added {
            complaints.add(&span, format!("{name}: {message}"));
        }
    }
}

/// Checks that the directories that are mounted for every account can be used.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn check_mounts(rules: &FileRules) -> Result<(), Failure> {
    for mount in rules.mounts() {
        check_mount(mount).map_err(|message| Failure::new(Exit::NoInput, message))?;
    }
    Ok(())
}

/// Warns of directories that single accounts have mounted and that cannot be used: those accounts cannot log in.
pub(super) fn warn_of_mounts(accounts: &Accounts) {
    let mut checked: Vec<&Mount> = Vec::new();
    for account in accounts.iter() {
        for mount in account.file_rules.mounts() {
            if checked.contains(&mount) || checked.len() >= MOUNTS_CHECKED_MAX {
                continue;
            }
            checked.push(mount);
            if let Err(message) = check_mount(mount) {
                tracing::warn!(user = account.name, "{message}");
            }
        }
    }
}

/// Mounts of single accounts that are looked at when accounts are read; the others show at login.
const MOUNTS_CHECKED_MAX: usize = 1000;

/// Says what is wrong with the directory of a mount.
fn check_mount(mount: &Mount) -> Result<(), String> {
    let changing = |permissions: Permissions| permissions.intersects(Permissions::CHANGING);
    let wanted = match mount.permissions {
        Some(permissions) if changing(permissions) => Use::Write,
        _ => Use::Read,
    };
    let checked = std::fs::metadata(&mount.directory).and_then(|metadata| {
        if metadata.is_dir() {
            identity::check_directory(&mount.directory, wanted)
        } else {
            Err(std::io::ErrorKind::NotADirectory.into())
        }
    });
    checked.map_err(|error| {
        let verb = match wanted {
            Use::Read => "read",
            Use::Write => "write",
        };
        format!(
            "{directory}, which is to be mounted at {at}: the server's account cannot {verb} there ({error}); create the \
             directory, or give that account the right, or take the mount away",
            directory = mount.directory.display(),
            at = mount.at,
            error = cause(&error)
        )
    })
}
