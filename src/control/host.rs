//! The virtual host of a control connection: whose accounts it has, and what its users are told.

use std::borrow::Cow;
use std::sync::Arc;

use super::Connection;
use crate::auth::{Account, Authenticator, Welcome};
use crate::proto::Charset;
use crate::vhosts;

/// What a virtual host has in place of the server's.
#[derive(Clone)]
pub struct Host {
    /// Its accounts and passwords.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Whether its users are its alone: then one of the server's, or of another host, that has the same name is somebody else.
    pub own_users: bool,
    /// What users without a welcome of their own are told at login.
    pub welcome: Option<Welcome>,
    /// How names are written for users without a character set of their own.
    pub charset: Option<Charset>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("own_users", &self.own_users)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The handshake is complete: the host that the client has named there, if it is one, is the session's.
    pub(super) fn take_server_name(&mut self) {
        let control = self.channel.control_tls();
        if let Some(host) = control.and_then(|control| control.server_name()) {
            self.session.serve_host(host);
        }
    }

    fn host(&self) -> Option<&Host> {
        let chosen = self.session.host()?;
        self.settings.hosts.get(chosen.index)
    }

    /// The name of the host, for logs.
    pub(super) fn host_name(&self) -> Option<&str> {
        self.session.host().map(|host| &*host.name)
    }

    /// Who checks passwords here.
    pub(super) fn authenticator(&self) -> &Arc<Authenticator> {
        let own = self.host().and_then(|host| host.authenticator.as_ref());
        own.unwrap_or(&self.core.authenticator)
    }

    /// The host whose users are its alone.
    pub(super) fn realm(&self) -> Option<Arc<vhosts::Host>> {
        let own_users = self.host().is_some_and(|host| host.own_users);
        self.session.host().filter(|_| own_users).cloned()
    }

    /// How names are written for the user.
    pub(super) fn name_charset(&mut self, account: &Account) {
        let host = self.host().and_then(|host| host.charset);
        self.session.names_in(account.personal.charset.or(host));
    }

    /// What the user is told at login.
    pub(super) fn welcome(&mut self, account: &Account) {
        let host = self.host().and_then(|host| host.welcome.as_ref());
        if let Some(welcome) = account.personal.welcome.as_ref().or(host) {
            let text = Arc::clone(welcome.text());
            self.session.welcome(text);
        }
    }
}

/// The name by which an account's sessions, rates and TLS clients are told from those of others.
pub(super) fn distinct_name<'a>(
    account: &'a Account,
    realm: Option<&vhosts::Host>,
) -> Cow<'a, str> {
    match realm {
        // Neither name contains NUL.
        Some(host) => Cow::Owned(format!("{}\0{}", account.name, host.name)),
        None => Cow::Borrowed(&account.name),
    }
}

/// The same for a name that a client gave.
pub(super) fn distinct_octets<'a>(user: &'a [u8], realm: Option<&vhosts::Host>) -> Cow<'a, [u8]> {
    match realm {
        Some(host) => Cow::Owned([user, b"\0", host.name.as_bytes()].concat()),
        None => Cow::Borrowed(user),
    }
}
