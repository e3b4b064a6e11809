//! `openssl s_client`: STARTTLS and direct TLS, and a data connection that resumes the control connection's session.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::{HOST, PASSWORD, Port, Site, USER, client, installed, octets};

fn site() -> Option<Site> {
    installed("openssl", "openssl").then(Site::start)
}

fn s_client(site: &Site, port: u16, tls: &str) -> Command {
    let mut command = client("openssl");
    command
        .args(["s_client", "-quiet", "-verify_return_error", tls])
        .args(["-connect", &format!("{HOST}:{port}"), "-CAfile"])
        .arg(site.certificate());
    command
}

/// A control connection whose TLS another program speaks.
struct Control {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Control {
    fn open(site: &Site, port: Port, tls: &str) -> Self {
        let mut command = s_client(site, site.port(port), tls);
        if port == Port::Explicit {
            command.args(["-starttls", "ftp"]);
        }
        command.arg("-sess_out").arg(session_file(site));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut control = Self {
            process,
            input,
            output,
        };
        // s_client itself reads the greeting in front of AUTH TLS.
        if port == Port::Implicit {
            assert!(control.reply().starts_with("220"));
        }
        control.says(&format!("USER {USER}"), "331");
        control.says(&format!("PASS {PASSWORD}"), "230");
        control.says("PBSZ 0", "200");
        control.says("PROT P", "200");
        control.says("TYPE I", "200");
        control
    }

    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    #[track_caller]
    fn says(&mut self, command: &str, code: &str) -> String {
        self.input
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let reply = self.reply();
        assert!(reply.starts_with(code), "{command}: {reply:?}");
        reply
    }

    fn passive_port(&mut self) -> u16 {
        let reply = self.says("EPSV", "229");
        reply.split('|').nth(3).unwrap().parse().unwrap()
    }

    fn quit(mut self) {
        self.says("QUIT", "221");
        drop(self.input);
        self.process.wait().unwrap();
    }
}

fn session_file(site: &Site) -> std::path::PathBuf {
    site.scratch().join("session.pem")
}

fn transfers(port: Port, tls: &str) {
    let Some(site) = site() else { return };
    let content = octets(10, 300_001);
    site.write("down.bin", &content);
    let mut control = Control::open(&site, port, tls);
    assert!(
        session_file(&site).exists(),
        "the server sent no session to resume"
    );
    // With TLS 1.3 the file holds one ticket, which must be good for more than one data connection.
    for _ in 0..3 {
        let data = control.passive_port();
        control.says("RETR down.bin", "150");
        let mut command = s_client(&site, data, tls);
        command.arg("-sess_in").arg(session_file(&site));
        let got = command.output().unwrap();
        assert!(control.reply().starts_with("226"));
        assert!(
            got.stdout == content,
            "{} octets: {}",
            got.stdout.len(),
            String::from_utf8_lossy(&got.stderr)
        );
    }
    // Once more with s_client's report, to see that the session was resumed.
    let data = control.passive_port();
    control.says("NLST", "150");
    let report = client("openssl")
        .args([
            "s_client",
            "-ign_eof",
            "-verify_return_error",
            tls,
            "-connect",
            &format!("{HOST}:{data}"),
            "-CAfile",
        ])
        .arg(site.certificate())
        .arg("-sess_in")
        .arg(session_file(&site))
        .output()
        .unwrap();
    assert!(control.reply().starts_with("226"));
    let report = String::from_utf8_lossy(&report.stdout);
    assert!(report.contains("Reused, TLSv1."), "{report}");
    assert!(report.contains("down.bin\r\n"), "{report}");

    // An upload: the end of the input makes s_client send close_notify. Digits only, because s_client takes some
    // letters at the beginning of what it reads for commands of its own.
    let data = control.passive_port();
    control.says("STOR up.txt", "150");
    let local = site.scratch().join("up.txt");
    fs::write(&local, "0123456789\n".repeat(50_000)).unwrap();
    let mut command = s_client(&site, data, tls);
    command
        .args(["-no_ign_eof", "-sess_in"])
        .arg(session_file(&site))
        .stdin(fs::File::open(&local).unwrap())
        .output()
        .unwrap();
    assert!(control.reply().starts_with("226"));
    assert!(site.read("up.txt") == fs::read(&local).unwrap());
    control.quit();
}

#[test]
fn openssl_starttls_tls12() {
    transfers(Port::Explicit, "-tls1_2");
}

#[test]
fn openssl_starttls_tls13() {
    transfers(Port::Explicit, "-tls1_3");
}

#[test]
fn openssl_implicit_tls12() {
    transfers(Port::Implicit, "-tls1_2");
}

#[test]
fn openssl_implicit_tls13() {
    transfers(Port::Implicit, "-tls1_3");
}
