//! One process after the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::common::client::Client;
use crate::common::server::{PASSWORD, Server, USER, process_directory, program, wait_until};
use crate::common::tls::Profile;
use crate::common::{PATIENCE, Port, assert_same, pattern, skip};
use crate::{MOMENT, OPEN, Orphan, put_zeros, replace, upgrade};

const LARGE: u64 = 64 << 20;

/// Receives all of a large download whose beginning has come.
fn finish(client: &mut Client, mut data: crate::common::link::Link) {
    let rest = data.take_all();
    assert_eq!(rest.1, client.clean_end());
    data.close_notify();
    drop(data);
    client.expect(226);
    // The beginning was taken before.
    assert_eq!(rest.0.len() as u64, LARGE - 5);
}

#[test]
fn sessions_and_transfers_go_on_in_the_old_process() {
    put_zeros("takeover.bin", LARGE);
    let old = Server::start(&[]);
    let mut idle = Client::ready(&old, Port::Implicit);
    let mut busy = Client::ready(&old, Port::Explicit);
    let mut download = busy.open("RETR takeover.bin");
    assert_eq!(download.take_exactly(5), b"begin");

    let new = replace(&old, &[]);
    // The same passive ports in both, at the same time.
    let mut fresh = Client::ready(&new, Port::Explicit);
    fresh.download("NLST");
    idle.upload("STOR takeover.txt", &pattern(70_000));
    assert_same(&fresh.download("RETR takeover.txt"), &pattern(70_000));
    assert!(old.wait(MOMENT).is_none(), "the old process has sessions");
    finish(&mut busy, download);
    busy.ok("NOOP", 200);
    busy.ok("QUIT", 221);
    assert!(old.wait(MOMENT).is_none(), "the old process has a session");
    idle.ok("QUIT", 221);
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    fresh.ok("QUIT", 221);
    Client::ready(&new, Port::Implicit).download("NLST");
}

/// Tickets of the old process are worth nothing in the new one, and do no harm.
#[test]
fn a_client_that_offers_a_session_of_the_old_process_makes_a_full_handshake() {
    for version in [
        crate::common::tls::Version::Tls13,
        crate::common::tls::Version::Tls12,
    ] {
        let old = Server::start(&[]);
        let profile = Profile::new(version);
        let mut first = Client::connect_as(&old, Port::Implicit, profile, None);
        first.settle(USER, PASSWORD);
        first.download("NLST");
        let new = replace(&old, &[]);
        let Client { profile, .. } = first;
        let mut second = Client::connect_as(&new, Port::Implicit, profile, None);
        second.settle(USER, PASSWORD);
        assert_eq!(second.link.handshake_kind(), HandshakeKind::Full);
        // Its own sessions are good again.
        second.download("NLST");
        let data = second.open("NLST");
        assert_eq!(data.handshake_kind(), HandshakeKind::Resumed);
        second.drain(data);
    }
}

#[test]
fn a_retired_process_ends_its_sessions_when_their_time_is_over() {
    put_zeros("retired.bin", LARGE);
    let old = Server::start(&["--retire-timeout", "1s"]);
    let mut idle = Client::ready(&old, Port::Explicit);
    let mut busy = Client::ready(&old, Port::Implicit);
    let mut download = busy.open("RETR retired.bin");
    assert_eq!(download.take_exactly(5), b"begin");
    let _new = replace(&old, &[]);
    idle.expect_thrown_out();
    finish(&mut busy, download);
    busy.expect_thrown_out();
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_retired_process_ends_by_sigterm_and_the_new_one_stays() {
    let old = Server::start(&["--cores", "1"]);
    let mut idle = Client::ready(&old, Port::Explicit);
    // Another number of threads: each socket goes to one, or siblings are opened.
    let new = replace(&old, &["--cores", "3"]);
    old.signal(Signal::TERM);
    idle.expect_thrown_out();
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    let newest = replace(&new, &["--cores", "2"]);
    assert_eq!(new.wait(PATIENCE).unwrap().code(), Some(0));
    for port in [
        Port::Explicit,
        Port::Implicit,
        Port::Explicit,
        Port::Implicit,
    ] {
        Client::ready(&newest, port).download("NLST");
    }
    newest.signal(Signal::TERM);
    assert_eq!(newest.wait(PATIENCE).unwrap().code(), Some(0));
    let left = TcpStream::connect(newest.explicit);
    assert_eq!(
        left.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    let socket = newest.directory.join("state/handover.sock");
    assert!(!socket.exists(), "left behind");
}

#[test]
fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let old = Server::start(&[]);
    let mut session = Client::ready(&old, Port::Explicit);
    let other = process_directory().join("not-a-certificate.pem");
    std::fs::write(&other, "nothing").unwrap();
    let bad = other.to_str().unwrap();
    assert!(old.wait_for_log(OPEN), "nobody can take over");
    let failed = old
        .command_beside(&["--take-over", "--cert", bad, "--key", bad])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(78), "{failed:?}");
    assert!(old.wait_for_log("did not get ready"), "not told");
    session.download("NLST");
    for port in [Port::Explicit, Port::Implicit] {
        Client::ready(&old, port).download("NLST");
    }
    // It can still be replaced.
    let new = replace(&old, &[]);
    session.ok("QUIT", 221);
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    Client::ready(&new, Port::Explicit);
}

#[test]
fn without_the_wish_a_second_server_takes_nothing() {
    let old = Server::start(&[]);
    let address = old.explicit.to_string();
    let refused = old
        .command_beside(&["--explicit", &address])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(71), "{words}");
    assert!(words.contains("another server has this port"), "{words}");
    assert!(old.wait_for_log(OPEN), "nobody can take over");
    // On other ports both live, and the first one can be replaced.
    let second = old.start_beside(&[], |command| command);
    assert!(second.wait_for_log("another server uses this state directory"));
    assert_ne!(second.explicit, old.explicit);
    let new = replace(&old, &[]);
    Client::ready(&second, Port::Explicit);
    Client::ready(&new, Port::Explicit);
    // Nobody to take over from is no reason not to start.
    let alone = Server::start(&["--take-over"]);
    assert!(alone.wait_for_log("no server runs"));
}

#[test]
fn the_metrics_address_is_handed_over() {
    let ask = |server: &Server| {
        let mut stream = TcpStream::connect(server.metrics.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let old = Server::start(&["--metrics", "0"]);
    assert!(ask(&old).ends_with("ok\n"));
    let mut session = Client::ready(&old, Port::Explicit);
    let new = replace(&old, &["--metrics", "0"]);
    assert_eq!(new.metrics, old.metrics);
    // Every answer is of the new process: the old one is drained.
    for _ in 0..20 {
        assert!(ask(&new).ends_with("ok\n"));
    }
    session.ok("NOOP", 200);
}

#[test]
fn an_upgrade_starts_the_program_anew() {
    let old = Server::start(&[]);
    let mut session = Client::ready(&old, Port::Explicit);
    let outcome = upgrade(&old);
    let words = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let numbers: Vec<&str> = words.split(|c: char| !c.is_ascii_digit()).collect();
    let numbers: Vec<&str> = numbers
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
    assert_eq!(numbers[1], old.pid.to_string(), "{words}");
    let new = Orphan::new(numbers[0]);
    session.download("NLST");
    session.ok("QUIT", 221);
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    assert!(new.is_alive());
    let mut client = Client::ready(&old, Port::Implicit);
    client.download("NLST");

    // It says that where the old one did.
    let open = || String::from_utf8_lossy(&old.log()).matches(OPEN).count() == 2;
    assert!(wait_until(PATIENCE, open), "not open");
    // Once more, by signal: the socket in the state directory tells who serves.
    let before = std::fs::metadata(old.directory.join("state/handover.sock")).unwrap();
    rustix::process::kill_process(new.0, Signal::USR2).unwrap();
    let socket = old.directory.join("state/handover.sock");
    let another = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&socket).is_ok_and(|now| now.ino() != before.ino())
    };
    assert!(wait_until(PATIENCE, another), "no successor");
    client.ok("QUIT", 221);
    assert!(wait_until(PATIENCE, || !new.is_alive()));
    Client::ready(&old, Port::Explicit).download("NLST");
    let last = upgrade(&old);
    let words = String::from_utf8_lossy(&last.stdout).into_owned();
    assert!(last.status.success(), "{last:?}");
    let _last = Orphan::new(words.split_whitespace().nth(1).unwrap());
}

#[test]
fn an_upgrade_that_fails_says_so() {
    let users = crate::common::server::Accounts::single(USER, &process_directory().join("fails"));
    let file = users.file.to_str().unwrap();
    let old = Server::start(&["--users", file]);
    let mut session = Client::ready(&old, Port::Explicit);
    std::fs::write(&users.file, "nonsense").unwrap();
    let outcome = upgrade(&old);
    let words = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert_eq!(outcome.status.code(), Some(71), "{words}");
    assert!(words.contains("the old one goes on"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    session.download("NLST");
    Client::ready(&old, Port::Implicit);
    let missing = Command::new(program())
        .args(["upgrade", "--state-dir"])
        .arg(process_directory().join("nowhere"))
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(69), "{missing:?}");
}

/// The mode of the socket keeps other accounts away; where somebody has opened it, the server does.
#[test]
fn other_accounts_get_nothing() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another account");
    }
    // Where that account can reach the program and the socket.
    let directory = std::env::temp_dir().join(format!("ringftpd-handover-{}", std::process::id()));
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir_all(&directory).unwrap();
    open(&directory, 0o755);
    let copy = directory.join("ringftpd");
    std::fs::copy(program(), &copy).unwrap();
    let state = directory.join("state");
    let server = Server::start(&["--state-dir", state.to_str().unwrap()]);
    assert!(server.wait_for_log(OPEN), "nobody can take over");
    let ask = || {
        let mut command = Command::new(&copy);
        command.args(["upgrade", "--state-dir"]).arg(&state);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, words) = ask();
    assert_eq!(status, Some(77), "{words}");
    open(&state, 0o755);
    open(&state.join("handover.sock"), 0o666);
    let (status, words) = ask();
    assert!(words.contains("own account and to root only"), "{words}");
    assert_eq!(status, Some(71), "{words}");
    assert!(server.wait_for_log("another account"));
    // A stranger's socket in its place is not trusted.
    server.signal(Signal::TERM);
    server.wait(PATIENCE).unwrap();
    std::os::unix::fs::chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let listen = "import socket, sys, time\n\
                  s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                  s.bind(sys.argv[1]); s.listen(); print('up', flush=True); time.sleep(60)";
    let mut stranger = Command::new("python3")
        .args(["-c", listen])
        .arg(state.join("handover.sock"))
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept, or it would end by what it says.
    let mut said = stranger.stdout.take().unwrap();
    said.read_exact(&mut [0; 3]).unwrap();
    let refused = server
        .command_beside(&["--take-over", "--state-dir", state.to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(refused.status.code(), Some(77), "{words}");
    assert!(words.contains("not trusted"), "{words}");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Root starts it, an account runs it: root's next process takes over from the account's.
#[test]
fn root_takes_over_from_the_account_that_it_became() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another account");
    }
    let home = std::env::temp_dir().join(format!("ringftpd-run-as-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    let users = crate::common::server::Accounts::single(USER, &process_directory().join("run-as"));
    let state = home.join("state");
    let options = [
        "--run-as",
        "nobody",
        "--users",
        users.file.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let old = Server::start(&options);
    let mut session = Client::connect(&old, Port::Explicit);
    session.settle(USER, PASSWORD);
    let new = replace(&old, &options);
    let newest = replace(&new, &options);
    let mut fresh = Client::connect(&newest, Port::Implicit);
    fresh.settle(USER, PASSWORD);
    session.ok("QUIT", 221);
    for server in [&old, &new] {
        assert_eq!(server.wait(PATIENCE).unwrap().code(), Some(0));
    }
    assert!(newest.wait(Duration::ZERO).is_none());
    drop(newest);
    std::fs::remove_dir_all(&home).unwrap();
}

/// What /proc tells of a process.
fn status(process: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().to_owned()
}

/// Its user, the owner of its memory, and its capabilities.
fn kept(process: &str) -> (u32, u32, String) {
    // Files of a process whose memory is closed are root's (proc(5)).
    let memory = std::fs::metadata(format!("/proc/{process}/mem")).unwrap();
    let user = status(process, "Uid:");
    let user = user.split_whitespace().next().unwrap().parse().unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&memory);
    (user, owner, status(process, "CapEff:"))
}

/// What a server that root started kept, its successors keep: the source ports of active mode, and closed memory.
#[test]
fn successors_of_a_server_of_root_keep_what_it_kept() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can become another account");
    }
    let home = std::env::temp_dir().join(format!("ringftpd-kept-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The account has to reach the program and the users file by itself.
    let copy = home.join("ringftpd");
    std::fs::copy(program(), &copy).unwrap();
    let users = home.join("users.toml");
    let single = crate::common::server::Accounts::single(USER, &process_directory().join("kept"));
    std::fs::copy(&single.file, &users).unwrap();
    std::os::unix::fs::chown(&users, Some(65_534), Some(65_534)).unwrap();
    let text = std::fs::read_to_string(&users).unwrap();
    let of_account = text.replace(single.home.to_str().unwrap(), home.to_str().unwrap());
    std::fs::write(&users, of_account).unwrap();
    let state = home.join("state");
    let options = [
        "--run-as",
        "nobody",
        "--users",
        users.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let old = Server::start_by(&options, |command| {
        let mut copied = Command::new(&copy);
        copied.args(command.get_args()).current_dir("/");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => copied.env(name, value),
                None => copied.env_remove(name),
            };
        }
        copied
    });
    let first = kept(&old.pid.to_string());
    assert_eq!((first.0, first.1), (65_534, 0));
    // A container may withhold the right.
    let bounds = u64::from_str_radix(&status("self", "CapBnd:"), 16).unwrap();
    let bind_service = 1 << 10;
    assert_eq!(u64::from_str_radix(&first.2, 16), Ok(bounds & bind_service));
    let mut successors = Vec::new();
    for round in 1..=2 {
        let open = || String::from_utf8_lossy(&old.log()).matches(OPEN).count() == round;
        assert!(wait_until(PATIENCE, open), "not open");
        let outcome = Command::new(&copy)
            .args(["upgrade", "--state-dir"])
            .arg(&state)
            .output()
            .unwrap();
        assert!(outcome.status.success(), "{outcome:?}");
        let words = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let number = words.split_whitespace().nth(1).unwrap().to_owned();
        successors.push(Orphan::new(&number));
        assert_eq!(kept(&number), first, "round {round}");
    }
    let mut client = Client::connect(&old, Port::Explicit);
    client.settle(USER, PASSWORD);
    client.download("NLST");
    drop(successors);
    std::fs::remove_dir_all(&home).unwrap();
}

#[test]
fn an_upgrade_finds_the_server_by_its_configuration() {
    let old = Server::start(&[]);
    assert!(old.wait_for_log(OPEN), "nobody can take over");
    let file = old.directory.join("server.toml");
    let upgrade = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        command.args(["upgrade", "--config"]).arg(&file);
        command.output().unwrap()
    };
    let wrong = upgrade("[process]\nstate-dri = \"state\"\n");
    assert_eq!(wrong.status.code(), Some(78), "{wrong:?}");
    let words = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        words.contains("server.toml:2:1") && words.contains("state-dir"),
        "{words}"
    );
    assert!(old.wait(MOMENT).is_none(), "replaced");
    // Relative to the file.
    let done = upgrade("[process]\nstate-dir = \"state\"\n");
    assert!(done.status.success(), "{done:?}");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    let _new = Orphan::new(words.split_whitespace().nth(1).unwrap());
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
}
