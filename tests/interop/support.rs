//! A server with its directory, and the running of clients: each under a time limit, none with standard input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) use crate::common::Port;
use crate::common::server::{Accounts, Server};
use crate::common::tls::Identity;
use crate::common::{assert_same, skip};

/// Seconds that one run of a client may take, generous because test machines are slow and shared.
const CLIENT_SECONDS_MAX: &str = "300";

pub(crate) const USER: &str = "tester";
/// Letters and digits only: rclone and lftp read it inside other syntaxes.
pub(crate) const PASSWORD: &str = "Correct7Horse7Battery";

pub(crate) const BOTH_PORTS: [Port; 2] = [Port::Explicit, Port::Implicit];

/// The scheme of URLs as curl and lftp write it.
pub(crate) fn scheme(port: Port) -> &'static str {
    match port {
        Port::Explicit => "ftp",
        Port::Implicit => "ftps",
    }
}

/// The word that the programs beside this file take in `FTPS_PORT_KIND`; also good for file names.
pub(crate) fn word(port: Port) -> &'static str {
    match port {
        Port::Explicit => "explicit",
        Port::Implicit => "implicit",
    }
}

/// Whether `program` can be run; says what to install where it cannot.
///
/// # Panics
/// When it is missing and `CI` is set: there nothing is skipped.
pub(crate) fn installed(program: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    });
    available(found, program, package)
}

/// As [`installed`], for what is not a program: `found` says whether it is there.
pub(crate) fn available(found: bool, what: &str, package: &str) -> bool {
    if !found {
        skip(&format!("{what} is missing: apt-get install {package}"));
    }
    found
}

/// A command with a time limit, no standard input, and messages in English.
pub(crate) fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", CLIENT_SECONDS_MAX, program])
        .env("LC_ALL", "C.UTF-8")
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .env_remove("ftp_proxy")
        .stdin(Stdio::null());
    command
}

/// Runs a client that must succeed and returns its standard output.
#[track_caller]
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", told(command, &output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a client that must fail and returns its standard output and error together.
#[track_caller]
pub(crate) fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{}", told(command, &output));
    assert_ne!(
        output.status.code(),
        Some(124),
        "{}",
        told(command, &output)
    );
    told(command, &output)
}

/// What a failed assertion shows of a client's run: the ends of what it printed.
fn told(command: &Command, output: &Output) -> String {
    let tail = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets).into_owned();
        let from = text.len().saturating_sub(6000);
        text.char_indices()
            .find(|(at, _)| *at >= from)
            .map_or_else(String::new, |(at, _)| text[at..].to_owned())
    };
    format!(
        "{command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        tail(&output.stdout),
        tail(&output.stderr)
    )
}

/// One of the programs beside this file.
pub(crate) fn program_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop/programs")
        .join(name)
}

/// The same `length` octets for the same `seed`, not compressible, all values, every line end among them.
pub(crate) fn octets(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut octets = vec![0; length];
    random.fill(&mut octets);
    octets
}

/// Asserts that two directories hold the same names and the same octets; returns the number of files.
#[track_caller]
pub(crate) fn assert_same_tree(left: &Path, right: &Path) -> usize {
    let (names, others) = (names_below(left), names_below(right));
    assert_eq!(
        names,
        others,
        "{} and {} differ in names",
        left.display(),
        right.display()
    );
    let mut files = 0;
    for name in names {
        let path = left.join(&name);
        if path.is_file() {
            assert_same(
                &fs::read(right.join(&name)).unwrap(),
                &fs::read(&path).unwrap(),
            );
            files += 1;
        }
    }
    files
}

fn names_below(root: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.strip_prefix(root).unwrap().to_owned());
            if path.is_dir() {
                directories.push(path);
            }
        }
    }
    names.sort();
    names
}

/// Fills `root` with `directories` directories of `files` files each, sizes from none to a few records of TLS.
pub(crate) fn plant_tree(root: &Path, directories: usize, files: usize) {
    for directory in 0..directories {
        let path = root.join(format!("directory {directory:02}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..files {
            let seed = directory * files + file;
            let length = [0, 1, 1000, 16_384, 16_385, 40_000][seed % 6];
            fs::write(
                path.join(format!("file-{file:03}.bin")),
                octets(seed as u64, length),
            )
            .unwrap();
        }
    }
}

/// Number of directories and of files in each for the mirror tests: small by default, the figures of the
/// acceptance test where `CI` is set.
pub(crate) fn tree_size() -> (usize, usize) {
    if std::env::var_os("CI").is_some() {
        (50, 40)
    } else {
        (10, 20)
    }
}

/// The server's address as most clients name it; the certificate is also good for `localhost`.
pub(crate) const HOST: &str = "127.0.0.1";

/// A running server with one account, the directory it serves, and a directory for a client.
pub(crate) struct Site {
    server: Server,
    directory: tempfile::TempDir,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With options of `ringftpd serve` besides the usual ones.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("served")).unwrap();
        fs::create_dir(path("scratch")).unwrap();
        let accounts = Accounts {
            file: path("users.toml"),
            home: path("served"),
        };
        accounts.add(USER, PASSWORD, &accounts.home, None);
        let users = ["--users", accounts.file.to_str().unwrap()];
        let server = Server::start(&[&users, options].concat());
        Self { server, directory }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn port(&self, port: Port) -> u16 {
        self.server.address(port).port()
    }

    pub(crate) fn url(&self, port: Port, path: &str) -> String {
        format!("{}://localhost:{}/{path}", scheme(port), self.port(port))
    }

    /// A path below the directory that is served.
    pub(crate) fn served(&self, name: &str) -> PathBuf {
        self.directory.path().join("served").join(name)
    }

    /// The client's own directory.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// The server's certificate, to be trusted.
    pub(crate) fn certificate(&self) -> &'static Path {
        &Identity::shared().certificate_file
    }

    pub(crate) fn write(&self, name: &str, octets: &[u8]) {
        let path = self.served(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, octets).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.served(name)).unwrap()
    }

    /// Tells one of the programs beside this file where to connect.
    pub(crate) fn environment<'a>(&self, command: &'a mut Command, port: Port) -> &'a mut Command {
        command
            .env("FTPS_HOST", HOST)
            .env("FTPS_PORT", self.port(port).to_string())
            .env("FTPS_PORT_KIND", word(port))
            .env("FTPS_USER", USER)
            .env("FTPS_PASSWORD", PASSWORD)
            .env("FTPS_CERTIFICATE", self.certificate())
            .env("FTPS_SCRATCH", self.scratch())
    }
}
