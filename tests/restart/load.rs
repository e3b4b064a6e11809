//! The server is replaced while it is busy.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::common::client::Client;
use crate::common::server::{Accounts, PASSWORD, Server, USER};
use crate::common::{PATIENCE, Port, pattern};
use crate::{put_zeros, replace};

const LARGE: u64 = 96 << 20;
const REPLACEMENTS: usize = 3;

/// Files of every size that `mixed` wants.
fn prepare() {
    let home = &Accounts::shared().home;
    std::fs::create_dir_all(home.join("mixed")).unwrap();
    std::fs::create_dir_all(home.join("mixed-put")).unwrap();
    for number in 0..4 {
        std::fs::write(
            home.join(format!("mixed/big {number}")),
            pattern((1 << 20) + number),
        )
        .unwrap();
        std::fs::write(
            home.join(format!("mixed/small {number}")),
            pattern(1000 * number),
        )
        .unwrap();
    }
    put_zeros("long.bin", LARGE);
}

fn mixed(address: SocketAddr, security: &str, report: &std::path::Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    command.args(["mixed", "--path", "mixed", "--path", "mixed-put"]);
    command.args([
        "--size",
        "300K",
        "--sessions",
        "25",
        "--duration",
        "16",
        "--insecure",
    ]);
    command.args(["--security", security, "--verify", "sha256", "--quiet"]);
    command.args(["--server", &address.to_string()]);
    command.args(["--user", USER, "--password", PASSWORD]);
    command.arg("--json").arg(report);
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Logs in again and again: the whole of a short session each time.
fn logins(address: SocketAddr, security: &str, report: &std::path::Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringftpd-load"));
    command.args([
        "login",
        "--sessions",
        "2",
        "--duration",
        "16",
        "--insecure",
        "--quiet",
    ]);
    command.args(["--security", security, "--server", &address.to_string()]);
    command.args(["--user", USER, "--password", PASSWORD]);
    command.arg("--json").arg(report);
    command.stdin(Stdio::null()).spawn().unwrap()
}

/// Connects again and again until it is stopped: every connection must be greeted.
struct Visitor {
    stop: Arc<AtomicBool>,
    greeted: Arc<AtomicUsize>,
    thread: JoinHandle<Option<String>>,
}

impl Visitor {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let greeted = Arc::new(AtomicUsize::new(0));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&greeted));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // Several at once, so that some wait to be accepted at any time.
                let connect = || {
                    let stream = TcpStream::connect(address)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    Ok::<_, std::io::Error>(stream)
                };
                let streams: Vec<_> = (0..8).map(|_| connect()).collect();
                for stream in streams {
                    let mut octets = [0; 4];
                    match stream.and_then(|mut stream| stream.read_exact(&mut octets)) {
                        Ok(()) if octets == *b"220 " => count.fetch_add(1, Ordering::Relaxed),
                        Ok(()) => return Some(format!("{} instead of 220", octets.escape_ascii())),
                        Err(error) => return Some(error.to_string()),
                    };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            None
        });
        Self {
            stop,
            greeted,
            thread,
        }
    }

    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.thread.join().unwrap(), None);
        assert!(self.greeted.load(Ordering::Relaxed) > 100);
    }
}

/// The bar: 50 sessions at work, the server replaced three times; nobody notices.
#[test]
fn nothing_is_refused_and_nothing_breaks_under_load() {
    prepare();
    let reports = tempfile::tempdir().unwrap();
    let options = ["--cores", "2", "--log-level", "info"];
    let first = Server::start(&options);
    let path = |name: &str| reports.path().join(name);
    let mut loads = [
        ("mixed", mixed(first.explicit, "explicit", &path("0"))),
        ("mixed", mixed(first.implicit, "implicit", &path("1"))),
        ("login", logins(first.explicit, "explicit", &path("2"))),
        ("login", logins(first.implicit, "implicit", &path("3"))),
    ];
    let visitor = Visitor::start(first.explicit);
    let mut servers = vec![first];
    let mut long = Vec::new();
    for _ in 0..REPLACEMENTS {
        let running = servers.last().unwrap();
        let mut client = Client::ready(running, Port::Explicit);
        let mut data = client.open("RETR long.bin");
        assert_eq!(data.take_exactly(5), b"begin");
        long.push((client, data));
        std::thread::sleep(Duration::from_secs(3));
        servers.push(replace(servers.last().unwrap(), &options));
    }
    for (mut client, mut data) in long {
        let (octets, end) = data.take_all();
        assert_eq!((octets.len() as u64, end), (LARGE - 5, client.clean_end()));
        data.close_notify();
        drop(data);
        client.expect(226);
        client.ok("QUIT", 221);
    }
    visitor.finish();
    for (place, (what, load)) in loads.iter_mut().enumerate() {
        let status = load.wait().unwrap();
        let text = std::fs::read_to_string(path(&place.to_string())).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let errors = &report["errors"];
        assert!(
            status.success(),
            "{what}: {status}, {errors}: {}",
            report["error_examples"]
        );
        assert!(errors.as_object().unwrap().is_empty(), "{what}: {errors}");
        let operations = report["operations"].as_u64().unwrap();
        assert!(operations > 20, "{what}: {operations} operations");
    }
    let last = servers.pop().unwrap();
    for old in &servers {
        assert_eq!(old.wait(PATIENCE).unwrap().code(), Some(0));
        let log = String::from_utf8_lossy(&old.log()).into_owned();
        assert!(!log.contains("cut off"), "{log}");
    }
    Client::ready(&last, Port::Implicit).download("NLST");
}
