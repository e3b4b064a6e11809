//! Names in other character sets than UTF-8: `--charset`, `charset` of users and hosts, OPTS UTF8.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, program, wait_until};
use crate::common::{PATIENCE, Port};

/// A name, and how the clients of a character set write it.
struct Sample {
    user: &'static str,
    label: &'static str,
    name: &'static str,
    wire: &'static [u8],
    /// No text of the set.
    broken: &'static [u8],
}

const SAMPLES: [Sample; 3] = [
    Sample {
        user: "chinese",
        label: "GBK",
        name: "文件 €",
        wire: b"\xCE\xC4\xBC\xFE \x80",
        broken: b"a\xCE",
    },
    Sample {
        user: "japanese",
        label: "Shift_JIS",
        // The second octets are `\` and `|`.
        name: "表ソポ",
        wire: b"\x95\x5C\x83\x5C\x83\x7C",
        broken: b"\x95/a",
    },
    Sample {
        user: "western",
        label: "latin1",
        // The last ones are IAC of Telnet.
        name: "Grüße ÿÿ",
        wire: b"Gr\xFC\xDFe \xFF\xFF",
        // Every octet means something: this fails as a path.
        broken: b"a\0",
    },
];

/// A server with an account for each sample and one without a character set, `plain`.
struct Site {
    server: Server,
    accounts: Accounts,
    home: PathBuf,
    transfers: PathBuf,
}

impl Site {
    fn start(name: &str, options: &[&str]) -> Self {
        let home = process_directory().join(format!("charset-{name}"));
        let accounts = Accounts::single("plain", &home);
        for sample in &SAMPLES {
            accounts.add_with(sample.user, &home, &["--charset", sample.label]);
        }
        accounts.add_with("modern", &home, &["--charset", "UTF-8"]);
        let transfers = home.with_extension("transfers");
        let users = accounts.file.to_str().unwrap().to_owned();
        let log = transfers.to_str().unwrap().to_owned();
        let usual = [
            "--users",
            &users,
            "--transfer-log",
            &log,
            "--transfer-log-format",
            "json",
        ];
        Self {
            server: Server::start(&[&usual, options].concat()),
            accounts,
            home,
            transfers,
        }
    }

    fn login(&self, port: Port, user: &str) -> Client {
        let mut client = Client::connect(&self.server, port);
        client.settle(user, PASSWORD);
        client
    }

    fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.home.join(OsStr::from_bytes(name.as_ref()))
    }
}

/// A command with a name, as the control connection carries it.
fn line(start: &str, name: &[u8]) -> Vec<u8> {
    [start.as_bytes(), name].concat()
}

#[track_caller]
fn assert_shows(octets: &[u8], part: &[u8]) {
    assert!(
        octets.windows(part.len()).any(|window| window == part),
        "no {} in {}",
        part.escape_ascii(),
        octets.escape_ascii()
    );
}

/// The current directory on the wire.
fn directory(client: &mut Client) -> Vec<u8> {
    let message = client.ok("PWD", 257).message();
    let end = message.iter().rposition(|octet| *octet == b'"').unwrap();
    message[1..end].to_vec()
}

fn check_sample(site: &Site, port: Port, sample: &Sample) {
    let Sample { name, wire, .. } = *sample;
    let mut client = site.login(port, sample.user);
    client.upload(line("STOR ", wire), b"content");
    assert_eq!(std::fs::read(site.path(name)).unwrap(), b"content");
    let end = [b" ", wire, b"\r\n"].concat();
    assert_eq!(client.download("NLST"), end[1..]);
    assert_shows(&client.download("LIST"), &end);
    assert_shows(&client.download("MLSD"), &end);
    assert_shows(&client.download(line("LIST -la ", wire)), &end);
    assert_eq!(client.download(line("RETR ", wire)), b"content");
    client.ok(line("SIZE ", wire), 213);
    let facts = client.ok(line("MLST ", wire), 250);
    assert_shows(&facts.raw, &[b" /", wire, b"\r\n"].concat());
    assert_shows(&client.ok(line("STAT ", wire), 213).raw, wire);
    client.ok(line("SITE CHMOD 600 ", wire), 200);

    let below = [wire, b".d"].concat();
    assert_shows(
        &client.ok(line("MKD ", &below), 257).raw,
        &line("\"/", &below),
    );
    client.ok(line("CWD ", &below), 250);
    assert_eq!(directory(&mut client), line("/", &below));
    assert!(site.path(format!("{name}.d")).is_dir());
    client.ok(line("RNFR ../", wire), 350);
    client.ok(line("RNTO ", wire), 250);
    assert!(site.path(format!("{name}.d/{name}")).is_file());
    client.ok("CDUP", 250);
    // NLST's names begin with the argument.
    let whole = [&below[..], b"/", wire, b"\r\n"].concat();
    assert_eq!(client.download(line("NLST ", &below)), whole);

    client.ok(line("DELE ", sample.broken), 501);
    client.pasv();
    client.ok(line("STOR ", sample.broken), 501);
    client.ok("STOR after", 425);

    client.ok("opts utf8 on", 200);
    let whole = format!("{name}.d/{name}\r\n");
    assert_eq!(
        client.download(line(&format!("NLST {name}.d"), b"")),
        whole.as_bytes()
    );
    client.ok(format!("CWD {name}.d"), 250);
    assert_eq!(directory(&mut client), line(&format!("/{name}.d"), b""));
    client.ok("OPTS UTF8 OFF", 200);
    assert_eq!(directory(&mut client), line("/", &below));
    client.ok(line("DELE ", wire), 250);
    client.ok("CDUP", 250);
    client.ok(line("RMD ", &below), 250);
    assert_eq!(client.download("NLST"), b"");
}

#[test]
fn names_on_the_wire_are_the_clients_and_on_disk_utf8() {
    let site = Site::start("samples", &[]);
    for port in [Port::Explicit, Port::Implicit] {
        for sample in &SAMPLES {
            check_sample(&site, port, sample);
        }
    }
    // The log has names as they are on disk.
    for sample in &SAMPLES {
        let logged = wait_until(PATIENCE, || {
            let text = std::fs::read_to_string(&site.transfers).unwrap_or_default();
            text.contains(&format!("\"/{}\"", sample.name))
        });
        assert!(logged, "{}", sample.name);
    }
}

#[test]
fn opts_utf8_before_the_login_holds_after_it() {
    let site = Site::start("early", &[]);
    std::fs::write(site.path("文"), "").unwrap();
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = Client::connect(&site.server, port);
        client.secure();
        client.ok("OPTS UTF8 ON", 200);
        client.login("chinese", PASSWORD);
        if port == Port::Explicit {
            client.protect();
        }
        assert_eq!(client.download("NLST"), "文\r\n".as_bytes());
        assert!(client.ok("FEAT", 211).inner().contains(&" UTF8".to_owned()));
        // Another user of the same connection who wants the same.
        client.login("western", PASSWORD);
        assert_eq!(client.download("NLST"), "文\r\n".as_bytes());
        client.ok("OPTS UTF8 OFF", 200);
        assert_eq!(client.download("NLST"), b"(U+6587)\r\n");
    }
}

#[test]
fn what_the_set_lacks_is_reached_and_nothing_else() {
    let site = Site::start("lacking", &[]);
    // Each of these could be taken for another.
    let names: [(&[u8], &[u8]); 7] = [
        ("漢".as_bytes(), b"(U+6F22)"),
        (b"(U+6F22)", b"(U+0028)U+6F22)"),
        (b"?", b"?"),
        (b"\xE4", b"(0xE4)"),
        ("ä".as_bytes(), b"\xE4"),
        ("æ¼¢".as_bytes(), b"\xE6\xBC\xA2"),
        (b"(0xE4)", b"(U+0028)0xE4)"),
    ];
    for (name, _) in names {
        std::fs::write(site.path(name), name).unwrap();
    }
    let mut client = site.login(Port::Explicit, "western");
    let listed = client.download("NLST");
    let mut listed: Vec<&[u8]> = listed.split(|octet| *octet == b'\n').collect();
    listed.sort_unstable();
    let mut expected: Vec<Vec<u8>> = names.map(|(_, wire)| [wire, b"\r"].concat()).to_vec();
    expected.push(Vec::new());
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for (name, wire) in names {
        assert_eq!(
            client.download(line("RETR ", wire)),
            name,
            "{}",
            wire.escape_ascii()
        );
    }
    for (name, wire) in names {
        client.ok(line("DELE ", wire), 250);
        assert!(!site.path(name).exists(), "{}", wire.escape_ascii());
    }
    assert_eq!(client.download("NLST"), b"");
    // So are names that the client makes.
    client.upload("STOR (U+6F22)", b"x");
    assert!(site.path("漢").is_file());
}

#[test]
fn a_letter_that_is_telnets_needs_no_doubling() {
    let site = Site::start("telnet", &["--charset", "windows-1251"]);
    let wire = b"\xFF\xED\xE2\xE0\xF0\xFC \xFF";
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = site.login(port, "plain");
        client.upload([b"STOR ", &wire[..]].concat(), b"undoubled");
        assert!(site.path("январь я").is_file());
        assert_eq!(client.download("NLST"), [wire, &b"\r\n"[..]].concat());
        assert_eq!(client.download(line("RETR ", wire)), b"undoubled");
        // Two are two, to the client as well, and another file stays as it is.
        let (one, two) = (&b"\xEF\xFF.doc"[..], &b"\xEF\xFF\xFF.doc"[..]);
        client.upload(line("STOR ", one), b"one");
        client.upload(line("STOR ", two), b"two");
        assert_eq!(std::fs::read(site.path("пя.doc")).unwrap(), b"one");
        assert_eq!(std::fs::read(site.path("пяя.doc")).unwrap(), b"two");
        assert_shows(&client.ok(line("MLST ", two), 250).raw, two);
        client.ok(line("DELE ", two), 250);
        client.ok(line("DELE ", one), 250);
        // The Synch of Telnet is still one.
        client.ok(b"\xFF\xF4\xFF\xF2ABOR", 226);
        client.ok([b"DELE ", &wire[..]].concat(), 250);
    }
}

#[test]
fn a_long_listing_is_encoded_whole() {
    let site = Site::start("long", &[]);
    let names = 0..3000;
    let name = |number| format!("文件-{number:04}-{}", "名".repeat(20));
    for number in names.clone() {
        std::fs::write(site.path(name(number)), "").unwrap();
    }
    let mut client = site.login(Port::Implicit, "chinese");
    let listed = client.download("MLSD");
    let mut lines: Vec<&[u8]> = listed.split(|octet| *octet == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]));
    let mut numbers: Vec<usize> = Vec::new();
    for line in lines {
        let at = line.iter().position(|octet| *octet == b' ').unwrap();
        let rest = line[at + 1..].strip_prefix(b"\xCE\xC4\xBC\xFE-").unwrap();
        let (digits, rest) = rest.split_at(4);
        assert_eq!(rest, [b"-", &b"\xC3\xFB".repeat(20)[..], b"\r"].concat());
        numbers.push(std::str::from_utf8(digits).unwrap().parse().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, names.collect::<Vec<usize>>());
}

#[test]
fn users_go_before_the_server() {
    let site = Site::start("server", &["--charset", "latin1"]);
    std::fs::write(site.path("ä文"), "").unwrap();
    for (user, listed) in [
        ("plain", &b"\xE4(U+6587)\r\n"[..]),
        ("chinese", b"(U+00E4)\xCE\xC4\r\n"),
        ("modern", "ä文\r\n".as_bytes()),
    ] {
        let mut client = site.login(Port::Explicit, user);
        assert_eq!(client.download("NLST"), listed, "{user}");
    }
    let mut client = site.login(Port::Explicit, "modern");
    client.ok("OPTS UTF8 OFF", 501);
    // `ringftpd user` keeps the key.
    site.accounts.add_with("other", &site.home, &[]);
    let users = std::fs::read_to_string(&site.accounts.file).unwrap();
    for charset in ["GBK", "Shift_JIS", "windows-1252", "UTF-8"] {
        assert!(
            users.contains(&format!("charset = \"{charset}\"\n")),
            "{users}"
        );
    }
}

#[test]
fn hosts_go_before_the_server_and_a_reload_changes_both() {
    let directory = process_directory().join("charset-hosts");
    let home = directory.join("home");
    let accounts = Accounts::single("ann", &home);
    std::fs::write(home.join("ä文"), "").unwrap();
    let file = directory.join("ringftpd.toml");
    let text = "[files]\ncharset = 'latin1'\n[[hosts]]\nnames = 'a.example'\ncharset = 'gbk'\n";
    std::fs::write(&file, text).unwrap();
    let users = accounts.file.to_str().unwrap();
    let server = Server::start(&["--users", users, "--config", file.to_str().unwrap()]);
    let listed = |host: &str| {
        let mut client = Client::connect(&server, Port::Explicit);
        client.expect(220);
        if !host.is_empty() {
            client.ok(format!("HOST {host}"), 220);
        }
        client.auth_tls();
        client.login("ann", PASSWORD);
        client.protect();
        client.download("NLST")
    };
    assert_eq!(listed(""), b"\xE4(U+6587)\r\n");
    assert_eq!(listed("a.example"), b"(U+00E4)\xCE\xC4\r\n");
    let swapped = text.replace("latin1", "big5").replace("gbk", "utf-8");
    std::fs::write(&file, swapped).unwrap();
    server.signal(Signal::HUP);
    let changed = wait_until(PATIENCE, || listed("") == b"(U+00E4)\xA4\xE5\r\n");
    assert!(changed, "the server's");
    assert_eq!(listed("a.example"), "ä文\r\n".as_bytes());
}

#[test]
fn an_unknown_label_is_told_with_near_ones() {
    let users = process_directory().join("charset-label.toml");
    let mut command = Command::new(program());
    command.args([
        "user",
        "add",
        "bob",
        "--password-stdin",
        "--charset",
        "shiftjs",
        "--users",
    ]);
    let output = command.arg(&users).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("no character set `shiftjs`; did you mean `Shift_JIS`"),
        "{told}"
    );
    assert!(!users.exists());
}
