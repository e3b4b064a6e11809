//! A DNS name as passive address: looked up again on SIGHUP, its last good address kept. The server sees files of
//! its own in place of the machine's table of names.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::server::{process_directory, wait_until};
use crate::common::{PATIENCE, skip};

/// The server in mounts of its own, and its log.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path, name: &str) -> Self {
        let script = "mount --bind \"$1/hosts\" /etc/hosts && mount --bind \"$1/nsswitch\" /etc/nsswitch.conf && \
                      shift && exec \"$@\"";
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut child = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", script, "sh"])
            .arg(directory)
            .arg(env!("CARGO_BIN_EXE_ringftpd"))
            .arg("serve")
            .arg(directory.join("public"))
            .args(["--explicit", "127.0.0.1:0", "--implicit", "off"])
            .args(["--protect-control", "optional", "--anonymous"])
            .args(["--run-as", "root", "--passive-ports", "19000-19099"])
            .args(["--passive-address", name, "--state-dir"])
            .arg(directory.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("explicit FTPS on 127.0.0.1:")?
                .parse()
                .ok()
        });
        // Whatever it says later has a reader.
        std::thread::spawn(move || lines.count());
        let Some(port) = address else {
            let _ = child.kill();
            panic!(
                "{}",
                std::fs::read_to_string(directory.join("log")).unwrap()
            );
        };
        Self { child, port }
    }

    fn hang_up(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// What PASV says.
    fn pasv(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut reply = String::new();
        for command in ["USER anonymous", "PASS x", "PASV", "QUIT"] {
            let greeting = replies.next().unwrap().unwrap();
            reply = greeting;
            stream
                .write_all(format!("{command}\r\n").as_bytes())
                .unwrap();
            if command == "QUIT" {
                break;
            }
        }
        reply
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn names_are_looked_up_again_and_the_last_address_stays() {
    if !rustix::process::geteuid().is_root() {
        skip("only root may give a process its own table of names");
        return;
    }
    let directory = process_directory().join("passive-names");
    std::fs::create_dir_all(directory.join("public")).unwrap();
    let name = "ftp.example.invalid";
    // In place: the mount is of this very file.
    let hosts = |line: &str| std::fs::write(directory.join("hosts"), line).unwrap();
    std::fs::write(directory.join("nsswitch"), "hosts: files\npasswd: files\n").unwrap();
    hosts("127.0.0.1 localhost\n");
    let server = Server::start(&directory, name);
    let log = || std::fs::read_to_string(directory.join("log")).unwrap();
    let told = wait_until(PATIENCE, || log().contains("was not resolved"));
    assert!(told, "{}", log());
    assert!(server.pasv().contains("(127,0,0,1,"), "its own at first");
    for (address, told) in [("192.0.2.5", "(192,0,2,5,"), ("192.0.2.6", "(192,0,2,6,")] {
        hosts(&format!("{address} {name}\n"));
        server.hang_up();
        let told = wait_until(PATIENCE, || server.pasv().contains(told));
        assert!(told, "{address}: {}\n{}", server.pasv(), log());
    }
    hosts("127.0.0.1 localhost\n");
    server.hang_up();
    let stays = "its last address stays in use";
    assert!(wait_until(PATIENCE, || log().contains(stays)), "{}", log());
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.pasv().contains("(192,0,2,6,"), "{}", log());
}
