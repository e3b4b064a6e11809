//! The TLS session store: a data connection resumes sessions of its own control connection, or of
//! another one that has proved to be the same client, only.
//!
//! rustls asks the store synchronously, inside a call that processes records, and tells it nothing
//! about the connection. So [`Scope`] notes the current connection in a thread-local for the length
//! of each such call, and restores what was there before: tasks that interleave on a core, and
//! cores, do not see each other.

mod holding;
mod host;
mod login;
mod scope;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

use super::{ClientCertificate, Role, Settings};
use crate::limits;
use crate::sys::clock;
use crate::vhosts::Host;
use holding::Issues;
use host::Choice;
pub(super) use host::choose_host;
use login::Login;
use scope::CURRENT;
pub(super) use scope::Scope;

pub(super) use holding::Holding;

/// TLS 1.2 session identifiers and rustls' TLS 1.3 tickets of stored sessions are 32 random octets.
pub(super) type SessionKey = [u8; 32];

const SHARDS: usize = 16;

/// One TLS client: a control connection, and those which proved to be the same client by resuming
/// its session. Its sessions are forgotten with its last control connection.
///
/// Programs that open several control connections (rclone, curl in parallel) keep one cache of
/// sessions for all of them, and offer on any data connection what they got last on any other.
pub(super) struct Client {
    store: Arc<SessionStore>,
    /// The sessions in the store, the least recently used first.
    kept: Mutex<Vec<Kept>>,
    /// The logins on its control connections, as one.
    login: Mutex<Option<Login>>,
    /// The client that this one turned out to be.
    same_as: OnceLock<Arc<Self>>,
}

/// Held while two clients become one, so that no two of them become each other.
static MERGING: Mutex<()> = Mutex::new(());

/// A session in the store, as its client knows it.
struct Kept {
    key: SessionKey,
    /// A data connection has resumed it.
    used: bool,
}

impl Client {
    fn new(store: &Arc<SessionStore>) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            kept: Mutex::default(),
            login: Mutex::default(),
            same_as: OnceLock::new(),
        })
    }

    /// The client that this one is.
    fn identity(self: &Arc<Self>) -> Arc<Self> {
        let mut client = self;
        while let Some(other) = client.same_as.get() {
            client = other;
        }
        Arc::clone(client)
    }

    /// From here on both are one.
    fn merge(self: &Arc<Self>, other: &Arc<Self>) {
        let _merging = MERGING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = (self.identity(), other.identity());
        if !Arc::ptr_eq(&ours, &theirs) {
            if let Some(login) = ours.login().clone() {
                theirs.note(&login);
            }
            // Never set before, because `ours` is the end of its chain.
            let _ = ours.same_as.set(theirs);
        }
    }

    fn login(&self) -> MutexGuard<'_, Option<Login>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a login to those that there were; one of another user does not count.
    fn note(&self, login: &Login) {
        let mut noted = self.login();
        match &mut *noted {
            None => *noted = Some(login.clone()),
            Some(noted) => noted.widen(login),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new session; returns the key of the one to be dropped for it.
    fn remember(self: &Arc<Self>, key: SessionKey) -> Option<SessionKey> {
        // Control connections hold a client, and the caller does.
        let controls = Arc::strong_count(self).saturating_sub(1).max(1);
        let limit = limits::TLS_SESSIONS_PER_CONTROL_MAX * controls;
        let mut kept = self.kept();
        let dropped = (kept.len() >= limit).then(|| {
            // A client that spends tickets once never returns to a used one, and a client that
            // stays with one ticket uses the latest used: the others are the least missed.
            let mut used = kept
                .iter()
                .enumerate()
                .filter(|(_, kept)| kept.used)
                .map(|(position, _)| position);
            let position = match (used.next(), used.next()) {
                (Some(first), Some(_)) => first,
                (Some(0), None) => 1,
                _ => 0,
            };
            kept.remove(position).key
        });
        kept.push(Kept { key, used: false });
        dropped
    }

    /// Makes a session the most recently used one: a client that reuses one ticket for ever keeps
    /// it while the tickets that it ignores are dropped.
    fn refresh(&self, key: &SessionKey) {
        let mut all = self.kept();
        if let Some(position) = all.iter().position(|kept| kept.key == *key) {
            let kept = all.remove(position);
            all.push(Kept { used: true, ..kept });
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let kept = std::mem::take(&mut *self.kept());
        for kept in kept {
            self.store.forget(&kept.key);
        }
    }
}

/// The TLS session of one control connection, from its handshake until it ends or REIN or CCC
/// clears it. Dropping the last reference forgets its sessions, unless other control connections
/// of the same client are left.
pub struct ControlTls {
    client: RefCell<Arc<Client>>,
    /// When the connection was opened.
    opened: Instant,
    /// The first login.
    login: OnceCell<Login>,
    /// Another user has logged in since: from then on no other client may be this one.
    several: Cell<bool>,
    host: RefCell<Choice>,
    certificate: OnceCell<ClientCertificate>,
    resumed: Cell<bool>,
    issues: Issues,
}

impl ControlTls {
    /// A control connection without sessions, which was opened at that time.
    pub fn new(settings: &Settings, opened: Instant) -> Rc<Self> {
        Rc::new(Self {
            client: RefCell::new(Client::new(settings.store())),
            opened,
            login: OnceCell::new(),
            several: Cell::new(false),
            host: RefCell::default(),
            certificate: OnceCell::new(),
            resumed: Cell::new(false),
            issues: Issues::default(),
        })
    }

    /// A user has logged in on this control connection.
    pub fn logged_in(&self, user: &str, address: IpAddr, now: Instant) {
        let login = Login {
            user: user.into(),
            address,
            opened: self.opened,
            at: now,
        };
        self.client.borrow().identity().note(&login);
        let noted = self.login.get_or_init(|| login.clone());
        if !noted.is_of(&login) {
            self.several.set(true);
        }
    }

    /// Could this be the same client as that one, whose session a data connection offers? None while that
    /// one has not logged in, and nobody can tell.
    ///
    /// Programs that open many control connections at once (parallel curl) cannot offer on one the
    /// session of another, for there is none yet; afterwards they share their sessions. So the same
    /// user at the same address counts as one client if each connection was opened before the other
    /// had logged in, by when a client has read its tickets. A busy server is late with the handshake, so
    /// that does not tell when the client began. What has turned out to be one client counts as
    /// one. Resuming must still prove the possession.
    ///
    /// SECURITY: whoever gains by this could log in himself with the rights it would give him.
    fn may_be(&self, other: &Arc<Client>) -> Option<bool> {
        let login = self.login.get().filter(|_| !self.several.get());
        let Some(login) = login else {
            return Some(false);
        };
        let theirs = other.identity().login().clone()?;
        let ours = self.client.borrow().identity().login().clone();
        let overlap = ours.is_some_and(|ours| ours.overlaps(&theirs));
        Some(overlap && login.is_of(&theirs))
    }

    /// Is that this very client, or one with it?
    fn is_client(&self, other: &Arc<Client>) -> bool {
        let own = self.client.borrow();
        match self.several.get() {
            true => Arc::ptr_eq(&own, other),
            false => Arc::ptr_eq(&own.identity(), &other.identity()),
        }
    }

    /// The client has shown this certificate in the handshake.
    pub fn set_certificate(&self, certificate: ClientCertificate) {
        let _ = self.certificate.set(certificate);
    }

    /// The client's certificate, if it has shown one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.get()
    }

    /// Has a data connection of this control connection resumed?
    pub fn has_resumed(&self) -> bool {
        self.resumed.get()
    }

    /// A handshake begins: which sessions must its client have, if it is that of a data connection? An upload brings
    /// no new one, and where several control connections share a cache, another one may have taken it.
    pub(super) fn begin(&self, role: Role) -> Holding {
        if role == Role::Control {
            return Holding::Nothing;
        }
        let client = self.client.borrow();
        let alone = Arc::strong_count(&client) == 1 && client.same_as.get().is_none();
        self.issues.begin(alone, clock::since_boot())
    }

    pub(super) fn set_has_resumed(&self) {
        self.resumed.set(true);
    }

    /// Forgets sessions that were issued to a data connection which is refused.
    ///
    /// SECURITY: a stranger who reaches the port gets a ticket before anybody can judge him, and
    /// must not come back with it.
    pub(super) fn forget(&self, keys: &[SessionKey]) {
        let client = self.client.borrow();
        client.kept().retain(|kept| !keys.contains(&kept.key));
        for key in keys {
            client.store.forget(key);
        }
    }

    /// Forgets every session of the client, which is refused.
    pub fn forget_all(&self) {
        let client = self.client.borrow();
        for client in [Arc::clone(&client), client.identity()] {
            let kept = std::mem::take(&mut *client.kept());
            kept.iter().for_each(|kept| client.store.forget(&kept.key));
        }
    }

    /// A data connection of this control connection resumes a session of that client, which it may
    /// be.
    pub(super) fn merge(&self, client: &Arc<Client>) {
        self.client.borrow().merge(client);
    }

    /// This control connection's handshake resumes a session of that client, which only the same
    /// client can (the PSK binder of TLS 1.3, the Finished of TLS 1.2).
    pub(super) fn join(&self, client: Arc<Client>) {
        self.client.replace(client);
    }
}

impl fmt::Debug for ControlTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlTls")
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}

struct Session {
    client: Weak<Client>,
    /// The host of its control connection.
    host: Option<Arc<Host>>,
    /// Issued on a control connection, or on a data connection that resumed such a session. Clients
    /// that file sessions by port (Java, Perl) meet one of a full data handshake again by chance,
    /// when the port comes round; that does not mean that they resume.
    rooted: bool,
    /// Holds the secrets of the session.
    value: Zeroizing<Vec<u8>>,
}

type Shard = HashMap<SessionKey, Session>;

/// The sessions of all clients, shared by all cores. A lock is held only for one look at a table,
/// and only during handshakes.
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

    /// The session under `key` if the current connection may resume it: on a control connection
    /// anybody's, since resuming proves to be the same client; on a data connection its own
    /// client's.
    ///
    /// SECURITY: a data connection proves nothing by offering a session of another client but that
    /// it belongs to somebody else's transfer. A session of another virtual host is none here.
    fn find(&self, key: &[u8]) -> Option<Vec<u8>> {
        let key = SessionKey::try_from(key).ok()?;
        let (client, value, rooted, host) = {
            let shard = self.shard(&key);
            let session = shard.get(&key)?;
            // Not dropped before the lock is: the last reference would take it again.
            let value = session.value.to_vec();
            let host = session.host.clone();
            (session.client.upgrade(), value, session.rooted, host)
        };
        let client = client?;
        CURRENT.with_borrow_mut(|current| {
            let current = current.as_mut()?;
            let same_host = current.control.is_of(host.as_deref());
            if current.role == Role::Control {
                if !same_host {
                    return None;
                }
                current.offered = Some(client);
                return Some(value);
            }
            if !current.control.is_client(&client) {
                let may_be = match same_host {
                    true => current.control.may_be(&client),
                    false => Some(false),
                };
                match may_be {
                    Some(true) => current.offered = Some(Arc::clone(&client)),
                    Some(false) => {
                        current.foreign = true;
                        return None;
                    }
                    // As if it had offered nothing, which gives nobody a right.
                    None => return None,
                }
            }
            client.refresh(&key);
            current.rooted = rooted;
            Some(value)
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
        let found = CURRENT.with_borrow_mut(|current| {
            let current = current.as_mut()?;
            // A ticket that is not stored is not sent.
            if current.role == Role::Upload {
                return None;
            }
            current.control.issues.note(clock::since_boot());
            if current.role != Role::Control {
                current.issued.push(key);
            }
            let client = Arc::clone(&current.control.client.borrow());
            Some((client, current.issues_rooted, current.control.host()))
        });
        let Some((client, rooted, host)) = found else {
            return false;
        };
        let session = Session {
            client: Arc::downgrade(&client),
            host,
            rooted,
            value,
        };
        if self.shard(&key).insert(key, session).is_none()
            && let Some(dropped) = client.remember(key)
        {
            self.forget(&dropped);
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
