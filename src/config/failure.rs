//! Why the program ends: one line with the remedy, and an exit status.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use crate::sys::host::RingProblem;
pub use crate::sys::host::cause;

/// Exit statuses, as in sysexits.h; a usage error has the 2 that shells and clap give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A wrong option or value.
    Usage = 2,
    /// A file or directory that was named cannot be read.
    NoInput = 66,
    /// This machine cannot run the server: io_uring is missing.
    Unavailable = 69,
    /// An error of the system.
    System = 71,
    /// A file cannot be written.
    CannotCreate = 73,
    /// A permission is missing: to bind, to change the account, to use a directory.
    NoPermission = 77,
    /// The contents of a file (users, certificate, key) are wrong.
    Config = 78,
}

/// An error that ends the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// One line: what, and what to do about it.
    pub message: String,
}

impl Failure {
    /// A failure with this status and message.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// A file that cannot be used.
    #[must_use]
    pub fn file(exit: Exit, path: &Path, error: impl std::fmt::Display) -> Self {
        Self::new(exit, format!("{}: {error}", path.display()))
    }

    /// A file that the system refuses.
    #[must_use]
    pub fn io(exit: Exit, path: &Path, error: &io::Error) -> Self {
        Self::file(exit, path, cause(error))
    }

    /// A listener that cannot be bound.
    #[must_use]
    pub fn bind(address: SocketAddr, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::System,
        };
        Self::new(exit, explain_bind_error(address, error))
    }

    /// The exit code for the system.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl From<RingProblem> for Failure {
    fn from(problem: RingProblem) -> Self {
        Self::new(Exit::Unavailable, problem.to_string())
    }
}

/// Why an address cannot be bound, with the remedy, in one line.
#[must_use]
pub fn explain_bind_error(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a right: use `--explicit :2121 --implicit :2990`, or \
             `setcap cap_net_bind_service=+ep` on the program, or \
             `sysctl -w net.ipv4.ip_unprivileged_port_start=21`"
        }
        io::ErrorKind::AddrInUse => {
            "another server has this port: stop it, or choose others with \
             `--explicit :2121 --implicit :2990`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has this address: `ip address` shows those it has"
        }
        _ => "choose another address with `--explicit` and `--implicit`",
    };
    format!("cannot listen on {address}: {}; {remedy}", cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn bind_errors_name_the_remedy() {
        let address = "[::]:21".parse().unwrap();
        let explain = |errno: Errno| explain_bind_error(address, &errno.into());
        let denied = explain(Errno::ACCESS);
        for part in [
            "[::]:21",
            "--explicit :2121 --implicit :2990",
            "setcap",
            "ip_unprivileged_port_start",
        ] {
            assert!(denied.contains(part), "{denied}");
        }
        assert!(explain(Errno::ADDRINUSE).contains("another server"));
        assert!(explain(Errno::ADDRNOTAVAIL).contains("ip address"));
        assert!(!denied.contains("os error"), "{denied}");
    }
}
