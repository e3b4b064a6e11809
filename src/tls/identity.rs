//! The server's certificate and private key: loaded from PEM files, or self-signed and kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::{Date, Month, OffsetDateTime, Time};
use zeroize::Zeroizing;

use crate::limits;
use crate::sys::keeper;

/// The self-signed certificate's file in the state directory.
pub const CERTIFICATE_FILE: &str = "self-signed-cert.pem";
const KEY_FILE: &str = "self-signed-key.pem";
/// A new self-signed certificate is valid from this long ago, for clients whose clock is late.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// Why a certificate or key cannot be used. The text names the file, what is wrong and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{}: cannot {action}: {source}; {remedy}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// The content is not what it should be.
    #[error("{place}: {problem}; {remedy}")]
    Content {
        /// The file, or the kind of content when it came from memory.
        place: String,
        /// What is wrong.
        problem: String,
        /// What the operator can do.
        remedy: &'static str,
    },
    /// A self-signed certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}; configure a certificate and key file")]
    Generate(#[from] rcgen::Error),
}

/// A certificate chain with its private key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Loads a PEM certificate chain, the server's own certificate first, and its PEM private key
    /// in PKCS#8, SEC1 or PKCS#1 form. Both may be in one file.
    ///
    /// # Errors
    /// [`IdentityError`] when a file cannot be read, has no such content, or the two do not match.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificate_pem = read_file(certificate)?;
        let key_pem = read_file(key)?;
        let certificate_place = certificate.display().to_string();
        let key_place = key.display().to_string();
        assemble(
            (&certificate_place, &certificate_pem),
            (&key_place, &key_pem),
        )
    }

    /// As [`Identity::load`] from memory.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        assemble(("certificate", certificate), ("private key", key))
    }

    /// The self-signed certificate kept in `state_dir`, made when there is none or it has expired.
    ///
    /// Clients pin it by its fingerprint, so anything else wrong with the files is an error and
    /// never repaired by silently making another one.
    ///
    /// # Errors
    /// [`IdentityError`] when the files cannot be read, written or used.
    pub fn self_signed_in(state_dir: &Path) -> Result<Self, IdentityError> {
        Self::self_signed_at(state_dir, SystemTime::now())
    }

    fn self_signed_at(state_dir: &Path, now: SystemTime) -> Result<Self, IdentityError> {
        let certificate = state_dir.join(CERTIFICATE_FILE);
        let key = state_dir.join(KEY_FILE);
        // The certificate is renamed into place last: without it there is no identity yet.
        let missing = match fs::symlink_metadata(&certificate) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => {
                return Err(IdentityError::File {
                    path: certificate,
                    action: "look",
                    source,
                    remedy: "let the server's user search the state directory",
                });
            }
        };
        if missing || has_expired(&certificate, now)? {
            generate(state_dir, now)?;
        }
        Self::load(&certificate, &key)
    }

    /// SHA-256 of the server's own certificate as people compare it: `AA:BB:...`.
    pub fn sha256_fingerprint(&self) -> String {
        let octets = self
            .certified
            .cert
            .first()
            .map_or(&[][..], |certificate| certificate);
        let digest = digest::digest(&digest::SHA256, octets);
        let pairs: Vec<String> = digest
            .as_ref()
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect();
        pairs.join(":")
    }

    /// When the server's own certificate expires, if its encoding can be understood.
    pub fn expires(&self) -> Option<SystemTime> {
        not_after(self.certified.cert.first()?)
    }

    pub(super) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// Reads a PEM file of bounded size.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let content = |problem: String| IdentityError::Content {
        place: path.display().to_string(),
        problem,
        remedy: "give a file with only PEM certificates or a PEM key",
    };
    keeper::read_without_waiting(path).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => content(format!(
            "larger than {} octets",
            limits::SETTINGS_FILE_OCTETS_MAX
        )),
        io::ErrorKind::InvalidInput => content("it is no file".to_owned()),
        _ => IdentityError::File {
            path: path.to_path_buf(),
            action: "read",
            source,
            remedy: "check the path, and that the server's user may read it",
        },
    })
}

/// Puts a chain and a key together; each comes with the place to name in errors.
fn assemble(
    (certificate_place, certificate_pem): (&str, &[u8]),
    (key_place, key_pem): (&str, &[u8]),
) -> Result<Identity, IdentityError> {
    let chain = parse_chain(certificate_place, certificate_pem)?;
    let key = parse_key(key_place, key_pem)?;
    let content = |place: &str, problem: String, remedy| IdentityError::Content {
        place: place.to_owned(),
        problem,
        remedy,
    };
    let signing_key = provider::sign::any_supported_type(&key).map_err(|error| {
        content(
            key_place,
            format!("private key cannot be used: {error}"),
            "use an RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) or Ed25519 key",
        )
    })?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) => Ok(Identity {
            certified: Arc::new(certified),
        }),
        Err(rustls::Error::InconsistentKeys(_)) => Err(content(
            key_place,
            format!("private key does not belong to the first certificate of {certificate_place}"),
            "give the key of that certificate, and put the server's own certificate first",
        )),
        Err(error) => Err(content(
            certificate_place,
            format!("first certificate cannot be used: {error}"),
            "give an X.509 version 3 certificate",
        )),
    }
}

fn parse_chain(place: &str, mut pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let content = |problem: String| IdentityError::Content {
        place: place.to_owned(),
        problem,
        remedy: "give the chain as sections BEGIN CERTIFICATE, the server's own certificate first",
    };
    let chain: Vec<_> = rustls_pemfile::certs(&mut pem)
        .collect::<Result<_, _>>()
        .map_err(|error| content(format!("malformed PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content("no PEM certificate found".to_owned()));
    }
    Ok(chain)
}

fn parse_key(place: &str, mut pem: &[u8]) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let encrypted = contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"4,ENCRYPTED");
    let content = |problem: String, remedy| IdentityError::Content {
        place: place.to_owned(),
        problem,
        remedy,
    };
    if encrypted {
        return Err(content(
            "private key is encrypted with a passphrase".to_owned(),
            "decrypt it: openssl pkey -in KEY.pem -out DECRYPTED.pem",
        ));
    }
    let remedy = "give one section BEGIN PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY";
    rustls_pemfile::private_key(&mut pem)
        .map_err(|error| content(format!("malformed PEM: {error}"), remedy))?
        .ok_or_else(|| content("no PEM private key found".to_owned(), remedy))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Has the first certificate of a PEM file expired?
fn has_expired(path: &Path, now: SystemTime) -> Result<bool, IdentityError> {
    let place = path.display().to_string();
    let chain = parse_chain(&place, &read_file(path)?)?;
    match chain.first().and_then(not_after) {
        Some(end) => Ok(end <= now),
        None => Err(IdentityError::Content {
            place,
            problem: "the certificate's validity cannot be read".to_owned(),
            remedy: "remove both self-signed files; the next start makes new ones",
        }),
    }
}

/// Makes a key and a certificate for this host and puts both into `state_dir`.
fn generate(state_dir: &Path, now: SystemTime) -> Result<(), IdentityError> {
    let mut names = vec!["localhost".to_owned()];
    names.extend(host_name().filter(|name| name != "localhost"));
    let common_name = names.last().cloned().unwrap_or_default();
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.remove(DnType::CommonName);
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.not_before = date_time(now.checked_sub(CLOCK_SKEW).unwrap_or(UNIX_EPOCH));
    parameters.not_after = date_time(now + limits::SELF_SIGNED_VALIDITY - CLOCK_SKEW);
    let certificate = parameters.self_signed(&key)?;
    write_file(state_dir, KEY_FILE, 0o600, key.serialize_pem().as_bytes())?;
    write_file(
        state_dir,
        CERTIFICATE_FILE,
        0o644,
        certificate.pem().as_bytes(),
    )
}

/// The host's name if it can be a DNS name in a certificate.
fn host_name() -> Option<String> {
    let mut name = String::new();
    let file = File::open("/proc/sys/kernel/hostname").ok()?;
    file.take(256).read_to_string(&mut name).ok()?;
    let name = name.trim().to_ascii_lowercase();
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'.';
    (!name.is_empty() && name.bytes().all(allowed)).then_some(name)
}

/// Replaces a file of `state_dir` whole or not at all, also across a power failure.
fn write_file(
    state_dir: &Path,
    name: &str,
    mode: u32,
    content: &[u8],
) -> Result<(), IdentityError> {
    let path = state_dir.join(name);
    let temporary = state_dir.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        // Left over from a process with this number that was killed in between.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(state_dir)?.sync_all()
    };
    write().map_err(|source| IdentityError::File {
        path: path.clone(),
        action: "write",
        source,
        remedy: "make the state directory exist and let the server's user write there",
    })
}

/// In certificates, whole seconds only.
fn date_time(instant: SystemTime) -> OffsetDateTime {
    let seconds = instant
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The end of validity of a DER certificate (RFC 5280 §4.1); `None` when malformed.
fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = der_element(certificate)?;
    let (_, mut fields, _) = der_element(certificate)?;
    if let (VERSION, _, rest) = der_element(fields)? {
        fields = rest;
    }
    // serialNumber, signature and issuer come before validity.
    for _ in 0..3 {
        fields = der_element(fields)?.2;
    }
    let (SEQUENCE, validity, _) = der_element(fields)? else {
        return None;
    };
    let (_, _, after) = der_element(validity)?;
    let (kind, text, _) = der_element(after)?;
    parse_time(kind, std::str::from_utf8(text).ok()?)
}

/// Splits a DER element off: its tag, its content and what follows.
fn der_element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = octets.split_first_chunk::<2>()?;
    let mut len = usize::from(first);
    if len >= 0x80 {
        let (len_octets, after) = rest.split_at_checked(len & 0x7f)?;
        // Three octets of length are more than any file read here.
        if len_octets.len() > 3 {
            return None;
        }
        len = len_octets
            .iter()
            .fold(0, |len, &octet| len << 8 | usize::from(octet));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// UTCTime or GeneralizedTime, in whole seconds of UTC (RFC 5280 §4.1.2.5).
fn parse_time(kind: u8, text: &str) -> Option<SystemTime> {
    const UTC_TIME: u8 = 0x17;
    let (year_digits, text) = match kind {
        UTC_TIME => text.split_at_checked(2)?,
        _ => text.split_at_checked(4)?,
    };
    let year: i32 = year_digits.parse().ok()?;
    let year = match kind {
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => year,
    };
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 10)?;
    let field = |index: usize| digits.get(2 * index..2 * index + 2)?.parse::<u8>().ok();
    let month = Month::try_from(field(0)?).ok()?;
    let date = Date::from_calendar_date(year, month, field(1)?).ok()?;
    let time = Time::from_hms(field(2)?, field(3)?, field(4)?).ok()?;
    let seconds = date.with_time(time).assume_utc().unix_timestamp();
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
