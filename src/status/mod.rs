//! What a running server tells of its sessions and cores, and how it is asked: the wire form of the status socket.
//!
//! Each process of the server listens on a Unix stream socket `status-PID.sock` in its state directory, mode 0600; it
//! answers root and its own account. Requests and answers are JSON objects (RFC 8259), one a line. A client sends a
//! request and reads lines up to the one of kind `end` or `error`; then it may send another.
//!
//! ```text
//! {"version":1,"ask":"look"}                               process, core..., session..., end
//! {"version":1,"ask":"sessions","user":"alice"}            process, session..., end
//! {"version":1,"ask":"kill","sessions":[17,18]}            process, killed, end
//! ```
//!
//! `sessions`, `user`, `host` (a virtual host's first name, or `-` for none) and `address` (an address, or a network as
//! `192.0.2.0/24`) select sessions; those that are given must
//! all hold, and `kill` needs one of them. Names of members and kinds stay the same within a version; there may be more of
//! them. Times are seconds, sizes octets; what is said to count is since the start of the process.

mod connect;
mod distribution;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::proto::network::{Network, NetworkError};

pub use connect::connect;
pub use distribution::Distribution;

/// The version of the form.
pub const VERSION: u32 = 1;
/// Stands for no virtual host where one is named.
pub const NO_HOST: &str = "-";
const FILE_BEGIN: &str = "status-";
const FILE_END: &str = ".sock";

/// The name of a process's socket in the state directory.
#[must_use]
pub fn file_name(process: u32) -> String {
    format!("{FILE_BEGIN}{process}{FILE_END}")
}

/// The process whose socket has this name.
#[must_use]
pub fn process_of(file_name: &str) -> Option<u32> {
    let number = file_name.strip_prefix(FILE_BEGIN)?.strip_suffix(FILE_END)?;
    number.parse().ok()
}

/// A line from the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is wanted.
    pub ask: Ask,
    /// Of which sessions.
    #[serde(flatten)]
    pub selection: Selection,
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Process, cores and sessions.
    Look,
    /// Process and sessions.
    Sessions,
    /// End sessions: 426 to running transfers, 421 to all.
    Kill,
}

/// Some of the sessions, as it is written; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Session numbers; empty for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<u64>,
    /// The user who is logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The first name of the virtual host where the user is logged in; [`NO_HOST`] for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The client's address or its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// [`Selection`], checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// Session numbers; empty for any.
    pub sessions: BTreeSet<u64>,
    user: Option<String>,
    host: Option<String>,
    network: Option<Network>,
}

impl Selection {
    /// Whether it selects everybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// # Errors
    /// The network is none.
    pub fn check(self) -> Result<Selected, NetworkError> {
        let network = self.address.as_deref().map(str::parse).transpose()?;
        Ok(Selected {
            sessions: self.sessions.into_iter().collect(),
            user: self.user,
            host: self.host,
            network,
        })
    }
}

impl Selected {
    /// Whether the session is one of them.
    #[must_use]
    pub fn holds(
        &self,
        session: u64,
        user: Option<&str>,
        host: Option<&str>,
        address: IpAddr,
    ) -> bool {
        (self.sessions.is_empty() || self.sessions.contains(&session))
            && self
                .user
                .as_deref()
                .is_none_or(|wanted| user == Some(wanted))
            && self
                .host
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(host.unwrap_or(NO_HOST)))
            && self.network.is_none_or(|network| network.contains(address))
    }
}

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// Who answers; the first line.
    Process(Process),
    /// One of its cores.
    Core(Core),
    /// One session.
    Session(Session),
    /// What `kill` did.
    Killed(Killed),
    /// The last line.
    End(End),
    /// The last line, instead of an answer or of the rest of one.
    Error {
        /// What is wrong with the request.
        message: String,
    },
    /// Of a later release.
    #[serde(other)]
    Unknown,
}

/// The process that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// [`VERSION`].
    pub version: u32,
    /// The release of the server.
    pub release: String,
    /// Its process id.
    pub process: u32,
    /// Whether it takes new connections: not after another process has taken over, and not at the end.
    pub accepting: bool,
    /// For how long it has run.
    pub seconds: f64,
}

/// One core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Core {
    /// The number of the processor; with `.1` and so on where threads share one.
    pub core: String,
    /// Whether it has answered; else its figures are the last ones, or zero.
    pub answered: bool,
    /// CPU time of its thread.
    pub cpu_seconds: f64,
    /// Open control connections.
    pub connections: u64,
    /// Logged-in users among them.
    pub sessions: u64,
    /// Running downloads.
    pub downloads: u64,
    /// Running uploads.
    pub uploads: u64,
    /// Running listings.
    pub listings: u64,
    /// Octets of files and listings sent.
    pub sent: u64,
    /// Octets of files received.
    pub received: u64,
    /// Commands answered.
    pub commands: u64,
    /// Times from a command to its first reply; of those of PASS, not.
    pub command: Distribution,
    /// Times of TLS handshakes, on control and data connections.
    pub handshake: Distribution,
    /// How late the core does what is due.
    pub delay: Distribution,
}

/// What a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was said yet.
    Greeting,
    /// TLS on the control connection.
    Handshake,
    /// Nobody is logged in.
    Login,
    /// Between two commands.
    Idle,
    /// A command runs, or waits for the disk.
    Command,
    /// A transfer runs.
    Transfer,
    /// The connection is being closed.
    Closing,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its number, as in the logs; counted by each process for itself.
    pub session: u64,
    /// Who is logged in.
    pub user: Option<String>,
    /// The first name of the virtual host where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The client.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// Where it connected to.
    pub server: String,
    /// `explicit` or `implicit`.
    pub listener: String,
    /// What protects the control connection.
    pub tls: Option<Tls>,
    /// Since it was accepted.
    pub seconds: f64,
    /// Since its last reply.
    pub idle_seconds: f64,
    /// What it does now.
    pub phase: Phase,
    /// The command that runs, or else the last one that was answered.
    pub command: Option<String>,
    /// The running transfer.
    pub transfer: Option<Transfer>,
}

/// Protection of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The cipher suite's IANA name.
    pub suite: String,
    /// Whether a session was resumed.
    pub resumed: bool,
}

/// A running transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its command.
    pub command: String,
    /// The file or directory as the client sees it; octets that are no UTF-8 are U+FFFD.
    pub path: String,
    /// All octets of a path that is no UTF-8, two hexadecimal digits each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// Whether it goes to the server.
    pub upload: bool,
    /// Whether its data connection is protected.
    pub protected: bool,
    /// Octets moved.
    pub octets: u64,
    /// Octets to move; unknown of uploads and listings.
    pub total: Option<u64>,
    /// Since its command.
    pub seconds: f64,
    /// Which way its octets go, once that was chosen.
    pub route: Option<String>,
}

/// What `kill` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Sessions that were told to end.
    pub sessions: Vec<u64>,
    /// Sessions that were named, and are not there (or not of that user or network).
    pub unknown: Vec<u64>,
}

/// The end of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Sessions that were told of.
    pub sessions: u64,
    /// Cores that did not answer in time, whose sessions are missing.
    pub silent: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_documented() {
        let cases = [
            (
                r#"{"version":1,"ask":"look"}"#,
                Ask::Look,
                Selection::default(),
            ),
            (
                r#"{"version":1,"ask":"sessions","user":"alice"}"#,
                Ask::Sessions,
                Selection {
                    user: Some("alice".to_owned()),
                    ..Selection::default()
                },
            ),
            (
                r#"{"version":1,"ask":"kill","sessions":[17,18]}"#,
                Ask::Kill,
                Selection {
                    sessions: vec![17, 18],
                    ..Selection::default()
                },
            ),
        ];
        for (text, ask, selection) in cases {
            let request: Request = serde_json::from_str(text).unwrap();
            let version = VERSION;
            let expected = Request {
                version,
                ask,
                selection,
            };
            assert_eq!(request, expected);
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
        let line: Line = serde_json::from_str(r#"{"kind":"weather","rain":true}"#).unwrap();
        assert_eq!(line, Line::Unknown);
        assert!(serde_json::from_str::<Request>(r#"{"version":1,"ask":"reboot"}"#).is_err());
    }

    #[test]
    fn everything_that_is_given_must_hold() {
        let select = |sessions: &[u64], user: Option<&str>, address: Option<&str>| {
            let selection = Selection {
                sessions: sessions.to_vec(),
                user: user.map(str::to_owned),
                host: None,
                address: address.map(str::to_owned),
            };
            selection.check().unwrap()
        };
        let here: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        let holds = |selected: Selected| selected.holds(5, Some("alice"), None, here);
        assert!(holds(select(&[], None, None)));
        assert!(holds(select(&[4, 5], Some("alice"), Some("192.0.2.0/24"))));
        assert!(holds(select(&[], None, Some("192.0.2.7"))));
        assert!(!holds(select(&[4], Some("alice"), None)));
        assert!(!holds(select(&[5], Some("bob"), None)));
        assert!(!holds(select(&[5], None, Some("192.0.2.8"))));
        assert!(!select(&[], Some("alice"), None).holds(5, None, None, here));
        let at = |wanted: &str, host: Option<&str>| {
            let mut selected = select(&[], Some("alice"), None);
            selected.host = Some(wanted.to_owned());
            selected.holds(5, Some("alice"), host, here)
        };
        assert!(at("FTP.example", Some("ftp.example")) && at("-", None));
        assert!(!at("ftp.example", None) && !at("-", Some("ftp.example")));
        assert!(!at("ftp.example", Some("b.example")));
        let wrong = Selection {
            address: Some("192.0.2.7/24".to_owned()),
            ..Selection::default()
        };
        assert!(wrong.check().is_err());
        assert!(Selection::default().is_empty() && !select(&[1], None, None).sessions.is_empty());
    }

    #[test]
    fn names_of_sockets_are_those_of_processes() {
        assert_eq!(file_name(4711), "status-4711.sock");
        assert_eq!(process_of("status-4711.sock"), Some(4711));
        for other in ["handover.sock", "status-.sock", "status-x.sock", "status-1"] {
            assert_eq!(process_of(other), None, "{other}");
        }
    }
}
