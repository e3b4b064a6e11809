//! The dialogues of well-known clients, as their sources have them, and what old ones rely on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::common::client::Client;
use crate::common::link::{End, Link};
use crate::common::server::{Accounts, PASSWORD, Server, USER, wait_until};
use crate::common::tls::{Profile, Version};
use crate::common::{PATIENCE, Port};

/// A directory of the shared home.
fn directory(name: &str) -> std::path::PathBuf {
    let directory = Accounts::shared().home.join(name);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn filezilla() {
    let home = directory("filezilla");
    std::fs::write(home.join("file.txt"), b"content").unwrap();
    let server = Server::shared(&[]);
    let mut client = Client::connect(&server, Port::Explicit);
    client.expect(220);
    client.auth_tls();
    client.dialogue(&[
        (&format!("USER {USER}"), 331),
        (&format!("PASS {PASSWORD}"), 230),
    ]);
    let system = client.ok("SYST", 215).text();
    assert!(system.starts_with("215 UNIX Type: L8"), "{system}");
    let features = client.ok("FEAT", 211).text();
    for feature in [
        " UTF8\r\n",
        " MLST type*;",
        " MFMT\r\n",
        " REST STREAM\r\n",
        " EPSV\r\n",
        " CLNT\r\n",
    ] {
        assert!(features.contains(feature), "no {feature:?} in {features}");
    }
    client.dialogue(&[
        ("CLNT FileZilla", 200),
        ("OPTS UTF8 ON", 200),
        ("PBSZ 0", 200),
        ("PROT P", 200),
        (
            "OPTS MLST type;perm;size;modify;unix.mode;unix.owner;unix.group;",
            200,
        ),
        ("CWD /filezilla", 250),
    ]);
    client.protected = true;
    assert!(
        client
            .ok("PWD", 257)
            .text()
            .starts_with("257 \"/filezilla\"")
    );
    client.ok("TYPE I", 200);
    let listed = client.download("MLSD");
    let listed = String::from_utf8(listed).unwrap();
    assert!(
        listed.ends_with(" file.txt\r\n") && listed.contains("type=file;"),
        "{listed}"
    );
    client.ok("MFMT 20200102030405 file.txt", 213);
    assert_eq!(
        client.ok("MDTM file.txt", 213).text(),
        "213 20200102030405\r\n"
    );
    // Without MLSD it looks for hidden files, and takes an empty listing for an empty directory.
    std::fs::create_dir(home.join("empty")).unwrap();
    for line in ["LIST -a empty", "LIST empty", "NLST empty", "MLSD empty"] {
        assert_eq!(client.download(line), b"", "{line}");
    }
    client.dialogue(&[("NOOP", 200), ("PWD", 257), ("TYPE A", 200)]);
}

#[test]
fn winscp_and_lftp() {
    let home = directory("lftp");
    std::fs::write(home.join("f"), b"content").unwrap();
    let server = Server::shared(&[]);
    let mut client = Client::connect(&server, Port::Implicit);
    client.secure();
    // FEAT before and after login tells the same.
    let before = client.ok("FEAT", 211).raw;
    client.login(USER, PASSWORD);
    assert_eq!(client.ok("FEAT", 211).raw, before);
    client.dialogue(&[
        ("LANG", 200),
        ("CLNT lftp/4.9.2", 200),
        ("OPTS UTF8 ON", 200),
        ("OPTS MLST type;size;modify;UNIX.mode;", 200),
        ("CWD /lftp", 250),
        ("CWD .", 250),
        ("ALLO 7", 202),
        ("SITE UTIME 20200102030405 f", 200),
        ("MDTM f", 213),
        (
            "SITE UTIME f 20210102030405 20210102030405 20210102030405 UTC",
            200,
        ),
        ("SITE CHMOD 640 f", 200),
        ("STAT .", 212),
        ("STAT -a .", 212),
        // What is not there is said so, and the dialogue goes on.
        ("OPTS REST STOR", 501),
        ("PRET RETR f", 502),
        ("CPSV", 500),
        ("SSCN ON", 500),
        ("MODE Z", 504),
        ("AVBL", 500),
        ("XQUOTA", 500),
        ("CSID Name=WinSCP;", 500),
        ("SITE SYMLINK a b", 500),
        ("SITE IDLE 900", 500),
        ("HASH f", 500),
        ("XSHA256 f", 500),
        ("NOOP", 200),
    ]);
    assert_eq!(client.ok("MDTM f", 213).text(), "213 20210102030405\r\n");
}

#[test]
fn curl() {
    let home = directory("curl");
    std::fs::create_dir_all(home.join("a/b")).unwrap();
    std::fs::write(home.join("a/b/f"), vec![0; 12_345]).unwrap();
    let server = Server::shared(&[]);
    let mut client = Client::connect(&server, Port::Explicit);
    client.expect(220);
    // It tries AUTH SSL first.
    client.ok("AUTH SSL", 234);
    client.handshake();
    client.login(USER, PASSWORD);
    client.protect();
    client.dialogue(&[
        ("PWD", 257),
        ("CWD curl", 250),
        ("CWD a", 250),
        ("CWD b", 250),
    ]);
    client.epsv();
    client.dialogue(&[("TYPE I", 200), ("SIZE f", 213), ("REST 0", 350)]);
    let address = client.pasv();
    let mut data = client.data(address);
    let opened = client.ok("RETR f", 150).text();
    assert!(opened.contains("(12345 bytes)"), "{opened}");
    client.secure_data(&mut data);
    assert_eq!(client.drain(data).len(), 12_345);
}

#[test]
fn commons_net_and_gvfs() {
    let home = directory("commons");
    std::fs::write(home.join(".hidden"), b"").unwrap();
    std::fs::write(home.join("-la"), b"dash").unwrap();
    let server = Server::shared(&[]);
    let mut client = Client::ready(&server, Port::Implicit);
    assert!(client.ok("SYST", 215).text().contains("UNIX"));
    let help = client.ok("SITE HELP", 214).text();
    assert!(help.contains("CHMOD"), "{help}");
    for line in ["LIST -a commons", "LIST -al commons", "LIST -la /commons"] {
        let listed = String::from_utf8(client.download(line)).unwrap();
        assert!(
            listed.contains(" .hidden\r\n") && listed.contains(" -la\r\n"),
            "{line}: {listed}"
        );
        assert!(!listed.contains("total"), "{line}: {listed}");
    }
    // A file that is called like options is reached all the same.
    client.ok("CWD commons", 250);
    assert_eq!(client.download("NLST ./-la"), b"./-la\r\n");
    assert_eq!(client.download("RETR -la"), b"dash");
}

#[test]
fn explorer_and_old_programs() {
    let server = Server::shared(&[]);
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = Client::connect(&server, port);
        if port == Port::Explicit {
            client.expect(220);
            client.ok("opts utf8 on", 200);
            client.auth_tls();
        } else {
            client.secure();
            client.ok("opts utf8 on", 200);
        }
        client.login(USER, PASSWORD);
        client.dialogue(&[
            ("OPTS UTF8", 200),
            ("noop  ", 200),
            ("TYPE I ", 200),
            ("TYPE I N", 200),
            ("TYPE A N", 200),
            ("TYPE L 8", 200),
            ("TYPE L8", 200),
            ("type a", 200),
            ("MODE S ", 200),
            ("STRU F ", 200),
            ("CWD ~", 250),
            ("CWD ~/", 250),
            ("XPWD", 257),
            ("XCWD /", 250),
            ("XCUP", 250),
            ("XMKD explorer", 257),
            ("XRMD explorer", 250),
            ("PASV ", 227),
            ("P@SW", 227),
            ("SYST ", 215),
        ]);
    }
}

/// Through NAT and carriers' networks the control connection lives by TCP's keepalive while a transfer runs.
#[test]
fn control_connections_are_kept_alive() {
    let server = Server::shared(&[]);
    let client = Client::ready(&server, Port::Explicit);
    let own = client.link.tcp.local_addr().unwrap();
    let hex = format!(":{:04X} ", own.port());
    let timer = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let theirs = format!(":{:04X}", server.address(Port::Explicit).port());
        let row = table.lines().find(|row| {
            let fields: Vec<&str> = row.split_whitespace().collect();
            fields.len() > 5
                && fields[1].ends_with(&theirs)
                && format!("{} ", fields[2]).ends_with(&hex)
        });
        let timer = row.unwrap().split_whitespace().nth(5).unwrap().to_owned();
        let (kind, rest) = timer.split_once(':').unwrap();
        (kind.to_owned(), i64::from_str_radix(rest, 16).unwrap())
    };
    // 02: keepalive; the time left in hundredths of a second. For a moment the last reply may be unacknowledged.
    assert!(wait_until(PATIENCE, || timer().0 == "02"), "{:?}", timer());
    assert!(timer().1 <= 6000, "{:?}", timer());
}

#[test]
fn dates_in_list_are_in_the_zone_that_was_chosen() {
    let home = directory("zone");
    let path = home.join("f");
    std::fs::write(&path, b"").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // 23:30 UTC, a quarter past the next midnight elsewhere.
    let recent = std::time::SystemTime::now() - Duration::from_secs(40 * 86_400);
    let days = recent
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 86_400;
    let at = std::time::UNIX_EPOCH + Duration::from_secs(days * 86_400 + 23 * 3600 + 30 * 60);
    file.set_modified(at).unwrap();
    let utc = Server::shared(&[]);
    let local = Server::shared(&["--list-zone", "+05:45"]);
    let shown = |server: &Server, line: &str| {
        let mut client = Client::ready(server, Port::Implicit);
        client.ok("CWD zone", 250);
        let text = match line {
            "MDTM f" | "STAT f" => client.command(line).text(),
            _ => String::from_utf8(client.download(line)).unwrap(),
        };
        text.clone()
    };
    let of = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| word.contains(':') && word.len() == 5);
        let at = at.unwrap_or_else(|| panic!("no time in {text}"));
        (words[at - 1].to_owned(), words[at].to_owned())
    };
    for line in ["LIST", "LIST f", "STAT f"] {
        let (there, here) = (of(&shown(&utc, line)), of(&shown(&local, line)));
        assert_eq!((&*there.1, &*here.1), ("23:30", "05:15"), "{line}");
        assert_ne!(there.0, here.0, "{line}: the next day");
    }
    for line in ["MDTM f", "MLSD"] {
        let facts = |text: String| {
            text.split(';')
                .find(|fact| fact.contains("233000"))
                .is_some()
        };
        assert!(facts(shown(&local, line)), "{line} is UTC");
    }
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A client behind several addresses proves by its TLS session whose data connection it is.
#[test]
fn a_data_connection_from_elsewhere_is_served_if_it_resumes() {
    let home = directory("elsewhere");
    std::fs::write(home.join("f"), b"content").unwrap();
    let server = Server::shared(&["--passive-peer", "resumed", "--protect-data", "optional"]);
    for version in [Version::Tls12, Version::Tls13] {
        for port in [Port::Explicit, Port::Implicit] {
            let profile = Profile::new(version);
            let mut client = Client::connect_as(&server, port, profile, None);
            client.settle(USER, PASSWORD);
            client.ok("CWD elsewhere", 250);
            let call = |client: &mut Client| {
                let address = client.pasv();
                Link::connect(address, Some(IpAddr::V4(ELSEWHERE))).unwrap()
            };
            for early in [true, false] {
                let mut data = call(&mut client);
                if early {
                    client.secure_data(&mut data);
                }
                client.ok("RETR f", 150);
                if !early {
                    client.secure_data(&mut data);
                }
                assert_eq!(client.drain(data), b"content");
            }
            // Whoever cannot resume is nobody; what is to be replaced stays.
            let mut data = call(&mut client);
            client.ok("STOR f", 150);
            let stranger = client.profile.full();
            let _ = data.handshake(&stranger);
            let reply = client.expect(522);
            assert!(reply.text().contains("resume"), "{reply:?}");
            assert_eq!(std::fs::read(home.join("f")).unwrap(), b"content");
            // In the clear nothing would tell: the right address alone is served.
            client.ok("PROT C", 200);
            client.protected = false;
            let address = client.pasv();
            let mut stranger = Link::connect(address, Some(IpAddr::V4(ELSEWHERE))).unwrap();
            client.ok("RETR f", 150);
            let (octets, end) = stranger.take_all_raw();
            assert!(octets.is_empty() && end != End::Timeout, "{end:?}");
            let data = client.data(address);
            assert_eq!(client.drain(data), b"content");
            // Nor where TLS is switched off behind the set-up.
            client.ok("PROT P", 200);
            let address = client.pasv();
            let stranger = Link::connect(address, Some(IpAddr::V4(ELSEWHERE))).unwrap();
            client.ok("PROT C", 200);
            std::thread::sleep(Duration::from_millis(50));
            client.ok("RETR f", 150);
            client.expect(425);
            drop(stranger);
            client.ok("NOOP", 200);
        }
    }
}

/// IANA's name for data connections, and the two that FileZilla offers.
#[test]
fn data_connections_may_offer_their_own_protocol_name() {
    let home = directory("alpn");
    std::fs::write(home.join("f"), b"content").unwrap();
    let server = Server::shared(&[]);
    let mut client = Client::ready(&server, Port::Explicit);
    client.ok("CWD alpn", 250);
    for (offered, chosen) in [
        (&["ftp-data"][..], "ftp-data"),
        (&["ftp"], "ftp"),
        (&["x-filezilla-ftp", "ftp"], "ftp"),
    ] {
        let address = client.pasv();
        let mut data = client.data(address);
        let profile = Profile::usual().with_alpn(offered);
        let handshake = data.handshake(&profile.resuming_from(&client.profile.tickets));
        assert_eq!(handshake, Ok(()), "{offered:?}");
        client.ok("RETR f", 150);
        assert_eq!(data.alpn().as_deref(), Some(chosen.as_bytes()));
        assert_eq!(client.drain(data), b"content");
    }
}

#[test]
fn the_log_tells_of_clients_on_the_wrong_port() {
    let server = Server::start(&[]);
    let mut explicit = Client::connect(&server, Port::Explicit);
    explicit.expect(220);
    explicit.link.begin_tls(&explicit.profile.full());
    let hello = explicit.link.outgoing();
    explicit.link.end_tls();
    explicit.link.send_raw(&hello);
    assert!(server.wait_for_log("began with TLS on the explicit port"));
    let mut implicit = Client::connect(&server, Port::Implicit);
    implicit.link.send_raw(b"AUTH TLS\r\n");
    assert!(server.wait_for_log("began without TLS on the implicit port"));
}

#[test]
fn taken_ports_are_told_with_the_remedy() {
    let server = Server::start(&["--metrics", "0", "--cores", "1"]);
    let (first, last) = server.passive_ports;
    let _taken: Vec<_> = (first..=last)
        .filter_map(|port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .collect();
    let mut client = Client::ready(&server, Port::Explicit);
    let reply = client.ok("EPSV", 425);
    assert!(reply.text().contains("range of passive ports"), "{reply:?}");
    assert!(server.wait_for_log("--passive-ports"));
    drop(_taken);
    client.download("NLST");
}
