//! Options about TLS client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::options::ACCOUNTS;
use super::{Exit, Failure, existing_file};
use crate::sys::keeper::Keeper;
use crate::tls::{Clients, ClientsError};

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientCert {
    /// No.
    Off,
    /// Yes; they may have none.
    Optional,
    /// Yes; without one there is no control connection.
    Required,
}

/// Which certificates clients may have.
#[derive(Debug, Clone, Args)]
pub struct ClientOptions {
    /// TLS certificates of clients, which the users file maps to users: `off`, `optional`, or `required`.
    #[arg(long, value_name = "off|optional|required", default_value = "off", hide_possible_values = true, help_heading = ACCOUNTS)]
    pub client_cert: ClientCert,
    /// Authorities, in PEM, that vouch for the subjects of client certificates; with --client-cert required, for every certificate.
    #[arg(long, value_name = "FILE", help_heading = ACCOUNTS)]
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of these authorities, in PEM: one of each authority in a client's chain.
    #[arg(long, value_name = "FILE", requires = "client_ca", help_heading = ACCOUNTS)]
    pub client_crl: Option<PathBuf>,
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// Whether a certificate is needed; `None` where none is asked for.
    pub required: Option<bool>,
    /// The authorities.
    pub authorities: Option<PathBuf>,
    /// The revocation lists.
    pub revocations: Option<PathBuf>,
}

impl ClientOptions {
    pub(super) fn check(&self) -> Result<ClientFiles, Failure> {
        if self.client_cert == ClientCert::Off && self.client_ca.is_some() {
            let message =
                "--client-ca needs certificates to look at; add --client-cert optional or required";
            return Err(Failure::new(Exit::Usage, message));
        }
        let existing = |option, path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| existing_file(option, path)).transpose()
        };
        Ok(ClientFiles {
            required: match self.client_cert {
                ClientCert::Off => None,
                ClientCert::Optional => Some(false),
                ClientCert::Required => Some(true),
            },
            authorities: existing("--client-ca", &self.client_ca)?,
            revocations: existing("--client-crl", &self.client_crl)?,
        })
    }
}

impl ClientFiles {
    /// Every file that is named.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.authorities
            .clone()
            .into_iter()
            .chain(self.revocations.clone())
    }

    /// Reads the files; `None` where no certificates are asked for.
    pub(super) fn load(&self, keeper: &Keeper) -> Result<Option<Arc<Clients>>, Failure> {
        let Some(required) = self.required else {
            return Ok(None);
        };
        let read = |path: &Option<PathBuf>| {
            let read = |path: &PathBuf| {
                let octets = keeper.read(path);
                octets.map_err(|error| Failure::io(Exit::NoInput, path, &error))
            };
            path.as_ref().map(read).transpose()
        };
        let (authorities, revocations) = (read(&self.authorities)?, read(&self.revocations)?);
        let octets =
            |octets: &Option<zeroize::Zeroizing<Vec<u8>>>| octets.as_ref().map(|o| o.to_vec());
        let clients = Clients::new(
            required,
            octets(&authorities).as_deref(),
            octets(&revocations).as_deref(),
        );
        clients
            .map(|clients| Some(Arc::new(clients)))
            .map_err(|error| {
                let path = match &error {
                    ClientsError::Authorities(_) => &self.authorities,
                    ClientsError::Revocations(_) => &self.revocations,
                };
                let path = path.as_deref().unwrap_or_else(|| Path::new("-"));
                Failure::file(Exit::Config, path, error)
            })
    }
}
