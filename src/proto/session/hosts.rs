//! HOST (RFC 7151), and the host that TLS has named (SNI).

use std::sync::Arc;

use super::Session;
use crate::proto::reply::Code;
use crate::vhosts::{Host, Named, Table};

/// The virtual hosts that a session can be of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Their names.
    pub names: Arc<Table>,
    /// The text of the 220 greeting of each, where it has one of its own: one line of ASCII.
    pub greetings: Vec<Option<String>>,
}

impl Hosts {
    /// The text of this host's 220, where it has one of its own.
    pub(super) fn greeting(&self, host: &Host) -> Option<&str> {
        self.greetings.get(host.index)?.as_deref()
    }
}

impl Session {
    /// The virtual host that the client has chosen; `None` for the server itself.
    #[must_use]
    pub const fn host(&self) -> Option<&Arc<Host>> {
        self.host.as_ref()
    }

    /// The client has named this host in its TLS handshake (RFC 6066 §3). To be called before [`super::Event::TlsUp`]. It
    /// overrides what HOST said before, since the client has seen this host's certificate.
    pub fn serve_host(&mut self, host: Arc<Host>) {
        self.server_name = Some(Arc::clone(&host));
        self.host = Some(host);
    }

    /// HOST: 220 and another greeting; 501 for what is no name, 503 after login, 504 for a host that is not here, and for
    /// another one than TLS has named (RFC 7151 §3).
    pub(super) fn choose_host(&mut self, argument: &[u8]) {
        if self.is_logged_in() {
            return self.reply(Code::BadSequence, "Not after login, send REIN first.");
        }
        let host = match Named::parse(argument) {
            None => return self.reply(Code::BadArgument, "Not a host name."),
            // A literal means the server itself, if it is the address that the client connected to.
            Some(Named::Address(address)) if address == self.local => None,
            Some(Named::Address(_)) => return self.refuse_host(),
            Some(Named::Domain(name)) => match self.settings.hosts.names.find(&name) {
                Some(host) => Some(Arc::clone(host)),
                None => return self.refuse_host(),
            },
        };
        if self.server_name.is_some() && self.server_name != host {
            let text = "TLS has named another host.";
            return self.reply(Code::ParameterNotImplemented, text);
        }
        // A user who was named is one of the other host.
        self.log_out();
        self.host = host;
        self.greet();
    }

    fn refuse_host(&mut self) {
        self.reply(Code::ParameterNotImplemented, "No such host here.");
    }

    /// Back to the server itself (REIN).
    pub(super) fn forget_host(&mut self) {
        self.host = None;
        self.server_name = None;
    }
}
