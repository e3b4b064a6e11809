//! What the operator decides about a session.

use std::time::Duration;

use super::hosts::Hosts;
use crate::proto::charset::Charset;

/// Whether something must be protected by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// It must.
    Required,
    /// The client decides.
    Optional,
}

/// The two kinds of control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// In the clear until AUTH (RFC 4217).
    Explicit,
    /// Under TLS from the first octet (MS-FTPS 3.2.5.1).
    Implicit,
}

/// The policy of a session; the same for all sessions of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The text of the 220 greeting: one line of ASCII.
    pub greeting: String,
    /// Virtual hosts; without any HOST is an unknown command.
    pub hosts: Hosts,
    /// Whether logging in needs TLS on the control connection.
    pub tls_control: Requirement,
    /// Whether transfers need TLS on the data connection.
    pub tls_data: Requirement,
    /// Whether there is a certificate; without one AUTH is 502.
    pub tls_available: bool,
    /// Whether CCC is allowed on explicit connections (RFC 4217 §5).
    pub ccc: bool,
    /// How names are written for users of whom nothing else is said ([`super::Session::names_in`]).
    pub charset: Charset,
    /// Whether PORT and EPRT are served; 502 otherwise.
    pub active: bool,
    /// From the connection to the first login.
    pub login_time_max: Duration,
    /// Without a command or a transfer.
    pub idle_time_max: Duration,
    /// How long a wrong password waits for its answer; it makes guessing slow (RFC 2577 §5).
    pub bad_login_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            greeting: String::from("ringftpd ready"),
            hosts: Hosts::default(),
            tls_control: Requirement::Required,
            tls_data: Requirement::Required,
            tls_available: true,
            ccc: false,
            charset: Charset::UTF_8,
            active: true,
            login_time_max: Duration::from_secs(120),
            idle_time_max: Duration::from_secs(300),
            bad_login_delay: Duration::from_secs(1),
        }
    }
}
