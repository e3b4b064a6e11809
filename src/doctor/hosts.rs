//! Files and directories of virtual hosts.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;

use super::facts::{Certificate, DirectoryFacts, FileFacts};
use super::machine::files::file;
use super::{Input, Machine, certificate};

/// A virtual host, as far as the doctor looks at it; what is absent is the server's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostInput {
    /// Its first name.
    pub name: String,
    /// All of its names, wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// Its certificate chain and private key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Its users file.
    pub users: Option<PathBuf>,
    /// Its directory.
    pub directory: Option<PathBuf>,
}

/// What was measured of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Its first name.
    pub name: String,
    /// All of its names.
    pub names: Vec<String>,
    /// The file of its certificate chain, and what it says.
    pub certificate: Option<(PathBuf, Certificate)>,
    /// The file of its private key.
    pub key: Option<FileFacts>,
    /// Its users file.
    pub users: Option<FileFacts>,
    /// Its directory.
    pub directory: Option<DirectoryFacts>,
}

pub(super) fn read(
    machine: &Machine,
    input: &Input,
    host: &HostInput,
    roots: &RootCertStore,
    now: SystemTime,
) -> HostFacts {
    let pair = host.certificate.as_ref();
    HostFacts {
        name: host.name.clone(),
        names: host.names.clone(),
        certificate: pair.map(|(chain, key)| {
            let facts = certificate::read(chain, key, roots, now);
            (chain.clone(), facts)
        }),
        key: pair.map(|(_, key)| file(key)),
        users: host.users.as_deref().map(file),
        directory: host.directory.as_deref().map(|path| DirectoryFacts {
            barred: machine.barred(input, Path::new("/"), path),
            ..machine.directory(path)
        }),
    }
}
