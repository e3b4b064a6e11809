//! Every key with a good and a bad value, the example, the two sources together, and whatever text.

mod places;
mod random;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::example::example;
use super::parse::{Parsed, parse};
use super::problem::Place;
use super::sections::{SECTIONS, Section, Structures};
use super::sources::{Loaded, Refusal, Sources};
use super::table::{Change, Kind, Table};
use crate::config::Exit;

/// For each key: a good value and a bad one as TOML, and keys that the good one needs beside it.
const SAMPLES: &[(&str, &str, &str, &str)] = &[
    ("directory", r#""site""#, "true", ""),
    (
        "explicit",
        r#"[":2121", "127.0.0.1:2122"]"#,
        r#""localhost""#,
        "",
    ),
    ("implicit", "2990", r#"":""#, ""),
    ("passive-ports", r#""2000-2999""#, r#""2-1""#, ""),
    ("passive-address", r#""192.0.2.1""#, r#""::1""#, ""),
    ("active", "false", r#""no""#, ""),
    ("active-source-port", r#""any""#, "20", ""),
    ("cert", r#""cert.pem""#, "false", "key = 'key.pem'"),
    (
        "key",
        r#""key.pem""#,
        r#""-----BEGIN PRIVATE KEY-----""#,
        "cert = 'cert.pem'",
    ),
    ("users", r#""users.toml""#, "[]", ""),
    ("client-cert", r#""required""#, r#""on""#, ""),
    (
        "client-ca",
        r#""cert.pem""#,
        "true",
        "client-cert = 'optional'",
    ),
    (
        "client-crl",
        r#""cert.pem""#,
        "[]",
        "client-cert = 'optional'\nclient-ca = 'cert.pem'",
    ),
    ("anonymous", "true", r#""true""#, ""),
    ("pam", r#""ringftpd""#, r#""/etc/pam.d/ftp""#, ""),
    (
        "pam-directory",
        r#""/srv/ftp/%u""#,
        r#""srv/%u""#,
        "pam = 'ringftpd'",
    ),
    ("pam-permissions", r#""read,list""#, r#""fly""#, ""),
    ("pam-uid-min", "500", "-1", ""),
    ("resume", r#""require""#, r#""maybe""#, ""),
    ("protect-control", r#""optional""#, "true", ""),
    ("protect-data", r#""optional""#, "false", ""),
    ("ccc", "true", "1", ""),
    ("strict-eof", "false", r#""yes""#, ""),
    ("fsync", "true", r#""on""#, ""),
    ("remove-partial", "true", "[true]", ""),
    ("upload-mode", r#""atomic""#, r#""hidden""#, ""),
    ("hidden-name", r#"["*.tmp", ".*"]"#, r#""a/b""#, ""),
    ("denied-name", r#"".ht*""#, r#"[""]"#, ""),
    ("charset", r#""gb2312""#, r#""utf-16le""#, ""),
    ("passive-peer", r#""resumed""#, r#""any""#, ""),
    ("list-zone", r#""-03:30""#, r#""Mars""#, ""),
    ("ktls", r#""off""#, r#""never""#, ""),
    ("ktls-download", r#""on""#, "1.5", ""),
    ("ktls-upload", r#""auto""#, r#"{ a = 1 }"#, ""),
    ("ktls-key-records", "2_048", "1023", ""),
    ("route", r#""sendfile""#, r#""pigeon""#, ""),
    ("run-as", r#""ringftpd""#, "1979-05-27", ""),
    ("cores", "1", "-1", ""),
    ("busy-poll", "0", "10_001", ""),
    ("state-dir", r#""state""#, "true", ""),
    (
        "passive-address-for",
        r#""10.0.0.0/8=own""#,
        r#""10.0.0.0/8""#,
        "",
    ),
    (
        "proxy-from",
        r#"["10.0.0.5", "10.1.0.0/16"]"#,
        r#""10.0.0.0/33""#,
        "",
    ),
    (
        "proxy-others",
        r#""refuse""#,
        r#""drop""#,
        "proxy-from = '10.0.0.5'",
    ),
    ("listing-cache", "64", "65_536", ""),
    ("retire-timeout", r#""1h""#, r#""soon""#, ""),
    ("download-rate-per-session", r#""10M""#, "999", ""),
    ("upload-rate-per-session", "65_536", r#""10X""#, ""),
    ("download-rate-per-user", r#""1Gi""#, r#""fast""#, ""),
    ("upload-rate-per-user", r#""500k""#, "-1", ""),
    ("download-rate-total", r#""1G""#, "false", ""),
    ("upload-rate-total", r#""1T""#, "1.5", ""),
    ("allow", r#"["192.0.2.0/24"]"#, r#""192.0.2.0/99""#, ""),
    ("deny", r#""2001:db8::/32""#, r#""nobody""#, ""),
    ("login-failures-max", "10", "-1", ""),
    ("login-failures-per-network-max", "0", r#""many""#, ""),
    ("login-failure-window", r#""1h""#, "0", ""),
    ("ban-time", r#""5m""#, r#""0s""#, ""),
    ("log-file", r#""server.log""#, "true", ""),
    ("transfer-log", r#""transfers.log""#, "false", ""),
    (
        "transfer-log-format",
        r#""json""#,
        r#""xml""#,
        "transfer-log = 'transfers.log'",
    ),
    ("handshake-timeout", "5", "0", ""),
    ("login-timeout", r#""1m""#, r#""0s""#, ""),
    ("idle-timeout", "0x10", "0", ""),
    ("connect-timeout", r#""500ms""#, r#""5 m""#, ""),
    ("stall-timeout", r#""1h""#, r#""721h""#, ""),
    ("close-timeout", "3", "-3", ""),
    ("drain-timeout", "0", r#""""#, ""),
    ("bad-login-delay", r#""0ms""#, "1.5", ""),
    ("grace", "60", "[1, 2]", ""),
    ("connections-max", "100", "4294967296", ""),
    ("connections-per-address-max", "10", "-1", ""),
    ("sessions-per-user-max", "10", r#""many""#, ""),
    ("quota-per-user", r#""10Gi""#, r#""10GB""#, ""),
    ("log-format", r#""json""#, r#""xml""#, ""),
    ("log-level", r#""warn,ringftpd::tls=debug""#, "[1]", ""),
    ("metrics", "9121", r#""localhost:9121""#, ""),
    ("histogram-log", r#""histograms""#, "true", ""),
    (
        "histogram-interval",
        r#""1m""#,
        r#""25h""#,
        "histogram-log = 'h'",
    ),
];

/// A directory with the files that samples name.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem", "users.toml"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    directory
}

fn load(directory: &Path, text: &str, words: &[&str]) -> Result<Loaded, Refusal> {
    let mut given: Vec<OsString> = words.iter().map(OsString::from).collect();
    given.push("--config".into());
    given.push(directory.join("ringftpd.toml").into());
    // As the start does it, the file coming from elsewhere.
    std::fs::write(directory.join("ringftpd.toml"), text).unwrap();
    Sources::new(given).unwrap().load()
}

fn loaded(directory: &Path, text: &str, words: &[&str]) -> Loaded {
    load(directory, text, words).unwrap_or_else(|refusal| panic!("{text}\n{refusal:?}"))
}

/// The problems as `LINE:COLUMN: message`.
fn problems(directory: &Path, text: &str, words: &[&str]) -> Vec<String> {
    let file = directory.join("ringftpd.toml");
    match load(directory, text, words) {
        Err(Refusal::File(problems)) => {
            let prefix = format!("{}:", file.display());
            let lines = problems.lines();
            lines.map(|line| line.replacen(&prefix, "", 1)).collect()
        }
        other => panic!("no problem is told: {text}\n{other:?}"),
    }
}

fn parsed(text: &str) -> Parsed {
    parse(text, Path::new("/base"), &Table::new(), SECTIONS)
}

#[test]
fn every_key_takes_a_good_value_and_refuses_a_bad_one_at_its_place() {
    let directory = directory();
    let table = Table::new();
    for key in &table.keys {
        let sample = SAMPLES.iter().find(|(name, ..)| *name == key.name);
        let Some((name, good, bad, beside)) = sample else {
            panic!(
                "give `{}` a row in SAMPLES: a good and a bad value",
                key.name
            );
        };
        let section = key
            .section
            .map_or_else(|| "#".to_owned(), |section| format!("[{section}]"));
        let text = format!("{section}\n{name} = {good}\n{beside}\n");
        let loaded = loaded(directory.path(), &text, &[]);
        let (words, given) = &loaded.effective[*name];
        assert!(given, "{text}");
        assert!(
            !key.says_default(words),
            "{name}: choose another value than the default"
        );
        if key.is_path() {
            assert!(
                words.iter().all(|word| Path::new(word).is_absolute()),
                "{words:?}"
            );
        }
        let place = Place {
            line: 2,
            column: 4 + name.len(),
        };
        assert_eq!(loaded.origins.place(name), Some(place), "{text}");

        let text = format!("{section}\n{name} = {bad}\n");
        let parsed = parsed(&text);
        let [problem] = parsed.problems.as_slice() else {
            panic!("{text}{:?}", parsed.problems);
        };
        // In an array it is the value inside.
        let inside = usize::from(bad.starts_with('[') && key.kind == Kind::Many);
        let column = place.column + inside;
        assert_eq!(
            problem.place,
            Some(Place { line: 2, column }),
            "{text}{problem:?}"
        );
        assert!(problem.message.starts_with(name), "{problem:?}");
        assert!(parsed.entries.is_empty() && parsed.bad == [*name], "{text}");
    }
    for (name, ..) in SAMPLES {
        assert!(table.find(name).is_some(), "`{name}` is no key any more");
    }
}

#[test]
fn the_example_says_the_defaults() {
    let directory = directory();
    let table = Table::new();
    let text = example(&table, SECTIONS);
    let none = loaded(directory.path(), "", &[]).effective;
    assert_eq!(loaded(directory.path(), &text, &[]).effective, none);
    let mut names = Vec::new();
    let lines = text.lines().map(|line| {
        let key = line
            .strip_prefix('#')
            .and_then(|line| line.split_once(" = "));
        let Some((name, _)) = key.filter(|(name, _)| table.find(name).is_some()) else {
            return line.to_owned();
        };
        names.push(name.to_owned());
        line[1..].to_owned()
    });
    let lines: Vec<String> = lines.collect();
    let parsed = parsed(&lines.join("\n"));
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.entries.len(), table.keys.len());
    assert_eq!(
        loaded(directory.path(), &lines.join("\n"), &[]).effective,
        none
    );
    let keys: Vec<&str> = table.keys.iter().map(|key| key.name.as_str()).collect();
    names.sort();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted, "each key is shown once");
    assert!(text.contains("(live)") && text.contains("(restart)"));
    assert!(
        lines
            .iter()
            .all(|line| line.chars().count() <= 101 || !line.starts_with('#'))
    );
}

#[test]
fn the_command_line_overrides_the_file() {
    let directory = directory();
    let text = "directory = 'site'\n[accounts]\nanonymous = true\n[timers]\nidle-timeout = 7\ngrace = 8\n\
                [listening]\nexplicit = [':2121', ':2122']\n";
    let plain = loaded(directory.path(), text, &[]).checked;
    assert!(plain.anonymous);
    assert_eq!(plain.directory, directory.path().join("site"));
    assert_eq!(plain.explicit.len(), 2);
    assert_eq!(plain.timers.idle.as_secs(), 7);
    let words = [
        "/elsewhere",
        "--idle-timeout",
        "9",
        "--no-anonymous",
        "--explicit=:2123",
    ];
    let loaded = loaded(directory.path(), text, &words);
    assert_eq!(loaded.checked.directory, PathBuf::from("/elsewhere"));
    assert!(!loaded.checked.anonymous && !loaded.checked.take_over);
    assert_eq!(loaded.checked.timers.idle.as_secs(), 9);
    assert_eq!(loaded.checked.timers.grace.as_secs(), 8);
    let ports: Vec<u16> = loaded.checked.explicit.iter().map(|a| a.port()).collect();
    assert_eq!(ports, [2123]);
    let again = Sources::new(vec!["--take-over".into()]).unwrap().load();
    assert!(again.unwrap().checked.take_over, "no key, but an option");
    // Of what is overridden a place would mislead.
    assert_eq!(loaded.origins.place("idle-timeout"), None);
    assert!(loaded.origins.place("grace").is_some());
}

#[test]
fn a_bad_value_is_told_even_if_it_is_overridden() {
    let directory = directory();
    let text = "[timers]\nidle-timeout = 'never'\n";
    let found = problems(directory.path(), text, &["--idle-timeout=5"]);
    assert!(
        found[0].starts_with("2:16: idle-timeout \"never\": give a time"),
        "{found:?}"
    );
}

#[test]
fn options_that_need_one_another_may_come_from_both() {
    let directory = directory();
    let key = directory.path().join("key.pem");
    let key = key.to_str().unwrap();
    let text = "[accounts]\ncert = 'cert.pem'\n";
    let files = loaded(directory.path(), text, &["--key", key])
        .checked
        .certificate;
    assert_eq!(
        files.unwrap().certificate,
        directory.path().join("cert.pem")
    );
    assert_eq!(
        problems(directory.path(), text, &[]),
        ["2:8: cert needs `key` beside it"]
    );
    // The command line's own fault is told as ever.
    let refusal = load(directory.path(), "", &["--cert", "x.pem"]).unwrap_err();
    assert!(matches!(&refusal, Refusal::Usage(error) if error.to_string().contains("--key")));
    let refusal = load(directory.path(), "", &["--anonymus"]).unwrap_err();
    assert!(matches!(&refusal, Refusal::Usage(error) if error.to_string().contains("--anonymous")));
    let both_off = ["--explicit=off", "--implicit=off"];
    let refusal = load(directory.path(), "", &both_off).unwrap_err();
    assert!(matches!(&refusal, Refusal::Failure(failure) if failure.exit == Exit::Usage));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let directory = directory();
    let text = "\
idle_timeout = 3
[timer]
a = 1
[timers]
idel-timeout = 'x'
grace = 0
close-timeout = 0
resume = 'off'
[listening]
explicit = ':2121'
implicit = ['off', ':2122']
[accounts]
users = 'nobody.toml'
[process]
cores = 0
[logs]
log-level = 'loud'
[logs.deeper]
x =
";
    let found = problems(directory.path(), text, &[]);
    let expected = [
        "1:1: unknown key `idle_timeout`; did you mean `idle-timeout`, in [timers]?",
        "2:2: unknown section `timer`; did you mean [timers]?",
        "5:1: unknown key `idel-timeout` in [timers]; did you mean `idle-timeout`? (keys here are handshake-timeout,",
        "7:17: close-timeout \"0\": the time must be at least 1ms",
        "8:1: unknown key `resume` in [timers]; did you mean `resume`, in [protection]?",
        "11:12: `implicit off` cannot stand beside another",
        "13:9: users ",
        "15:9: cores takes 1 to",
        "17:13: log-level `loud` is no level",
        "18:7: unknown key `deeper` in [logs]",
        "19:4: not TOML",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\n{found:#?}");
    }
}

#[test]
fn what_should_be_secret_is_not_told() {
    let directory = directory();
    let texts = [
        "[accounts]\ncert = 'cert.pem'\nkey = '''-----BEGIN PRIVATE KEY-----\nhunter2'''\n",
        "[accounts]\nkey = 'cert.pem'\npassword = 'hunter2'\n",
        "[users.ann]\npassword = 'hunter2'\n",
        "password = hunter2\n",
        "password = 'hunter2\n",
        "[accounts]\nusers = { ann = 'hunter2' }\n",
        "[accounts]\nusers = ['hunter2', 3]\n",
    ];
    for text in texts {
        let found = problems(directory.path(), text, &[]);
        assert!(!found.is_empty());
        assert!(!found.concat().contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_file_that_cannot_be_text_is_told() {
    let directory = directory();
    let file = directory.path().join("ringftpd.toml");
    let sources = Sources::only(&file).unwrap();
    let survey = sources.survey(b"# first\n# \xff\n", None);
    let place = Place { line: 2, column: 3 };
    assert_eq!(survey.problems[0].place, Some(place));
    let Err(Refusal::Failure(failure)) = sources.load() else {
        panic!("there is no such file");
    };
    assert_eq!(failure.exit, Exit::NoInput);
    assert!(failure.message.contains("config example"), "{failure}");
}

#[test]
fn failures_later_on_name_the_place() {
    let directory = directory();
    let text = "[process]\nrun-as = 'nobody-here'\n";
    let origins = loaded(directory.path(), text, &[]).origins;
    let failure = |message| crate::config::Failure::new(Exit::Usage, message);
    let told = origins.locate(failure("--run-as: there is no account `x`; make it"));
    let file = directory.path().join("ringftpd.toml");
    let expected = format!(
        "{}:2:10: run-as: there is no account `x`; make it",
        file.display()
    );
    assert_eq!((told.message, told.exit), (expected, Exit::Config));
    // The remedy may name any option.
    let other = failure("cannot listen; use --run-as USER");
    assert_eq!(origins.locate(other.clone()), other);
}

#[test]
fn other_sections_have_their_own_parsers() {
    const MOUNTS: &[Section] = &[Section {
        name: "mount",
        example: "#[[mount]]\n#path = \"/pub\"\n",
        change: Change::Live,
        parse: |_: &mut Structures, value, complaints| {
            let Some(list) = value.get_ref().as_array() else {
                return complaints.add(&value.span(), "mount: write [[mount]]");
            };
            for mount in list {
                let path = mount.get_ref().get("path");
                if path.is_none_or(|path| !path.get_ref().is_str()) {
                    complaints.add(&mount.span(), "mount: `path` is missing");
                }
            }
        },
    }];
    let table = Table::new();
    let parse = |text: &str| parse(text, Path::new("/"), &table, MOUNTS);
    let good = parse("[[mount]]\npath = '/a' # said\n[[mount]]\npath = '/b'\n");
    assert_eq!(good.problems, []);
    assert_eq!(good.structured.len(), 1);
    let same = parse("[[mount]]\npath = \"/a\"\n\n[[mount]]\npath = '/b'\n");
    assert_eq!(good.structured, same.structured);
    assert_eq!(
        parse("mount = 1\n").problems[0].place,
        Some(Place { line: 1, column: 9 })
    );
    let bad = parse("[[mount]]\npath = '/a'\n[[mount]]\n");
    assert_eq!(bad.problems.len(), 1);
    assert_eq!(bad.problems[0].place.unwrap().line, 3);
    let near = parse("[[mounts]]\npath = '/a'\n");
    assert!(near.problems[0].message.contains("did you mean [mount]?"));
    let text = example(&table, MOUNTS);
    assert!(text.ends_with("\n#[[mount]]\n#path = \"/pub\"\n"), "{text}");
}
