//! PASV and EPSV: where to listen, and which address to tell.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Once};

use tracing::warn;

use super::{Connection, hints};
use crate::data;
use crate::metrics::Refusal;
use crate::proto::passive::is_out_of_reach;
use crate::proto::{Event, SetupError};
use crate::rt;
use crate::tls::Role;

impl Connection {
    pub(super) fn set_up_passive(&mut self) {
        // First, because its port may be the only one left.
        self.setup = None;
        let settings = Arc::clone(&self.settings.data);
        // Through a proxy the client may come to another address of ours than the proxy does, if it comes
        // directly: nobody else is served on that port wherever it is open.
        let local = match self.shown {
            Some(_) => data::Listener::everywhere(),
            None => self.local,
        };
        let listener = data::Listener::bind(local, &settings.passive_ports);
        if listener
            .as_ref()
            .is_err_and(|error| *error == SetupError::NoPort)
        {
            let ports = &settings.passive_ports;
            hints::tell_of_ports(*ports.start(), *ports.end());
            self.core.metrics.refused(Refusal::Ports);
        }
        let event = listener.map(|listener| {
            let expected = data::Expected {
                peer: self.peer.ip(),
                settings,
                metrics: std::rc::Rc::clone(&self.core.metrics),
            };
            let protected = self.session.is_data_protected();
            // The direction is not known yet; the transfer tells it.
            let security = protected.then(|| self.security(Role::Download)).flatten();
            let passive = data::Passive::start(listener, expected, security);
            let told = SocketAddr::new(self.address_to_tell(), passive.port());
            self.setup = Some(data::Setup::Passive(passive));
            told
        });
        self.session
            .handle_event(Event::PassiveReady(event), rt::now());
    }

    /// What PASV names; an unspecified address for the control connection's own.
    fn address_to_tell(&self) -> IpAddr {
        let configured = self.core.passive.borrow().told(self.peer.ip());
        if self.session.awaits_address() {
            let own = self.shown.unwrap_or(self.local).ip().to_canonical();
            match (configured, own) {
                (Some(told), _) | (None, IpAddr::V4(told)) => self.warn_out_of_reach(told),
                (None, IpAddr::V6(_)) => {}
            }
        }
        configured.unwrap_or(Ipv4Addr::UNSPECIFIED).into()
    }

    /// Tells the operator, once, that clients are told an address that they cannot reach.
    fn warn_out_of_reach(&self, told: Ipv4Addr) {
        static WARNED: Once = Once::new();
        if is_out_of_reach(told, self.peer.ip()) {
            WARNED.call_once(|| {
                warn!(
                    peer = %self.peer.ip().to_canonical(),
                    %told,
                    "PASV names an address that a client out there cannot reach: give the public one with \
                     --passive-address ADDR, and `--passive-address-for NETWORK=own` for clients on this side"
                );
            });
        }
    }
}
