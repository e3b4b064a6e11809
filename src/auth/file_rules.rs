//! Rules for files: permissions by path, mounts, names that are hidden or denied.
//!
//! The server has some for every account, and an account may have its own, which come in addition.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::permissions::Permissions;
use crate::limits;
use crate::proto::VirtualPath;

/// Permissions that hold at and below a path, in place of the account's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathRule {
    /// The path; it need not exist.
    pub path: VirtualPath,
    /// All that may be done there.
    pub permissions: Permissions,
}

/// A directory of the system that accounts see at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// Where it is seen; not the root.
    pub at: VirtualPath,
    /// The directory, absolute.
    pub directory: PathBuf,
    /// What may be done there; `None` for what may be done where it is mounted.
    pub permissions: Option<Permissions>,
}

/// A pattern of names: `*`, `?` and `[…]`, octet by octet, against one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamePattern(String);

impl NamePattern {
    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a rule, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

pub(super) fn wrong<T>(message: impl Into<String>) -> Result<T, RuleError> {
    Err(RuleError(message.into()))
}

impl FromStr for NamePattern {
    type Err = RuleError;

    fn from_str(pattern: &str) -> Result<Self, RuleError> {
        if pattern.is_empty() || pattern.contains(['/', '\0', '\r', '\n']) {
            return wrong("a pattern of names is about one name: not empty, and without `/`");
        }
        if pattern.len() > limits::PATH_COMPONENT_OCTETS_MAX {
            return wrong(format!(
                "a pattern of names has at most {} octets",
                limits::PATH_COMPONENT_OCTETS_MAX
            ));
        }
        Ok(Self(pattern.to_owned()))
    }
}

/// A virtual path as a client would write it: absolute, without `.`, `..` and empty components.
fn virtual_path(key: &str, text: &str) -> Result<VirtualPath, RuleError> {
    let path = VirtualPath::root().join(text.as_bytes());
    let path = path.map_err(|error| RuleError(format!("{key}: {error}")))?;
    let without_slash = text.strip_suffix('/').unwrap_or(text);
    let is_normal = path.as_bytes() == text.as_bytes()
        || (!path.is_root() && path.as_bytes() == without_slash.as_bytes());
    if !is_normal {
        return wrong(format!(
            "{key}: give a path as clients see it, as /incoming, without `.`, `..` and `//`"
        ));
    }
    Ok(path)
}

fn permissions(words: &[String]) -> Result<Permissions, RuleError> {
    let permissions = Permissions::from_words(words.iter().map(String::as_str));
    permissions.map_err(|error| RuleError(format!("permissions: {error}")))
}

/// [`PathRule`] as a file holds it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPathRule {
    pub(super) path: String,
    pub(super) permissions: Vec<String>,
}

impl TryFrom<RawPathRule> for PathRule {
    type Error = RuleError;

    fn try_from(raw: RawPathRule) -> Result<Self, RuleError> {
        Ok(Self {
            path: virtual_path("path", &raw.path)?,
            permissions: permissions(&raw.permissions)?,
        })
    }
}

/// [`Mount`] as a file holds it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawMount {
    pub(super) at: String,
    pub(super) directory: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) permissions: Option<Vec<String>>,
}

impl TryFrom<RawMount> for Mount {
    type Error = RuleError;

    fn try_from(raw: RawMount) -> Result<Self, RuleError> {
        let at = virtual_path("at", &raw.at)?;
        if at.is_root() {
            return wrong("at: nothing can be mounted at /, which is the home");
        }
        if !raw.directory.is_absolute() || raw.directory.as_os_str().len() > limits::PATH_OCTETS_MAX
        {
            return wrong("directory: give the absolute path of a directory of this system");
        }
        Ok(Self {
            at,
            directory: raw.directory,
            permissions: raw.permissions.as_deref().map(permissions).transpose()?,
        })
    }
}

/// The rules of one account, or those of the server for all of them. No path stands twice in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FileRules {
    paths: Vec<PathRule>,
    mounts: Vec<Mount>,
    hidden: Vec<NamePattern>,
    denied: Vec<NamePattern>,
}

impl FileRules {
    /// Adds permissions for a path.
    ///
    /// # Errors
    /// It has some already, or there are too many.
    pub fn add_path(&mut self, rule: PathRule) -> Result<(), RuleError> {
        if self.paths.iter().any(|other| other.path == rule.path) {
            return wrong(format!("path: `{}` stands twice", rule.path));
        }
        room(self.paths.len(), "paths")?;
        self.paths.push(rule);
        Ok(())
    }

    /// Adds a mount.
    ///
    /// # Errors
    /// Something is mounted there already, or there are too many.
    pub fn add_mount(&mut self, mount: Mount) -> Result<(), RuleError> {
        if self.mounts.iter().any(|other| other.at == mount.at) {
            return wrong(format!("at: `{}` stands twice", mount.at));
        }
        room(self.mounts.len(), "mounts")?;
        self.mounts.push(mount);
        Ok(())
    }

    /// The same with these patterns of names that listings leave out, and of those that are as if absent.
    #[must_use]
    pub fn with_names(self, hidden: Vec<NamePattern>, denied: Vec<NamePattern>) -> Self {
        Self {
            hidden,
            denied,
            ..self
        }
    }

    /// The same with these paths and mounts.
    #[must_use]
    pub fn with_places(self, places: &Self) -> Self {
        Self {
            paths: places.paths.clone(),
            mounts: places.mounts.clone(),
            ..self
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Permissions by path, without those of mounts.
    #[must_use]
    pub fn paths(&self) -> &[PathRule] {
        &self.paths
    }

    /// What is mounted.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Patterns of names that listings leave out.
    #[must_use]
    pub fn hidden(&self) -> &[NamePattern] {
        &self.hidden
    }

    /// Patterns of names that are as if absent.
    #[must_use]
    pub fn denied(&self) -> &[NamePattern] {
        &self.denied
    }

    /// Permissions by path: those of `paths`, and those of mounts that have some where `paths` does not say
    /// otherwise.
    #[must_use]
    pub fn path_permissions(&self) -> Vec<(&VirtualPath, Permissions)> {
        let mut all: Vec<_> = self
            .paths
            .iter()
            .map(|rule| (&rule.path, rule.permissions))
            .collect();
        for mount in &self.mounts {
            if let Some(permissions) = mount.permissions
                && !all.iter().any(|(path, _)| **path == mount.at)
            {
                all.push((&mount.at, permissions));
            }
        }
        all
    }

    /// These, and those of `common` for what these do not name: a path, or where something is mounted. An own mount
    /// takes the place of a common one with its permissions, and comes before common permissions for its path.
    #[must_use]
    pub fn over(&self, common: &Self) -> Self {
        let mut all = self.clone();
        let own_mount = |at: &VirtualPath| self.mounts.iter().find(|mount| mount.at == *at);
        for rule in &common.paths {
            let is_own = self.paths.iter().any(|own| own.path == rule.path)
                || own_mount(&rule.path).is_some_and(|own| own.permissions.is_some());
            if !is_own {
                all.paths.push(rule.clone());
            }
        }
        let others = common.mounts.iter();
        let others = others.filter(|mount| own_mount(&mount.at).is_none());
        all.mounts.extend(others.cloned());
        for (names, common) in [
            (&mut all.hidden, &common.hidden),
            (&mut all.denied, &common.denied),
        ] {
            let new = common.iter().filter(|pattern| !names.contains(pattern));
            let new: Vec<_> = new.cloned().collect();
            names.extend(new);
        }
        all
    }
}

pub(super) fn room(there: usize, what: &str) -> Result<(), RuleError> {
    if there >= limits::FILE_RULES_MAX {
        return wrong(format!("at most {} {what}", limits::FILE_RULES_MAX));
    }
    Ok(())
}

/// The rules as keys of a user in a users file.
#[derive(Debug, Default)]
pub(super) struct RawFileRules {
    pub(super) paths: Vec<Spanned<RawPathRule>>,
    pub(super) mounts: Vec<Spanned<RawMount>>,
    pub(super) hidden: Vec<Spanned<String>>,
    pub(super) denied: Vec<Spanned<String>>,
}

impl RawFileRules {
    /// Checks them; what is wrong is told with the octet where it stands.
    pub(super) fn check(self) -> Result<FileRules, (usize, RuleError)> {
        let mut rules = FileRules::default();
        for raw in self.paths {
            let at = raw.span().start;
            let rule = raw.into_inner().try_into();
            let added = rule.and_then(|rule| rules.add_path(rule));
            added.map_err(|error| (at, error))?;
        }
        for raw in self.mounts {
            let at = raw.span().start;
            let mount = raw.into_inner().try_into();
            let added = mount.and_then(|mount| rules.add_mount(mount));
            added.map_err(|error| (at, error))?;
        }
        let names = |list: Vec<Spanned<String>>| {
            let names = list.into_iter().enumerate().map(|(count, raw)| {
                let pattern = room(count, "patterns of names").and_then(|()| raw.get_ref().parse());
                pattern.map_err(|error| (raw.span().start, error))
            });
            names.collect::<Result<Vec<NamePattern>, _>>()
        };
        Ok(rules.with_names(names(self.hidden)?, names(self.denied)?))
    }
}

/// The keys of a user in a users file.
#[derive(Debug, Serialize)]
pub(super) struct WrittenFileRules<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hidden: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    denied: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<RawPathRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mounts: Vec<RawMount>,
}

impl<'a> From<&'a FileRules> for WrittenFileRules<'a> {
    fn from(rules: &'a FileRules) -> Self {
        let words = |permissions: Permissions| permissions.names().map(str::to_owned).collect();
        // What was parsed from TOML, which is UTF-8.
        let text = |path: &VirtualPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        Self {
            hidden: rules.hidden.iter().map(NamePattern::as_str).collect(),
            denied: rules.denied.iter().map(NamePattern::as_str).collect(),
            paths: rules
                .paths
                .iter()
                .map(|rule| RawPathRule {
                    path: text(&rule.path),
                    permissions: words(rule.permissions),
                })
                .collect(),
            mounts: rules
                .mounts
                .iter()
                .map(|mount| RawMount {
                    at: text(&mount.at),
                    directory: mount.directory.clone(),
                    permissions: mount.permissions.map(words),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
