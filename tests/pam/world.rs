//! A server in a mount namespace with accounts of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::client::{Client, Reply};
use crate::common::server::{PASSWORD, Server, wait_until};
use crate::common::{PATIENCE, Port, skip};

/// Of [`PASSWORD`], as crypt(3) writes it.
const HASH: &str = "$6$rounds=1000$ringftpd$Jl5lDIg8wZbg2ztjYWIROwO1QEHZHJxIEKG87Ge1WTd.Xq4aaUw11hU1hJsAPPAGXRNAtK0pe5E4/YKbHLiDx0";

/// Name, user id, shell, and what shadow(5) says from the day of the last change on.
const ACCOUNTS: &[(&str, u32, &str, &str)] = &[
    ("ann", 2001, "/bin/sh", "19000:0:99999:7:::"),
    ("lee", 2002, "/bin/sh", "19000:0:99999:7:::"),
    // Expired on the second day of 1970.
    ("expired", 2003, "/bin/sh", "19000:0:99999:7::1:"),
    // Must choose another password first.
    ("stale", 2004, "/bin/sh", "0:0:99999:7:::"),
    ("noshell", 2005, "/usr/sbin/nologin", "19000:0:99999:7:::"),
    ("banned", 2006, "/bin/sh", "19000:0:99999:7:::"),
    // `slow` of the services waits for these two.
    ("sleepy", 2007, "/bin/sh", "19000:0:99999:7:::"),
    ("drowsy", 2008, "/bin/sh", "19000:0:99999:7:::"),
    ("system", 999, "/bin/sh", "19000:0:99999:7:::"),
    ("toor", 0, "/bin/sh", "19000:0:99999:7:::"),
];

/// Pauses until the file `go` is there, at most as long as the test says, and writes down what it was told.
const SLOW: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$PAM_USER $PAM_RHOST $PAM_TTY $PAM_SERVICE" >>"$here/asked"
case $PAM_USER in sleepy | drowsy)
    turn=0
    while [ ! -e "$here/go" ] && [ $turn -lt 600 ]; do sleep 0.1; turn=$((turn + 1)); done ;;
esac
exit 0
"#;

pub(crate) struct World {
    pub(crate) directory: PathBuf,
    _kept: tempfile::TempDir,
}

impl World {
    /// The files of a namespace; `None` where there can be none.
    pub(crate) fn new() -> Option<Self> {
        // SECURITY: not below the target directory, which other accounts may not be able to enter.
        let kept = tempfile::tempdir().unwrap();
        let directory = kept.path().to_path_buf();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let world = Self {
            directory,
            _kept: kept,
        };
        let (mut passwd, mut shadow) = (String::new(), String::new());
        passwd +=
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";
        shadow += "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n";
        for (name, id, shell, aging) in ACCOUNTS {
            let home = world.home(name);
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("own"), format!("file of {name}")).unwrap();
            passwd += &format!("{name}:x:{id}:{id}::{}:{shell}\n", home.display());
            shadow += &format!("{name}:{HASH}:{aging}\n");
        }
        world.put("passwd", &passwd, 0o644);
        world.put("shadow", &shadow, 0o600);
        world.put("slow.sh", SLOW, 0o755);
        world.put("ftpusers", "banned\n", 0o644);
        fs::create_dir(world.directory.join("pam.d")).unwrap();
        let here = world.directory.display();
        let unix = "auth required pam_unix.so\naccount required pam_unix.so\n";
        world.put("pam.d/plain", unix, 0o644);
        world.put(
            "pam.d/slow",
            &format!("auth required pam_exec.so quiet {here}/slow.sh\n{unix}"),
            0o644,
        );
        world.put(
            "pam.d/broken",
            "auth required pam_of_nobody.so\naccount required pam_unix.so\n",
            0o644,
        );
        world.put(
            "pam.d/anybody",
            "auth required pam_permit.so\naccount required pam_permit.so\n",
            0o644,
        );
        world.put(
            "pam.d/other",
            "auth required pam_permit.so\naccount required pam_permit.so\n",
            0o644,
        );
        // The sample of this repository, with the common files of Debian.
        let sample =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/ringftpd.pam"));
        let sample = sample
            .unwrap()
            .replace("/etc/ftpusers", &format!("{here}/ftpusers"));
        world.put("pam.d/ringftpd", &sample, 0o644);
        world.put("pam.d/common-auth", "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n", 0o644);
        world.put(
            "pam.d/common-account",
            "account required pam_unix.so\n",
            0o644,
        );
        let output = world.inside(Command::new("true")).output();
        if !output.is_ok_and(|output| output.status.success()) {
            skip("no mount namespace: run as root, or permit user namespaces");
            return None;
        }
        if !Path::new("/lib/x86_64-linux-gnu/security/pam_unix.so").exists()
            && !Path::new("/lib/aarch64-linux-gnu/security/pam_unix.so").exists()
        {
            skip("no modules of PAM: apt-get install libpam-modules");
            return None;
        }
        Some(world)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.directory.join("homes").join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The same command in the namespace; its process is the one that is started.
    pub(crate) fn inside(&self, command: Command) -> Command {
        let script = r#"set -e; here=$1; shift
            mount --bind "$here/pam.d" /etc/pam.d
            mount --bind "$here/passwd" /etc/passwd
            mount --bind "$here/shadow" /etc/shadow
            exec "$@""#;
        let mut wrapped = Command::new("unshare");
        if !is_root() {
            wrapped.args(["--user", "--map-root-user"]);
        }
        wrapped.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        wrapped.arg(&self.directory);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped
    }

    /// A server that asks this service.
    #[track_caller]
    pub(crate) fn server(&self, service: &str, options: &[&str]) -> Server {
        let usual = [
            "--run-as",
            "root",
            "--pam",
            service,
            "--bad-login-delay",
            "0",
        ];
        let options = [&usual[..], options].concat();
        Server::start_by(&options, |command| self.inside(command))
    }

    /// Lets the sleepers of `slow` go on.
    pub(crate) fn wake(&self) {
        fs::write(self.directory.join("go"), "").unwrap();
    }

    /// What the module `slow` was told, a line a login.
    pub(crate) fn asked(&self) -> String {
        fs::read_to_string(self.directory.join("asked")).unwrap_or_default()
    }

    /// Waits until `slow` has been asked about so many sleepers.
    #[track_caller]
    pub(crate) fn wait_for_sleepers(&self, count: usize) {
        let asleep = || {
            let asked = self.asked();
            let lines = asked.lines();
            lines
                .filter(|line| line.starts_with("sleepy ") || line.starts_with("drowsy "))
                .count()
        };
        assert!(
            wait_until(PATIENCE, || asleep() >= count),
            "{} asleep",
            asleep()
        );
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A protected connection that has sent USER and PASS, and has no answer yet.
#[track_caller]
pub(crate) fn begin_login(server: &Server, user: &str, password: &str) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.secure();
    client.ok(format!("USER {user}"), 331);
    client.send(format!("PASS {password}"));
    client
}

/// The reply to a login.
#[track_caller]
pub(crate) fn login(server: &Server, user: &str, password: &str) -> Reply {
    begin_login(server, user, password).try_reply().unwrap()
}

/// A session.
#[track_caller]
pub(crate) fn session(server: &Server, user: &str) -> Client {
    let mut client = Client::connect(server, Port::Explicit);
    client.settle(user, PASSWORD);
    client
}

/// Processes of this name below that one.
pub(crate) fn descendants(ancestor: u32, name: &str) -> Vec<Pid> {
    let processes: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (before, after) = stat.rsplit_once(')')?;
            let mut fields = after.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let name = before.split_once('(')?.1.to_owned();
            (state != "Z").then_some((pid, parent, name))
        })
        .collect();
    let parent = |pid: u32| {
        processes
            .iter()
            .find(|process| process.0 == pid)
            .map(|process| process.1)
    };
    let below = |pid: u32| {
        let mut at = Some(pid);
        while let Some(pid) = at {
            if pid == ancestor {
                return true;
            }
            at = parent(pid);
        }
        false
    };
    let found = processes
        .iter()
        .filter(|process| process.2 == name && below(process.0));
    found
        .map(|process| Pid::from_raw(i32::try_from(process.0).unwrap()).unwrap())
        .collect()
}

pub(crate) fn kill_all(processes: &[Pid]) {
    for process in processes {
        let _ = kill_process(*process, Signal::KILL);
    }
}

pub(crate) fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// How long something takes; for lower bounds only.
pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A process that nobody waits for: killed at the end.
pub(crate) struct Orphan(pub(crate) Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}
