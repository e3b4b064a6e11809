//! Who is let in, as what, and what the log says of those who are not.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::server::{Accounts, PASSWORD, READER, Server, USER};
use crate::common::tls::Identity;
use crate::world::{World, is_root, login, session, time};

/// The longest that libpam makes of what pam_unix wants, which the server keeps to where modules want less.
const REFUSAL_TIME_MIN: Duration = Duration::from_secs(3);

#[test]
fn accounts_of_the_system_log_in_to_their_homes() {
    let Some(world) = World::new() else { return };
    let server = world.server("plain", &[]);
    let mut ann = session(&server, "ann");
    assert_eq!(ann.download("RETR own"), b"file of ann");
    ann.upload("STOR new", b"hello");
    assert_eq!(fs::read(world.home("ann").join("new")).unwrap(), b"hello");
    let mut lee = session(&server, "lee");
    assert_eq!(lee.download("RETR own"), b"file of lee");
    for (user, password) in [
        ("ann", "wrong"),
        ("ann", ""),
        ("nobody-of-this-name", PASSWORD),
    ] {
        assert_eq!(login(&server, user, password).code, 530, "{user}");
    }
    assert!(server.wait_for_log("PAM refused"));
    let log = String::from_utf8(server.log()).unwrap();
    assert!(log.contains("password: Authentication failure"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("=wrong"), "{log}");
    // The users file comes first, and is what it was.
    session(&server, USER);
    assert_eq!(login(&server, USER, "wrong").code, 530);
    let mut reader = session(&server, READER);
    reader.ok("DELE new", 550);
}

#[test]
fn who_may_not_come_in_does_not_with_the_right_password_either() {
    let Some(world) = World::new() else { return };
    let server = world.server("ringftpd", &[]);
    session(&server, "ann");
    for (user, reason) in [
        ("expired", "account: "),
        ("stale", "account: "),
        ("noshell", "password: "),
        ("banned", "password: "),
        ("system", "user id 999 is below 1000"),
        ("toor", "the account is root"),
        ("root", "password: "),
    ] {
        assert_eq!(login(&server, user, PASSWORD).code, 530, "{user}");
        let line = format!("user={user}");
        assert!(server.wait_for_log(&line), "{user}");
        let log = String::from_utf8(server.log()).unwrap();
        let told = |log: &str| log.lines().any(|l| l.contains(&line) && l.contains(reason));
        assert!(told(&log), "{user}: {log}");
    }
    let low = world.server("plain", &["--pam-uid-min", "999"]);
    session(&low, "system");
    // root never, whatever the bound.
    let none = world.server("plain", &["--pam-uid-min", "0"]);
    assert_eq!(login(&none, "toor", PASSWORD).code, 530);
}

#[test]
fn the_time_of_a_refusal_does_not_tell_whose_name_it_is() {
    let Some(world) = World::new() else { return };
    let server = world.server("anybody", &[]);
    // Names that PAM knows, that nobody knows, of the users file, and that cannot be one of PAM's.
    let service = world.server("plain", &[]);
    for user in ["ann", "nobody-of-this-name", USER, "../ann"] {
        let taken = time(|| assert_eq!(login(&service, user, "wrong").code, 530));
        assert!(taken >= REFUSAL_TIME_MIN, "{user}: {taken:?}");
    }
    // A right password of somebody who may not come in takes as long as a wrong one.
    let taken = time(|| assert_eq!(login(&server, "toor", "any").code, 530));
    assert!(taken >= REFUSAL_TIME_MIN, "{taken:?}");
}

#[test]
fn names_that_the_system_does_not_know_need_a_directory() {
    let Some(world) = World::new() else { return };
    let without = world.server("anybody", &[]);
    assert_eq!(login(&without, "virtual", "any").code, 530);
    assert!(without.wait_for_log("give --pam-directory"));
    let own = world.home("virtual");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("own"), "file of virtual").unwrap();
    let template = format!("{}/%u", world.directory.join("homes").display());
    let options = [
        "--pam-directory",
        &template,
        "--pam-permissions",
        "read,list",
    ];
    let server = world.server("anybody", &options);
    let mut client = session(&server, "virtual");
    assert_eq!(client.download("RETR own"), b"file of virtual");
    client.ok("DELE own", 550);
    // Names that lead elsewhere are not even asked about.
    for user in ["..", ".", "../ann", "a/../../ann", "-ann"] {
        assert_eq!(login(&server, user, "any").code, 530, "{user}");
    }
    // An account without its directory is not served, and the log says which is missing.
    assert_eq!(login(&server, "homeless", "any").code, 421);
    assert!(server.wait_for_log("the user's home cannot be opened"));
}

#[test]
fn modules_are_told_where_the_client_is() {
    let Some(world) = World::new() else { return };
    let server = world.server("slow", &[]);
    session(&server, "ann");
    assert_eq!(world.asked(), "ann 127.0.0.1 ftp slow\n");
}

#[test]
fn a_broken_service_is_an_error_and_a_missing_one_no_start() {
    let Some(world) = World::new() else { return };
    let server = world.server("broken", &[]);
    assert_eq!(login(&server, "ann", PASSWORD).code, 421);
    assert!(server.wait_for_log("PAM does not work"));
    session(&server, USER);
    // libpam would take `other`, which lets everybody in here.
    let command = server.command_beside(&["--run-as", "root", "--pam", "none"]);
    let output = world.inside(command).output().unwrap();
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("there is no /etc/pam.d/none"), "{words}");
}

#[test]
fn limits_and_bans_hold_for_accounts_of_pam() {
    let Some(world) = World::new() else { return };
    let options = ["--sessions-per-user-max", "1", "--login-failures-max", "2"];
    let server = world.server("plain", &options);
    let ann = session(&server, "ann");
    assert_eq!(login(&server, "ann", PASSWORD).code, 421);
    drop(ann);
    assert_eq!(login(&server, "ann", "wrong").code, 530);
    assert_eq!(login(&server, "ann", "wrong").code, 421);
    assert!(server.wait_for_log("banned: too many failed logins"));
}

#[test]
fn permissions_and_directory_change_at_a_reload_and_the_service_does_not() {
    let Some(world) = World::new() else { return };
    let file = world.directory.join("ringftpd.toml");
    let shared = Accounts::shared();
    let identity = Identity::shared();
    let write = |service: &str, permissions: &str| {
        let text = format!(
            "directory = '{home}'\n[listening]\nexplicit = '127.0.0.1:0'\nimplicit = '127.0.0.1:0'\n[accounts]\n\
             users = '{users}'\ncert = '{cert}'\nkey = '{key}'\npam = '{service}'\npam-permissions = '{permissions}'\n\
             [process]\nrun-as = 'root'\nstate-dir = '{state}'\n",
            home = shared.home.display(),
            users = shared.file.display(),
            cert = identity.certificate_file.display(),
            key = identity.key_file.display(),
            state = world.directory.join("state").display(),
        );
        fs::write(&file, text).unwrap();
    };
    write("plain", "read,list");
    let options = ["--config", file.to_str().unwrap()];
    let server = Server::start_by(&options, |command| world.inside(command));
    session(&server, "ann").ok("DELE own", 550);
    write("anybody", "all");
    server.signal(Signal::HUP);
    assert!(server.wait_for_log("pam-permissions (read,list -> all)"));
    assert!(server.wait_for_log("needs a restart"));
    assert!(server.wait_for_log("pam (plain -> anybody)"));
    session(&server, "ann").ok("DELE own", 250);
    assert_eq!(login(&server, "lee", "wrong").code, 530);
}

/// A directory for `nobody`, in which the server and its accounts live.
fn for_nobody(world: &World) -> Vec<String> {
    let served = world.directory.join("served");
    let state = world.directory.join("state");
    for directory in [&served, &state, &served.join("ann")] {
        fs::create_dir_all(directory).unwrap();
        chown(directory, Some(65534), Some(65534)).unwrap();
    }
    fs::write(served.join("ann/own"), "file of ann").unwrap();
    let identity = Identity::generate(&state, "self-signed");
    for (from, to) in [
        (identity.certificate_file, "self-signed-cert.pem"),
        (identity.key_file, "self-signed-key.pem"),
    ] {
        fs::rename(&from, state.join(to)).unwrap();
        chown(state.join(to), Some(65534), Some(65534)).unwrap();
    }
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&state, closed).unwrap();
    ["--run-as", "nobody", "--pam", "plain", "--state-dir"]
        .map(str::to_owned)
        .into_iter()
        .chain([state.display().to_string(), "--pam-directory".to_owned()])
        .chain([format!("{}/%u", served.display())])
        .collect()
}

#[test]
fn shadow_is_read_after_root_was_given_away_and_after_an_upgrade() {
    let Some(world) = World::new() else { return };
    if !is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let options = for_nobody(&world);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let served = world.directory.join("served");
    // As the unit with its drop-in: few capabilities, and a self-signed certificate in the account's directory.
    let closed = |command: Command| {
        let mut again = Command::new("setpriv");
        let few = "-all,+setuid,+setgid,+net_bind_service";
        again.args(["--no-new-privs", "--bounding-set", few, "--inh-caps=-all"]);
        again.arg(command.get_program());
        let mut skipped = false;
        for (at, word) in command.get_args().enumerate() {
            let named = word == "--cert" || word == "--key" || word == "--users";
            if !named && !skipped {
                again.arg(if at == 1 { served.as_os_str() } else { word });
            }
            skipped = named;
        }
        world.inside(again)
    };
    let old = Server::start_by(&options, closed);
    let status = fs::read_to_string(format!("/proc/{}/status", old.pid)).unwrap();
    assert!(
        status.contains("Uid:\t65534\t65534\t65534\t65534"),
        "{status}"
    );
    let mut ann = session(&old, "ann");
    assert_eq!(ann.download("RETR own"), b"file of ann");
    assert_eq!(login(&old, "ann", "wrong").code, 530);

    assert!(old.wait_for_log("a new process can take over"));
    let mut upgrade = Command::new(crate::common::server::program());
    upgrade
        .arg("upgrade")
        .arg("--state-dir")
        .arg(world.directory.join("state"));
    let output = upgrade.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    let new: i32 = words.split_whitespace().nth(1).unwrap().parse().unwrap();
    let _end = crate::world::Orphan(rustix::process::Pid::from_raw(new).unwrap());
    let status = fs::read_to_string(format!("/proc/{new}/status")).unwrap();
    assert!(
        status.contains("Uid:\t65534\t65534\t65534\t65534"),
        "{status}"
    );
    // The new process asks helpers that are root still; the old session goes on, and ends.
    assert_eq!(session(&old, "ann").download("RETR own"), b"file of ann");
    assert_eq!(login(&old, "ann", "wrong").code, 530);
    ann.ok("QUIT", 221);
    drop(ann);
    assert!(
        old.wait(Duration::from_secs(20)).is_some(),
        "the old process stays"
    );
    assert_eq!(session(&old, "ann").download("RETR own"), b"file of ann");
}
