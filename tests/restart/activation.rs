//! Sockets that a supervisor has opened.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::client::Client;
use crate::common::server::{Server, wait_until};
use crate::common::{PATIENCE, Port};
use crate::{MOMENT, replace};

/// What systemd does: the sockets become descriptors 3 and up of the program, which is told so.
const LAUNCHER: &str = "\
import os, sys
names, fds, words = sys.argv[1], [int(n) for n in sys.argv[2].split(',')], sys.argv[3:]
fds = [os.dup2(fd, 100 + place, True) for place, fd in enumerate(fds)]
for place, fd in enumerate(fds):
    os.dup2(fd, 3 + place, True)
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
os.execv(words[0], words)
";

struct Supervisor {
    names: String,
    sockets: Vec<TcpListener>,
}

impl Supervisor {
    fn new(names: &[&str]) -> Self {
        let sockets = names
            .iter()
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        Self {
            names: names.join(":"),
            sockets: sockets.collect(),
        }
    }

    fn address(&self, place: usize) -> SocketAddr {
        self.sockets[place].local_addr().unwrap()
    }

    /// The command with these sockets.
    fn launch(&self, command: Command) -> Command {
        let numbers: Vec<String> = self
            .sockets
            .iter()
            .map(|socket| {
                rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
                socket.as_raw_fd().to_string()
            })
            .collect();
        let mut launcher = Command::new("python3");
        launcher.args(["-c", LAUNCHER, &self.names, &numbers.join(",")]);
        launcher.arg(command.get_program());
        launcher.args(command.get_args());
        launcher
    }
}

#[test]
fn connections_wait_while_no_server_runs() {
    let supervisor = Supervisor::new(&["explicit", "implicit", "metrics"]);
    let start = |old: Option<&Server>| {
        let prepare = |command| supervisor.launch(command);
        let options = ["--cores", "2"];
        let server = match old {
            Some(old) => old.start_beside(&options, prepare),
            None => Server::start_by(&options, prepare),
        };
        assert_eq!(server.explicit, supervisor.address(0));
        assert_eq!(server.implicit, supervisor.address(1));
        assert_eq!(server.metrics, Some(supervisor.address(2)));
        server
    };
    let first = start(None);
    for _ in 0..4 {
        // Both cores wait on the same sockets.
        Client::ready(&first, Port::Explicit).download("NLST");
        Client::ready(&first, Port::Implicit).download("NLST");
    }
    first.signal(Signal::TERM);
    assert_eq!(first.wait(PATIENCE).unwrap().code(), Some(0));
    // Nobody is refused: the supervisor's sockets were left as they are.
    let mut waiting: Vec<Client> = (0..10)
        .map(|_| Client::connect(&first, Port::Explicit))
        .collect();
    std::thread::sleep(MOMENT);
    let second = start(Some(&first));
    for client in &mut waiting {
        client.settle(crate::common::server::USER, crate::common::server::PASSWORD);
        client.download("NLST");
    }
    // Replaced in place, it is all the same.
    let third = replace(&second, &[]);
    assert_eq!(third.metrics, second.metrics);
    drop(waiting);
    assert_eq!(second.wait(PATIENCE).unwrap().code(), Some(0));
    Client::ready(&third, Port::Implicit).download("NLST");
    third.signal(Signal::TERM);
    assert_eq!(third.wait(PATIENCE).unwrap().code(), Some(0));
    Client::connect(&third, Port::Explicit);
}

#[test]
fn sockets_without_a_name_are_known_by_their_port() {
    let supervisor = Supervisor::new(&["", "unknown"]);
    let (explicit, implicit) = (supervisor.address(0), supervisor.address(1));
    let (explicit, implicit) = (explicit.to_string(), implicit.to_string());
    let options = ["--explicit", &explicit, "--implicit", &implicit];
    let server = Server::start_by(&options, |command| supervisor.launch(command));
    Client::ready(&server, Port::Explicit).download("NLST");
    Client::ready(&server, Port::Implicit).download("NLST");
    // Neither name nor port tells.
    let stranger = Supervisor::new(&["web"]);
    let refused = stranger
        .launch(server.command_beside(&options))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{words}");
    assert!(words.contains("FileDescriptorName=explicit"), "{words}");
}

#[test]
fn systemds_own_tool_starts_the_server() {
    let Ok(Some(0)) = Command::new("systemd-socket-activate")
        .arg("--version")
        .output()
        .map(|output| output.status.code())
    else {
        eprintln!("skipped: no systemd-socket-activate; the tests beside do what it does");
        return;
    };
    // It starts the server when the first client comes.
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (explicit, implicit) = (free(), free());
    let knock = std::thread::spawn(move || {
        let mut stream = None;
        wait_until(PATIENCE, || {
            stream = std::net::TcpStream::connect(explicit).ok();
            stream.is_some()
        });
        std::thread::sleep(Duration::from_secs(1));
        stream
    });
    let server = Server::start_by(&[], |command| {
        let mut launcher = Command::new("systemd-socket-activate");
        launcher.arg("--fdname=explicit:implicit");
        launcher.arg(format!("--listen={explicit}"));
        launcher.arg(format!("--listen={implicit}"));
        launcher.arg(command.get_program());
        launcher.args(command.get_args());
        launcher
    });
    assert!(knock.join().unwrap().is_some());
    assert_eq!((server.explicit, server.implicit), (explicit, implicit));
    Client::ready(&server, Port::Explicit).download("NLST");
    Client::ready(&server, Port::Implicit).download("NLST");
}
