//! The TLS sessions that one client holds.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets of TLS 1.3 kept; the oldest goes first.
const TICKETS_MAX: usize = 8;

/// The sessions of one control connection and its data connections. A session of TLS 1.2 is resumed
/// any number of times, a ticket of TLS 1.3 is given out once, the newest first.
#[derive(Default)]
pub struct SessionCache(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl SessionCache {
    /// Whether there is nothing to resume.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let sessions = self.sessions();
        sessions.tls12.is_none() && sessions.tickets.is_empty()
    }

    // Never contended: a session and its connections stay on one thread. rustls wants it shareable.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Sessions are secrets.
        f.debug_struct("SessionCache").finish_non_exhaustive()
    }
}

/// One server only, so its name does not matter.
impl ClientSessionStore for SessionCache {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.sessions().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.sessions().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut sessions = self.sessions();
        if sessions.tickets.len() >= TICKETS_MAX {
            sessions.tickets.pop_front();
        }
        sessions.tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions().tickets.pop_back()
    }
}
