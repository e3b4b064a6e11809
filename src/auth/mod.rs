//! Accounts and password checks.
//!
//! A check never blocks a core: it is answered at once from memory ([`Check::Known`]), or it is a
//! job for the blocking pool ([`Check::Hash`]), or it waits for the same credential's job that is
//! already running ([`Check::Wait`]). Unknown names take the same way, and the same time, as wrong
//! passwords (RFC 2577 §7).

mod accounts;
mod bounds;
mod certificates;
mod file_rules;
mod pam;
mod password;
mod permissions;
mod personal;
mod rule_words;
#[cfg(test)]
mod tests;
mod users;
mod welcome;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac, rand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use zeroize::Zeroizing;

use crate::limits;

pub use accounts::{Account, Accounts};
pub use bounds::Bounds;
pub use certificates::{BadCertificates, Certificates, Presented};
pub use file_rules::{FileRules, Mount, NamePattern, PathRule, RawMount, RawPathRule, RuleError};
pub use pam::{DirectoryTemplate, Pam, PamAccounts, PamCheck, PamVerdict};
pub use password::{HashError, hash_password, random_password};
pub use permissions::{Permissions, PermissionsError};
pub use personal::Personal;
pub use rule_words::RuleList;
pub use users::{User, UsersError, UsersFile, check_user_name};
pub use welcome::{BadWelcome, Welcome};

use accounts::Entry;

/// The account that a name and password open, or `None` when they open none.
pub type Verdict = Option<Arc<Account>>;

/// The check could not be made: no memory for the hash, or its job was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password check could not be made")]
pub struct CheckFailed;

type Digest = [u8; 32];

/// Checks names and passwords; one for the whole process, shared by all cores.
///
/// Its lock is held for a table look-up at most, and only at login: the transfer path never sees
/// it.
pub struct Authenticator {
    /// Keys the digests of credentials in memory; drawn anew by every process.
    key: hmac::Key,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
    hashes_computed: AtomicU64,
    pam: OnceLock<Arc<Pam>>,
}

struct State {
    /// Counts replacements of the accounts, so that a job that began before one leaves nothing
    /// behind after it.
    generation: u64,
    accounts: Arc<Accounts>,
    /// By user name: an account has one password, so one entry is all it needs.
    remembered: HashMap<Box<[u8]>, Remembered>,
    /// Who waits for which running job.
    running: HashMap<(u64, Digest), Vec<oneshot::Sender<Verdict>>>,
}

struct Remembered {
    digest: Digest,
    account: Arc<Account>,
    until: Instant,
}

/// The answer to [`Authenticator::check`].
pub enum Check {
    /// Decided.
    Known(Verdict),
    /// To be decided by [`HashJob::run`] on the blocking pool.
    Hash(HashJob),
    /// Will be decided by a job that is running already.
    Wait(Waiting),
    /// To be decided by PAM.
    Pam(PamCheck),
}

/// A password hash to be computed. Dropping it fails the check for all who wait for it.
pub struct HashJob {
    authenticator: Arc<Authenticator>,
    generation: u64,
    digest: Digest,
    user: Box<[u8]>,
    password: Zeroizing<Vec<u8>>,
    /// `None` for an unknown name: the decoy is hashed.
    entry: Option<Arc<Entry>>,
    accounts: Arc<Accounts>,
    now: Instant,
    turn: Option<OwnedSemaphorePermit>,
}

/// The verdict of another session's [`HashJob`].
pub struct Waiting(oneshot::Receiver<Verdict>);

impl Authenticator {
    /// An authenticator over these accounts that remembers nothing yet.
    ///
    /// # Errors
    /// [`CheckFailed`] when the system gives no random octets.
    pub fn new(accounts: Accounts) -> Result<Arc<Self>, CheckFailed> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| CheckFailed)?;
        Ok(Arc::new(Self {
            key,
            turns: Arc::new(Semaphore::new(limits::PASSWORD_HASHES_AT_ONCE_MAX)),
            state: Mutex::new(State::new(accounts)),
            hashes_computed: AtomicU64::new(0),
            pam: OnceLock::new(),
        }))
    }

    /// From now on PAM is asked about names that are not in the table, where [`Accounts::with_pam`] says so.
    pub fn ask_pam(&self, pam: Arc<Pam>) {
        // There is one set of helpers for the whole life of the process.
        let _ = self.pam.set(pam);
    }

    /// A refusal is to be told so long after the question at the earliest: where PAM is asked, the time must not tell
    /// whose name it is.
    #[must_use]
    pub fn refusal_time(&self) -> Duration {
        let asked = self.pam.get();
        asked.map_or(Duration::ZERO, |_| limits::PAM_REFUSAL_TIME_MIN)
    }

    /// Another one with accounts of its own, as of a virtual host. Both compute as many hashes together as one.
    #[must_use]
    pub fn beside(&self, accounts: Accounts) -> Arc<Self> {
        Arc::new(Self {
            key: self.key.clone(),
            turns: Arc::clone(&self.turns),
            state: Mutex::new(State::new(accounts)),
            hashes_computed: AtomicU64::new(0),
            pam: self.pam.clone(),
        })
    }

    /// Puts other accounts into force and forgets every remembered credential. Sessions that are
    /// logged in keep the account they have.
    pub fn replace(&self, accounts: Accounts) {
        let mut state = self.lock();
        state.generation += 1;
        state.accounts = Arc::new(accounts);
        state.remembered.clear();
    }

    /// The accounts in force.
    #[must_use]
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.lock().accounts)
    }

    /// Begins the check of a name and password as the client sent them. Never blocks.
    #[must_use]
    pub fn check(self: &Arc<Self>, user: &[u8], password: &[u8], now: Instant) -> Check {
        let digest = self.digest(user, password);
        let mut state = self.lock();
        let entry = state.accounts.find(user);
        if entry.is_none()
            && let Some(account) = state.accounts.anonymous(user)
        {
            return Check::Known(Some(account));
        }
        if entry.is_none()
            && state.accounts.pam().is_some()
            && let Some(pam) = self.pam.get()
        {
            return Check::Pam(PamCheck {
                pam: Arc::clone(pam),
                accounts: Arc::clone(&state.accounts),
                user: Box::from(user),
                password: Zeroizing::new(password.to_vec()),
                now,
            });
        }
        // A random password needs no slow hash; then unknown names need none either.
        if let Some(verdict) = state.accounts.check_at_once(entry.as_deref(), password) {
            return Check::Known(verdict);
        }
        if let Some(account) = state.recall(user, &digest, now) {
            return Check::Known(Some(account));
        }
        let generation = state.generation;
        if let Some(waiters) = state.running.get_mut(&(generation, digest)) {
            let (sender, receiver) = oneshot::channel();
            // Those who gave up meanwhile must not pile up behind a job that waits for its turn.
            waiters.retain(|waiter| !waiter.is_closed());
            waiters.push(sender);
            return Check::Wait(Waiting(receiver));
        }
        state.running.insert((generation, digest), Vec::new());
        Check::Hash(HashJob {
            authenticator: Arc::clone(self),
            generation,
            digest,
            user: Box::from(user),
            password: Zeroizing::new(password.to_vec()),
            entry,
            accounts: Arc::clone(&state.accounts),
            now,
            turn: None,
        })
    }

    /// The account that this certificate opens without a password, if it is that of this user.
    #[must_use]
    pub fn certified(&self, user: &[u8], presented: &Presented<'_>) -> Verdict {
        let account = Arc::clone(self.lock().accounts.find(user)?.account());
        let suffices = account.personal.certificates.suffices(presented);
        suffices.then_some(account)
    }

    /// Password hashes computed since the start, those of unknown names included.
    #[must_use]
    pub fn hashes_computed(&self) -> u64 {
        self.hashes_computed.load(Ordering::Relaxed)
    }

    fn digest(&self, user: &[u8], password: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        // The length keeps "ab" + "c" apart from "a" + "bc".
        context.update(&user.len().to_be_bytes());
        context.update(user);
        context.update(password);
        let mut digest = Digest::default();
        for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        digest
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(accounts: Accounts) -> Self {
        Self {
            generation: 0,
            accounts: Arc::new(accounts),
            remembered: HashMap::new(),
            running: HashMap::new(),
        }
    }

    fn recall(&mut self, user: &[u8], digest: &Digest, now: Instant) -> Verdict {
        let remembered = self.remembered.get(user)?;
        if remembered.until <= now {
            self.remembered.remove(user);
            return None;
        }
        constant_time::verify_slices_are_equal(&remembered.digest, digest)
            .is_ok()
            .then(|| Arc::clone(&remembered.account))
    }

    fn remember(&mut self, user: Box<[u8]>, remembered: Remembered) {
        if self.remembered.len() >= limits::CREDENTIALS_REMEMBERED_MAX
            && !self.remembered.contains_key(&user)
            && let Some(other) = self.remembered.keys().next().cloned()
        {
            // Any will do: the one forgotten costs its user one hash.
            self.remembered.remove(&other);
        }
        self.remembered.insert(user, remembered);
    }
}

impl HashJob {
    /// Waits until fewer than `PASSWORD_HASHES_AT_ONCE_MAX` hashes are being computed. To be
    /// awaited before the job goes to the blocking pool, so that waiting occupies no thread and
    /// memory for hashes is bounded.
    pub async fn turn(&mut self) {
        let turns = Arc::clone(&self.authenticator.turns);
        // The semaphore is never closed; if it were, the pool's own bound would remain.
        self.turn = turns.acquire_owned().await.ok();
    }

    /// Computes the hash, remembers a verified credential and tells those who wait. Blocks for
    /// tens of milliseconds.
    ///
    /// # Errors
    /// [`CheckFailed`] when there is no memory for the hash.
    pub fn run(self) -> Result<Verdict, CheckFailed> {
        let authenticator = Arc::clone(&self.authenticator);
        authenticator
            .hashes_computed
            .fetch_add(1, Ordering::Relaxed);
        let verdict = self
            .accounts
            .check_by_hash(self.entry.as_deref(), &self.password)
            .map_err(|HashError| CheckFailed)?;
        let waiters = {
            let mut state = authenticator.lock();
            // Where a certificate is asked for as well, an answer from memory would tell that the password was right.
            if let Some(account) = &verdict
                && !account.personal.certificates.asked_for()
                && state.generation == self.generation
            {
                let remembered = Remembered {
                    digest: self.digest,
                    account: Arc::clone(account),
                    until: self.now + limits::CREDENTIAL_REMEMBERED,
                };
                state.remember(self.user.clone(), remembered);
            }
            state.running.remove(&(self.generation, self.digest))
        };
        for waiter in waiters.unwrap_or_default() {
            // Whoever gave up waiting needs no verdict.
            let _ = waiter.send(verdict.clone());
        }
        Ok(verdict)
    }
}

impl Drop for HashJob {
    fn drop(&mut self) {
        // After `run` nothing is left to remove; otherwise the waiters' channels close.
        let waiters = self
            .authenticator
            .lock()
            .running
            .remove(&(self.generation, self.digest));
        drop(waiters);
    }
}

impl Waiting {
    /// The verdict, once the other job has it.
    ///
    /// # Errors
    /// [`CheckFailed`] when that job failed or was dropped.
    pub async fn verdict(self) -> Result<Verdict, CheckFailed> {
        self.0.await.map_err(|_| CheckFailed)
    }
}
