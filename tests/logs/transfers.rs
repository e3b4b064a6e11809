//! The transfer log.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use ringftpd::load::trace;
use serde_json::Value;

use crate::Logged;
use crate::common::client::Client;
use crate::common::server::{PASSWORD, wait_until};
use crate::common::{PATIENCE, Port, pattern};

/// Downloads, uploads, changes of the tree, and what goes wrong with them.
fn work(logged: &Logged) {
    let home = &logged.home;
    fs::write(home.join("big file"), pattern(20_000_000)).unwrap();
    fs::write(home.join("small"), b"one\ntwo\n").unwrap();
    let mut client = Client::connect(&logged.server, Port::Explicit);
    client.settle("ann", PASSWORD);
    assert_eq!(client.download("RETR big file").len(), 20_000_000);
    client.ok("REST 4", 350);
    assert_eq!(client.download("RETR small"), b"two\n");
    client.ok("TYPE A", 200);
    client.download("RETR small");
    client.ok("TYPE I", 200);
    client.upload("STOR new", &pattern(3000));
    client.upload("APPE new", &pattern(500));
    client.upload("STOU", b"unique");
    client.download("LIST");
    client.pasv();
    client.ok("RETR missing", 550);
    // The client goes away in the middle.
    let mut data = client.open("RETR big file");
    data.take_exactly(1000);
    data.reset();
    client.expect(426);
    // ABOR with a data connection that is not read to its end.
    let mut data = client.open("RETR big file");
    data.take_exactly(1000);
    client.send("ABOR");
    client.expect(426);
    client.expect(226);
    drop(data);
    // An upload without close_notify.
    let data = client.open("STOR broken");
    data.shutdown_write();
    client.expect(426);
    drop(data);
    client.ok("MKD /dir", 257);
    client.ok("MKD /dir", 550);
    client.ok("RNFR /new", 350);
    client.ok("RNTO /dir/newer", 250);
    client.ok("DELE /dir/newer", 250);
    client.ok("DELE /dir/newer", 550);
    client.ok("RMD /dir", 250);
    client.ok("QUIT", 221);
}

/// Operation, path, result, reason of each line of [`work`].
const LINES: [(&str, &str, &str, Option<&str>); 17] = [
    ("download", "/big file", "complete", None),
    ("download", "/small", "complete", None),
    ("download", "/small", "complete", None),
    ("upload", "/new", "complete", None),
    ("upload", "/new", "complete", None),
    ("upload", "/", "complete", None),
    ("list", "/", "complete", None),
    (
        "download",
        "/missing",
        "refused",
        Some("no such file or directory"),
    ),
    (
        "download",
        "/big file",
        "incomplete",
        Some("connection lost"),
    ),
    ("download", "/big file", "incomplete", Some("aborted")),
    (
        "upload",
        "/broken",
        "incomplete",
        Some("ended without close_notify"),
    ),
    ("make-directory", "/dir", "complete", None),
    ("make-directory", "/dir", "refused", Some("already exists")),
    ("rename", "/new", "complete", None),
    ("delete", "/dir/newer", "complete", None),
    (
        "delete",
        "/dir/newer",
        "refused",
        Some("no such file or directory"),
    ),
    ("remove-directory", "/dir", "complete", None),
];

#[test]
fn json_tells_everything_that_was_done() {
    let logged = Logged::start("json", "json", &["--ktls", "off"]);
    work(&logged);
    let lines = logged.objects(LINES.len());
    let session = &lines[0]["session"];
    assert!(session.as_u64().unwrap() > 0);
    for (line, (operation, path, result, reason)) in lines.iter().zip(LINES) {
        assert_eq!(line["operation"], operation, "{line}");
        assert!(line["path"].as_str().unwrap().starts_with(path), "{line}");
        assert_eq!(line["result"], result, "{line}");
        assert_eq!(line["reason"].as_str(), reason, "{line}");
        assert_eq!(line["user"], "ann", "{line}");
        assert_eq!(line["anonymous"], false, "{line}");
        assert_eq!(line["address"], "127.0.0.1", "{line}");
        assert_eq!(&line["session"], session, "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        if result == "complete" && line.get("octets").is_some() {
            assert_eq!(line["protection"], "private", "{line}");
            assert!(
                line["tls"].as_str().unwrap().starts_with("TLSv1."),
                "{line}"
            );
            assert!(
                line["suite"].as_str().unwrap().starts_with("TLS_"),
                "{line}"
            );
            assert!(line["resumed"].is_boolean(), "{line}");
            assert!(line["seconds"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    let of = |line: usize, key: &str| lines[line][key].clone();
    assert_eq!(of(0, "octets"), 20_000_000);
    assert_eq!(of(0, "route"), "user-tls");
    let rate = of(0, "octets").as_f64().unwrap() / of(0, "seconds").as_f64().unwrap();
    let told = of(0, "rate").as_f64().unwrap();
    assert!((told / rate - 1.0).abs() < 0.01, "{told} {rate}");
    assert_eq!((of(1, "octets"), of(1, "restart")), (4.into(), 4.into()));
    assert_eq!(
        (of(2, "type"), of(2, "route")),
        ("ascii".into(), "user-tls-ascii".into())
    );
    let commands: Vec<Value> = (3..7).map(|line| of(line, "command")).collect();
    assert_eq!(commands, ["STOR", "APPE", "STOU", "LIST"]);
    // STOU has the name that the server chose.
    assert!(of(5, "path").as_str().unwrap().len() > 1, "{}", lines[5]);
    assert_eq!((of(7, "octets"), of(7, "route")), (0.into(), Value::Null));
    assert!(of(8, "octets").as_u64().unwrap() < 20_000_000);
    assert_eq!(of(13, "target"), "/dir/newer");
    assert_eq!(of(14, "octets"), Value::Null);
}

#[test]
fn an_xferlog_is_what_other_programs_read() {
    let logged = Logged::start("xferlog", "xferlog", &[]);
    work(&logged);
    let wanted: Vec<_> = LINES
        .iter()
        .filter_map(|(operation, path, result, _)| {
            let direction = match *operation {
                "download" => "o",
                "upload" => "i",
                "delete" => "d",
                _ => return None,
            };
            let status = if *result == "complete" { "c" } else { "i" };
            Some((direction, path.replace(' ', "_"), status))
        })
        .collect();
    let lines = logged.lines(wanted.len());
    for (line, (direction, path, status)) in lines.iter().zip(&wanted) {
        let line = String::from_utf8(line.clone()).unwrap();
        // The day of the month may have a space in front, as ctime has it.
        let (date, rest) = line.split_at(24);
        assert!(line.as_bytes()[24] == b' ' && date.len() == 24, "{line}");
        let fields: Vec<&str> = rest.split(' ').skip(1).collect();
        let &[
            seconds,
            host,
            octets,
            name,
            kind,
            flag,
            way,
            access,
            user,
            service,
            method,
            id,
            end,
        ] = &fields[..]
        else {
            panic!("{} fields: {line}", fields.len());
        };
        assert!(seconds.parse::<u64>().unwrap() >= 1, "{line}");
        assert!(octets.parse::<u64>().is_ok(), "{line}");
        assert!(name.starts_with(path.as_str()), "{line}");
        assert!(matches!(kind, "a" | "b"), "{line}");
        assert_eq!([host, flag, access, user], ["127.0.0.1", "_", "r", "ann"]);
        assert_eq!([service, method, id], ["ftp", "0", "*"], "{line}");
        assert_eq!((&way, &end), (direction, status), "{line}");
    }
    // Our own replay reads what is complete and no deletion.
    let text = fs::read_to_string(&logged.transfers).unwrap();
    let entries = trace::parse(&text).unwrap();
    let complete = wanted
        .iter()
        .filter(|(way, _, end)| *end == "c" && *way != "d");
    assert_eq!(entries.len(), complete.count());
    assert_eq!(
        (entries[0].size, entries[0].path.as_str()),
        (20_000_000, "/big_file")
    );
    assert_eq!(entries.iter().filter(|entry| entry.upload).count(), 3);
}

#[test]
fn hostile_names_forge_nothing() {
    const NAMES: [&[u8]; 5] = [
        b"a b",
        b"esc\x1b[2J\x07",
        b"latin\xe4\x9b1",
        "c1\u{9b}31m\u{202e}\u{2028}".as_bytes(),
        b"x 1 127.0.0.1 9 forged b _ o r root ftp 0 * c",
    ];
    for format in ["xferlog", "json"] {
        let logged = Logged::start(
            &format!("hostile-{format}"),
            format,
            &["--log-level", "trace"],
        );
        let mut client = Client::connect(&logged.server, Port::Implicit);
        client.settle("ann", PASSWORD);
        for name in NAMES {
            fs::write(logged.home.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
            let got = client.download([b"RETR ", name].concat());
            assert_eq!(got, name);
        }
        let lines = logged.lines(NAMES.len());
        for (line, name) in lines.iter().zip(NAMES) {
            assert!(
                !line.iter().any(u8::is_ascii_control),
                "{}",
                line.escape_ascii()
            );
            let shown = String::from_utf8_lossy(line);
            assert!(
                !shown
                    .chars()
                    .any(|one| one.is_control() || one == '\u{202e}')
            );
            if format == "json" {
                let read: Value = serde_json::from_slice(line).unwrap();
                let path = format!("/{}", String::from_utf8_lossy(name));
                assert_eq!(read["path"], path);
            } else {
                assert_eq!(
                    shown.split(' ').filter(|field| !field.is_empty()).count(),
                    18
                );
            }
        }
        if format == "xferlog" {
            let text = String::from_utf8_lossy(&fs::read(&logged.transfers).unwrap()).into_owned();
            assert_eq!(trace::parse(&text).unwrap().len(), NAMES.len());
        }
        // Nor in the server's log, whose lines all begin with a time.
        assert!(logged.server.wait_for_log("/x 1 127.0.0.1 9 forged"));
        let log = logged.server.log();
        let whole = log.iter().rposition(|octet| *octet == b'\n').unwrap();
        for line in String::from_utf8(log[..whole].to_vec())
            .unwrap()
            .split('\n')
        {
            assert!(
                line.starts_with("20") && !line.chars().any(char::is_control),
                "{line:?}"
            );
        }
    }
}

#[test]
fn anonymous_is_told_apart() {
    for (format, word) in [
        ("xferlog", " b _ o a anonymous ftp 0 * c"),
        ("json", "\"user\":\"anonymous\",\"anonymous\":true,"),
    ] {
        let logged = Logged::start(&format!("anonymous-{format}"), format, &["--anonymous"]);
        fs::write(logged.server.directory.join("public/free"), b"free").unwrap();
        let mut client = Client::connect(&logged.server, Port::Explicit);
        client.settle("FTP", "guest@example.org");
        client.download("RETR free");
        let line = String::from_utf8(logged.lines(1).remove(0)).unwrap();
        assert!(line.contains(word) && !line.contains("guest@"), "{line}");
    }
}

#[test]
fn the_end_of_the_server_writes_what_is_left() {
    let logged = Logged::start("end", "json", &["--grace", "0s"]);
    fs::write(logged.home.join("big"), pattern(50_000_000)).unwrap();
    let mut client = Client::connect(&logged.server, Port::Explicit);
    client.settle("ann", PASSWORD);
    let data = client.open("RETR big");
    logged.server.signal(rustix::process::Signal::TERM);
    let status = logged.server.wait(PATIENCE).expect("it ends");
    assert!(status.success());
    drop(data);
    // Without waiting: it has ended.
    let lines = crate::lines_of(&logged.transfers);
    assert_eq!(lines.len(), 1);
    let line: Value = serde_json::from_slice(&lines[0]).unwrap();
    assert_eq!(
        (&line["result"], &line["reason"]),
        (&"incomplete".into(), &"aborted".into())
    );
    assert!(wait_until(PATIENCE, || {
        String::from_utf8_lossy(&logged.server.log()).contains("stopped")
    }));
    let _ = std::io::stderr().flush();
}
