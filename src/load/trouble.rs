//! What can go wrong with an operation, by the kinds that a report counts.

use std::fmt;
use std::io;

use crate::proto::client::ClientError;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// No connection.
    Refused,
    /// The peer has reset it.
    Reset,
    /// Nothing happened for too long.
    Timeout,
    /// The end came too early.
    Closed,
    /// TLS failed, or its end was missing.
    Tls,
    /// A reply that is none, or not of the kind expected.
    Protocol,
    /// A reply that says no.
    Reply(u16),
    /// Fewer or more octets than there should be.
    Size,
    /// Other octets than there should be.
    Mismatch,
    /// This machine has no descriptors, ports or memory left.
    Exhausted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Closed => f.write_str("closed"),
            Self::Tls => f.write_str("tls"),
            Self::Protocol => f.write_str("protocol"),
            Self::Reply(code) => write!(f, "reply {code}"),
            Self::Size => f.write_str("size"),
            Self::Mismatch => f.write_str("mismatch"),
            Self::Exhausted => f.write_str("exhausted"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable => {
                Self::Refused
            }
            Kind::TimedOut => Self::Timeout,
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => Self::Reset,
            Kind::UnexpectedEof | Kind::NotConnected => Self::Closed,
            _ => Self::Exhausted,
        }
    }
}

impl From<rustls::Error> for Trouble {
    fn from(_: rustls::Error) -> Self {
        Self::Tls
    }
}

impl From<ClientError> for Trouble {
    fn from(_: ClientError) -> Self {
        Self::Protocol
    }
}
