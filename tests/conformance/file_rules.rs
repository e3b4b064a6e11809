//! Permissions by path, mounts, hidden and denied names, from the users file, the configuration file and options.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, process_directory, program, wait_until};
use crate::common::{PATIENCE, Port};

/// A server of its own, with accounts and directories for one test.
struct Site {
    server: Server,
    accounts: Accounts,
    /// The home of `ann`.
    home: PathBuf,
    /// What may be mounted.
    elsewhere: PathBuf,
    config: PathBuf,
}

impl Site {
    /// `ann` with these keys in the users file, and this configuration file; `ELSEWHERE` in them is the directory
    /// beside the home.
    fn new(name: &str, keys: &str, config: &str, options: &[&str]) -> Self {
        let directory = process_directory().join(format!("rules-{name}"));
        let (home, elsewhere) = (directory.join("home"), directory.join("elsewhere"));
        std::fs::create_dir_all(&elsewhere).unwrap();
        let accounts = Accounts::single("ann", &home);
        let place = |text: &str| text.replace("ELSEWHERE", elsewhere.to_str().unwrap());
        let users = std::fs::read_to_string(&accounts.file).unwrap();
        std::fs::write(&accounts.file, format!("{users}{}", place(keys))).unwrap();
        let file = directory.join("ringftpd.toml");
        std::fs::write(&file, place(config)).unwrap();
        let users = accounts.file.to_str().unwrap().to_owned();
        let mut all = vec!["--users", &users, "--config", file.to_str().unwrap()];
        all.extend(options);
        Self {
            server: Server::start(&all),
            config: file.clone(),
            accounts,
            home,
            elsewhere,
        }
    }

    fn put(&self, directory: &Path, names: &[&str]) {
        for name in names {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
    }

    fn login(&self, port: Port, user: &str) -> Client {
        let mut client = Client::connect(&self.server, port);
        client.settle(user, PASSWORD);
        client
    }

    fn reload(&self, words: &str) {
        self.server.signal(Signal::HUP);
        assert!(self.server.wait_for_log(words), "{words}");
    }
}

fn names(client: &mut Client, command: &str) -> Vec<String> {
    let octets = client.download(command);
    let text = String::from_utf8(octets).unwrap();
    let mut names: Vec<String> = text
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A transfer that is refused before its data connection.
#[track_caller]
fn refused(client: &mut Client, command: &str, code: u16) {
    client.pasv();
    client.ok(command, code);
}

/// Every command that takes a path, with the code for a path that is denied by its name, and by its permissions.
/// `@` is the path.
const COMMANDS: &[(&str, u16, u16)] = &[
    ("CWD @", 550, 250),
    ("SIZE @", 550, 550),
    ("MDTM @", 550, 550),
    ("MFMT 20200101000000 @", 550, 550),
    ("SITE CHMOD 644 @", 550, 550),
    ("SITE UTIME 20200101000000 @", 550, 550),
    ("MLST @", 550, 550),
    ("STAT @", 550, 550),
    ("RNFR @", 550, 550),
    ("DELE @", 550, 550),
    ("RMD @", 550, 550),
    ("MKD @", 553, 550),
];

/// The same for commands that open a data connection.
const TRANSFERS: &[(&str, u16, u16)] = &[
    ("RETR @", 550, 550),
    ("STOR @", 553, 550),
    ("APPE @", 553, 550),
    ("LIST @", 550, 550),
    ("NLST @", 550, 550),
    ("MLSD @", 550, 550),
];

#[test]
fn every_command_passes_the_gate() {
    let keys = "denied = ['.ht*']\n[[users.ann.paths]]\npath = '/closed'\npermissions = []\n";
    let site = Site::new("commands", keys, "", &[]);
    site.put(&site.home, &["d/.htdir/f", "closed/d/f", "plain"]);
    for port in [Port::Explicit, Port::Implicit] {
        let mut client = site.login(port, "ann");
        for (path, by_name) in [("/d/.htdir", true), ("/closed/d", false)] {
            for (command, name, permissions) in COMMANDS {
                let code = if by_name { *name } else { *permissions };
                client.ok(command.replace('@', path), code);
                client.ok("CWD /", 250);
            }
            for (command, name, permissions) in TRANSFERS {
                let code = if by_name { *name } else { *permissions };
                refused(&mut client, &command.replace('@', path), code);
            }
            client.ok("RNFR plain", 350);
            client.ok(format!("RNTO {path}"), if by_name { 553 } else { 550 });
        }
        client.ok("CWD /closed/d", 250);
        refused(&mut client, "STOU", 550);
        refused(&mut client, "LIST", 550);
        client.ok("CWD /d", 250);
        refused(&mut client, "STOU .ht", 553);
        // In the middle of a path it is as if absent too.
        refused(&mut client, "RETR .htdir/f", 550);
        refused(&mut client, "STOR .htdir/new", 550);
    }
    for name in ["d/.htdir/f", "closed/d/f", "plain"] {
        assert_eq!(
            std::fs::read(site.home.join(name)).unwrap(),
            name.as_bytes()
        );
    }
}

#[test]
fn a_drop_box_takes_and_does_not_show() {
    let keys = "permissions = ['read', 'list']\nhidden = ['*.part']\n\
                [[users.ann.paths]]\npath = '/incoming'\npermissions = ['write', 'make-directory']\n";
    let site = Site::new("box", keys, "", &[]);
    site.put(&site.home, &["pub/f", "pub/f.part", "incoming/theirs"]);
    for (number, port) in [Port::Explicit, Port::Implicit].into_iter().enumerate() {
        let mut client = site.login(port, "ann");
        assert_eq!(names(&mut client, "NLST"), ["incoming", "pub"]);
        assert_eq!(client.download("RETR pub/f"), b"pub/f");
        refused(&mut client, "STOR pub/x", 550);
        client.upload(format!("STOR incoming/mine{number}"), b"mine");
        client.ok(format!("MKD incoming/d{number}"), 257);
        refused(&mut client, "LIST incoming", 550);
        refused(&mut client, "RETR incoming/theirs", 550);
        client.ok("DELE incoming/theirs", 550);
        // A hidden name can be used by whoever knows it.
        assert_eq!(names(&mut client, "MLSD pub"), ["f"]);
        assert_eq!(names(&mut client, "LIST -a pub"), ["f"]);
        assert_eq!(client.download("RETR pub/f.part"), b"pub/f.part");
        let facts = client.download("MLSD").to_vec();
        let facts = String::from_utf8_lossy(&facts).into_owned();
        let incoming = facts.lines().find(|line| line.ends_with(" incoming"));
        assert!(incoming.unwrap().contains("perm=ecm;"), "{facts}");
    }
}

#[test]
fn mounts_of_user_and_server_meet_in_one_tree() {
    let keys = "[[users.ann.mounts]]\nat = '/shared/own'\ndirectory = 'ELSEWHERE/own'\n\
                [[users.ann.mounts]]\nat = '/pub'\ndirectory = 'ELSEWHERE/anns'\npermissions = ['all']\n";
    let config = "[[mounts]]\nat = '/pub'\ndirectory = 'ELSEWHERE/pub'\npermissions = ['read', 'list']\n\
                  [[mounts]]\nat = '/shared/all'\ndirectory = 'ELSEWHERE/all'\npermissions = ['read', 'list']\n";
    let elsewhere = process_directory().join("rules-mounts/elsewhere");
    for name in ["own", "anns", "pub", "all"] {
        std::fs::create_dir_all(elsewhere.join(name)).unwrap();
    }
    let site = Site::new("mounts", keys, config, &["--anonymous"]);
    site.put(
        &site.elsewhere,
        &["own/o", "anns/a", "pub/p", "all/x", "outside"],
    );
    site.put(&site.home, &["f"]);
    for port in [Port::Explicit, Port::Implicit] {
        let mut ann = site.login(port, "ann");
        assert_eq!(names(&mut ann, "NLST"), ["f", "pub", "shared"]);
        assert_eq!(names(&mut ann, "MLSD shared"), ["all", "own"]);
        assert_eq!(names(&mut ann, "NLST pub"), ["pub/a"]);
        assert_eq!(ann.download("RETR shared/all/x"), b"all/x");
        refused(&mut ann, "STOR shared/all/y", 550);
        ann.upload("STOR shared/own/y", b"y");
        ann.upload("STOR pub/z", b"z");
        ann.dialogue(&[
            ("CWD shared/own", 250),
            ("PWD", 257),
            ("SIZE o", 213),
            ("ALLO 1", 202),
            ("DELE /pub/z", 250),
            ("CDUP", 250),
            ("CWD own/../../../outside", 550),
            ("CWD /", 250),
            ("RMD pub", 550),
            ("RMD shared", 550),
            ("DELE pub", 550),
            ("MKD shared", 550),
            ("RNFR shared/own", 550),
            ("RNFR shared", 550),
            ("RNFR f", 350),
        ]);
        let reply = ann.ok("RNTO pub/f", 553);
        assert!(reply.text().contains("another volume"), "{reply:?}");
        assert!(site.home.join("f").is_file());
        let mut anybody = site.login(port, "anonymous");
        let listed = names(&mut anybody, "NLST");
        assert!(listed.contains(&"pub".to_owned()), "{listed:?}");
        assert_eq!(names(&mut anybody, "NLST pub"), ["pub/p"]);
        assert_eq!(names(&mut anybody, "NLST shared"), ["shared/all"]);
        refused(&mut anybody, "STOR pub/n", 550);
    }
}

#[test]
fn rules_change_at_a_reload_for_new_logins() {
    let site = Site::new("reload", "", "", &["--hidden-name", "secret"]);
    site.put(&site.home, &["a.key", "secret", "shown"]);
    site.put(&site.elsewhere, &["m/inside"]);
    let mut old = site.login(Port::Explicit, "ann");
    assert_eq!(names(&mut old, "NLST"), ["a.key", "shown"]);
    let mounted = format!(
        "[files]\ndenied-name = '*.key'\n[[mounts]]\nat = '/m'\ndirectory = '{}'\n",
        site.elsewhere.join("m").display()
    );
    std::fs::write(&site.config, &mounted).unwrap();
    site.reload("configuration reloaded");
    let mut new = site.login(Port::Implicit, "ann");
    assert_eq!(names(&mut new, "NLST"), ["m", "shown"]);
    assert_eq!(new.download("RETR m/inside"), b"m/inside");
    refused(&mut new, "RETR a.key", 550);
    // A session keeps what it began with.
    assert_eq!(old.download("RETR a.key"), b"a.key");
    // A directory that is missing is told, and nothing changes.
    std::fs::write(&site.config, mounted.replace("elsewhere/m", "elsewhere/n")).unwrap();
    site.reload("which is to be mounted at /m");
    let mut still = site.login(Port::Explicit, "ann");
    assert_eq!(still.download("RETR m/inside"), b"m/inside");
    // The users file by itself.
    let users = std::fs::read_to_string(&site.accounts.file).unwrap();
    std::fs::write(&site.accounts.file, format!("{users}denied = ['shown']\n")).unwrap();
    site.reload("accounts reloaded");
    let listed = wait_until(PATIENCE, || {
        names(&mut site.login(Port::Explicit, "ann"), "NLST") == ["m"]
    });
    assert!(listed);
}

#[test]
fn a_missing_mount_is_told_at_the_start_and_at_login() {
    let keys = "[[users.ann.mounts]]\nat = '/m'\ndirectory = 'ELSEWHERE/missing'\n";
    let site = Site::new("missing", keys, "", &[]);
    let words = "which is to be mounted at /m: the server's account cannot read there";
    assert!(site.server.wait_for_log(words));
    let mut client = Client::connect(&site.server, Port::Explicit);
    client.secure();
    client.ok("USER ann", 331);
    client.ok(format!("PASS {PASSWORD}"), 421);
    assert!(
        site.server
            .wait_for_log("a mount of the user's cannot be opened")
    );
    std::fs::create_dir(site.elsewhere.join("missing")).unwrap();
    site.login(Port::Explicit, "ann");
    // One of the server's keeps it from starting.
    let config = site.config.with_extension("bad.toml");
    let missing = site.elsewhere.join("none");
    let text = format!(
        "[[mounts]]\nat = '/m'\ndirectory = '{}'\n",
        missing.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut start = site.server.command_beside(&[
        "--users",
        site.accounts.file.to_str().unwrap(),
        "--log-level",
        "info",
    ]);
    let output = start.arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(66), "{said}");
    assert!(said.contains(missing.to_str().unwrap()), "{said}");
    assert!(said.contains("create the directory"), "{said}");
    let mut check = std::process::Command::new(program());
    let output = check.arg("check-config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("mounted at /m"),
        "{said}"
    );
}

#[test]
fn rules_survive_the_commands_that_rewrite_the_users_file() {
    let keys = "hidden = ['*.tmp']\ndenied = ['.ht*', '\"']\n\
                [[users.ann.paths]]\npath = '/a b/'\npermissions = ['list', 'write']\n\
                [[users.ann.mounts]]\nat = '/m'\ndirectory = '/'\npermissions = []\n\
                [[users.ann.mounts]]\nat = '/m/n'\ndirectory = '/tmp'\n";
    let site = Site::new("rewrite", keys, "", &[]);
    site.accounts.add("bob", PASSWORD, &site.home, None);
    let text = std::fs::read_to_string(&site.accounts.file).unwrap();
    let users: toml::Table = toml::from_str(&text).unwrap();
    let ann = users["users"]["ann"].as_table().unwrap();
    let expected: toml::Table = toml::from_str(
        "hidden = ['*.tmp']\ndenied = ['.ht*', '\"']\n\
         paths = [{ path = '/a b', permissions = ['write', 'list'] }]\n\
         mounts = [{ at = '/m', directory = '/', permissions = [] }, { at = '/m/n', directory = '/tmp' }]\n",
    )
    .unwrap();
    for (key, value) in &expected {
        assert_eq!(&ann[key], value, "{key}\n{text}");
    }
    let bob = users["users"]["bob"].as_table().unwrap();
    assert!(!bob.contains_key("paths") && !bob.contains_key("mounts"));
}
