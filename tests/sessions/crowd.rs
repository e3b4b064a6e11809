//! Many sessions, and readers that do not read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::client::Client;
use crate::common::server::wait_until;
use crate::common::{PATIENCE, Port, skip};
use crate::{list, run, start, state};

const CROWD: usize = 2_000;
/// More than are served at once.
const IDLERS: usize = 12;

#[test]
fn a_crowd_is_listed_whole_and_readers_that_do_not_read_hold_nobody() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = 2 * CROWD as u64;
    if limits.maximum.is_some_and(|most| most < wanted) {
        return skip("fewer than 4,000 descriptors are allowed");
    }
    let current = limits.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current, ..limits }).unwrap();
    let server = start(&["--login-timeout", "10m"]);
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut one = TcpStream::connect(server.explicit).unwrap();
        one.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut greeting = [0; 4];
        one.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"220 ");
        crowd.push(one);
    }
    let sessions = list(&server, &[]);
    assert_eq!(sessions.len(), CROWD);
    let mut numbers: Vec<u64> = sessions
        .iter()
        .map(|session| session["session"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), CROWD, "each once");
    assert!(sessions.iter().all(|session| session["phase"] == "login"));

    let before = server.resident();
    let socket = state(&server).join(format!("status-{}.sock", server.pid));
    let idlers: Vec<UnixStream> = (0..IDLERS)
        .map(|_| {
            let mut idler = UnixStream::connect(&socket).unwrap();
            idler
                .write_all(b"{\"version\":1,\"ask\":\"look\"}\n")
                .unwrap();
            idler
        })
        .collect();
    // The server serves meanwhile, and gives up on them in turn.
    let mut client = Client::ready(&server, Port::Explicit);
    client.download("NLST");
    let began = Instant::now();
    let answered = wait_until(3 * PATIENCE, || {
        let (status, out, error) = run(&server, &["session", "list", "--user", "main"]);
        assert!(status == 0 || error.contains("does not answer"), "{error}");
        status == 0 && out.lines().count() == 2
    });
    assert!(answered, "after {:?}", began.elapsed());
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} octets more");
    client.ok("NOOP", 200);
    drop(idlers);
    drop(crowd);
    let left = wait_until(PATIENCE, || list(&server, &[]).len() == 1);
    assert!(left, "{}", list(&server, &[]).len());
}
