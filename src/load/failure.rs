//! What can go wrong in an operation, and what ends the program.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::proto::client::{ClientError, Reply};
use crate::rt::TimedOut;
pub use crate::sys::host::cause;
use crate::tls::{BadKey, BadRecord};

/// Exit statuses, as in sysexits.h; a usage error has the 2 that shells and clap give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The run is over, and there were errors.
    Errors = 1,
    /// A wrong option or value.
    Usage = 2,
    /// A file that was named cannot be read, or is not what it should be.
    NoInput = 66,
    /// The server cannot be reached, or this machine lacks io_uring.
    Unavailable = 69,
    /// An error of the system.
    System = 71,
    /// A file cannot be written.
    CannotCreate = 73,
    /// The server does not let us in.
    NoPermission = 77,
}

/// An error that ends the program: one line that names the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// The exit status.
    pub exit: Exit,
    /// One line.
    pub message: String,
}

impl Fatal {
    /// With this status and message.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The exit code for the system.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

/// The kind of a failure; its name is what reports count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nobody listens there.
    Refused,
    /// Nothing came within `--timeout`.
    Timeout,
    /// The TLS handshake, a record, or an alert.
    Tls,
    /// A reply that means no.
    Reply(u16),
    /// A file that ended too early.
    Short,
    /// A file with another size or digest than it should have.
    Mismatch,
    /// The peer has reset the connection.
    Reset,
    /// The server has ended the connection.
    Closed,
    /// What no server may say.
    Protocol,
    /// An error of this machine.
    System,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Reply(code) => return write!(f, "reply {code}"),
            Self::Short => "short",
            Self::Mismatch => "mismatch",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::System => "system",
        };
        f.pad(name)
    }
}

/// A failure of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What reports count by.
    pub kind: Kind,
    /// What happened, for the first of its kind.
    pub what: String,
    /// Whether the control connection can go on.
    pub usable: bool,
}

impl Failure {
    /// A failure after which the control connection is of no use.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            usable: false,
        }
    }

    /// A failure that leaves the control connection as it was.
    pub fn harmless(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            usable: true,
        }
    }

    /// A reply that means no.
    #[must_use]
    pub fn reply(reply: &Reply) -> Self {
        let text = String::from_utf8_lossy(reply.text());
        Self {
            kind: Kind::Reply(reply.code),
            what: format!("{} {text}", reply.code),
            // 421: the server closes the connection (RFC 959 §4.2.2).
            usable: reply.code != 421,
        }
    }

    /// The same, with what it happened to in front.
    #[must_use]
    pub fn of(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as E;
        let kind = match error.kind() {
            E::ConnectionRefused => Kind::Refused,
            E::ConnectionReset | E::BrokenPipe | E::ConnectionAborted => Kind::Reset,
            E::TimedOut => Kind::Timeout,
            E::UnexpectedEof | E::NotConnected => Kind::Closed,
            E::HostUnreachable | E::NetworkUnreachable => Kind::Refused,
            _ => Kind::System,
        };
        Self::new(kind, cause(&error))
    }
}

impl From<TimedOut> for Failure {
    fn from(_: TimedOut) -> Self {
        Self::new(Kind::Timeout, "nothing came within --timeout")
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Self::new(Kind::Tls, error.to_string())
    }
}

impl From<BadRecord> for Failure {
    fn from(error: BadRecord) -> Self {
        Self::new(Kind::Tls, error.to_string())
    }
}

impl From<BadKey> for Failure {
    fn from(error: BadKey) -> Self {
        Self::new(Kind::Tls, error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(Kind::Protocol, error.to_string())
    }
}
