//! What `ringftpd doctor` finds out about a machine: facts are read ([`Machine`]), then judged by
//! pure functions ([`examine`]) against what the files in `tuning/` want ([`tuning`]).

pub mod certificate;
mod checks;
pub mod clients;
pub mod facts;
pub mod hosts;
pub mod machine;
mod report;
mod text;
pub mod tuning;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Serialize;

pub use checks::examine;
pub use clients::ClientInput;
pub use facts::Facts;
pub use hosts::HostInput;
pub use machine::Machine;
pub use report::{Counts, KernelTls, Report, SuiteRow};
pub use text::Style;

/// What is to be examined beside the machine: the options of `serve` that matter here.
#[derive(Debug, Clone)]
pub struct Input {
    /// The directory that is to be served.
    pub directory: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The users file.
    pub users: Option<PathBuf>,
    /// Where explicit FTPS is to listen.
    pub explicit: Vec<SocketAddr>,
    /// Where implicit FTPS is to listen.
    pub implicit: Vec<SocketAddr>,
    /// Ports of passive data connections.
    pub passive_ports: RangeInclusive<u16>,
    /// Sessions at once; `None` when nobody said.
    pub connections_max: Option<u32>,
    /// Whether uploads appear once they are whole.
    pub atomic: bool,
    /// The account that root is to become.
    pub run_as: Option<String>,
    /// Virtual hosts.
    pub hosts: Vec<HostInput>,
    /// What client certificates are judged by.
    pub clients: ClientInput,
}

impl Input {
    /// The ports that clients connect to first.
    fn control_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self
            .explicit
            .iter()
            .chain(&self.implicit)
            .map(SocketAddr::port)
            .filter(|port| *port != 0)
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Sessions at once that the machine is measured by.
    fn sessions(&self) -> u64 {
        self.connections_max.map_or(SESSIONS_UNLESS_TOLD, u64::from)
    }
}

/// Sessions that a machine should bear when nobody says how many.
const SESSIONS_UNLESS_TOLD: u64 = 10_000;

/// How bad a finding is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It could be better, in some places; or it could not be looked at.
    Advice,
    /// Under load, or for some clients, it will go wrong.
    Warning,
    /// The server does not start so, or no client can use it.
    Error,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Kernel, io_uring, modules.
    Kernel,
    /// Descriptors and memory.
    Resources,
    /// TCP's settings, ports, the firewall.
    Network,
    /// Network cards, interrupts, processors.
    Hardware,
    /// Clock and time.
    Time,
    /// Certificates and keys, those of virtual hosts, and authorities of client certificates.
    Certificate,
    /// Users files, key files, directories.
    Files,
}

impl Group {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Resources,
        Self::Network,
        Self::Hardware,
        Self::Time,
        Self::Certificate,
        Self::Files,
    ];
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, the same in every release: `clock-source`, `sysctl:net.core.somaxconn`. With things of which there are
    /// several, the thing follows: `card-queues:eth0`.
    pub id: String,
    /// What it is about.
    pub group: Group,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub measured: String,
    /// What should be.
    pub wanted: String,
    /// Why.
    pub why: String,
    /// A command that mends it, or else a sentence; `None` where nothing is to be done.
    pub fix: Option<String>,
}

impl Finding {
    /// Kernel TLS was demanded (`--ktls on`) and cannot be had.
    #[must_use]
    pub fn of_kernel_tls(problem: String) -> Self {
        Self::new("kernel-tls", Group::Kernel)
            .measured(problem)
            .wanted("kernel TLS, because of --ktls on")
            .why("the server does not start where what was demanded cannot be had")
            .bad(Severity::Error, "--ktls auto")
    }

    fn new(id: impl Into<String>, group: Group) -> Self {
        Self {
            id: id.into(),
            group,
            severity: Severity::Ok,
            measured: String::new(),
            wanted: String::new(),
            why: String::new(),
            fix: None,
        }
    }

    fn measured(mut self, measured: impl Into<String>) -> Self {
        self.measured = measured.into();
        self
    }

    fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = wanted.into();
        self
    }

    fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// It is not as it should be: how bad that is, and what mends it.
    fn bad(mut self, severity: Severity, fix: impl Into<String>) -> Self {
        self.severity = severity;
        self.fix = Some(fix.into());
        self
    }

    /// The same, if so.
    fn bad_if(self, bad: bool, severity: Severity, fix: impl Into<String>) -> Self {
        if bad { self.bad(severity, fix) } else { self }
    }
}

/// Makes an error of a finding: something was found out about its subject that the checks cannot know.
pub fn mark(findings: &mut [Finding], id: &str, problem: String) {
    for finding in findings.iter_mut().filter(|finding| finding.id == id) {
        finding.severity = Severity::Error;
        let (what, remedy) = problem.rsplit_once("; ").unwrap_or((
            &problem,
            "correct that line; `ringftpd user` writes the file as it should be",
        ));
        (finding.measured, finding.fix) = (what.to_owned(), Some(remedy.to_owned()));
    }
}
