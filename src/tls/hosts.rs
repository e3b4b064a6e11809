//! The certificates of virtual hosts, and which of them a client is shown.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::Identity;
use super::clients::Clients;
use super::sessions::choose_host;
use crate::vhosts::Table;

/// Who the server is: for clients that name no virtual host, and for the others.
#[derive(Clone, Debug)]
pub struct Identities {
    /// The server's own.
    pub own: Identity,
    /// The names of virtual hosts.
    pub names: Arc<Table>,
    /// Of each host the identity that it has to itself.
    pub hosts: Vec<Option<Identity>>,
    /// Whether clients are to show certificates, and which.
    pub clients: Option<Arc<Clients>>,
}

impl From<Identity> for Identities {
    fn from(own: Identity) -> Self {
        Self {
            own,
            names: Arc::default(),
            hosts: Vec::new(),
            clients: None,
        }
    }
}

impl Identities {
    pub(super) fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        let own = Arc::clone(self.own.certified_key());
        if self.names.is_empty() {
            return Arc::new(SingleCertAndKey::from(own));
        }
        let key = |identity: &Option<Identity>| {
            identity
                .as_ref()
                .map(|identity| Arc::clone(identity.certified_key()))
        };
        Arc::new(Certificates {
            own,
            names: Arc::clone(&self.names),
            hosts: self.hosts.iter().map(key).collect(),
        })
    }
}

/// Chooses by SNI (RFC 6066 §3), else by what HOST said before AUTH. A name that is no host's gets the server's own
/// certificate, as without SNI: old clients name an alias, or anything.
#[derive(Debug)]
struct Certificates {
    own: Arc<CertifiedKey>,
    names: Arc<Table>,
    hosts: Vec<Option<Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.names.find(name));
        let host = choose_host(named);
        let key = host.and_then(|host| self.hosts.get(host.index)?.clone());
        Some(key.unwrap_or_else(|| Arc::clone(&self.own)))
    }
}
