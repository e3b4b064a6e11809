//! Which connection rustls works for, noted in a variable of the thread around each call.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Client, ControlTls, SessionKey};
use crate::tls::Role;

thread_local! {
    pub(super) static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

pub(super) struct Current {
    pub(super) control: Rc<ControlTls>,
    pub(super) role: Role,
    /// A data connection offered the session of another client.
    pub(super) foreign: bool,
    /// The client whose session was offered, on a control connection or by what may be the same
    /// client.
    pub(super) offered: Option<Arc<Client>>,
    /// The session that a data connection offered goes back to a control connection.
    pub(super) rooted: bool,
    /// So will sessions that are issued now.
    pub(super) issues_rooted: bool,
    /// Those that a data connection was issued.
    pub(super) issued: Vec<SessionKey>,
}

/// Marks one connection as current on this thread until it is dropped.
pub(in super::super) struct Scope {
    previous: Option<Current>,
}

impl Scope {
    /// `resumes_rooted`: the current connection resumes a session that goes back to a control
    /// connection.
    pub(in super::super) fn enter(
        control: &Rc<ControlTls>,
        role: Role,
        resumes_rooted: bool,
    ) -> Self {
        let current = Current {
            control: Rc::clone(control),
            role,
            foreign: false,
            offered: None,
            rooted: false,
            issues_rooted: role == Role::Control || resumes_rooted,
            issued: Vec::new(),
        };
        Self {
            previous: CURRENT.replace(Some(current)),
        }
    }

    /// Has the client offered a session of another client since [`Scope::enter`]?
    pub(in super::super) fn foreign(&self) -> bool {
        CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| current.foreign))
    }

    /// Has the client offered a session that goes back to a control connection of its own?
    pub(in super::super) fn rooted(&self) -> bool {
        CURRENT.with_borrow(|current| current.as_ref().is_some_and(|current| current.rooted))
    }

    /// The sessions issued to a data connection since [`Scope::enter`].
    pub(in super::super) fn take_issued(&self) -> Vec<SessionKey> {
        let take =
            |current: &mut Option<Current>| Some(std::mem::take(&mut current.as_mut()?.issued));
        CURRENT.with_borrow_mut(take).unwrap_or_default()
    }

    /// The client whose session was offered, where resuming it shows that it is the same.
    pub(in super::super) fn take_offered(&self) -> Option<Arc<Client>> {
        CURRENT.with_borrow_mut(|current| current.as_mut()?.offered.take())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        drop(CURRENT.replace(self.previous.take()));
    }
}
