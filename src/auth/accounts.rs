//! Accounts, and the table of them that is in force.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bounds::Bounds;
use super::file_rules::FileRules;
use super::pam::PamAccounts;
use super::password::{HashError, StoredHash, StoredPassword};
use super::permissions::Permissions;
use super::personal::Personal;
use super::users::{UsersError, UsersFile};
use super::{CheckFailed, Verdict};

/// Whom a login opens: a name, a root directory, permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user name, for logs and for limits per user.
    pub name: String,
    /// The directory that the account sees as `/`.
    pub home: PathBuf,
    /// What it may do there.
    pub permissions: Permissions,
    /// Whether it is the one that any password opens.
    pub anonymous: bool,
    /// How much of it.
    pub bounds: Bounds,
    /// Its own rules for files, beside those of the server.
    pub file_rules: Arc<FileRules>,
    /// Certificates and welcome.
    pub personal: Personal,
}

/// An account and how its password is checked.
pub(super) struct Entry {
    account: Arc<Account>,
    password: StoredPassword,
}

impl Entry {
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// The accounts that may log in; never changed once made.
pub struct Accounts {
    entries: HashMap<Box<[u8]>, Arc<Entry>>,
    anonymous: Option<Arc<Account>>,
    /// What all others are given that PAM knows, where it is asked.
    pam: Option<PamAccounts>,
    /// Hashed for unknown names, at the cost of most of the real hashes. `None` when no account
    /// has a slow hash.
    decoy: Option<StoredHash>,
}

impl Accounts {
    /// No account at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            entries: HashMap::new(),
            anonymous: None,
            pam: None,
            decoy: None,
        }
    }

    /// The accounts of a users file; those without a home of their own get `default_home`.
    ///
    /// # Errors
    /// [`UsersError`] when the system gives no random octets.
    pub fn from_users(users: &UsersFile, default_home: &Path) -> Result<Self, UsersError> {
        let decoy = StoredHash::decoy(users.iter().map(|(_, user)| user.password()))
            .map_err(|HashError| UsersError::NoRandom)?;
        let entries = users.iter().map(|(name, user)| {
            let account = Account {
                name: name.to_owned(),
                home: user.home().unwrap_or(default_home).to_path_buf(),
                permissions: user.permissions(),
                anonymous: false,
                bounds: user.bounds(),
                file_rules: Arc::clone(user.file_rules()),
                personal: user.personal().clone(),
            };
            let entry = Entry {
                account: Arc::new(account),
                password: StoredPassword::Hash(user.password().clone()),
            };
            (Box::from(name.as_bytes()), Arc::new(entry))
        });
        Ok(Self {
            entries: entries.collect(),
            anonymous: None,
            pam: None,
            decoy,
        })
    }

    /// One account with every permission and a password that is random enough to need no slow
    /// hash (at least 80 bits).
    #[must_use]
    pub fn one_time(name: &str, random_password: &str, home: &Path) -> Self {
        let account = Account {
            name: name.to_owned(),
            home: home.to_path_buf(),
            permissions: Permissions::ALL,
            anonymous: false,
            bounds: Bounds::default(),
            file_rules: Arc::default(),
            personal: Personal::default(),
        };
        let entry = Entry {
            account: Arc::new(account),
            password: StoredPassword::random(random_password.as_bytes()),
        };
        Self {
            entries: HashMap::from([(Box::from(name.as_bytes()), Arc::new(entry))]),
            ..Self::none()
        }
    }

    /// Lets in `anonymous` and `ftp` with any password, to read only.
    #[must_use]
    pub fn with_anonymous(mut self, home: &Path) -> Self {
        self.anonymous = Some(Arc::new(Account {
            name: "anonymous".to_owned(),
            home: home.to_path_buf(),
            permissions: Permissions::READ_ONLY,
            anonymous: true,
            bounds: Bounds::default(),
            file_rules: Arc::default(),
            personal: Personal::default(),
        }));
        self
    }

    /// Has PAM asked about all other names.
    #[must_use]
    pub fn with_pam(self, accounts: PamAccounts) -> Self {
        Self {
            pam: Some(accounts),
            ..self
        }
    }

    pub(super) fn pam(&self) -> Option<&PamAccounts> {
        self.pam.as_ref()
    }

    /// Every account of the table, the anonymous one last.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        let named = self.entries.values().map(|entry| &*entry.account);
        named.chain(self.anonymous.as_deref())
    }

    pub(super) fn find(&self, user: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(user).cloned()
    }

    /// The anonymous account, if there is one and this is a name for it (RFC 1635).
    pub(super) fn anonymous(&self, user: &[u8]) -> Verdict {
        let named = user.eq_ignore_ascii_case(b"anonymous") || user.eq_ignore_ascii_case(b"ftp");
        self.anonymous.clone().filter(|_| named)
    }

    /// The verdict when it takes no slow hash; `None` when it does.
    pub(super) fn check_at_once(&self, entry: Option<&Entry>, password: &[u8]) -> Option<Verdict> {
        match entry {
            Some(entry) => {
                let matches = entry.password.matches_at_once(password)?;
                Some(matches.then(|| Arc::clone(&entry.account)))
            }
            None if self.decoy.is_none() => Some(None),
            None => None,
        }
    }

    /// The verdict by the slow hash; for an unknown name, after the decoy's.
    pub(super) fn check_by_hash(
        &self,
        entry: Option<&Entry>,
        password: &[u8],
    ) -> Result<Verdict, HashError> {
        let stored = match entry {
            Some(Entry {
                password: StoredPassword::Hash(hash),
                ..
            }) => Some(hash),
            _ => self.decoy.as_ref(),
        };
        let matches = stored.map_or(Ok(false), |hash| hash.verify(password))?;
        Ok(entry
            .filter(|_| matches)
            .map(|entry| Arc::clone(&entry.account)))
    }
}

impl From<HashError> for CheckFailed {
    fn from(HashError: HashError) -> Self {
        Self
    }
}
