//! The virtual host of a control connection's TLS session, which is settled by its ClientHello: every session that is
//! issued to it, or to its data connections, is of that host and is no session for another.

use std::sync::Arc;

use super::ControlTls;
use super::scope::CURRENT;
use crate::tls::Role;
use crate::vhosts::Host;

/// Which host, and whether it was TLS that has named it.
#[derive(Debug, Default)]
pub(super) struct Choice {
    host: Option<Arc<Host>>,
    by_server_name: bool,
}

impl ControlTls {
    /// HOST has chosen this host before the handshake.
    pub fn set_host(&self, host: Option<Arc<Host>>) {
        self.host.borrow_mut().host = host;
    }

    /// The host that the client has named in its handshake, if that is one.
    pub fn server_name(&self) -> Option<Arc<Host>> {
        let choice = self.host.borrow();
        choice.host.clone().filter(|_| choice.by_server_name)
    }

    pub(super) fn host(&self) -> Option<Arc<Host>> {
        self.host.borrow().host.clone()
    }

    pub(super) fn is_of(&self, host: Option<&Host>) -> bool {
        let own = self.host.borrow();
        own.host.as_deref().map(|own| &own.name) == host.map(|host| &host.name)
    }
}

/// The host whose certificate the current connection is shown, when its ClientHello names this one. A control
/// connection is that host's from then on; data connections have that of their control connection, whatever they name.
pub(in super::super) fn choose_host(named: Option<&Arc<Host>>) -> Option<Arc<Host>> {
    CURRENT.with_borrow(|current| {
        let current = current.as_ref()?;
        if let Some(named) = named
            && current.role == Role::Control
        {
            let mut choice = current.control.host.borrow_mut();
            choice.host = Some(Arc::clone(named));
            choice.by_server_name = true;
        }
        current.control.host()
    })
}
