//! Virtual hosts, authorities of client certificates and their revocation lists.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{doctor, finding, report};
use crate::common::skip;

/// A directory with a configuration file.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A certificate for these names until this year, and its key.
    fn certificate(&self, name: &str, names: &[&str], year: i32) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        self.put(&format!("{name}.pem"), &certificate.pem(), 0o644);
        self.put(&format!("{name}.key"), &key.serialize_pem(), 0o600);
    }

    fn examine(&self, config: &str) -> (Value, i32) {
        self.put("c.toml", config, 0o644);
        report(&["--config", self.path("c.toml").to_str().unwrap()])
    }
}

/// What was found, and how bad it is.
fn found<'a>(report: &'a Value, id: &str) -> (&'a str, &'a str) {
    let finding = finding(report, id);
    (
        finding["severity"].as_str().unwrap(),
        finding["measured"].as_str().unwrap(),
    )
}

const HOSTS: &str = "directory = \".\"\n\
    [[hosts]]\nnames = [\"one.example\", \"*.one.example\"]\ncert = \"one.pem\"\nkey = \"one.key\"\nusers = \"one.toml\"\ndirectory = \"one\"\n\
    [[hosts]]\nnames = [\"two.example\"]\ncert = \"two.pem\"\nkey = \"two.key\"\n\
    [[hosts]]\nnames = [\"three.example\"]\nusers = \"none.toml\"\ndirectory = \"missing\"\n";

#[test]
fn the_files_of_each_host_are_looked_at() {
    let place = Place::new();
    place.certificate("one", &["one.example", "*.one.example"], 2099);
    place.certificate("two", &["other.example"], 2020);
    place.put("one.toml", "", 0o600);
    fs::create_dir(place.path("one")).unwrap();
    let (told, status) = place.examine(HOSTS);
    assert_eq!(status, 69);
    for id in [
        "certificate:one.example",
        "certificate-dates:one.example",
        "certificate-names:one.example",
        "key-file:one.example",
        "users-file:one.example",
        "directory:one.example",
        "key-file:two.example",
    ] {
        assert_eq!(found(&told, id).0, "ok", "{id}: {told:#}");
    }
    let (severity, measured) = found(&told, "certificate-dates:two.example");
    assert_eq!(severity, "error");
    assert!(measured.starts_with("expired "), "{measured}");
    assert_eq!(
        found(&told, "certificate-names:two.example"),
        ("warning", "other.example; not for two.example")
    );
    assert_eq!(found(&told, "users-file:three.example").0, "error");
    assert_eq!(found(&told, "directory:three.example").0, "error");
    let fix = finding(&told, "directory:three.example")["fix"].as_str();
    let missing = place.path("missing");
    assert!(fix.unwrap().ends_with(missing.to_str().unwrap()), "{fix:?}");

    // The text names the host as well, and the line of a users file.
    place.put("one.toml", "[users.ann]\npassword = \"hunter2\"\n", 0o644);
    let output = doctor(&["--config", place.path("c.toml").to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("users-file:one.example"), "{text}");
    assert!(text.contains("one.toml:2"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    place.certificate("two", &["two.example"], 2099);
    place.put(
        "two.key",
        &KeyPair::generate().unwrap().serialize_pem(),
        0o644,
    );
    let (told, _) = place.examine(HOSTS);
    let (severity, measured) = found(&told, "certificate:two.example");
    assert_eq!(severity, "error");
    assert!(measured.contains("does not belong"), "{measured}");
    assert_eq!(found(&told, "key-file:two.example").0, "warning");
}

#[test]
fn a_host_without_a_certificate_shows_the_servers() {
    let place = Place::new();
    place.certificate("own", &["files.example", "*.pub.example"], 2099);
    let config = "[accounts]\ncert = \"own.pem\"\nkey = \"own.key\"\n\
        [[hosts]]\nnames = [\"a.pub.example\"]\n[[hosts]]\nnames = [\"b.example\"]\n";
    let (told, status) = place.examine(config);
    assert_eq!(status, 0, "{told:#}");
    assert_eq!(found(&told, "certificate-names:a.pub.example").0, "ok");
    assert_eq!(
        found(&told, "certificate-names:b.example"),
        (
            "warning",
            "the server's, for files.example, *.pub.example; not for b.example"
        )
    );
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str, year: i32) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = date_time_ymd(year, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    Authority { pem, issuer }
}

fn list(authority: &Authority, year: i32) -> String {
    let list = parameters_of_list(year).signed_by(&authority.issuer);
    list.unwrap().pem().unwrap()
}

fn parameters_of_list(year: i32) -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

#[test]
fn authorities_and_revocation_lists_are_looked_at() {
    let place = Place::new();
    let (one, two) = (authority("One", 2099), authority("Two", 2099));
    let config = "[accounts]\nclient-cert = \"required\"\nclient-ca = \"ca.pem\"\nclient-crl = \"crl.pem\"\n";
    place.put("ca.pem", &format!("{}{}", one.pem, two.pem), 0o644);
    let lists = format!("{}{}", list(&one, 2098), list(&two, 2099));
    place.put("crl.pem", &lists, 0o644);
    let (told, status) = place.examine(config);
    assert_eq!(status, 0, "{told:#}");
    for id in [
        "client-ca",
        "client-ca-dates",
        "client-ca-file",
        "client-crl",
        "client-crl-dates",
        "client-crl-file",
    ] {
        assert_eq!(found(&told, id).0, "ok", "{id}: {told:#}");
    }
    assert!(found(&told, "client-ca").1.contains("CN=Two"), "{told:#}");

    place.put("crl.pem", &list(&one, 2021), 0o666);
    place.put(
        "ca.pem",
        &format!("{}{}", one.pem, authority("Two", 2021).pem),
        0o644,
    );
    let (told, status) = place.examine(config);
    assert_eq!(status, 0, "the server runs with them: {told:#}");
    let (severity, measured) = found(&told, "client-crl-dates");
    assert_eq!(severity, "warning");
    assert!(measured.starts_with("out of date for "), "{measured}");
    let dates = finding(&told, "client-crl-dates");
    let why = dates["why"].as_str().unwrap();
    assert!(why.contains("revoked since are still accepted"), "{why}");
    let (severity, measured) = found(&told, "client-crl");
    assert_eq!(severity, "warning");
    assert!(measured.ends_with("no list of CN=Two"), "{measured}");
    let (severity, measured) = found(&told, "client-ca-dates");
    assert_eq!(severity, "warning");
    assert!(measured.starts_with("expired ") && measured.ends_with("CN=Two"));
    let fix = &finding(&told, "client-crl-file")["fix"];
    let wanted = format!("chmod go-w {}", place.path("crl.pem").display());
    assert_eq!(fix.as_str(), Some(wanted.as_str()));

    place.put("crl.pem", "nothing", 0o644);
    let (told, status) = place.examine(config);
    assert_eq!((status, found(&told, "client-crl").0), (69, "error"));
    place.put("ca.pem", "nothing", 0o644);
    let (told, _) = place.examine(config);
    assert_eq!(found(&told, "client-ca").0, "error");
    fs::remove_file(place.path("ca.pem")).unwrap();
    let (told, status) = place.examine(config);
    assert_eq!((status, found(&told, "client-ca-file").0), (69, "error"));

    place.put("ca.pem", &one.pem, 0o644);
    let ca = place.path("ca.pem");
    let words = [
        "--client-cert",
        "optional",
        "--client-ca",
        ca.to_str().unwrap(),
    ];
    let (told, status) = report(&words);
    assert_eq!((status, found(&told, "client-crl").0), (0, "advice"));
}

#[test]
fn the_list_that_the_server_takes_is_the_one_that_is_judged() {
    let place = Place::new();
    let (one, two) = (authority("One", 2099), authority("Two", 2099));
    let config = "[accounts]\nclient-cert = \"required\"\nclient-ca = \"ca.pem\"\nclient-crl = \"crl.pem\"\n";
    place.put("ca.pem", &format!("{}{}", one.pem, two.pem), 0o644);
    let (old, new) = (list(&one, 2021), list(&one, 2098));
    // One that is for other certificates does not stand in the way.
    let of_authorities = CertificateRevocationListParams {
        issuing_distribution_point: Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec!["http://crl.example/ca".to_owned()],
            },
            scope: Some(CrlScope::CaCertsOnly),
        }),
        ..parameters_of_list(2021)
    };
    let partial = of_authorities.signed_by(&one.issuer).unwrap();
    let partial = partial.pem().unwrap();
    for (lists, severity) in [
        (format!("{new}{old}"), "ok"),
        (format!("{old}{new}"), "warning"),
        (format!("{partial}{new}"), "warning"),
        (format!("{new}{partial}"), "ok"),
    ] {
        place.put("crl.pem", &format!("{}{lists}", list(&two, 2099)), 0o644);
        let (told, _) = place.examine(config);
        assert_eq!(found(&told, "client-crl-dates").0, severity, "{told:#}");
    }
}

#[test]
fn files_are_read_as_far_as_the_server_reads_them() {
    let place = Place::new();
    let one = authority("One", 2099);
    let config = "[accounts]\nclient-cert = \"required\"\nclient-ca = \"ca.pem\"\nclient-crl = \"crl.pem\"\nusers = \"u.toml\"\n\
        cert = \"one.pem\"\nkey = \"one.key\"\n";
    place.certificate("one", &["one.example"], 2099);
    place.put("u.toml", "", 0o600);
    // What stands between the sections of a PEM file counts for nothing but its size.
    let padding = "#\n".repeat(1024 * 1024);
    let padded = |text: &str| format!("{padding}{text}");
    place.put("crl.pem", &padded(&list(&one, 2099)), 0o644);
    place.put("ca.pem", &padded(&one.pem), 0o644);
    for name in ["one.pem", "one.key"] {
        let text = fs::read_to_string(place.path(name)).unwrap();
        fs::write(place.path(name), padded(&text)).unwrap();
    }
    let (told, status) = place.examine(config);
    assert_eq!(status, 0, "{told:#}");
    for id in ["client-ca", "client-crl", "client-crl-dates", "certificate"] {
        assert_eq!(found(&told, id).0, "ok", "{id}: {told:#}");
    }

    // One octet more than the server reads.
    for (name, id) in [
        ("crl.pem", "client-crl-file"),
        ("u.toml", "users-file"),
        ("one.key", "key-file"),
        ("one.pem", "certificate"),
    ] {
        let file = fs::OpenOptions::new().write(true).open(place.path(name));
        file.unwrap().set_len(64 * 1024 * 1024 + 1).unwrap();
        let (told, _) = place.examine(config);
        let (severity, measured) = found(&told, id);
        assert_eq!(severity, "error", "{told:#}");
        assert!(
            measured.ends_with("larger than 67108864 octets"),
            "{measured}"
        );
    }
}

#[test]
fn pipes_are_no_files_and_are_not_waited_for() {
    let place = Place::new();
    let names = ["ca.pem", "crl.pem", "one.pem", "one.key", "u.toml"];
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    for name in names {
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, place.path(name), kind, mode, 0).unwrap();
    }
    let config = "directory = \".\"\n\
        [accounts]\nclient-cert = \"required\"\nclient-ca = \"ca.pem\"\nclient-crl = \"crl.pem\"\nusers = \"u.toml\"\n\
        cert = \"one.pem\"\nkey = \"one.key\"\n\
        [[hosts]]\nnames = \"one.example\"\ncert = \"one.pem\"\nkey = \"one.key\"\nusers = \"u.toml\"\n";
    place.put("c.toml", config, 0o644);
    let ends = |name: &str| {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ringftpd"))
            .args(["doctor", "--ktls", "off", "--json", "--config"])
            .arg(place.path(name))
            .stdout(fs::File::create(place.path("told")).unwrap())
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{name}: it waits for a pipe");
    };
    assert_eq!(ends("c.toml").code(), Some(69));
    let told = fs::read(place.path("told")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    for id in [
        "client-ca-file",
        "certificate",
        "key-file",
        "users-file",
        "certificate:one.example",
        "key-file:one.example",
        "users-file:one.example",
    ] {
        let (severity, measured) = found(&told, id);
        assert_eq!(severity, "error", "{id}");
        assert!(measured.ends_with("it is no file"), "{id}: {measured}");
    }

    // The lists alone.
    fs::remove_file(place.path("ca.pem")).unwrap();
    place.put("ca.pem", &authority("One", 2099).pem, 0o644);
    ends("c.toml");
    let told = fs::read(place.path("told")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(found(&told, "client-crl-file").0, "error");
}

#[test]
fn directories_must_be_open_to_the_account_that_root_becomes() {
    let present = |program: &str| {
        std::process::Command::new(program)
            .arg("--version")
            .output()
    };
    if !rustix::process::geteuid().is_root() || present("setpriv").is_err() {
        skip("only root becomes another account, and setpriv is needed");
        return;
    }
    let place = Place::new();
    let open = |name: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(place.path(name), mode).unwrap();
    };
    for name in ["served", "one"] {
        fs::create_dir(place.path(name)).unwrap();
        open(name, 0o755);
    }
    // Nobody gets by it, but the server starts inside.
    open("", 0o700);
    let config = "directory = \"served\"\n[process]\nrun-as = \"nobody\"\n\
        [[hosts]]\nnames = \"one.example\"\ndirectory = \"one\"\n";
    let (told, status) = place.examine(config);
    assert_eq!(found(&told, "directory").0, "ok", "{told:#}");
    let (severity, measured) = found(&told, "directory:one.example");
    assert_eq!((status, severity), (69, "error"));
    assert!(
        measured.ends_with("the account `nobody` cannot list it"),
        "{measured}"
    );
    open("", 0o755);
    open("served", 0o700);
    let (told, _) = place.examine(config);
    assert_eq!(found(&told, "directory").0, "error");
    assert_eq!(found(&told, "directory:one.example").0, "ok");
}

#[test]
fn a_setpriv_that_fails_says_nothing_of_the_account() {
    if !rustix::process::geteuid().is_root() {
        skip("only root becomes another account");
        return;
    }
    let place = Place::new();
    place.put("c.toml", "[process]\nrun-as = \"nobody\"\n", 0o644);
    // As busybox's ends, which does not know --reuid.
    place.put(
        "setpriv",
        "#!/bin/sh\necho called > \"$CALLED\"\nexit 1\n",
        0o755,
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .args(["doctor", "--ktls", "off", "--json", "--config"])
        .arg(place.path("c.toml"))
        .arg(place.0.path())
        .env("PATH", place.0.path())
        .env("CALLED", place.path("called"))
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(place.path("called").exists(), "it was not asked");
    assert_eq!(found(&told, "directory").0, "ok", "{told:#}");
}
