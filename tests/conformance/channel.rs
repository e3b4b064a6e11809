//! AUTH, PBSZ, PROT, CCC, the handshake on the control connection, FEAT.

use std::time::{Duration, Instant};

use crate::common::client::Client;
use crate::common::link::End;
use crate::common::server::{PASSWORD, USER};
use crate::common::tls::{Profile, Version};
use crate::fixture::{DATA_OPTIONAL, OPTIONAL, Test};

checks! {
    c001: Explicit, c002: Explicit, c003: Explicit, c004: Explicit, c005: Explicit,
    c006: Explicit, c007: Explicit, c008: Explicit, c009: Both, c010: Explicit,
    c011: Explicit, c012: Explicit, c014: Implicit, c015: Implicit, c016: Implicit,
    c017: Implicit, c018: Implicit, c019: Implicit, c020: Implicit, c021: Implicit,
    c022: Implicit, c030: Implicit, c031: Both, c032: Both, c033: Both,
    c034: Explicit, c035: Explicit, c036: Both, c037: Both, c038: Both,
    c039: Explicit, c040: Both, c041: Both, c042: Both,
}

/// Content type of an alert record (RFC 8446 §5.1).
const ALERT: u8 = 0x15;

fn c001(t: &Test) {
    t.connect(&t.server()).expect(220);
}

fn c002(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.dialogue(&[("USER x", 534), ("NOOP", 200), ("PWD", 534)]);
}

fn c003(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.dialogue(&[("FEAT", 211), ("NOOP", 200), ("HELP", 214)]);
    let reply = client.ok("SYST", 215);
    assert_eq!(reply.raw, b"215 UNIX Type: L8\r\n");
}

fn c004(t: &Test) {
    for line in ["AUTH TLS", "auth tls", "Auth Tls"] {
        let mut client = t.connect(&t.server());
        client.expect(220);
        client.ok(line, 234);
        client.handshake();
        client.ok("NOOP", 200);
    }
}

fn c005(t: &Test) {
    t.put("f", b"content");
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.ok("auth ssl", 234);
    client.handshake();
    client.login(USER, PASSWORD);
    client.ok("TYPE I", 200);
    client.ok(format!("CWD {}", t.directory), 250);
    client.pasv();
    client.ok("RETR f", 522);
    client.protect();
    assert_eq!(client.download("RETR f"), b"content");
}

fn c006(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.ok("AUTH TLS-C", 234);
    client.handshake();
    client.ok("NOOP", 200);
}

fn c007(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.dialogue(&[("AUTH TLS-P", 504), ("AUTH GSSAPI", 504), ("NOOP", 200)]);
}

fn c008(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.dialogue(&[("AUTH", 501), ("NOOP", 200)]);
}

fn c009(t: &Test) {
    let mut client = t.secure(&t.server());
    client.ok("AUTH TLS", 534);
    t.settle(&mut client, USER);
    client.dialogue(&[("AUTH TLS", 534), ("AUTH SSL", 534), ("PWD", 257)]);
}

fn c010(t: &Test) {
    for attack in [
        "AUTH TLS\r\nUSER x\r\n",
        "AUTH TLS\r\nNOOP\r\n",
        "AUTH TLS\r\nU",
    ] {
        let mut client = t.connect(&t.server());
        client.expect(220);
        client.link.send_raw(attack.as_bytes());
        client.expect_thrown_out();
    }
}

fn c011(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.ok("AUTH TLS", 234);
    client
        .link
        .send_raw(b"USER x\r\nthis is no ClientHello\r\n");
    let (octets, end) = client.link.take_all_raw();
    assert_eq!(octets.first(), Some(&ALERT), "{}", octets.escape_ascii());
    assert_ne!(end, End::Timeout);
}

fn c012(t: &Test) {
    t.put("lines", b"a\nb");
    let size = format!("SIZE {}/lines", t.directory);
    let mut client = t.login_clear(&t.server_with(OPTIONAL));
    assert_eq!(client.ok(&size, 213).message(), b"3");
    client.auth_tls();
    client.ok("PWD", 530);
    client.login(USER, PASSWORD);
    assert!(client.ok("PWD", 257).text().starts_with("257 \"/\""));
    assert_eq!(client.ok(&size, 213).message(), b"4", "TYPE A after AUTH");
}

fn c014(t: &Test) {
    let mut client = t.connect(&t.server());
    assert!(client.link.stays_silent(Duration::from_secs(3)));
}

fn c015(t: &Test) {
    let mut client = t.connect(&t.server());
    client.handshake();
    client.expect(220);
    assert!(client.link.plain.is_empty(), "more than a greeting");
}

/// Nothing of FTP may be seen, an alert at the most, and the connection must end.
#[track_caller]
fn closed_without_text(client: &mut Client) {
    let (octets, end) = client.link.take_all_raw();
    let silent = octets.is_empty() || octets[0] == ALERT;
    assert!(silent, "{}", octets.escape_ascii());
    assert_ne!(end, End::Timeout);
}

fn c016(t: &Test) {
    let mut client = t.connect(&t.server());
    client.link.send_raw(b"USER x\r\n");
    closed_without_text(&mut client);
}

fn c017(t: &Test) {
    let mut client = t.connect(&t.server_with(&["--handshake-timeout", "1s"]));
    let start = Instant::now();
    closed_without_text(&mut client);
    let elapsed = start.elapsed();
    assert!(elapsed > Duration::from_millis(700), "after {elapsed:?}");
    assert!(elapsed < Duration::from_secs(8), "after {elapsed:?}");
}

fn c018(t: &Test) {
    t.put("f", b"");
    let mut client = t.secure(&t.server());
    client.login(USER, PASSWORD);
    client.ok(format!("CWD {}", t.directory), 250);
    assert!(client.protected);
    let listing = client.download("LIST");
    assert!(listing.ends_with(b" f\r\n"), "{}", listing.escape_ascii());
}

fn c019(t: &Test) {
    t.put("f", b"");
    let mut client = t.login(&t.server_with(DATA_OPTIONAL));
    client.ok("PROT C", 200);
    client.protected = false;
    assert!(client.download("LIST").ends_with(b" f\r\n"));
    client.ok("PROT P", 200);
    client.protected = true;
    assert!(client.download("LIST").ends_with(b" f\r\n"));
}

fn c020(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[("PBSZ 0", 200), ("PROT P", 200)]);
}

fn c021(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[("AUTH TLS", 534), ("AUTH SSL", 534), ("NOOP", 200)]);
}

fn c022(t: &Test) {
    for options in [&[][..], &["--ccc"]] {
        let mut client = t.login(&t.server_with(options));
        client.dialogue(&[("CCC", 534), ("NOOP", 200), ("PWD", 257)]);
    }
}

fn c030(t: &Test) {
    for options in [&[][..], &["--ccc"]] {
        let features = t.secure(&t.server_with(options)).ok("FEAT", 211).inner();
        assert!(
            features.contains(&" AUTH TLS;SSL;".to_owned()),
            "{features:?}"
        );
        let ccc = features.iter().any(|line| line.contains("CCC"));
        assert!(!ccc, "{features:?}");
    }
}

fn c031(t: &Test) {
    let mut client = t.secure(&t.server());
    let before = client.ok("FEAT", 211);
    let lines = before.lines();
    assert!(lines[0].starts_with("211-"), "{before:?}");
    assert!(lines.last().unwrap().starts_with("211 End"), "{before:?}");
    for line in before.inner() {
        let name = line.strip_prefix(' ').unwrap_or_default();
        let sound = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        assert!(sound && !name.ends_with(' '), "{line:?}");
    }
    t.settle(&mut client, USER);
    assert_eq!(client.ok("FEAT", 211), before, "the same after login");
    if t.explicit() {
        let mut client = t.connect(&t.server());
        client.expect(220);
        assert_eq!(client.ok("FEAT", 211), before, "the same before TLS");
    }
}

fn c032(t: &Test) {
    t.secure(&t.server())
        .dialogue(&[("FEAT x", 501), ("FEAT", 211)]);
}

/// What a feature of FEAT makes possible: a command with the code of its success.
fn probe(feature: &str) -> (&'static str, u16) {
    match feature {
        "AUTH" => ("AUTH TLS", 534),
        "CLNT" => ("CLNT probe 1.0", 200),
        "EPRT" => ("EPRT |1|127.0.0.1|40000|", 200),
        "EPSV" => ("EPSV", 229),
        "LANG" => ("LANG EN", 200),
        "MDTM" => ("MDTM f", 213),
        "MFMT" => ("MFMT 20200102030405 f", 213),
        "MLST" => ("MLST f", 250),
        "PBSZ" => ("PBSZ 0", 200),
        "PROT" => ("PROT P", 200),
        "REST" => ("REST 0", 350),
        "SIZE" => ("SIZE f", 213),
        "TVFS" => ("MLST ./x/..//f", 250),
        "UTF8" => ("OPTS UTF8 ON", 200),
        other => panic!("FEAT lists {other}, for which this check knows no use"),
    }
}

const FEATURES: &[&str] = &[
    "AUTH", "CLNT", "EPRT", "EPSV", "LANG", "MDTM", "MFMT", "MLST", "PBSZ", "PROT", "REST", "SIZE",
    "TVFS", "UTF8",
];

const REFUSED: &[&str] = &[
    "SMNT /x",
    "LPRT 1",
    "LPSV",
    "ADAT x",
    "MIC x",
    "CONF x",
    "ENC x",
    "MFCT 20200102030405 f",
    "RMDA d",
    "THMB x",
    "ALGS",
    "PRET x",
    "ESTA",
    "ESTP",
];

fn c033(t: &Test) {
    t.put("f", b"x");
    std::fs::create_dir(t.path("x")).unwrap();
    let mut client = t.session();
    let features: Vec<String> = client
        .ok("FEAT", 211)
        .inner()
        .iter()
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect();
    for feature in FEATURES {
        assert!(features.iter().any(|name| name == feature), "{feature}");
    }
    for feature in &features {
        let (line, code) = probe(feature);
        client.ok(line, code);
    }
    for line in REFUSED {
        let code = if line.starts_with("ADAT") { 503 } else { 502 };
        client.ok(line, code);
        let verb = line.split(' ').next().unwrap();
        assert!(!features.iter().any(|name| name == verb), "{verb}");
    }
}

fn c034(t: &Test) {
    let mut client = t.connect(&t.server());
    client.expect(220);
    client.dialogue(&[("PBSZ 0", 503), ("PROT P", 503)]);
    let mut client = t.login_clear(&t.server_with(OPTIONAL));
    client.dialogue(&[("PBSZ 0", 503), ("PROT P", 503)]);
}

fn c035(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[("PROT P", 503), ("PBSZ 0", 200), ("PROT P", 200)]);
}

fn c036(t: &Test) {
    let mut client = t.secure(&t.server());
    client.ok("PBSZ 0", 200);
    for line in ["PBSZ 4096", "PBSZ 4294967295"] {
        let reply = client.ok(line, 200);
        assert!(reply.text().contains("PBSZ=0"), "{reply:?}");
    }
    client.dialogue(&[
        ("PBSZ x", 501),
        ("PBSZ 4294967296", 501),
        ("PBSZ", 501),
        ("PBSZ -1", 501),
    ]);
}

fn c037(t: &Test) {
    let mut client = t.secure(&t.server());
    client.dialogue(&[
        ("PBSZ 0", 200),
        ("PROT S", 536),
        ("PROT E", 536),
        ("PROT Q", 504),
    ]);
}

fn c038(t: &Test) {
    let mut client = t.session();
    client.ok("PROT C", 534);
    client.download("LIST");
}

fn c039(t: &Test) {
    t.put("f", b"content");
    let mut client = t.secure(&t.server_with(&["--ccc"]));
    client.ok("CCC", 534);
    t.settle(&mut client, USER);
    let features = client.ok("FEAT", 211).inner();
    assert!(features.contains(&" CCC".to_owned()), "{features:?}");
    client.ok("CCC", 200);
    client.leave_tls();
    client.dialogue(&[("NOOP", 200), ("PROT C", 503), ("PBSZ 0", 503)]);
    client.dialogue(&[("AUTH TLS", 534), ("CCC", 533)]);
    assert_eq!(client.download("RETR f"), b"content");
    client.upload("STOR g", b"more");
    assert_eq!(t.get("g"), b"more");
    client.ok("REIN", 220);
    client.ok("USER x", 534);
}

fn c040(t: &Test) {
    if t.explicit() {
        let mut client = t.connect(&t.server());
        client.expect(220);
        client.dialogue(&[("CCC", 533), ("NOOP", 200)]);
    }
    let mut client = t.session();
    client.dialogue(&[("CCC", 534), ("NOOP", 200), ("CCC x", 501)]);
}

/// Connects up to where the ClientHello is due.
fn before_handshake(t: &Test, profile: Profile) -> Client {
    let mut client = Client::connect_as(&t.server(), t.port, profile, None);
    if t.explicit() {
        client.expect(220);
        client.ok("AUTH TLS", 234);
    }
    client
}

fn c041(t: &Test) {
    for version in [Version::Tls12, Version::Tls13] {
        let http = Profile::new(version).with_alpn(&["http/1.1"]);
        let mut client = before_handshake(t, http);
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        let refused = Err(End::Tls(rustls::Error::AlertReceived(alert)));
        let config = client.profile.full();
        assert_eq!(client.link.handshake(&config), refused);
        closed_without_text(&mut client);

        let mut client = before_handshake(t, Profile::new(version));
        client.handshake();
        assert_eq!(client.link.alpn(), None);

        for protocols in [&["x-filezilla-ftp", "ftp"][..], &["ftp"]] {
            let profile = Profile::new(version).with_alpn(protocols);
            let mut client = before_handshake(t, profile);
            client.handshake();
            assert_eq!(client.link.alpn(), Some(b"ftp".to_vec()));
        }
    }
}

fn c042(t: &Test) {
    let mut client = before_handshake(t, Profile::usual());
    client.link.send_raw(&client_hello_tls11());
    let (octets, end) = client.link.take_all_raw();
    assert_eq!(octets.first(), Some(&ALERT), "{}", octets.escape_ascii());
    // protocol_version, or handshake_failure for want of extensions that came with TLS 1.2.
    let [fatal, description] = octets[5..] else {
        panic!("{}", octets.escape_ascii());
    };
    assert!(
        fatal == 2 && matches!(description, 70 | 40),
        "{description}"
    );
    assert_ne!(end, End::Timeout);
}

/// A ClientHello as a client of TLS 1.1 sends it (RFC 4346 §7.4.1.2).
fn client_hello_tls11() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend_from_slice(&[0x5a; 32]);
    body.push(0);
    // ECDHE_RSA and ECDHE_ECDSA with AES_128_CBC_SHA, and RSA with the same.
    body.extend_from_slice(&[0, 6, 0xc0, 0x13, 0xc0, 0x09, 0x00, 0x2f]);
    body.extend_from_slice(&[1, 0]);
    // supported_groups: P-256; ec_point_formats: uncompressed.
    body.extend_from_slice(&[0, 14, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.append(&mut body);
    record
}
