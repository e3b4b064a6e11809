//! LIST, NLST, MLSD, MLST, STAT, and names of every kind.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::client::Client;
use crate::common::server::READER;
use crate::fixture::Test;

checks! {
    c115: Both, c116: Both, c117: Both, c118: Both, c119: Both, c120: Both, c121: Both,
    c122: Both, c123: Both,
}

const DAY: Duration = Duration::from_secs(86_400);

fn set_time(path: &Path, time: SystemTime) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Year, month 1-12, day, hour, minute in UTC.
fn civil(time: SystemTime) -> (u64, u64, u64, u64, u64) {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 0;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if days < length {
            break;
        }
        days -= length;
    }
    (
        year,
        month,
        days + 1,
        seconds / 3600 % 24,
        seconds / 60 % 60,
    )
}

/// The date in a line of LIST.
fn date(time: SystemTime, recent: bool) -> String {
    let (year, month, day, hour, minute) = civil(time);
    let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let start = usize::try_from(month - 1).unwrap() * 3;
    let month = &names[start..start + 3];
    if recent {
        format!("{month} {day:02} {hour:02}:{minute:02}")
    } else {
        format!("{month} {day:02}  {year}")
    }
}

/// The lines of a listing without their CRLF.
fn lines(listing: &[u8]) -> Vec<Vec<u8>> {
    assert!(listing.is_empty() || listing.ends_with(b"\r\n"));
    let mut lines: Vec<Vec<u8>> = listing
        .split(|&octet| octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        .collect();
    lines.pop();
    assert!(lines.iter().all(|line| !line.is_empty()), "a blank line");
    lines
}

fn text_lines(listing: &[u8]) -> Vec<String> {
    let text = |line: Vec<u8>| String::from_utf8(line).unwrap();
    lines(listing).into_iter().map(text).collect()
}

/// Checks one line of LIST: permissions, links, owner, group, size, date, name.
#[track_caller]
fn assert_long(line: &str, kind: char, size: Option<u64>, date: &str, name: &str) {
    let tail = format!(" {date} {name}");
    let Some(front) = line.strip_suffix(&tail) else {
        panic!("{line:?} does not end in {tail:?}");
    };
    let fields: Vec<&str> = front.split_whitespace().collect();
    let [permissions, links, _owner, _group, octets] = fields[..] else {
        panic!("not five fields before the date: {line:?}");
    };
    assert_eq!(permissions.len(), 10, "{line:?}");
    assert!(permissions.starts_with(kind), "{line:?}");
    assert!(
        permissions[1..].chars().all(|c| "rwx-sStT".contains(c)),
        "{line:?}"
    );
    assert!(links.parse::<u64>().is_ok(), "{line:?}");
    let octets: u64 = octets.parse().unwrap_or_else(|_| panic!("{line:?}"));
    assert!(size.is_none_or(|size| size == octets), "{line:?}");
}

fn c115(t: &Test) {
    let now = SystemTime::now();
    let moments = [
        ("recent", now - DAY, true),
        ("half a year", now - 170 * DAY, true),
        ("old", now - 190 * DAY, false),
        ("very old", UNIX_EPOCH + 400 * DAY, false),
        ("future", now + 3 * DAY, false),
        ("soon", now + Duration::from_secs(3600), true),
    ];
    for (name, time, _) in moments {
        t.put(name, b"12345");
        set_time(&t.path(name), time);
    }
    std::fs::create_dir(t.path("directory")).unwrap();
    std::os::unix::fs::symlink("recent", t.path("link")).unwrap();
    let mut client = t.session();
    let listing = text_lines(&client.download("LIST"));
    assert_eq!(listing.len(), moments.len() + 2, "{listing:#?}");
    let find = |end: &str| {
        let found = listing.iter().find(|line| line.ends_with(end));
        found.unwrap_or_else(|| panic!("no {end:?} in {listing:#?}"))
    };
    for (name, time, recent) in moments {
        let date = date(time, recent);
        let line = find(&format!("{date} {name}"));
        assert_long(line, '-', Some(5), &date, name);
    }
    let made = t.path("directory").metadata().unwrap().modified().unwrap();
    assert_long(
        find(" directory"),
        'd',
        None,
        &date(made, true),
        "directory",
    );
    assert!(find(" link -> recent").starts_with('l'));
    let one = text_lines(&client.download("LIST very old"));
    assert_eq!(one.len(), 1);
    assert!(one[0].ends_with(" very old"), "{one:?}");
}

fn c116(t: &Test) {
    std::fs::create_dir_all(t.path("d/empty")).unwrap();
    t.put("d/f", b"");
    t.put("-x", b"");
    let mut client = t.session();
    for line in [
        "LIST -la",
        "LIST -a",
        "LIST -L",
        "LIST -R",
        "LIST -1t",
        "LIST -q -la",
    ] {
        let listing = text_lines(&client.download(line));
        assert_eq!(listing.len(), 2, "{line}: {listing:?}");
    }
    for line in [
        "LIST -la d",
        "LIST d",
        "LIST -a -l d",
        "LIST d/",
        "LIST ./d",
    ] {
        let listing = text_lines(&client.download(line));
        assert_eq!(listing.len(), 2, "{line}: {listing:?}");
        assert!(
            listing.iter().any(|line| line.ends_with(" f")),
            "{listing:?}"
        );
    }
    let listing = text_lines(&client.download("LIST ./-x"));
    assert!(
        listing.len() == 1 && listing[0].ends_with("-x"),
        "{listing:?}"
    );
    assert!(client.download("LIST d/empty").is_empty());
    assert!(client.download("NLST d/empty").is_empty());
    for line in ["LIST missing", "NLST missing", "LIST -la missing"] {
        client.pasv();
        client.ok(line, 550);
    }
    let listing = text_lines(&client.download("NLST d/f*"));
    assert_eq!(listing, ["d/f"]);
    client.pasv();
    client.ok("NLST nothing*", 550);
}

fn c117(t: &Test) {
    std::fs::create_dir_all(t.path("d/inner")).unwrap();
    t.put("d/one", b"content");
    t.put("d/with a space", b"content");
    let mut client = t.session();
    for argument in ["", " d", " d/"] {
        let names = text_lines(&client.download(format!("NLST{argument}")));
        assert_eq!(
            names.len(),
            if argument.is_empty() { 1 } else { 3 },
            "{names:?}"
        );
        for name in names {
            assert!(!name.ends_with('/'), "{name:?}");
            if t.path(&name).is_dir() {
                client.ok(format!("CWD {name}"), 250);
                client.ok(format!("CWD {}", t.directory), 250);
            } else {
                assert_eq!(client.download(format!("RETR {name}")), b"content");
            }
        }
    }
}

fn c118(t: &Test) {
    t.put("f", b"a\nb\n");
    t.put("g h", b"");
    std::fs::create_dir(t.path("d")).unwrap();
    let mut client = t.session();
    for line in ["LIST", "NLST", "MLSD"] {
        client.ok("TYPE I", 200);
        let image = client.download(line);
        client.ok("TYPE A", 200);
        let ascii = client.download(line);
        assert_eq!(image, ascii, "{line}");
        let ends = ascii.windows(2).filter(|pair| pair == b"\r\n").count();
        let line_feeds = ascii.iter().filter(|&&octet| octet == b'\n').count();
        assert_eq!((ends, line_feeds), (3, 3), "{line}");
    }
}

/// The facts and the name of a line of MLSD.
fn facts(line: &str) -> (Vec<(String, String)>, String) {
    let (facts, name) = line.split_once(' ').expect("a space before the name");
    assert!(facts.ends_with(';') || facts.is_empty(), "{line:?}");
    let pair = |fact: &str| {
        let (key, value) = fact.split_once('=').expect("fact=value");
        (key.to_ascii_lowercase(), value.to_owned())
    };
    (
        facts.split_terminator(';').map(pair).collect(),
        name.to_owned(),
    )
}

fn c119(t: &Test) {
    t.put("f", b"12345");
    std::fs::create_dir(t.path("d")).unwrap();
    std::os::unix::fs::symlink("missing", t.path("dangling")).unwrap();
    let mut client = t.secure(&t.server());
    t.settle(&mut client, READER);
    let listing = text_lines(&client.download("MLSD"));
    assert!(listing.len() >= 2, "{listing:?}");
    for line in &listing {
        let (facts, name) = facts(line);
        let value = |key: &str| {
            facts
                .iter()
                .find(|fact| fact.0 == key)
                .map(|fact| fact.1.as_str())
        };
        match name.as_str() {
            "f" => {
                assert_eq!(value("type"), Some("file"));
                assert_eq!((value("size"), value("perm")), (Some("5"), Some("r")));
            }
            "d" => {
                assert_eq!((value("type"), value("size")), (Some("dir"), None));
                let mut perm: Vec<char> = value("perm").unwrap().chars().collect();
                perm.sort_unstable();
                assert_eq!(perm, ['e', 'l']);
            }
            "dangling" => assert_eq!(value("type"), Some("OS.unix=slink")),
            other => panic!("{other:?} in {listing:?}"),
        }
        let modify = value("modify").unwrap();
        assert!(modify.len() == 14 && modify.bytes().all(|octet| octet.is_ascii_digit()));
        assert!(!value("unique").unwrap().is_empty());
    }
    client.ok("OPTS MLST", 200);
    let mut names = text_lines(&client.download("MLSD"));
    names.retain(|line| line != " dangling");
    names.sort_unstable();
    assert_eq!(names, [" d", " f"]);
    let one = client.ok("MLST f", 250).inner();
    assert_eq!(one, [format!("  {}/f", t.directory)]);
    client.pasv();
    client.ok("STOR g", 550);
    client.dialogue(&[("DELE f", 550), ("MKD x", 550), ("RMD d", 550)]);
}

fn c120(t: &Test) {
    t.put("f", b"12345");
    std::fs::create_dir(t.path("d")).unwrap();
    let mut client = t.session();
    let reply = client.ok("MLST f", 250);
    let lines = reply.lines();
    assert_eq!(lines.len(), 3, "{reply:?}");
    assert!(
        lines[0].starts_with("250-") && lines[2].starts_with("250 "),
        "{reply:?}"
    );
    assert!(
        lines[1].starts_with(' ') && !lines[1].starts_with("  "),
        "{reply:?}"
    );
    let (pairs, name) = facts(&lines[1][1..]);
    assert_eq!(name, format!("{}/f", t.directory));
    assert_eq!(
        pairs[0],
        ("type".to_owned(), "file".to_owned()),
        "{reply:?}"
    );
    for line in ["MLST", "MLST d", "MLST ."] {
        let (pairs, _) = facts(&client.ok(line, 250).inner()[0][1..]);
        assert_eq!(pairs[0], ("type".to_owned(), "dir".to_owned()), "{line}");
    }
    client.ok("MLST missing", 550);
    for (line, code) in [("MLSD f", 501), ("MLSD missing", 550), ("MLSD *", 550)] {
        client.pasv();
        client.ok(line, code);
    }
}

/// A name as it goes over the control connection: 0xFF doubled (RFC 854).
fn on_control(name: &[u8]) -> Vec<u8> {
    let double = |&octet: &u8| std::iter::repeat_n(octet, if octet == 0xff { 2 } else { 1 });
    name.iter().flat_map(double).collect()
}

/// The command with this name as its argument.
fn with_name(verb: &str, name: &[u8]) -> Vec<u8> {
    [verb.as_bytes(), b" ", &on_control(name)].concat()
}

fn c121(t: &Test) {
    let names: [&[u8]; 6] = [
        "gr\u{fc}\u{df}e \u{20ac}".as_bytes(),
        b"invalid \xc3\x28",
        b"telnet \xff\xff x \xff",
        b"  leading",
        b"trailing  ",
        b"decomposed u\xcc\x88",
    ];
    for name in names {
        t.put(name, b"content");
    }
    let mut client = t.session();
    let mut listed = lines(&client.download("NLST"));
    listed.sort_unstable();
    let mut expected: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for name in names {
        check_name(t, &mut client, name);
    }
    assert!(client.download("NLST").is_empty());
}

fn check_name(t: &Test, client: &mut Client, name: &[u8]) {
    let end = [b" ", name, b"\r\n"].concat();
    for verb in ["LIST", "MLSD"] {
        let listing = client.download(verb);
        assert!(listing.windows(end.len()).any(|part| part == end), "{verb}");
    }
    assert_eq!(client.download(with_name("RETR", name)), b"content");
    let reply = client.ok(with_name("MLST", name), 250);
    let shown = [t.directory.as_bytes(), b"/", &on_control(name), b"\r\n"].concat();
    let exact = reply.raw.windows(shown.len()).any(|part| part == shown);
    assert!(exact, "{reply:?}");
    client.ok(with_name("DELE", name), 250);
    client.upload(with_name("STOR", name), b"again");
    assert_eq!(t.get(name), b"again");
    client.ok(with_name("DELE", name), 250);
    assert!(!t.path(name).exists());
}

fn c122(t: &Test) {
    for name in ["bad\nname", "bad\rname", "good"] {
        t.put(name, b"");
    }
    let mut client = t.session();
    for line in ["LIST", "NLST", "MLSD"] {
        let listing = text_lines(&client.download(line));
        assert!(
            listing.len() == 1 && listing[0].ends_with("good"),
            "{line}: {listing:?}"
        );
    }
    let reply = client.ok(format!("STAT {}", t.directory), 212);
    assert!(!reply.text().contains("bad"), "{reply:?}");
}

fn c123(t: &Test) {
    t.put("f", b"12345");
    std::fs::create_dir(t.path("d")).unwrap();
    t.put("d/inner", b"");
    let mut client = t.session();
    let file = client.ok("STAT f", 213);
    assert!(file.text().contains(" f\r\n"), "{file:?}");
    let directory = client.ok("STAT d", 212);
    assert!(directory.text().contains(" inner\r\n"), "{directory:?}");
    client.dialogue(&[("STAT missing", 550), ("STAT", 211)]);
}

/// A directory that is listed again and again is read once, but shows at once what changes: by the client, by another
/// one, and behind the server's back.
#[test]
fn a_listing_from_memory_is_never_behind() {
    crate::fixture::run("freshness", crate::common::Port::Explicit, |t| {
        std::fs::create_dir(t.path("d")).unwrap();
        let (mut client, mut other) = (t.session(), t.session());
        for size in 1..=20 {
            let content = vec![b'x'; size];
            match size % 3 {
                0 => assert_eq!(client.upload("STOR d/f", &content).code, 226),
                1 => assert_eq!(other.upload("STOR d/f", &content).code, 226),
                _ => std::fs::write(t.path("d/f"), &content).unwrap(),
            }
            for line in ["MLSD d", "LIST d", "MLSD d", "LIST d"] {
                let shown = text_lines(&client.download(line));
                assert_eq!(shown.len(), 1, "{line}, {size}: {shown:?}");
                let (fact, column) = (format!("size={size};"), format!(" {size} "));
                assert!(
                    shown[0].contains(&fact) || shown[0].contains(&column),
                    "{line}, {size}: {shown:?}"
                );
            }
        }
        client.ok("DELE d/f", 250);
        assert_eq!(client.download("LIST d"), b"");
    });
}
