//! What all control connections of a core share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::roots::RootKey;
use super::seat::Seat;
use super::{Letter, Settings};
use crate::admission::Admission;
use crate::auth::Authenticator;
use crate::metrics::Recorder;
use crate::proto::passive::PassiveAddresses;
use crate::vfs;

/// What all control connections of a core share.
pub struct Core {
    /// The operator's settings for new connections; those that are open keep what they began with.
    pub(super) settings: RefCell<Rc<Settings>>,
    /// The addresses that PASV names; replaced when names get other addresses.
    pub passive: RefCell<Arc<PassiveAddresses>>,
    /// Accounts and passwords, shared by all cores.
    pub authenticator: Arc<Authenticator>,
    /// Who may be in, shared by all cores.
    pub admission: Arc<Admission>,
    /// What this core has done.
    pub metrics: Rc<Recorder>,
    pub(super) roots: RefCell<HashMap<RootKey, Weak<vfs::Root>>>,
    /// By number: the latest is the last.
    pub(super) connections: RefCell<BTreeMap<u64, Rc<Seat>>>,
    pub(super) draining: Cell<bool>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("connections", &self.connections.borrow().len())
            .finish()
    }
}

impl Core {
    /// A core without connections.
    #[must_use]
    pub fn new(
        settings: Settings,
        authenticator: Arc<Authenticator>,
        admission: Arc<Admission>,
        metrics: Rc<Recorder>,
    ) -> Rc<Self> {
        Rc::new(Self {
            settings: RefCell::new(Rc::new(settings)),
            passive: RefCell::default(),
            authenticator,
            admission,
            metrics,
            roots: RefCell::default(),
            connections: RefCell::default(),
            draining: Cell::new(false),
        })
    }

    /// Those of a connection that begins now.
    #[must_use]
    pub fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// From now on new connections get these settings.
    pub fn reload(&self, settings: Settings) {
        *self.settings.borrow_mut() = Rc::new(settings);
    }

    /// Tells every connection that the server ends. `force` ends running transfers too.
    pub fn shut_down(&self, force: bool) {
        self.draining.set(true);
        for seat in self.connections.borrow().values() {
            seat.mailbox.post(Letter::ShutDown { force });
        }
    }

    /// Connections on this core.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.borrow().len()
    }
}
