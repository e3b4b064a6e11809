//! The configuration file, with the real program: beside the command line, checked, and read again by SIGHUP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::client::Client;
use common::server::{Accounts, PASSWORD, Server, USER, process_directory, wait_until};
use common::tls::Identity;
use common::{PATIENCE, Port};

const CONFIG: i32 = 78;

/// A configuration file in a directory of its own.
struct File {
    directory: PathBuf,
    path: PathBuf,
}

impl File {
    fn new(name: &str) -> Self {
        let directory = process_directory().join(name);
        std::fs::create_dir_all(directory.join("public")).unwrap();
        let identity = Identity::shared();
        // Relative paths begin here.
        std::fs::copy(&identity.certificate_file, directory.join("cert.pem")).unwrap();
        std::fs::copy(&identity.key_file, directory.join("key.pem")).unwrap();
        std::fs::copy(&Accounts::shared().file, directory.join("users.toml")).unwrap();
        let path = directory.join("ringftpd.toml");
        Self { directory, path }
    }

    /// What a server needs, and these lines in the sections that they name.
    fn write(&self, process: &str, more: &str) {
        let account = if rustix::process::geteuid().is_root() {
            "run-as = 'root'\n"
        } else {
            ""
        };
        let text = format!(
            "directory = 'public'\n\
             [listening]\nexplicit = '127.0.0.1:0'\nimplicit = ['127.0.0.1:0']\n\
             [accounts]\ncert = 'cert.pem'\nkey = 'key.pem'\nusers = 'users.toml'\n\
             [process]\nstate-dir = 'state'\n{account}{process}\n{more}"
        );
        std::fs::write(&self.path, text).unwrap();
    }

    fn start(&self, options: &[&str]) -> Server {
        let file = self.path.to_str().unwrap();
        Server::start(&[&["--config", file][..], options].concat())
    }

    /// Where a text stands, as the program tells it.
    fn place(&self, words: &str) -> String {
        let text = std::fs::read_to_string(&self.path).unwrap();
        let found = text.lines().enumerate();
        let mut found = found.filter_map(|(at, line)| Some((at + 1, line.find(words)? + 1)));
        let (line, column) = found.next().unwrap();
        format!("{}:{line}:{column}: ", self.path.display())
    }
}

fn ringftpd(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringftpd"))
        .args(arguments)
        .env_remove("RINGFTPD_LOG")
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Sends SIGHUP and waits until the log says these words anew.
#[track_caller]
fn reload(server: &Server, words: &str) -> String {
    let before = server.log().len();
    server.signal(Signal::HUP);
    let mut new = String::new();
    let said = wait_until(PATIENCE, || {
        new = String::from_utf8_lossy(&server.log()[before..]).into_owned();
        new.contains(words)
    });
    assert!(said, "not a word of `{words}`: {new}");
    new
}

#[test]
fn the_file_configures_and_the_command_line_overrides() {
    let file = File::new("overrides");
    file.write(
        "",
        "[timers]\nidle-timeout = 1\n[logs]\nlog-level = 'error'\n",
    );
    let server = file.start(&["--idle-timeout", "300", "--log-level=info"]);
    std::fs::write(file.directory.join("public/hello"), "world").unwrap();
    let mut client = Client::connect(&server, Port::Implicit);
    // An account of the users file, which has another home than the directory that is served.
    client.settle(USER, PASSWORD);
    std::thread::sleep(Duration::from_millis(1_500));
    client.ok("NOOP", 200);
    assert!(!server.log().is_empty(), "--log-level was not heard");
}

#[test]
fn flags_of_the_file_can_be_unset() {
    let file = File::new("flags");
    file.write("", "[protection]\nccc = true\n");
    for (options, offered) in [(&[][..], true), (&["--no-ccc"], false)] {
        let server = file.start(options);
        let mut client = Client::ready(&server, Port::Explicit);
        let features = client.ok("FEAT", 211).lines().concat();
        assert_eq!(features.contains("CCC"), offered, "{options:?}: {features}");
    }
}

#[test]
fn check_config_tells_everything_and_makes_nothing() {
    let file = File::new("check");
    file.write(
        "",
        "[timers]\nidel-timeout = 5\ngrace = 'soon'\n[limits]\nconnections-max = -1\n",
    );
    std::fs::write(
        file.directory.join("users.toml"),
        "[users.ann]\npassword = 'hunter2'\n",
    )
    .unwrap();
    std::fs::write(file.directory.join("key.pem"), "no key\n").unwrap();
    let output = ringftpd(&["check-config", "ringftpd.toml"], &file.directory);
    assert_eq!(output.status.code(), Some(CONFIG));
    assert!(output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = error.lines().collect();
    let expected = [
        (file.place("'cert.pem'"), "key.pem: no PEM private key"),
        (
            file.place("'users.toml'"),
            "users.toml:2: the password of `ann` is not an argon2id",
        ),
        (file.place("idel-timeout"), "did you mean `idle-timeout`?"),
        (file.place("'soon'"), "give a time as 300, 300s"),
        (file.place("-1"), "-1"),
    ];
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, (place, words)) in lines.iter().zip(&expected) {
        assert!(
            line.starts_with(&format!("ringftpd: {place}")),
            "{place}: {error}"
        );
        assert!(line.contains(words), "{words}: {error}");
    }
    assert!(!error.contains("hunter2"));
    assert!(!file.directory.join("state").exists());

    // The server says the first, and where the others are.
    let output = ringftpd(&["serve", "--config", "ringftpd.toml"], &file.directory);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(CONFIG), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("and 2 more: `ringftpd check-config"),
        "{error}"
    );
}

#[test]
fn the_example_is_good_and_a_missing_file_is_told() {
    let file = File::new("example");
    let example = ringftpd(&["config", "example"], &file.directory);
    assert!(example.status.success() && example.stderr.is_empty());
    std::fs::write(&file.path, &example.stdout).unwrap();
    let output = ringftpd(&["check-config", "ringftpd.toml"], &file.directory);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"ringftpd.toml: no errors\n");
    for command in [
        &["check-config", "none.toml"][..],
        &["serve", "--config", "none.toml"],
    ] {
        let output = ringftpd(command, &file.directory);
        assert_eq!(output.status.code(), Some(66), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("none.toml: No such file"), "{error}");
    }
}

#[test]
fn an_error_at_the_start_names_the_place() {
    let file = File::new("place");
    let text = "[process]\nrun-as = 'no-such-account-here'\nstate-dir = 'state'\n";
    std::fs::write(&file.path, text).unwrap();
    let output = ringftpd(&["serve", "--config", "ringftpd.toml"], &file.directory);
    assert_eq!(output.status.code(), Some(CONFIG));
    let error = String::from_utf8(output.stderr).unwrap();
    let place = file.place("'no-such");
    assert!(
        error.starts_with(&format!("ringftpd: {place}run-as: there is no account")),
        "{error}"
    );
}

#[test]
fn sighup_changes_what_can_change_and_drops_nobody() {
    let file = File::new("reload");
    file.write("", "[logs]\nlog-level = 'info'\n");
    let server = file.start(&[]);
    let mut old = Client::ready(&server, Port::Explicit);
    let logged = |words: &str| String::from_utf8_lossy(&server.log()).contains(words);
    assert!(!logged("control connection opened"));

    file.write(
        "",
        "[timers]\nidle-timeout = 1\n[logs]\nlog-level = 'debug'\n",
    );
    let said = reload(&server, "configuration reloaded");
    assert!(said.contains("idle-timeout (300s -> 1)"), "{said}");
    assert!(said.contains("log-level (info -> debug)"), "{said}");
    assert!(!said.contains("needs a restart"), "{said}");
    let mut new = Client::ready(&server, Port::Explicit);
    let began = Instant::now();
    new.expect(421);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "the old time-out"
    );
    assert!(logged("control connection opened"), "the old level");
    // Who was there before keeps its time-out.
    old.ok("NOOP", 200);
    old.download("NLST");

    // Resumption is asked of new sessions, not of one that could not know.
    file.write(
        "",
        "[protection]\nresume = 'require'\nprotect-data = 'optional'\n",
    );
    reload(&server, "configuration reloaded");
    old.ok("PROT C", 534);
    old.download("NLST");
    let mut new = Client::ready(&server, Port::Explicit);
    new.ok("PROT C", 200);

    file.write("", "[limits]\nconnections-max = 1\n");
    reload(&server, "connections-max (0 -> 1)");
    let mut refused = Client::connect(&server, Port::Explicit);
    refused.expect(421);
    new.ok("NOOP", 200);
    file.write("", "");
    reload(&server, "connections-max (1 -> 0)");
    Client::ready(&server, Port::Implicit);
    old.ok("NOOP", 200);
    reload(&server, "nothing has changed");
}

#[test]
fn sighup_says_what_needs_a_restart() {
    let file = File::new("restart");
    file.write("", "");
    let server = file.start(&[]);
    let mut client = Client::ready(&server, Port::Implicit);
    file.write("busy-poll = 0\ncores = 1", "[timers]\nidle-timeout = 200\n");
    let said = reload(&server, "configuration reloaded");
    let warning = said.lines().find(|line| line.contains("needs a restart"));
    let warning = warning.unwrap_or_else(|| panic!("{said}"));
    assert!(warning.contains("busy-poll (200 -> 0)"), "{warning}");
    assert!(warning.contains("cores (not set -> 1)"), "{warning}");
    assert!(!warning.contains("idle-timeout"), "{warning}");
    // Said again until it is done or taken back.
    file.write("busy-poll = 0", "[timers]\nidle-timeout = 200\n");
    let said = reload(&server, "certificate reloaded");
    assert!(
        said.contains("busy-poll (200 -> 0)") && !said.contains("cores"),
        "{said}"
    );
    file.write("", "[timers]\nidle-timeout = 200\n");
    let said = reload(&server, "nothing has changed");
    assert!(!said.contains("needs a restart"), "{said}");
    client.ok("NOOP", 200);
}

#[test]
fn sighup_with_a_bad_file_keeps_the_old_configuration() {
    let file = File::new("bad-reload-of-config");
    file.write("", "[timers]\nidle-timeout = 100\n");
    let server = file.start(&[]);
    let mut client = Client::ready(&server, Port::Explicit);
    file.write(
        "",
        "[timers]\nidle-timeout = 1\ngrace = 'soon'\nlogin_timeout = 3\n",
    );
    let said = reload(&server, "certificate reloaded");
    for words in [file.place("'soon'"), file.place("login_timeout")] {
        let told = said.lines().any(|line| {
            line.contains("configuration not reloaded, the old one stays") && line.contains(&words)
        });
        assert!(told, "{words}: {said}");
    }
    let mut other = Client::ready(&server, Port::Explicit);
    std::thread::sleep(Duration::from_millis(1_500));
    other.ok("NOOP", 200);
    // A good configuration with bad accounts is as bad.
    file.write("", "[timers]\nidle-timeout = 1\n");
    std::fs::write(file.directory.join("users.toml"), "no = [users\n").unwrap();
    let said = reload(&server, "accounts not reloaded");
    assert!(said.contains("configuration not reloaded"), "{said}");
    let mut other = Client::ready(&server, Port::Explicit);
    std::thread::sleep(Duration::from_millis(1_500));
    other.ok("NOOP", 200);
    client.ok("NOOP", 200);
    // Other accounts come into force by their path.
    std::fs::copy(&Accounts::shared().file, file.directory.join("others.toml")).unwrap();
    let text = std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(&file.path, text.replace("users.toml", "others.toml")).unwrap();
    reload(&server, "configuration reloaded");
    let mut new = Client::ready(&server, Port::Explicit);
    new.expect(421);
    client.ok("NOOP", 200);
    server.signal(Signal::TERM);
    let status = server.wait(Duration::from_secs(30));
    assert_eq!(status.expect("still running").code(), Some(0));
}

#[test]
fn a_file_that_only_root_may_read_is_read_again() {
    if !rustix::process::geteuid().is_root() {
        common::skip("only root can give itself away");
        return;
    }
    let file = File::new("root-only");
    let rewrite = |more: &str| {
        file.write("", more);
        let text = std::fs::read_to_string(&file.path).unwrap();
        let text = text.replace("run-as = 'root'", "run-as = 'nobody'");
        std::fs::write(&file.path, text).unwrap();
    };
    rewrite("");
    let nobody = Some(65_534);
    std::os::unix::fs::chown(file.directory.join("public"), nobody, nobody).unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&file.directory, private).unwrap();
    let server = file.start(&[]);
    assert!(server.wait_for_log("root was given away"));
    // It says `ready` a moment before it hears signals.
    Client::connect(&server, Port::Explicit).secure();
    rewrite("[timers]\nidle-timeout = 7\n");
    reload(&server, "idle-timeout (300s -> 7)");
    // A path that was not known while there was a right to read it.
    std::fs::copy(
        file.directory.join("users.toml"),
        file.directory.join("new.toml"),
    )
    .unwrap();
    let text = std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(&file.path, text.replace("users.toml", "new.toml")).unwrap();
    let said = reload(&server, "certificate reloaded");
    assert!(said.contains("configuration not reloaded"), "{said}");
    assert!(
        said.contains("new.toml: Permission denied; root was given away"),
        "{said}"
    );
    Client::connect(&server, Port::Explicit).expect(220);
}
