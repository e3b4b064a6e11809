//! TLS client certificates (RFC 4217 §14): mapped to users by fingerprint and by subject, with and without authorities.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{Accounts, PASSWORD, Server, USER, process_directory};
use crate::common::tls::{Identity, Profile, Version};
use crate::common::{Port, skip};

const BOTH: [Port; 2] = [Port::Explicit, Port::Implicit];

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
struct Credentials {
    pem: String,
    /// As a users file has it.
    sha256: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn sign(&self, name: &str, serial: u64, last_year: i32) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let params = params(name, serial, last_year);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials::new(&certificate, &key)
    }

    fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn params(name: &str, serial: u64, last_year: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example, Ltd");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params
}

impl Credentials {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
        let hex: String = digest.as_ref().iter().map(|o| format!("{o:02x}")).collect();
        Self {
            pem: certificate.pem() + &key.serialize_pem(),
            sha256: format!("sha256:{hex}"),
        }
    }

    fn self_signed(name: &str, last_year: i32) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, 1, last_year).self_signed(&key).unwrap();
        Self::new(&certificate, &key)
    }

    fn profile(&self, version: Version) -> Profile {
        Profile::new(version).with_certificate(&self.pem)
    }
}

/// A users file of these names with keys added to the tables that `ringftpd user add` makes.
fn users(directory: &Path, list: &[(&str, String)]) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let accounts = Accounts {
        file: directory.join("users.toml"),
        home: directory.join("home"),
    };
    std::fs::create_dir_all(&accounts.home).unwrap();
    std::fs::write(accounts.home.join("file"), "contents").unwrap();
    for (name, _) in list {
        accounts.add(name, PASSWORD, &accounts.home, None);
    }
    let mut text = std::fs::read_to_string(&accounts.file).unwrap();
    for (name, keys) in list {
        let heading = format!("[users.{name}]\n");
        text = text.replace(&heading, &format!("{heading}{keys}\n"));
    }
    std::fs::write(&accounts.file, text).unwrap();
    accounts.file
}

fn start(directory: &Path, list: &[(&str, String)], options: &[&str]) -> Server {
    let file = users(directory, list);
    let mut all = vec!["--users", file.to_str().unwrap()];
    all.extend(options);
    Server::start(&all)
}

fn secure(server: &Server, port: Port, profile: Profile) -> Client {
    let mut client = Client::connect_as(server, port, profile, None);
    client.secure();
    client
}

fn fetch(client: &mut Client) {
    if client.port == Port::Explicit {
        client.protect();
    }
    client.ok("TYPE I", 200);
    assert_eq!(client.download("RETR file"), b"contents");
    client.upload("STOR new", b"octets");
}

/// The handshake must fail, at once or with the first octets after it.
fn assert_refused(server: &Server, profile: Profile, words: &str) {
    let mut client = Client::connect_as(server, Port::Implicit, profile, None);
    let outcome = client.link.handshake(&client.profile.resuming());
    let outcome = outcome.and_then(|()| client.try_reply().map(drop));
    assert!(
        matches!(outcome, Err(End::Tls(_) | End::Reset)),
        "{outcome:?}"
    );
    assert!(server.wait_for_log(words), "{words}");
    assert!(server.wait_for_log("client certificate refused"));
}

/// A client whose session was resumed and then refused: an end in order, and the sessions it has are none any more.
fn assert_ends_for_good(server: &Server, refused: &mut Client) {
    let end = refused.try_reply();
    assert!(matches!(end, Err(End::CloseNotify)), "{end:?}");
    for _ in 0..2 {
        let mut next = Client::connect_as(server, Port::Implicit, refused.profile.clone(), None);
        let _ = next.link.handshake(&next.profile.resuming());
        assert_eq!(next.link.handshake_kind(), HandshakeKind::Full);
    }
}

#[test]
fn a_fingerprint_needs_no_authority() {
    let directory = process_directory().join("certificates-pinned");
    let ann = Credentials::self_signed("ann", 2099);
    let bob = Credentials::self_signed("bob", 2099);
    let list = [
        (
            "ann",
            format!("certificates = ['{}']\nwelcome = 'Hello Ann'", ann.sha256),
        ),
        (
            "bob",
            format!(
                "certificates = ['{}']\ncertificate_login = 'only'",
                bob.sha256
            ),
        ),
        (
            "both",
            format!(
                "certificates = ['{}']\ncertificate_login = 'and-password'",
                bob.sha256
            ),
        ),
        // Nobody vouches for a self-signed subject.
        ("subject", "certificates = ['subject:CN=ann']".to_owned()),
    ];
    let server = start(&directory, &list, &["--client-cert", "optional"]);
    for port in BOTH {
        for version in [Version::Tls12, Version::Tls13] {
            let mut client = secure(&server, port, ann.profile(version));
            let reply = client.ok("USER ann", 232);
            assert_eq!(
                reply.lines(),
                ["232-Hello Ann", "232 Logged in by certificate."]
            );
            client.ok("PASS unasked", 202);
            fetch(&mut client);
            // A resumed session has the certificate of the one it resumes.
            let mut again = Client::connect_as(&server, port, client.profile.clone(), None);
            again.secure();
            assert_eq!(again.link.handshake_kind(), HandshakeKind::Resumed);
            again.ok("USER ann", 232);
            // That of another user opens nothing.
            for (user, code) in [("subject", 230), ("bob", 530), ("both", 530)] {
                client.ok(format!("USER {user}"), 331);
                client.ok(format!("PASS {PASSWORD}"), code);
            }
            let mut client = secure(&server, port, bob.profile(version));
            client.ok("USER both", 331);
            client.ok(format!("PASS {PASSWORD}"), 230);
            client.ok("USER bob", 232);
            fetch(&mut client);
            // A password is as good, where nothing else was said.
            let mut client = secure(&server, port, Profile::new(version));
            client.login("ann", PASSWORD);
            fetch(&mut client);
        }
    }
    assert!(
        server.wait_for_log(&format!("certificate=\"{}\"", ann.sha256))
            || server.wait_for_log(&ann.sha256)
    );
    let expired = Credentials::self_signed("ann", 2021);
    assert_refused(
        &server,
        expired.profile(Version::Tls13),
        "renew the client's certificate",
    );
    assert_refused(
        &server,
        expired.profile(Version::Tls12),
        "renew the client's certificate",
    );
}

#[test]
fn an_authority_vouches_for_subjects() {
    let directory = process_directory().join("certificates-authority");
    let authority = Authority::new("Authority");
    let stranger = Authority::new("Stranger");
    std::fs::create_dir_all(&directory).unwrap();
    let ca = directory.join("ca.pem");
    let crl = directory.join("crl.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    std::fs::write(&crl, authority.revoke(7)).unwrap();
    let list = [
        (
            "ann",
            "certificates = ['subject:CN=ann,O=Example\\, Ltd']".to_owned(),
        ),
        ("bob", "certificates = ['subject:O=Example']".to_owned()),
    ];
    let server = start(
        &directory,
        &list,
        &[
            "--client-cert",
            "required",
            "--client-ca",
            ca.to_str().unwrap(),
            "--client-crl",
            crl.to_str().unwrap(),
        ],
    );
    let ann = authority.sign("ann", 1, 2099);
    for port in BOTH {
        let mut client = secure(&server, port, ann.profile(Version::Tls13));
        client.ok("USER bob", 331);
        client.ok(format!("PASS {PASSWORD}"), 230);
        client.ok("USER ann", 232);
        fetch(&mut client);
    }
    for version in [Version::Tls12, Version::Tls13] {
        assert_refused(&server, Profile::new(version), "--client-cert optional");
        let strange = stranger.sign("ann", 1, 2099);
        assert_refused(&server, strange.profile(version), "--client-ca");
        let expired = authority.sign("ann", 2, 2021);
        assert_refused(
            &server,
            expired.profile(version),
            "renew the client's certificate",
        );
        let revoked = authority.sign("ann", 7, 2099);
        assert_refused(&server, revoked.profile(version), "another certificate");
    }
    // Revoked later: the session that was resumable is not any more.
    let mut client = secure(&server, Port::Explicit, ann.profile(Version::Tls13));
    client.ok("USER ann", 232);
    std::fs::write(&crl, authority.revoke(1)).unwrap();
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("certificate reloaded"));
    let mut again = Client::connect_as(&server, Port::Implicit, client.profile.clone(), None);
    let outcome = again.link.handshake(&again.profile.resuming());
    assert_eq!(
        outcome,
        Ok(()),
        "the server can judge only what is complete"
    );
    assert_eq!(again.link.handshake_kind(), HandshakeKind::Resumed);
    assert_ends_for_good(&server, &mut again);
    // Those that are there stay.
    client.ok("NOOP", 200);
}

#[test]
fn an_unknown_issuer_is_as_good_as_none_where_that_would_do() {
    let directory = process_directory().join("certificates-mixed");
    let authority = Authority::new("Authority");
    std::fs::create_dir_all(&directory).unwrap();
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let pinned = Credentials::self_signed("ann", 2099);
    let list = [
        ("ann", "certificates = ['subject:CN=ann']".to_owned()),
        ("bob", format!("certificates = ['{}']", pinned.sha256)),
    ];
    let options = [
        "--client-cert",
        "optional",
        "--client-ca",
        ca.to_str().unwrap(),
    ];
    let server = start(&directory, &list, &options);
    let mut client = secure(&server, Port::Explicit, pinned.profile(Version::Tls13));
    client.ok("USER ann", 331);
    client.ok("USER bob", 232);
    let signed = authority.sign("ann", 1, 2099);
    let mut client = secure(&server, Port::Explicit, signed.profile(Version::Tls13));
    client.ok("USER bob", 331);
    client.ok("USER ann", 232);
}

#[test]
fn a_data_connection_shows_the_same_certificate_or_resumes() {
    let directory = process_directory().join("certificates-data");
    let ann = Credentials::self_signed("ann", 2099);
    let list = [("ann", format!("certificates = ['{}']", ann.sha256))];
    let server = start(
        &directory,
        &list,
        &["--client-cert", "required", "--resume", "off"],
    );
    let other = Credentials::self_signed("ann", 2099);
    for version in [Version::Tls12, Version::Tls13] {
        let mut client = secure(&server, Port::Explicit, ann.profile(version));
        client.ok("USER ann", 232);
        fetch(&mut client);
        for profile in [other.profile(version), Profile::new(version)] {
            let address = client.pasv();
            let mut data = client.data(address);
            client.ok("RETR file", 150);
            data.handshake(&profile.full()).unwrap();
            client.expect(522);
        }
        fetch(&mut client);
    }
    assert!(server.wait_for_log("did not show the client certificate"));
}

#[test]
fn no_certificate_is_asked_for_by_default() {
    let server = Server::shared(&[]);
    let shown = Credentials::self_signed("ann", 2021);
    let mut client = secure(&server, Port::Explicit, shown.profile(Version::Tls13));
    client.login(USER, PASSWORD);
}

#[test]
fn a_session_from_before_certificates_were_required_is_none() {
    let directory = process_directory().join("certificates-later");
    let ann = Credentials::self_signed("ann", 2099);
    let list = [("ann", format!("certificates = ['{}']", ann.sha256))];
    let file = users(&directory, &list);
    let identity = Identity::shared();
    let text = format!(
        "directory = 'public'\n[listening]\nexplicit = '127.0.0.1:0'\nimplicit = '127.0.0.1:0'\n\
         [process]\nstate-dir = 'state'\n[accounts]\nusers = '{}'\ncert = '{}'\nkey = '{}'\n",
        file.display(),
        identity.certificate_file.display(),
        identity.key_file.display(),
    );
    let config = directory.join("ringftpd.toml");
    std::fs::write(&config, &text).unwrap();
    let mut options = vec!["--config", config.to_str().unwrap()];
    if rustix::process::geteuid().is_root() {
        options.extend(["--run-as", "root"]);
    }
    let server = Server::start(&options);
    let mut client = secure(&server, Port::Implicit, Profile::new(Version::Tls13));
    client.login("ann", PASSWORD);
    std::fs::write(&config, text + "client-cert = 'required'\n").unwrap();
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("configuration reloaded"));
    let mut again = Client::connect_as(&server, Port::Implicit, client.profile.clone(), None);
    let outcome = again.link.handshake(&again.profile.resuming());
    assert_eq!(outcome, Ok(()));
    assert_eq!(again.link.handshake_kind(), HandshakeKind::Resumed);
    assert_ends_for_good(&server, &mut again);
    let mut client = secure(&server, Port::Implicit, ann.profile(Version::Tls13));
    client.ok("USER ann", 232);
}

#[test]
fn users_files_keep_what_is_said_of_certificates() {
    let directory = process_directory().join("certificates-kept");
    let hex = "ab".repeat(32);
    let keys = format!(
        "certificates = [\"sha256:{hex}\", \"subject:CN=a\"]\ncertificate_login = \"only\"\nwelcome = \"one\\ntwo\""
    );
    let file = users(&directory, &[("ann", keys)]);
    let accounts = Accounts {
        file,
        home: directory.join("home"),
    };
    accounts.add("bob", PASSWORD, &accounts.home, None);
    let text = std::fs::read_to_string(&accounts.file).unwrap();
    for part in [
        &hex,
        "subject:CN=a",
        "certificate_login = \"only\"",
        "two",
        "bob",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn curl_logs_in_with_its_certificate() {
    let directory = process_directory().join("certificates-curl");
    let ann = Credentials::self_signed("ann", 2099);
    let list = [(
        "ann",
        format!(
            "certificates = ['{}']\ncertificate_login = 'only'",
            ann.sha256
        ),
    )];
    let server = start(&directory, &list, &["--client-cert", "required"]);
    let pem = directory.join("ann.pem");
    std::fs::write(&pem, &ann.pem).unwrap();
    for (scheme, port) in [
        ("ftp", server.explicit.port()),
        ("ftps", server.implicit.port()),
    ] {
        let output = std::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                "--ssl-reqd",
                "--insecure",
            ])
            .arg("--cert")
            .arg(&pem)
            .args(["--user", "ann:"])
            .arg(format!("{scheme}://127.0.0.1:{port}/file"))
            .output();
        let Ok(output) = output else {
            return skip("no curl");
        };
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "contents",
            "{words}"
        );
    }
}
