//! The processes that ask PAM: slow ones, many at once, those that end.

use std::thread;
use std::time::Duration;

use crate::common::PATIENCE;
use crate::common::server::{PASSWORD, USER, wait_until};
use crate::world::{World, begin_login, descendants, is_alive, kill_all, login, session};

/// As many as there are in the server.
const HELPERS: usize = 8;
/// After which a helper is replaced.
const CHECK_TIME_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_slow_module_holds_up_nobody_else() {
    let Some(world) = World::new() else { return };
    let server = world.server("slow", &["--cores", "1"]);
    let mut here = session(&server, USER);
    let mut asleep: Vec<_> = (0..HELPERS - 1)
        .map(|_| begin_login(&server, "sleepy", PASSWORD))
        .collect();
    world.wait_for_sleepers(HELPERS - 1);
    // Sessions go on, the users file lets in, and so does the helper that is left.
    here.ok("NOOP", 200);
    session(&server, USER).ok("NOOP", 200);
    session(&server, "ann").ok("NOOP", 200);
    // With all of them asleep further logins wait, and sessions go on still.
    asleep.push(begin_login(&server, "drowsy", PASSWORD));
    world.wait_for_sleepers(HELPERS);
    let waiting = begin_login(&server, "lee", PASSWORD);
    here.ok("NOOP", 200);
    session(&server, USER).ok("NOOP", 200);
    assert_eq!(
        world.asked().lines().count(),
        HELPERS + 1,
        "lee was not to be asked about"
    );
    world.wake();
    for mut client in asleep.into_iter().chain([waiting]) {
        client.expect(230);
    }
}

#[test]
fn many_log_in_at_once() {
    let Some(world) = World::new() else { return };
    let server = world.server("plain", &[]);
    thread::scope(|scope| {
        for number in 0..40 {
            let server = &server;
            scope.spawn(move || {
                let user = if number % 2 == 0 { "ann" } else { "lee" };
                let mut client = session(server, user);
                let own = client.download("RETR own");
                assert_eq!(own, format!("file of {user}").into_bytes());
            });
        }
    });
    let helpers = descendants(server.pid, "pam-helper").len();
    assert!((1..=HELPERS).contains(&helpers), "{helpers} helpers");
}

#[test]
fn helpers_that_are_killed_are_replaced() {
    let Some(world) = World::new() else { return };
    let server = world.server("slow", &[]);
    session(&server, "ann");
    // While they wait for a question: nobody notices.
    let idle = descendants(server.pid, "pam-helper");
    assert!(!idle.is_empty());
    kill_all(&idle);
    for _ in 0..HELPERS {
        session(&server, "ann");
    }
    // While one is asked: that login fails.
    let mut asleep = begin_login(&server, "sleepy", PASSWORD);
    world.wait_for_sleepers(1);
    kill_all(&descendants(server.pid, "pam-helper"));
    asleep.expect(421);
    assert!(server.wait_for_log("has ended while it was asked"));
    for _ in 0..HELPERS {
        session(&server, "ann");
    }
    // Without the process that starts them there are none, and the users file still lets in.
    kill_all(&descendants(server.pid, "ringftpd-pam"));
    let words = "no helper process for PAM can be started";
    let told = wait_until(PATIENCE, || {
        assert_eq!(login(&server, "ann", PASSWORD).code, 421);
        String::from_utf8_lossy(&server.log()).contains(words)
    });
    assert!(told, "nobody says why");
    session(&server, USER);
}

#[test]
fn a_helper_that_hangs_is_replaced() {
    let Some(world) = World::new() else { return };
    let server = world.server("slow", &[]);
    let mut asleep = begin_login(&server, "sleepy", PASSWORD);
    world.wait_for_sleepers(1);
    let hanging = descendants(server.pid, "pam-helper");
    assert_eq!(hanging.len(), 1);
    let answered = wait_until(CHECK_TIME_MAX + PATIENCE, || {
        String::from_utf8_lossy(&server.log()).contains("PAM does not answer")
    });
    assert!(answered, "no deadline");
    asleep.expect(421);
    let ended = wait_until(PATIENCE, || !is_alive(hanging[0]));
    assert!(ended, "the hanging helper is still there");
    session(&server, "ann");
}

#[test]
fn no_process_outlives_the_server() {
    let Some(world) = World::new() else { return };
    let server = world.server("slow", &[]);
    session(&server, "ann");
    let _asleep = begin_login(&server, "sleepy", PASSWORD);
    world.wait_for_sleepers(1);
    let mut processes = descendants(server.pid, "pam-helper");
    processes.extend(descendants(server.pid, "ringftpd-pam"));
    assert!(processes.len() >= 2, "{processes:?}");
    server.signal(rustix::process::Signal::KILL);
    let gone = || !processes.iter().any(|process| is_alive(*process));
    assert!(wait_until(PATIENCE, gone), "{processes:?}");
}
