//! What a certificate chain says, and whether clients can follow it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;

use super::facts::{Certificate, Link};
use crate::sys::host::cause;
use crate::sys::keeper;
use crate::tls;

/// Object identifiers of signatures with MD5 and SHA-1 (RFC 3279, RFC 5758).
const WEAK_SIGNATURES: [&str; 4] = [
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
];

/// A chain and its key; `roots`: the authorities that programs of this machine trust.
pub(super) fn read(
    certificate: &Path,
    key: &Path,
    roots: &RootCertStore,
    now: SystemTime,
) -> Certificate {
    let problem = tls::Identity::load(certificate, key).err();
    let mut facts = match read_pem(certificate) {
        Ok(chain) => examine(&chain, roots, now),
        Err(problem) => Certificate {
            problem: Some(problem),
            ..Certificate::default()
        },
    };
    // What the server itself would say is the better sentence.
    if let Some(problem) = problem {
        facts.problem = Some(problem.to_string());
    }
    facts
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = keeper::read_without_waiting(path).map_err(|error| cause(&error))?;
    rustls_pemfile::certs(&mut pem.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// The authorities that programs of this machine trust.
pub(super) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What there is to say of a chain as it stands in a file.
fn examine(chain: &[CertificateDer<'_>], roots: &RootCertStore, now: SystemTime) -> Certificate {
    let mut links = Vec::new();
    for (place, der) in (1..).zip(chain) {
        match X509Certificate::from_der(der) {
            Ok((_, parsed)) => links.push(link(&parsed)),
            Err(error) => {
                return Certificate {
                    problem: Some(format!("certificate {place} of the chain: {error}")),
                    ..Certificate::default()
                };
            }
        }
    }
    let named = links
        .windows(2)
        .all(|pair| matches!(pair, [lower, upper] if lower.issuer == upper.subject));
    // Dates are judged by themselves: the chain is followed at a time when its first certificate is valid.
    let time = links.first().map_or(now, |leaf| {
        let after = leaf.not_before.map_or(now, |begin| now.max(begin));
        leaf.not_after.map_or(after, |end| after.min(end))
    });
    let signed = match chain {
        [leaf, between @ .., last] => {
            let mut anchor = RootCertStore::empty();
            anchor.add(last.clone().into_owned()).is_ok() && leads_to(leaf, between, &anchor, time)
        }
        _ => true,
    };
    let trusted = match chain {
        [leaf, above @ ..] if !roots.is_empty() => Some(leads_to(leaf, above, roots, time)),
        _ => None,
    };
    Certificate {
        problem: None,
        chain: links,
        in_order: named && signed,
        trusted,
    }
}

/// Whether signatures and constraints of the chain lead to one of these authorities.
fn leads_to(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    time: SystemTime,
) -> bool {
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else {
        return false;
    };
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(time);
    let algorithms = default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, time, algorithms).is_ok()
}

pub(super) fn link(certificate: &X509Certificate<'_>) -> Link {
    let names = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|extension| {
            extension
                .value
                .general_names
                .iter()
                .filter_map(name)
                .collect()
        })
        .unwrap_or_default();
    let usage = certificate.extended_key_usage().ok().flatten();
    let basic = certificate.basic_constraints().ok().flatten();
    let (key, rsa_bits) = key(certificate);
    let validity = certificate.validity();
    Link {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: time(&validity.not_before),
        not_after: time(&validity.not_after),
        key,
        rsa_bits,
        names,
        is_authority: basic.is_some_and(|basic| basic.value.ca),
        for_servers: usage.is_none_or(|usage| usage.value.server_auth || usage.value.any),
        weak_signature: WEAK_SIGNATURES.contains(
            &certificate
                .signature_algorithm
                .algorithm
                .to_id_string()
                .as_str(),
        ),
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets)
                .ok()
                .map(|octets| Ipv4Addr::from(octets).to_string()),
            _ => <[u8; 16]>::try_from(*octets)
                .ok()
                .map(|octets| Ipv6Addr::from(octets).to_string()),
        },
        _ => None,
    }
}

fn key(certificate: &X509Certificate<'_>) -> (String, Option<usize>) {
    match certificate.public_key().parsed() {
        // The leading zero octet that keeps the number positive is none of its bits.
        Ok(PublicKey::RSA(key)) => {
            let zeros = key.modulus.iter().take_while(|octet| **octet == 0).count();
            let bits = (key.modulus.len() - zeros) * 8;
            (format!("RSA {bits}"), Some(bits))
        }
        Ok(PublicKey::EC(point)) => (format!("EC {}", point.key_size()), None),
        _ => {
            let algorithm = certificate.public_key().algorithm.algorithm.to_id_string();
            // id-Ed25519 (RFC 8410)
            let known = (algorithm == "1.3.101.112").then(|| "Ed25519".to_owned());
            (known.unwrap_or(algorithm), None)
        }
    }
}

pub(super) fn time(time: &ASN1Time) -> Option<SystemTime> {
    let seconds = u64::try_from(time.timestamp()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    fn parameters(name: &str, authority: bool) -> CertificateParams {
        let names = if authority {
            vec![]
        } else {
            vec![name.to_owned(), "192.0.2.1".to_owned()]
        };
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        if authority {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        } else {
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        parameters
    }

    /// A leaf, the authority between, the root above, as `ca` signed each.
    fn chain() -> [CertificateDer<'static>; 3] {
        let key = || KeyPair::generate().unwrap();
        let (root_key, middle_key) = (key(), key());
        let root = parameters("root", true).self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(parameters("root", true), root_key);
        let middle = parameters("middle", true);
        let signed = middle.signed_by(&middle_key, &root_issuer).unwrap();
        let middle_issuer = Issuer::new(middle, middle_key);
        let leaf = parameters("files.example", false).signed_by(&key(), &middle_issuer);
        [leaf.unwrap().into(), signed.into(), root.into()]
    }

    fn at(der: &CertificateDer<'_>) -> SystemTime {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        time(&parsed.validity().not_before).unwrap() + Duration::from_secs(86_400)
    }

    #[test]
    fn a_whole_chain_is_in_order_and_trusted() {
        let [leaf, middle, root] = chain();
        let now = at(&leaf);
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let whole = [leaf.clone(), middle.clone()];
        let facts = examine(&whole, &roots, now);
        assert_eq!(facts.problem, None);
        assert!(facts.in_order);
        assert_eq!(facts.trusted, Some(true));
        let first = facts.chain.first().unwrap();
        assert_eq!(first.names, ["files.example", "192.0.2.1"]);
        assert_eq!((first.key.as_str(), first.rsa_bits), ("EC 256", None));
        assert!(first.for_servers && !first.is_authority && !first.weak_signature);
        assert!(!first.is_self_issued());
        assert!(first.not_before.unwrap() < now && now < first.not_after.unwrap());
        assert!(facts.chain.get(1).unwrap().is_authority);
        // Nothing to compare with.
        assert_eq!(examine(&whole, &RootCertStore::empty(), now).trusted, None);
    }

    #[test]
    fn missing_and_shuffled_certificates_are_noticed() {
        let [leaf, middle, root] = chain();
        let now = at(&leaf);
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let alone = examine(std::slice::from_ref(&leaf), &roots, now);
        assert_eq!((alone.in_order, alone.trusted), (true, Some(false)));
        let shuffled = examine(&[leaf.clone(), root, middle], &roots, now);
        assert!(!shuffled.in_order);
        // Another middle of the same name signed nothing.
        let [_, stranger, _] = chain();
        assert!(!examine(&[leaf, stranger], &roots, now).in_order);
        let rubbish = CertificateDer::from(vec![1, 2, 3]);
        assert!(examine(&[rubbish], &roots, now).problem.is_some());
    }
}
