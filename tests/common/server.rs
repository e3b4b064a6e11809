//! The server as a process of its own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tls::Identity;
use super::{PATIENCE, Port};

/// The account of most tests; it may do everything.
pub const USER: &str = "main";
/// Its password.
pub const PASSWORD: &str = "correct horse 9";
/// An account on the same files that may read and list, nothing else.
pub const READER: &str = "reader";
/// An account whose password begins and ends with spaces.
pub const SPACED: &str = "spaced";
/// Its password.
pub const SPACED_PASSWORD: &str = "  two spaces each  ";

const PORTS_PER_SERVER: u16 = 300;
const PORT_FIRST: u16 = 20_000;
const SERVERS_MAX: u16 = 42;

/// The directory of this process; it goes when the process ends.
pub fn process_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let name = format!("ringftpd-{}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).unwrap();
        // Never waited for: it outlives this process by a moment.
        std::mem::forget(clean_up_afterwards("", &directory));
        directory
    })
}

/// The program under test; `RINGFTPD_TEST_PROGRAM` names another build of it.
pub fn program() -> std::ffi::OsString {
    let built = env!("CARGO_BIN_EXE_ringftpd");
    std::env::var_os("RINGFTPD_TEST_PROGRAM").unwrap_or_else(|| built.into())
}

/// A process that waits for the end of this one, then kills `pid` (if any) and removes
/// `directory`: statics are not dropped, and a test process may be killed itself. Without `pid` it
/// waits a moment for its like, which end the servers that may still write.
fn clean_up_afterwards(pid: &str, directory: &Path) -> Child {
    let script =
        r#"cat >/dev/null; if [ "$1" ]; then kill -KILL "$1"; else sleep 1; fi; rm -rf "$2""#;
    Command::new("sh")
        .args(["-c", script, "sh", pid])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A users file with the homes of its accounts.
pub struct Accounts {
    pub file: PathBuf,
    /// The root of all accounts of [`Accounts::shared`].
    pub home: PathBuf,
}

impl Accounts {
    /// The accounts that servers know when a test names no others.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Accounts> = OnceLock::new();
        SHARED.get_or_init(|| {
            let accounts = Self {
                file: process_directory().join("users.toml"),
                home: process_directory().join("home"),
            };
            std::fs::create_dir(&accounts.home).unwrap();
            accounts.add(USER, PASSWORD, &accounts.home, None);
            accounts.add(READER, PASSWORD, &accounts.home, Some("read,list"));
            accounts.add(SPACED, SPACED_PASSWORD, &accounts.home, None);
            accounts
        })
    }

    /// A users file of one account with a home of its own.
    pub fn single(name: &str, home: &Path) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let accounts = Self {
            file: home.with_extension("toml"),
            home: home.to_path_buf(),
        };
        accounts.add(name, PASSWORD, home, None);
        accounts
    }

    /// Adds an account with the program itself.
    pub fn add(&self, name: &str, password: &str, home: &Path, permissions: Option<&str>) {
        let options = permissions.map(|list| ["--permissions", list]);
        self.run_add(
            name,
            password,
            home,
            options.as_ref().map_or(&[], |two| &two[..]),
        );
    }

    /// The same with the usual password and other options of `user add`.
    pub fn add_with(&self, name: &str, home: &Path, options: &[&str]) {
        self.run_add(name, PASSWORD, home, options);
    }

    fn run_add(&self, name: &str, password: &str, home: &Path, options: &[&str]) {
        let mut command = Command::new(program());
        command.args(["user", "add", "--users"]).arg(&self.file);
        command.arg(name).arg("--home").arg(home).args(options);
        let mut child = command
            .arg("--password-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Fails when the program ended early; its own words say why.
        let _ = writeln!(child.stdin.take().unwrap(), "{password}");
        let output = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "user add {name}: {words}");
    }
}

/// Output of the server gathered so far.
type Gathered = Arc<Mutex<Vec<u8>>>;

/// A running server.
pub struct Server {
    child: Mutex<Child>,
    cleaner: Mutex<Child>,
    pub pid: u32,
    pub explicit: SocketAddr,
    pub implicit: SocketAddr,
    /// Where it tells its metrics, with `--metrics 0`.
    pub metrics: Option<SocketAddr>,
    /// Its passive ports, first and last.
    pub passive_ports: (u16, u16),
    /// Its state and public directories live here.
    pub directory: PathBuf,
    /// Another server lives there too.
    borrowed: bool,
    log: Gathered,
}

/// The same command, run by a shell that does something before.
pub fn by_shell(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!(r#"{before}; exec "$0" "$@""#)]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

impl Server {
    /// A server with these options that all tests of this process share.
    pub fn shared(options: &[&str]) -> Arc<Self> {
        type Shared = HashMap<Vec<String>, Arc<Server>>;
        static SERVERS: OnceLock<Mutex<Shared>> = OnceLock::new();
        let key: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        let mut servers = SERVERS
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        servers
            .entry(key)
            .or_insert_with(|| Arc::new(Self::start(options)))
            .clone()
    }

    /// Starts a server with these options added to the usual ones, or in place of them.
    #[track_caller]
    pub fn start(options: &[&str]) -> Self {
        Self::start_by(options, |command| command)
    }

    /// As [`Self::start`] by another command that is made of the usual one.
    #[track_caller]
    pub fn start_by(options: &[&str], prepare: impl FnOnce(Command) -> Command) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = process_directory().join(format!("server-{number}"));
        std::fs::create_dir_all(directory.join("public")).unwrap();
        let passive_ports = port_range();
        let command = prepare(command(options, &directory, passive_ports));
        Self::launch(command, directory, passive_ports, false)
    }

    /// Starts another with the same directories and passive ports.
    #[track_caller]
    pub fn start_beside(&self, options: &[&str], prepare: impl FnOnce(Command) -> Command) -> Self {
        let command = prepare(self.command_beside(options));
        Self::launch(command, self.directory.clone(), self.passive_ports, true)
    }

    /// The command of [`Self::start_beside`].
    pub fn command_beside(&self, options: &[&str]) -> Command {
        command(options, &self.directory, self.passive_ports)
    }

    #[track_caller]
    fn launch(
        mut command: Command,
        directory: PathBuf,
        passive_ports: (u16, u16),
        borrowed: bool,
    ) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let removed = if borrowed { Path::new("") } else { &directory };
        let cleaner = clean_up_afterwards(&pid.to_string(), removed);
        let log = gather(child.stderr.take().unwrap());
        let lines = BufReader::new(child.stdout.take().unwrap());
        let Some((explicit, implicit, metrics)) = addresses(lines) else {
            let _ = child.kill();
            let status = child.wait();
            std::thread::sleep(Duration::from_millis(100));
            let words = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
            panic!("the server did not start: {status:?} {command:?}\n{words}");
        };
        Self {
            child: Mutex::new(child),
            cleaner: Mutex::new(cleaner),
            pid,
            explicit,
            implicit,
            metrics,
            passive_ports,
            directory,
            borrowed,
            log,
        }
    }

    /// Where it listens.
    pub fn address(&self, port: Port) -> SocketAddr {
        match port {
            Port::Explicit => self.explicit,
            Port::Implicit => self.implicit,
        }
    }

    /// Everything it has logged.
    pub fn log(&self) -> Vec<u8> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged something that contains these words.
    pub fn wait_for_log(&self, words: &str) -> bool {
        wait_until(PATIENCE, || {
            String::from_utf8_lossy(&self.log()).contains(words)
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&self, time: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(time, || {
            status = self.child.lock().unwrap().try_wait().unwrap();
            status.is_some()
        });
        status
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.pid);
        std::fs::read_dir(directory).unwrap().count()
    }

    /// Resident memory in octets.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        let mut cleaner = self.cleaner.lock().unwrap();
        let _ = cleaner.kill();
        let _ = cleaner.wait();
        if std::thread::panicking() {
            eprintln!("{}", tail(&self.log.lock().unwrap()));
        } else if !self.borrowed {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(40);
    format!("the server's last words:\n{}", lines[from..].join("\n"))
}

/// Asks again and again until the answer is yes, or the time is over.
pub fn wait_until(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > time {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Below the ephemeral ports, and another range for each server: a port that one server gives
/// back is not taken by another.
fn port_range() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(SERVERS_MAX)).unwrap();
    let number = (process + NEXT.fetch_add(1, Ordering::Relaxed)) % SERVERS_MAX;
    let first = PORT_FIRST + number * PORTS_PER_SERVER;
    (first, first + PORTS_PER_SERVER - 1)
}

fn command(options: &[&str], directory: &Path, passive_ports: (u16, u16)) -> Command {
    let mut command = Command::new(program());
    command.arg("serve");
    let (first, last) = passive_ports;
    let ports = format!("{first}-{last}");
    if options.first() == Some(&"--config") {
        // The file says everything else.
        command.args(["--passive-ports", &ports]).args(options);
        return command;
    }
    command.arg(directory.join("public"));
    let mut usual = |option: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        if !options.contains(&option) {
            command.arg(option).arg(value);
        }
    };
    usual("--explicit", &"127.0.0.1:0");
    usual("--implicit", &"127.0.0.1:0");
    usual("--users", &Accounts::shared().file);
    usual("--cert", &Identity::shared().certificate_file);
    usual("--key", &Identity::shared().key_file);
    usual("--state-dir", &directory.join("state"));
    usual("--bad-login-delay", &"50ms");
    usual("--passive-ports", &ports);
    usual("--log-level", &"debug");
    if rustix::process::geteuid().is_root() {
        usual("--run-as", &"root");
    }
    command.args(options);
    // Options for the whole suite, as `--ktls on --route sendfile`.
    if let Ok(more) = std::env::var("RINGFTPD_TEST_OPTIONS") {
        command.args(more.split_whitespace());
    }
    command
}

/// Reads the lines that say where the server listens; keeps reading what follows.
fn addresses(
    mut lines: impl BufRead + Send + 'static,
) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while matches!(lines.read_line(&mut line), Ok(1..)) {
            // Nobody listens after `ready`.
            let _ = sender.send(line.trim_end().to_owned());
            line.clear();
        }
    });
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let (mut explicit, mut implicit) = (nowhere, nowhere);
    let mut metrics = None;
    let start = Instant::now();
    loop {
        let line = receiver
            .recv_timeout(PATIENCE.checked_sub(start.elapsed())?)
            .ok()?;
        if let Some(address) = line.strip_prefix("explicit FTPS on ") {
            explicit = address.parse().ok()?;
        } else if let Some(address) = line.strip_prefix("implicit FTPS on ") {
            implicit = address.parse().ok()?;
        } else if let Some(url) = line.strip_prefix("metrics on http://") {
            metrics = url.strip_suffix("/metrics")?.parse().ok();
        } else if line == "ready" {
            return Some((explicit, implicit, metrics));
        }
    }
}

fn gather(mut output: impl Read + Send + 'static) -> Gathered {
    let log = Gathered::default();
    let gathered = log.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            log.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    gathered
}
