//! The command line, driven as a person or a script drives it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Exit statuses that scripts may rely on.
const USAGE: i32 = 2;
const NO_INPUT: i32 = 66;
const CANNOT_CREATE: i32 = 73;
const CONFIG: i32 = 78;

fn ringftpd(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .args(arguments)
        .env_remove("RINGFTPD_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input closes it early.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Asserts that the program fails so, with one line that holds every one of the words.
fn assert_refused(arguments: &[&str], input: &str, status: i32, words: &[&str]) {
    let output = ringftpd(arguments, input);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(error.starts_with("ringftpd: "), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{arguments:?}: no {word} in: {error}");
    }
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

fn assert_done(arguments: &[&str], input: &str) -> String {
    let output = ringftpd(arguments, input);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert_eq!(error, "", "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn accounts_are_added_listed_changed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let users = file.to_str().unwrap();
    let home = directory.path().join("bob");
    std::fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap();
    let add = ["user", "add", "--users", users, "--password-stdin"];
    assert_done(&[&add[..], &["ann"]].concat(), "first secret\n");
    let bob = ["bob", "--home", home, "--permissions", "read,list"];
    assert_done(&[&add[..], &bob].concat(), "other secret");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(text.matches("$argon2id$v=19$").count(), 2, "{text}");
    let all = "read,write,append,delete,rename,list,make-directory,change";
    let list = ["user", "list", "--users", users];
    let expected = format!("ann\t{all}\t-\nbob\tread,list\t{home}\n");
    assert_eq!(assert_done(&list, ""), expected);

    let target = |verb| ["user", verb, "--users", users, "ann"];
    assert_done(
        &[&target("passwd")[..], &["--password-stdin"]].concat(),
        "new\n",
    );
    let changed = std::fs::read_to_string(&file).unwrap();
    assert_ne!(changed, text);
    assert_done(&target("remove"), "");
    assert_eq!(assert_done(&list, ""), format!("bob\tread,list\t{home}\n"));
}

#[test]
fn accounts_that_cannot_be_are_refused_and_make_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users");
    let nowhere = directory.path().join("no/where");
    let long = "x".repeat(65);
    let cases: &[(&Path, &str, &str, &str, i32, &str)] = &[
        (&users, "bad\nname", "all", "x", USAGE, "control characters"),
        (&users, "", "all", "x", USAGE, "1 to 64 octets"),
        (&users, &long, "all", "x", USAGE, "1 to 64 octets"),
        (&users, "ann", "all", "\n", USAGE, "password is empty"),
        (&users, "ann", "read,fly", "x", USAGE, "`fly`"),
        (&users, "ann", "fly", "x", USAGE, "make-directory"),
        (
            &nowhere,
            "ann",
            "all",
            "x",
            CANNOT_CREATE,
            "make the directory",
        ),
    ];
    for (file, name, permissions, input, status, word) in cases {
        let file = file.to_str().unwrap();
        let head = ["user", "add", "--password-stdin", "--users", file];
        let tail = ["--permissions", *permissions, *name];
        assert_refused(&[&head[..], &tail].concat(), input, *status, &[*word]);
    }
    assert!(!users.exists());
}

#[test]
fn accounts_that_are_not_as_expected_are_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let (users, none) = (
        directory.path().join("users"),
        directory.path().join("none"),
    );
    let (users, none) = (users.to_str().unwrap(), none.to_str().unwrap());
    let ann = ["user", "add", "--password-stdin", "--users", users, "ann"];
    assert_done(&ann, "x");
    assert_refused(&ann, "x", CONFIG, &["`ann` exists", "ringftpd user passwd"]);
    let refused = |verb, file, name, status, word| {
        assert_refused(&["user", verb, "--users", file, name], "x", status, &[word]);
    };
    refused("remove", users, "bob", CONFIG, "no user `bob`");
    refused("passwd", users, "bob", CONFIG, "no user `bob`");
    refused("passwd", users, "ann", USAGE, "--password-stdin");
    refused("remove", none, "ann", NO_INPUT, "ringftpd user add");
    let list = ["user", "list", "--users", none];
    assert_refused(&list, "", NO_INPUT, &["ringftpd user add"]);
    std::fs::write(none, "[users.ann]\npassword = \"hunter2\"\n").unwrap();
    assert_refused(&list, "", CONFIG, &["none:2:", "user passwd"]);
}

#[test]
fn wrong_options_of_serve_are_refused_with_the_remedy() {
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["--explicit", "localhost"],
            USAGE,
            &["--explicit", "192.0.2.1:21", "`off`"],
        ),
        (
            &["--explicit", "off", "--implicit", "off"],
            USAGE,
            &["leave one on"],
        ),
        (
            &["--explicit", "off", "--explicit", ":2121"],
            USAGE,
            &["leave one of them out"],
        ),
        (
            &["--explicit", ":2121", "--implicit", ":2121"],
            USAGE,
            &["named twice"],
        ),
        (&["--cert", "x.pem"], USAGE, &["--key"]),
        (&["--key", "x.pem"], USAGE, &["--cert"]),
        (
            &["--cert", "/no/x.pem", "--key", "/no/y.pem"],
            NO_INPUT,
            &["--cert /no/x.pem", "PEM"],
        ),
        (&["--users", "/no/users"], NO_INPUT, &["ringftpd user add"]),
        (&["--users", "/"], NO_INPUT, &["no file"]),
        (&["--passive-ports", "5-4"], USAGE, &["40000-49999"]),
        (&["--passive-address", "::1"], USAGE, &["--passive-address"]),
        (&["--resume", "maybe"], USAGE, &["off, prefer, require"]),
        (&["--protect-data", "no"], USAGE, &["required, optional"]),
        (&["--strict-eof", "yes"], USAGE, &["on, off"]),
        (&["--cores", "0"], USAGE, &["--cores takes 1 to"]),
        (&["--cores", "-1"], USAGE, &["--help"]),
        (&["--idle-timeout", "0"], USAGE, &["at least 1ms"]),
        (&["--grace", "5 minutes"], USAGE, &["500ms, 5m"]),
        (
            &["--connections-max", "many"],
            USAGE,
            &["--connections-max"],
        ),
        (&["--log-level", "loud"], USAGE, &["error, warn, info"]),
        (
            &["--run-as", "no-such-account-here"],
            USAGE,
            &["useradd --system"],
        ),
        (
            &["--anonymus"],
            USAGE,
            &["'--anonymous'", "ringftpd serve --help"],
        ),
        (&["a", "b"], USAGE, &["'b'"]),
    ];
    for (options, status, words) in cases {
        // Whatever a wrong option lets through must not be made in this directory.
        let state = tempfile::tempdir().unwrap();
        let fixed = ["serve", "--state-dir", state.path().to_str().unwrap()];
        assert_refused(&[&fixed[..], options].concat(), "", *status, words);
    }
}

#[test]
fn a_directory_to_serve_must_be_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_refused(
        &["serve", file.to_str().unwrap()],
        "",
        NO_INPUT,
        &["no directory"],
    );
}

#[test]
fn the_level_of_logs_may_come_from_the_environment() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .args(["serve", "/"])
        .env("RINGFTPD_LOG", "loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(USAGE));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("RINGFTPD_LOG `loud`"), "{error}");
}

#[test]
fn help_names_every_option_and_goes_to_standard_output() {
    let help = assert_done(&["serve", "--help"], "");
    let options = "explicit implicit cert key users anonymous passive-ports passive-address resume \
        protect-control protect-data ccc strict-eof fsync remove-partial run-as cores state-dir \
        active active-source-port log-format log-level handshake-timeout login-timeout \
        idle-timeout connect-timeout stall-timeout close-timeout drain-timeout bad-login-delay \
        grace connections-max connections-per-address-max sessions-per-user-max";
    for option in options.split_whitespace() {
        let line = help.lines().any(|line| {
            let first = line.split_whitespace().next().unwrap_or_default();
            first.strip_prefix("--") == Some(option)
        });
        assert!(line, "--{option} is missing");
    }
    assert!(assert_done(&["--help"], "").contains("serve"));
    let version = assert_done(&["--version"], "");
    assert_eq!(version, format!("ringftpd {}\n", env!("CARGO_PKG_VERSION")));
}

/// `user add` with these options for `ann`, a password included.
fn add_ann(users: &str, options: &[&str]) -> Output {
    let head = ["user", "add", "--password-stdin", "--users", users, "ann"];
    ringftpd(&[&head[..], options].concat(), "secret")
}

/// What the options of the next test should come to.
fn table_of_ann(digits: &str) -> toml::Table {
    let text = format!(
        r#"[users.ann]
permissions = ["read", "list"]
hidden = ["*.part", "*.tmp"]
denied = [".ht*"]
certificates = ["sha256:{digits}", "subject:CN=Smith\\, Ann,O=Example"]
certificate_login = "and-password"
welcome = "Hello.\npassword = \"none\""
paths = [
    {{ path = "/incoming", permissions = ["write", "make-directory"] }},
    {{ path = "/secret", permissions = [] }},
]
mounts = [{{ at = "/music", directory = "/srv/music" }}]
"#
    );
    text.parse().unwrap()
}

#[test]
fn what_an_account_has_of_its_own_is_written_shown_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let users = file.to_str().unwrap();
    let colons = ["AB"; 32].join(":");
    let digits = "ab".repeat(32);
    let certificate = format!("sha256:{colons}");
    let options = [
        "--permissions",
        "read,list",
        "--path-permissions",
        "/incoming=write,make-directory",
        "--path-permissions=/secret=",
        "--mount",
        "/music=/srv/music",
        "--hidden-name",
        "*.part",
        "--hidden-name",
        "*.tmp",
        "--denied-name",
        ".ht*",
        "--certificate",
        &certificate,
        "--certificate",
        "subject:cn=Smith\\, Ann,O=Example",
        "--certificate-login",
        "and-password",
        "--welcome",
        "Hello.\npassword = \"none\"",
    ];
    let added = add_ann(users, &options);
    assert!(added.status.success(), "{added:?}");
    let show = ["user", "show", "--users", users, "ann"];
    let shown = assert_done(&show, "");
    let table: toml::Table = shown.parse().unwrap();
    let wanted = table_of_ann(&digits);
    assert_eq!(table, wanted, "{shown}");
    assert!(!shown.contains("argon2"), "{shown}");
    let list = ["user", "list", "--users", users];
    let own = "paths=2,mounts=1,hidden=2,denied=1,certificates=2,welcome";
    assert_eq!(
        assert_done(&list, ""),
        format!("ann\tread,list\t-\t{own}\n")
    );

    // A change of something else writes the file again.
    let passwd = [
        "user",
        "passwd",
        "--password-stdin",
        "--users",
        users,
        "ann",
    ];
    assert_done(&passwd, "other");
    let add = ["user", "add", "--password-stdin", "--users", users, "bob"];
    assert_done(&add, "x");
    assert_eq!(assert_done(&show, ""), shown);
    assert!(assert_done(&list, "").ends_with("change\t-\n"));
    let bob = ["user", "show", "--users", users, "bob"];
    assert_eq!(assert_done(&bob, ""), "[users.bob]\n");
    let nobody = ["user", "show", "--users", users, "eve"];
    assert_refused(&nobody, "", CONFIG, &["no user `eve`"]);
}

#[test]
fn directories_that_are_not_there_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let users = path("users.toml");
    std::fs::write(path("file"), "").unwrap();
    let (home, mount) = (path("gone"), format!("/m={}", path("file")));
    let good = format!("/good={}", directory.path().display());
    let options = ["--home", &home, "--mount", &mount, "--mount", &good];
    let output = add_ann(&users, &options);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    let lines: Vec<&str> = error.lines().collect();
    let [of_home, of_mount] = lines.as_slice() else {
        panic!("{error}");
    };
    let begin = format!("ringftpd: warning: --home {home}: No such file or directory; ");
    assert!(of_home.starts_with(&begin), "{error}");
    let begin = format!("ringftpd: warning: --mount {mount}: it is no directory; ");
    assert!(of_mount.starts_with(&begin), "{error}");
    assert!(lines.iter().all(|line| line.contains("make it")), "{error}");
    // It is there all the same.
    let show = ["user", "show", "--users", &users, "ann"];
    assert!(assert_done(&show, "").contains(&home));

    // One that is refused says only why.
    let again = add_ann(&users, &options);
    let error = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(CONFIG), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn what_an_account_has_of_its_own_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let users = file.to_str().unwrap();
    let added = add_ann(users, &["--charset", "gbk"]);
    assert!(added.status.success(), "{added:?}");
    let list = ["user", "list", "--users", users];
    let own = |line: String| line.trim_end().split('\t').nth(3).map(str::to_owned);
    assert_eq!(own(assert_done(&list, "")).as_deref(), Some("charset=GBK"));
    assert_done(&["user", "remove", "--users", users, "ann"], "");
    let options = ["--welcome", "Hi", "--charset", "Shift_JIS"];
    assert!(add_ann(users, &options).status.success());
    assert_eq!(
        own(assert_done(&list, "")).as_deref(),
        Some("welcome,charset=Shift_JIS")
    );
}

#[test]
fn an_account_of_a_certificate_alone_needs_no_password() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let users = file.to_str().unwrap();
    let head = ["user", "add", "--users", users, "ann"];
    let only = [
        "--certificate",
        "subject:CN=ann",
        "--certificate-login",
        "only",
    ];
    // Nothing can be asked here: there is no terminal.
    assert_done(&[&head[..], &only].concat(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("password = \"$argon2id$"), "{text}");
    assert!(text.contains("certificate_login = \"only\""), "{text}");
    let bob = ["user", "add", "--users", users, "bob", "--certificate"];
    let both = [&bob[..], &["subject:CN=bob"]].concat();
    assert_refused(&both, "", USAGE, &["--password-stdin"]);
}

#[test]
fn what_no_users_file_could_say_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let users = file.to_str().unwrap();
    let long = "x".repeat(501);
    let lines = "x\n".repeat(51);
    let cases: &[(&[&str], &str)] = &[
        (&["--path-permissions", "/a"], "give PATH=LIST"),
        (&["--path-permissions", "a=read"], "path as clients see it"),
        (&["--path-permissions", "/a=fly"], "`fly` is no permission"),
        (
            &[
                "--path-permissions",
                "/a=read",
                "--path-permissions",
                "/a/=list",
            ],
            "--path-permissions: `/a` stands twice",
        ),
        (&["--mount", "/a"], "give PATH=DIR"),
        (&["--mount", "/a=srv"], "absolute path of a directory"),
        (&["--mount", "/=/srv"], "nothing can be mounted at /"),
        (
            &["--mount", "/a=/x", "--mount", "/a=/y"],
            "--mount: `/a` stands twice",
        ),
        (&["--hidden-name", "a/b"], "about one name"),
        (&["--denied-name", ""], "about one name"),
        (&["--certificate", "alice"], "sha256:… or subject:…"),
        (&["--certificate", "sha256:ab"], "64 hexadecimal digits"),
        (&["--certificate", "subject:alice"], "subject:CN=alice"),
        (
            &["--certificate", "subject:CN=a", "--certificate-login", "no"],
            "--certificate-login: give enough, only or and-password",
        ),
        (
            &["--certificate-login", "only"],
            "--certificate-login: say which certificates, by --certificate",
        ),
        (&["--welcome", "a\tb"], "--welcome: it contains a control"),
        (&["--welcome", &long], "more than 500 octets"),
        (&["--welcome", &lines], "more than 50 lines"),
    ];
    for (options, word) in cases {
        let output = add_ann(users, options);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(USAGE), "{options:?}: {error}");
        assert!(error.starts_with("ringftpd: "), "{options:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{options:?}: {error}");
        assert!(error.contains(word), "{options:?}: no {word} in: {error}");
    }
    assert!(!file.exists());
}
