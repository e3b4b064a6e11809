//! The users file: TOML, one table for each user, replaced as a whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::bounds::{Bounds, Octets};
use super::file_rules::{FileRules, RawFileRules, RawMount, RawPathRule, WrittenFileRules};
use super::password::StoredHash;
use super::permissions::Permissions;
use super::personal::Personal;
use crate::limits;
use crate::proto::Charset;

/// What is wrong with a users file or a change to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The text is no users file.
    #[error("line {line}: {message}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong, with the remedy.
        message: String,
    },
    /// The name cannot be a user's.
    #[error(
        "a user name has 1 to {max} octets, no control characters, no space at its ends",
        max = limits::USER_NAME_OCTETS_MAX
    )]
    BadName,
    /// The user exists.
    #[error("user `{0}` exists already; change the password with `ringftpd user passwd`")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user `{0}`; `ringftpd user list` shows all, `ringftpd user add` adds one")]
    Unknown(String),
    /// A password hash is none.
    #[error("not an argon2id PHC string")]
    BadHash,
    /// The system gives no random octets.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// One user of a users file.
#[derive(Clone)]
pub struct User {
    phc: String,
    password: StoredHash,
    home: Option<PathBuf>,
    permissions: Permissions,
    bounds: Bounds,
    file_rules: Arc<FileRules>,
    personal: Personal,
}

impl User {
    /// A user with this password hash, as [`super::hash_password`] makes it.
    ///
    /// # Errors
    /// [`UsersError::BadHash`].
    pub fn new(
        phc: String,
        home: Option<PathBuf>,
        permissions: Permissions,
    ) -> Result<Self, UsersError> {
        let password = StoredHash::parse(&phc).ok_or(UsersError::BadHash)?;
        Ok(Self {
            phc,
            password,
            home,
            permissions,
            bounds: Bounds::default(),
            file_rules: Arc::default(),
            personal: Personal::default(),
        })
    }

    /// The same with these bounds.
    #[must_use]
    pub fn with_bounds(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The same with these rules for files.
    #[must_use]
    pub fn with_file_rules(self, file_rules: FileRules) -> Self {
        Self {
            file_rules: Arc::new(file_rules),
            ..self
        }
    }

    /// The same with these certificates and this welcome.
    #[must_use]
    pub fn with_personal(self, personal: Personal) -> Self {
        Self { personal, ..self }
    }

    pub(super) fn password(&self) -> &StoredHash {
        &self.password
    }

    /// The user's own root directory, if one is named.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// What the user may do.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// The user's certificates and welcome.
    #[must_use]
    pub fn personal(&self) -> &Personal {
        &self.personal
    }

    /// How much the user may do.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The user's own rules for files.
    #[must_use]
    pub fn file_rules(&self) -> &Arc<FileRules> {
        &self.file_rules
    }
}

/// The contents of a users file.
#[derive(Clone, Default)]
pub struct UsersFile {
    users: BTreeMap<String, User>,
}

/// The file as serde reads it. The password is any value at first, so that no error quotes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    users: BTreeMap<Spanned<String>, RawUser>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    password: Spanned<toml::Value>,
    home: Option<Spanned<PathBuf>>,
    permissions: Option<Spanned<Vec<String>>>,
    rate_download: Option<Spanned<Octets>>,
    rate_upload: Option<Spanned<Octets>>,
    sessions_max: Option<u32>,
    #[serde(default)]
    hidden: Vec<Spanned<String>>,
    #[serde(default)]
    denied: Vec<Spanned<String>>,
    #[serde(default)]
    paths: Vec<Spanned<RawPathRule>>,
    #[serde(default)]
    mounts: Vec<Spanned<RawMount>>,
    quota: Option<Octets>,
    certificates: Option<Spanned<Vec<String>>>,
    certificate_login: Option<Spanned<String>>,
    welcome: Option<Spanned<String>>,
    charset: Option<Charset>,
}

#[derive(Serialize)]
struct WrittenFile<'a> {
    users: BTreeMap<&'a str, WrittenUser<'a>>,
}

#[derive(Serialize)]
struct WrittenUser<'a> {
    password: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_download: Option<Octets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_upload: Option<Octets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_max: Option<u32>,
    #[serde(flatten)]
    file_rules: WrittenFileRules<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<Octets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_login: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    welcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charset: Option<&'static str>,
}

const HEADER: &str =
    "# Users of ringftpd. `ringftpd user` rewrites this file and keeps no comments.\n\n";

impl UsersFile {
    /// Parses the text of a users file.
    ///
    /// # Errors
    /// [`UsersError::Syntax`] with the line; it never quotes a password.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            // Serde's messages may run over several lines; the first says it.
            let message = error.message().lines().next().unwrap_or("not TOML");
            syntax(text, offset, message.to_owned())
        })?;
        let mut users = BTreeMap::new();
        for (name, raw_user) in raw.users {
            let offset = name.span().start;
            check_user_name(name.get_ref())
                .map_err(|error| syntax(text, offset, error.to_string()))?;
            let user = raw_user.check(text, name.get_ref())?;
            users.insert(name.into_inner(), user);
        }
        Ok(Self { users })
    }

    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let users = self.users.iter().map(|(name, user)| {
            let permissions = user.permissions;
            let written = WrittenUser {
                password: &user.phc,
                home: user.home.as_deref(),
                permissions: (permissions != Permissions::ALL)
                    .then(|| permissions.names().collect()),
                rate_download: user.bounds.rate_download.map(Octets),
                rate_upload: user.bounds.rate_upload.map(Octets),
                sessions_max: user.bounds.sessions_max,
                file_rules: user.file_rules.as_ref().into(),
                quota: user.bounds.quota.map(Octets),
                certificates: user.personal.certificates.listed(),
                certificate_login: user.personal.certificates.login(),
                welcome: user
                    .personal
                    .welcome
                    .as_ref()
                    .map(|welcome| &**welcome.text()),
                charset: user.personal.charset.map(Charset::name),
            };
            (name.as_str(), written)
        });
        let file = WrittenFile {
            users: users.collect(),
        };
        // Strings, and paths that were checked to be UTF-8, always serialise.
        let tables = toml::to_string(&file).unwrap_or_default();
        format!("{HEADER}{tables}")
    }

    /// The table of one user as the file has it, without the password.
    ///
    /// # Errors
    /// [`UsersError::Unknown`].
    pub fn table_of(&self, name: &str) -> Result<String, UsersError> {
        let unknown = || UsersError::Unknown(name.to_owned());
        let user = self.users.get(name).ok_or_else(unknown)?.clone();
        let mut alone = Self::default();
        alone.users.insert(name.to_owned(), user);
        let text = alone.to_text();
        let table = text.strip_prefix(HEADER).unwrap_or(&text);
        // SECURITY: the hash is the first key; later lines may be text of the user's.
        let lines = table.split_inclusive('\n');
        let (head, rest): (Vec<_>, Vec<_>) = lines.enumerate().partition(|(at, _)| *at < 2);
        let head = head
            .iter()
            .filter(|(_, line)| !line.starts_with("password = "));
        Ok(head.chain(&rest).map(|(_, line)| *line).collect())
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`UsersError::BadName`], [`UsersError::Exists`].
    pub fn add(&mut self, name: &str, user: User) -> Result<(), UsersError> {
        check_user_name(name)?;
        match self.users.entry(name.to_owned()) {
            MapEntry::Occupied(_) => Err(UsersError::Exists(name.to_owned())),
            MapEntry::Vacant(place) => {
                place.insert(user);
                Ok(())
            }
        }
    }

    /// Gives a user another password hash.
    ///
    /// # Errors
    /// [`UsersError::Unknown`], [`UsersError::BadHash`].
    pub fn set_password(&mut self, name: &str, phc: String) -> Result<(), UsersError> {
        let password = StoredHash::parse(&phc).ok_or(UsersError::BadHash)?;
        let user = self
            .users
            .get_mut(name)
            .ok_or_else(|| UsersError::Unknown(name.to_owned()))?;
        user.phc = phc;
        user.password = password;
        Ok(())
    }

    /// Removes a user.
    ///
    /// # Errors
    /// [`UsersError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        match self.users.remove(name) {
            Some(_) => Ok(()),
            None => Err(UsersError::Unknown(name.to_owned())),
        }
    }

    /// Whether there is such a user.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// The users in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (name.as_str(), user))
    }
}

impl RawUser {
    fn check(self, text: &str, name: &str) -> Result<User, UsersError> {
        let hash = self.password.get_ref().as_str().unwrap_or_default();
        let Some(password) = StoredHash::parse(hash) else {
            let message = format!(
                "the password of `{name}` is not an argon2id PHC string within bounds; set it with `ringftpd user passwd`"
            );
            return Err(syntax(text, self.password.span().start, message));
        };
        if let Some(home) = &self.home
            && !home.get_ref().is_absolute()
        {
            let message = format!("the home of `{name}` must be an absolute path");
            return Err(syntax(text, home.span().start, message));
        }
        let permissions = match &self.permissions {
            None => Permissions::ALL,
            Some(words) => Permissions::from_words(words.get_ref().iter().map(String::as_str))
                .map_err(|error| syntax(text, words.span().start, error.to_string()))?,
        };
        let rate = |rate: Option<Spanned<Octets>>| {
            let Some(rate) = rate else {
                return Ok(None);
            };
            let Octets(octets) = *rate.get_ref();
            if (1..limits::RATE_OCTETS_PER_SECOND_MIN).contains(&octets) {
                let message = format!(
                    "the lowest rate is {} octets a second; 0 means no limit",
                    limits::RATE_OCTETS_PER_SECOND_MIN
                );
                return Err(syntax(text, rate.span().start, message));
            }
            Ok(Some(octets))
        };
        let file_rules = RawFileRules {
            paths: self.paths,
            mounts: self.mounts,
            hidden: self.hidden,
            denied: self.denied,
        };
        let file_rules = file_rules
            .check()
            .map_err(|(at, error)| syntax(text, at, format!("`{name}`: {error}")))?;
        let personal = Personal::check(
            self.certificates.as_ref(),
            self.certificate_login.as_ref(),
            self.welcome.as_ref(),
        )
        .map_err(|(offset, message)| syntax(text, offset, message))?;
        Ok(User {
            personal: personal.with_charset(self.charset),
            phc: hash.to_owned(),
            password,
            home: self.home.map(Spanned::into_inner),
            permissions,
            bounds: Bounds {
                rate_download: rate(self.rate_download)?,
                rate_upload: rate(self.rate_upload)?,
                sessions_max: self.sessions_max,
                quota: self.quota.map(|Octets(octets)| octets),
            },
            file_rules: Arc::new(file_rules),
        })
    }
}

/// Whether the name can be a user's: USER must be able to carry it, and logs to show it.
///
/// # Errors
/// [`UsersError::BadName`].
pub fn check_user_name(name: &str) -> Result<(), UsersError> {
    let usable = (1..=limits::USER_NAME_OCTETS_MAX).contains(&name.len())
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    usable.then_some(()).ok_or(UsersError::BadName)
}

fn syntax(text: &str, offset: usize, message: String) -> UsersError {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
    UsersError::Syntax { line, message }
}
