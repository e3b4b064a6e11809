//! The TLS session store: a data connection resumes sessions of its own control connection only.
//!
//! rustls asks the store synchronously, inside a call that processes records, and tells it nothing
//! about the connection. So [`Scope`] notes the current connection in a thread-local for the length
//! of each such call, and restores what was there before: tasks that interleave on a core, and
//! cores, do not see each other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

use super::{Role, Settings};
use crate::limits;

/// TLS 1.2 session identifiers and rustls' TLS 1.3 tickets of stored sessions are 32 random octets.
type SessionKey = [u8; 32];

const SHARDS: usize = 16;

/// Numbers the control connections of the process.
static CONTROL_NUMBER: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

struct Current {
    control: Rc<ControlTls>,
    role: Role,
    foreign: bool,
}

/// Marks one connection as current on this thread until it is dropped.
pub(super) struct Scope {
    previous: Option<Current>,
}

impl Scope {
    pub(super) fn enter(control: &Rc<ControlTls>, role: Role) -> Self {
        let current = Current {
            control: Rc::clone(control),
            role,
            foreign: false,
        };
        Self {
            previous: CURRENT.replace(Some(current)),
        }
    }

    /// Has the client offered a session of another live control connection since [`Scope::enter`]?
    pub(super) fn foreign(&self) -> bool {
        CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| current.foreign))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(CURRENT.replace(self.previous.take()));
    }
}

/// The TLS session of one control connection, from its handshake until it ends or REIN or CCC
/// clears it. Dropping the last reference forgets its sessions.
pub struct ControlTls {
    id: u64,
    store: Arc<SessionStore>,
    resumed: Cell<bool>,
    /// The sessions in the store, the least recently used first.
    keys: RefCell<Vec<Kept>>,
}

/// A session in the store, as its control connection knows it.
struct Kept {
    key: SessionKey,
    /// A data connection has resumed it.
    used: bool,
}

impl ControlTls {
    /// A control connection without sessions.
    pub fn new(settings: &Settings) -> Rc<Self> {
        Rc::new(Self {
            id: CONTROL_NUMBER.fetch_add(1, Ordering::Relaxed),
            store: Arc::clone(settings.store()),
            resumed: Cell::new(false),
            keys: RefCell::new(Vec::new()),
        })
    }

    /// Unique in the process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Has a data connection of this control connection resumed?
    pub fn has_resumed(&self) -> bool {
        self.resumed.get()
    }

    /// Is there a session that no data connection has resumed yet? A TLS 1.3 client that spends
    /// each ticket once (RFC 8446 §C.4) can resume only then.
    pub(super) fn has_unused_session(&self) -> bool {
        self.keys.borrow().iter().any(|kept| !kept.used)
    }

    pub(super) fn set_has_resumed(&self) {
        self.resumed.set(true);
    }

    /// Notes a new session; returns the key of the one to be dropped for it.
    fn remember(&self, key: SessionKey) -> Option<SessionKey> {
        let mut keys = self.keys.borrow_mut();
        let full = keys.len() >= limits::TLS_SESSIONS_PER_CONTROL_MAX;
        let evicted = full.then(|| {
            // A client that spends tickets once never returns to a used one, and a client that
            // stays with one ticket uses the latest used: the others are the least missed.
            let mut used = (0..keys.len())
                .filter(|position| keys.get(*position).is_some_and(|kept| kept.used));
            let position = match (used.next(), used.next()) {
                (Some(first), Some(_)) => first,
                (Some(0), None) => 1,
                _ => 0,
            };
            keys.remove(position)
        });
        keys.push(Kept { key, used: false });
        evicted.map(|kept| kept.key)
    }

    /// Makes a session the most recently used one: a client that reuses one ticket for ever keeps
    /// it while the tickets that it ignores are dropped.
    fn refresh(&self, key: &SessionKey) {
        let mut keys = self.keys.borrow_mut();
        if let Some(position) = keys.iter().position(|kept| kept.key == *key) {
            let kept = keys.remove(position);
            keys.push(Kept { used: true, ..kept });
        }
    }
}

impl Drop for ControlTls {
    fn drop(&mut self) {
        for kept in self.keys.get_mut().drain(..) {
            self.store.forget(&kept.key);
        }
    }
}

impl fmt::Debug for ControlTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlTls")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

struct Session {
    owner: u64,
    /// Holds the secrets of the session.
    value: Zeroizing<Vec<u8>>,
}

type Shard = HashMap<SessionKey, Session>;

/// The sessions of all control connections, shared by all cores. A lock is held only for one look
/// at a table, and only during handshakes.
pub struct SessionStore {
    enabled: bool,
    shards: [Mutex<Shard>; SHARDS],
}

impl SessionStore {
    /// An empty store; one that is not `enabled` stays empty.
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            shards: Default::default(),
        }
    }

    /// May sessions be stored at all?
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Sessions stored now.
    pub fn len(&self) -> usize {
        let lock =
            |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(lock).sum()
    }

    /// Is no session stored?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &SessionKey) -> MutexGuard<'_, Shard> {
        let [first, ..] = *key;
        #[allow(clippy::indexing_slicing, reason = "the remainder is less than SHARDS")]
        let shard = &self.shards[usize::from(first) % SHARDS];
        // A table is consistent between any two of its operations, so poison means nothing here.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: &SessionKey) {
        self.shard(key).remove(key);
    }

    /// The session under `key` if the current connection may resume it.
    ///
    /// SECURITY: a control connection never resumes. A TLS 1.2 client would keep the session
    /// identifier, and two control connections with one identifier could not be told apart.
    fn find(&self, key: &[u8]) -> Option<Vec<u8>> {
        let key = SessionKey::try_from(key).ok()?;
        CURRENT.with_borrow_mut(|current| {
            let current = current.as_mut()?;
            if current.role == Role::Control {
                return None;
            }
            let shard = self.shard(&key);
            let session = shard.get(&key)?;
            if session.owner != current.control.id {
                current.foreign = true;
                return None;
            }
            current.control.refresh(&key);
            Some(session.value.to_vec())
        })
    }
}

impl StoresServerSessions for SessionStore {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let value = Zeroizing::new(value);
        let Ok(key) = SessionKey::try_from(key) else {
            return false;
        };
        if !self.enabled {
            return false;
        }
        let Some(control) =
            CURRENT.with_borrow(|current| Some(Rc::clone(&current.as_ref()?.control)))
        else {
            return false;
        };
        let owner = control.id;
        if self
            .shard(&key)
            .insert(key, Session { owner, value })
            .is_none()
            && let Some(evicted) = control.remember(key)
        {
            self.forget(&evicted);
        }
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key)
    }

    /// Leaves the session in the store, against the letter of the trait: clients open many data
    /// connections with the one ticket they kept. What single use protects is early data, which is
    /// off (RFC 8446 §8.1), and unlinkability, which one control connection does not have anyway.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key)
    }

    fn can_cache(&self) -> bool {
        self.enabled
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
