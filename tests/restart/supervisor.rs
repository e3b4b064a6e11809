//! What a supervisor hears (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::Server;
use crate::common::{PATIENCE, Port};
use crate::{Orphan, put_zeros, replace_by, upgrade};

struct Supervisor {
    socket: UnixDatagram,
    name: String,
    heard: Vec<String>,
}

impl Supervisor {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringftpd-notify-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            name: format!("@{name}"),
            heard: Vec::new(),
        }
    }

    fn watch(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.name);
        command.env("WATCHDOG_USEC", "1000000");
        command
    }

    /// Listens until a message begins so; returns it.
    #[track_caller]
    fn expect(&mut self, begin: &str) -> String {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let mut octets = [0; 1024];
            let Ok(count) = self.socket.recv(&mut octets) else {
                break;
            };
            let words = String::from_utf8_lossy(&octets[..count]).into_owned();
            self.heard.push(words.clone());
            if words.starts_with(begin) {
                return words;
            }
        }
        panic!("no {begin}: {:?}", self.heard);
    }
}

#[test]
fn a_supervisor_follows_the_whole_life() {
    put_zeros("supervised.bin", 64 << 20);
    let mut supervisor = Supervisor::new();
    let server = Server::start_by(&[], |command| supervisor.watch(command));
    supervisor.expect("READY=1");
    for _ in 0..3 {
        supervisor.expect("WATCHDOG=1");
    }
    let mut client = Client::ready(&server, Port::Explicit);
    supervisor.expect("STATUS=Serving 1 connections");
    server.signal(Signal::HUP);
    let words = supervisor.expect("RELOADING=1\n");
    let time = words.split("MONOTONIC_USEC=").nth(1).unwrap();
    assert!(time.parse::<u64>().unwrap() > 0);
    supervisor.expect("READY=1");
    let mut data = client.open("RETR supervised.bin");
    data.take_exactly(5);
    server.signal(Signal::TERM);
    supervisor.expect("STOPPING=1");
    supervisor.expect("EXTEND_TIMEOUT_USEC=");
    supervisor.expect("STATUS=Ending, 1 connections left");
    // Alive while it ends.
    supervisor.expect("WATCHDOG=1");
    drop(data);
    assert!(server.wait(PATIENCE).is_some());
}

#[test]
fn the_new_process_is_the_service() {
    let mut supervisor = Supervisor::new();
    let old = Server::start_by(&[], |command| supervisor.watch(command));
    supervisor.expect("READY=1");
    let outcome = upgrade(&old);
    let words = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(outcome.status.success(), "{outcome:?}");
    let number = words.split_whitespace().nth(1).unwrap().to_owned();
    let new = Orphan::new(&number);
    assert_eq!(supervisor.expect("MAINPID="), format!("MAINPID={number}"));
    // The program was told where to go on, before and after.
    supervisor.expect("READY=1");
    supervisor.expect("WATCHDOG=1");
    assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
    supervisor.heard.clear();
    supervisor.expect("WATCHDOG=1");
    let silent = |heard: &[String]| !heard.iter().any(|words| words.starts_with("STOPPING"));
    assert!(silent(&supervisor.heard), "{:?}", supervisor.heard);
    assert!(new.is_alive());
}

/// A process that is not the service any more tells nothing, whatever happens to it.
#[test]
fn a_retired_process_is_silent() {
    let mut supervisor = Supervisor::new();
    let old = Server::start_by(&[], |command| supervisor.watch(command));
    let mut session = Client::ready(&old, Port::Explicit);
    supervisor.expect("READY=1");
    let new = replace_by(&old, &[], |command| command);
    supervisor.expect(&format!("MAINPID={}", new.pid));
    old.signal(Signal::HUP);
    old.signal(Signal::TERM);
    session.expect_thrown_out();
    assert!(old.wait(PATIENCE).is_some());
    supervisor.socket.set_nonblocking(true).unwrap();
    let mut octets = [0; 1024];
    let more = supervisor.socket.recv(&mut octets);
    assert!(more.is_err(), "{}", octets.escape_ascii());
}
