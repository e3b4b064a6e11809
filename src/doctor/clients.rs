//! Authorities of client certificates, and their revocation lists.

use std::path::PathBuf;
use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use super::certificate::{link, time};
use super::facts::{FileFacts, Link};
use super::machine::files::file;
use crate::sys::host::cause;
use crate::sys::keeper;
use crate::tls::{Clients, ClientsError};

/// Which files client certificates are judged by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInput {
    /// Authorities, PEM.
    pub authorities: Option<PathBuf>,
    /// Their revocation lists, PEM.
    pub revocations: Option<PathBuf>,
}

/// What was measured of these files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFacts {
    /// The file of the authorities.
    pub authorities_file: FileFacts,
    /// Why it cannot be used, with the remedy.
    pub authorities_problem: Option<String>,
    /// Each authority in it.
    pub authorities: Vec<Authority>,
    /// The file of the revocation lists, if there is one.
    pub revocations_file: Option<FileFacts>,
    /// Why it cannot be used, with the remedy.
    pub revocations_problem: Option<String>,
    /// Each list in it.
    pub lists: Vec<RevocationList>,
}

/// One authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authority {
    /// Its certificate.
    pub certificate: Link,
    /// Whether one of the lists is of its name.
    pub has_list: bool,
}

/// One revocation list (RFC 5280 section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList {
    /// Its issuer.
    pub issuer: String,
    /// thisUpdate.
    pub issued: Option<SystemTime>,
    /// nextUpdate.
    pub next: Option<SystemTime>,
    /// Certificates that it revokes.
    pub entries: usize,
    /// The place of an earlier list that the server takes instead; this one then counts for nothing.
    pub passed_over_for: Option<usize>,
}

impl ClientFacts {
    /// The files, with the names of the findings about them.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &FileFacts)> {
        let lists = self.revocations_file.as_ref();
        [("client-ca-file", &self.authorities_file)]
            .into_iter()
            .chain(lists.map(|file| ("client-crl-file", file)))
    }
}

/// Issuers of lists, and what they are for if that is not everything (issuingDistributionPoint).
#[derive(Default)]
struct Scopes(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Scopes {
    /// The place of the earlier list that the server takes for everything that this one is for. For each certificate webpki takes
    /// the first list in the file that is of its issuer and for it (RFC 5280 section 5.2.5), and looks at no other; which of them
    /// is the newest does not matter.
    fn earlier(&mut self, list: &CertificateRevocationList<'_>) -> Option<usize> {
        let issuer = list.issuer().as_raw();
        let mut extensions = list.extensions().iter();
        let scope = extensions
            .find(|extension| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT)
            .map(|extension| extension.value.to_vec());
        let earlier = self.0.iter().position(|(other, of_other)| {
            other == issuer && (of_other.is_none() || *of_other == scope)
        });
        self.0.push((issuer.to_vec(), scope));
        earlier
    }
}

/// What the file holds, as the server reads it. A file that cannot be read is told of as a file.
fn contents(file: &mut FileFacts) -> Option<Zeroizing<Vec<u8>>> {
    if file.problem.is_some() {
        return None;
    }
    let read = keeper::read_without_waiting(&file.path);
    read.map_err(|error| file.problem = Some(cause(&error)))
        .ok()
}

/// `None` without authorities: then there are no lists either.
pub(super) fn read(input: &ClientInput) -> Option<ClientFacts> {
    let path = input.authorities.as_deref()?;
    let mut facts = ClientFacts {
        authorities_file: file(path),
        authorities_problem: None,
        authorities: Vec::new(),
        revocations_file: input.revocations.as_deref().map(file),
        revocations_problem: None,
        lists: Vec::new(),
    };
    let Some(pem) = contents(&mut facts.authorities_file) else {
        return Some(facts);
    };
    let lists = facts.revocations_file.as_mut().and_then(contents);
    let lists = lists.as_ref().map(|lists| lists.as_slice());
    // The server's own words.
    match Clients::new(true, Some(&pem), lists) {
        Err(error @ ClientsError::Authorities(_)) => {
            facts.authorities_problem = Some(error.to_string());
        }
        Err(error @ ClientsError::Revocations(_)) => {
            facts.revocations_problem = Some(error.to_string());
        }
        Ok(_) => {}
    }
    let mut issuers: Vec<Vec<u8>> = Vec::new();
    let mut scopes = Scopes::default();
    for der in rustls_pemfile::crls(&mut lists.unwrap_or_default()).flatten() {
        if let Ok((_, list)) = CertificateRevocationList::from_der(&der) {
            issuers.push(list.issuer().as_raw().to_vec());
            facts.lists.push(RevocationList {
                issuer: list.issuer().to_string(),
                issued: time(&list.last_update()),
                next: list.next_update().as_ref().and_then(time),
                entries: list.iter_revoked_certificates().count(),
                passed_over_for: scopes.earlier(&list),
            });
        }
    }
    for der in rustls_pemfile::certs(&mut pem.as_slice()).flatten() {
        if let Ok((_, parsed)) = X509Certificate::from_der(&der) {
            let name = parsed.subject().as_raw();
            facts.authorities.push(Authority {
                has_list: issuers.iter().any(|issuer| issuer == name),
                certificate: link(&parsed),
            });
        }
    }
    Some(facts)
}
