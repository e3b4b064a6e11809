//! Tests of certificates and keys.

use std::os::unix::fs::PermissionsExt;

use super::super::testing::pem;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn generated(key_pem: &[u8], certificate_pem: &[u8]) -> String {
    Identity::from_pem(certificate_pem, key_pem)
        .unwrap_err()
        .to_string()
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let (certificate, key) = pem(0);
    let (_, other_key) = pem(1);
    let cases = [
        (
            certificate,
            other_key,
            "private key: private key does not belong",
        ),
        ("", key, "certificate: no PEM certificate found"),
        (key, key, "certificate: no PEM certificate found"),
        (
            certificate,
            certificate,
            "private key: no PEM private key found",
        ),
        (
            certificate,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----",
            "passphrase",
        ),
        (
            certificate,
            "-----BEGIN PRIVATE KEY-----\nAAAA",
            "malformed PEM",
        ),
    ];
    for (certificate, key, expected) in cases {
        let error = generated(key.as_bytes(), certificate.as_bytes());
        assert!(error.contains(expected) && error.contains("; "), "{error}");
    }
    let missing = Path::new("/nonexistent/cert.pem");
    let error = Identity::load(missing, missing).unwrap_err().to_string();
    assert!(
        error.starts_with("/nonexistent/cert.pem: cannot read"),
        "{error}"
    );
}

#[test]
fn the_fingerprint_is_that_of_the_certificate() {
    let (certificate, key) = pem(0);
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let fingerprint = identity.sha256_fingerprint();
    assert_eq!(fingerprint.len(), 32 * 3 - 1);
    assert!(
        fingerprint
            .split(':')
            .all(|pair| u8::from_str_radix(pair, 16).is_ok())
    );
    let der = &identity.certified.cert[0];
    let first = digest::digest(&digest::SHA256, der).as_ref()[0];
    assert!(fingerprint.starts_with(&format!("{first:02X}:")));
}

#[test]
fn a_self_signed_certificate_is_made_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let made = Identity::self_signed_in(directory.path()).unwrap();
    let kept = Identity::self_signed_in(directory.path()).unwrap();
    assert_eq!(made.sha256_fingerprint(), kept.sha256_fingerprint());
    let mode = fs::metadata(directory.path().join(KEY_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        2,
        "temporary files left"
    );
    let valid = made
        .expires()
        .unwrap()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(valid > 823 * DAY && valid < 826 * DAY, "{valid:?}");
}

#[test]
fn an_expired_self_signed_certificate_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let past = SystemTime::now() - 900 * DAY;
    let old = Identity::self_signed_at(directory.path(), past).unwrap();
    let new = Identity::self_signed_in(directory.path()).unwrap();
    assert_ne!(old.sha256_fingerprint(), new.sha256_fingerprint());
}

#[test]
fn damaged_self_signed_files_are_an_error() {
    for (damaged, remaining) in [(CERTIFICATE_FILE, KEY_FILE), (KEY_FILE, CERTIFICATE_FILE)] {
        let directory = tempfile::tempdir().unwrap();
        Identity::self_signed_in(directory.path()).unwrap();
        let before = fs::metadata(directory.path().join(remaining))
            .unwrap()
            .len();
        fs::write(directory.path().join(damaged), "nonsense").unwrap();
        let error = Identity::self_signed_in(directory.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(damaged), "{error}");
        let after = fs::metadata(directory.path().join(remaining))
            .unwrap()
            .len();
        assert_eq!(before, after);
    }
}

#[test]
fn times_of_both_forms_are_read() {
    let seconds = |kind, text| {
        let time: Option<SystemTime> = parse_time(kind, text);
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    };
    assert_eq!(seconds(0x17, "190101000000Z"), Some(1_546_300_800));
    assert_eq!(seconds(0x18, "20190101000000Z"), Some(1_546_300_800));
    assert_eq!(seconds(0x17, "690101000000Z"), Some(0));
    for malformed in ["", "1", "190101000000", "191301000000Z", "19010100000éZ"] {
        assert_eq!(seconds(0x17, malformed), None, "{malformed}");
    }
}
