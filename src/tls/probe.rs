//! What the kernel can protect, tried out once before the server starts.
//!
//! Kernel versions, module lists and documents say too little: a module may be missing, a backport
//! may be broken, and which way costs less depends on the processor. So everything the server relies
//! on is done here once, over loopback, against rustls as the client. For each version and cipher
//! that is: giving the kernel the keys, octets both ways and their ends (`check`), new keys, and
//! the CPU time of each way that octets could go (`race`).
//!
//! Nothing of this reaches the network. The sockets are connected to each other, and the certificate
//! is made for the purpose and forgotten.

mod check;
mod link;
mod race;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use self::link::{Bench, Link};
use super::detached::{DetachError, Parties, Party};
use super::offload::OffloadError;
use super::protection::{Cipher, Protection};
use crate::sys::ktls;

/// Why the kernel cannot protect a version and cipher. The message names the remedy in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The kernel has no TLS, or its module is not loaded.
    #[error(
        "the kernel offers no TLS: load its module as root with `modprobe tls`, at each boot with \
         tuning/modules-load.conf; a kernel built without CONFIG_TLS has none"
    )]
    NoModule,
    /// The kernel has TLS, but not this cipher.
    #[error("the kernel has TLS but not its cipher: {}", load_cipher(*.0))]
    NoCipher(Cipher),
    /// This kernel does not know the version or the suite; what it said.
    #[error("this kernel refuses ({0}): Linux 6.1 and newer, built with CONFIG_TLS, do not")]
    Unsupported(String),
    /// It was tried, and what came out was not right; what happened.
    #[error("the kernel's TLS failed its check and is not used ({0}): try another kernel")]
    Wrong(String),
}

/// How to get the modules of a cipher. Their names are those that the kernel itself asks modprobe
/// for; by hand it is needed where the server, started without root's rights, comes first.
fn load_cipher(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes128Gcm | Cipher::Aes256Gcm => {
            "load it as root with `modprobe gcm`, and on x86-64 `modprobe aesni_intel`"
        }
        Cipher::ChaCha20Poly1305 => "load it as root with `modprobe chacha20poly1305`",
    }
}

/// An error with what was being done.
fn wrong<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Problem {
    move |error| Problem::Wrong(format!("{doing}: {error}"))
}

/// CPU time for an octet in nanoseconds, of the side under test alone. `None`: not measured, because
/// the time for it was used up or the way does not work.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Costs {
    /// A file read, sealed in this process and sent.
    pub user_send: Option<f64>,
    /// A file read, and sent through the kernel's TLS.
    pub kernel_read: Option<f64>,
    /// A file moved to the kernel's TLS by sendfile.
    pub kernel_sendfile: Option<f64>,
    /// Records received, and opened in this process.
    pub user_receive: Option<f64>,
    /// Records received from the kernel's TLS.
    pub kernel_receive: Option<f64>,
}

/// What was found for one version and cipher.
#[derive(Debug, Clone, PartialEq)]
pub struct SuiteReport {
    /// Version and cipher.
    pub protection: Protection,
    /// Why the kernel cannot protect it at all.
    pub problem: Option<Problem>,
    /// Why it cannot receive, where sending works.
    pub receive_problem: Option<Problem>,
    /// Keys can be changed (TLS 1.3, Linux 6.14).
    pub rekey: bool,
    /// What each way costs.
    pub costs: Costs,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of [`Protection::ALL`].
    pub suites: [SuiteReport; Protection::ALL.len()],
    /// How long finding out took.
    pub time: Duration,
}

/// Tries everything out. Without kernel TLS that is over after one system call on a socket; with it,
/// it takes a few tens of milliseconds, and up to `race::TIME_MAX` more for measuring.
///
/// Whatever goes wrong becomes a [`Problem`] of the suites that it concerns.
#[must_use]
pub fn run() -> Report {
    let began = link::now();
    let mut report = match try_out() {
        Ok(report) => report,
        Err(problem) => unsupported(problem),
    };
    report.time = link::now().saturating_duration_since(began);
    report
}

/// A report of a kernel that protects nothing.
#[must_use]
pub fn unsupported(problem: Problem) -> Report {
    report(Some(&problem))
}

fn report(problem: Option<&Problem>) -> Report {
    Report {
        suites: Protection::ALL.map(|protection| SuiteReport {
            protection,
            problem: problem.cloned(),
            receive_problem: None,
            rekey: false,
            costs: Costs::default(),
        }),
        time: Duration::ZERO,
    }
}

fn try_out() -> Result<Report, Problem> {
    // The keys and certificates of the handshakes cost more than this question, so it comes first.
    attach(&Link::new()?)?;
    let bench = Bench::new()?;
    let mut report = report(None);
    for suite in &mut report.suites {
        check::check(&bench, suite);
    }
    race::compare(&bench, &mut report.suites);
    Ok(report)
}

/// The kernel does everything.
const KERNEL: Parties = Parties {
    seals: Party::Kernel,
    opens: Party::Kernel,
};

/// Attaches kernel TLS to the server's end.
fn attach(link: &Link) -> Result<(), Problem> {
    ktls::attach(&link.ours).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::NoModule,
        _ => Problem::Unsupported(format!("attaching TLS to a socket: {error}")),
    })
}

/// What it means that the kernel did not take keys.
fn refused(error: DetachError, protection: Protection) -> Problem {
    match error {
        DetachError::Kernel(OffloadError::Kernel(error)) => match error.kind() {
            io::ErrorKind::NotFound => Problem::NoCipher(protection.cipher),
            _ => Problem::Unsupported(format!("setting keys: {error}")),
        },
        other => Problem::Wrong(other.to_string()),
    }
}

/// A table with a line for each suite; costs in nanoseconds an octet.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<25} {:>6} | {:>9} {:>9} {:>9} | {:>9} {:>9}",
            "ns per octet", "re-key", "user send", "read+send", "sendfile", "user recv", "kernel"
        )?;
        for suite in &self.suites {
            writeln!(f, "{suite}")?;
        }
        write!(f, "found out in {:.1} ms", self.time.as_secs_f64() * 1e3)
    }
}

impl fmt::Display for SuiteReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<25} ", self.protection)?;
        if let Some(problem) = &self.problem {
            return write!(f, "{problem}");
        }
        let yes = |yes| if yes { "yes" } else { "no" };
        let cost =
            |cost: Option<f64>| cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
        write!(
            f,
            "{:>6} | {:>9} {:>9} {:>9} | {:>9} {:>9}",
            yes(self.rekey),
            cost(self.costs.user_send),
            cost(self.costs.kernel_read),
            cost(self.costs.kernel_sendfile),
            cost(self.costs.user_receive),
            cost(self.costs.kernel_receive),
        )?;
        match &self.receive_problem {
            Some(problem) => write!(f, " receiving: {problem}"),
            None => Ok(()),
        }
    }
}
