//! What was measured, as plain data: tests make it up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::SystemTime;

pub use super::clients::{Authority, ClientFacts, RevocationList};
pub use super::hosts::HostFacts;
use crate::sys::host::RingProblem;
use crate::tls::probe;

/// Everything that was measured. What could not be is absent.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// Why io_uring does not work.
    pub ring_problem: Option<RingProblem>,
    /// Settings below /proc/sys, by their dotted names.
    pub settings: BTreeMap<String, String>,
    /// Modules that are loaded or built in, with `_` in their names.
    pub modules: BTreeSet<String>,
    /// Kernel TLS: what the probe said of each version and cipher; empty when it was not asked.
    pub kernel_tls: Vec<(String, Option<probe::Problem>)>,
    /// Limits of the process that was looked at.
    pub limits: Limits,
    /// Memory of the machine, and what bounds it.
    pub memory: Memory,
    /// Processors.
    pub processors: Processors,
    /// Network cards that are up.
    pub cards: Vec<Card>,
    /// Names of running programs.
    pub programs: BTreeSet<String>,
    /// Clock and time.
    pub clock: Clock,
    /// Connections that the firewall tracks at the moment; absent without connection tracking.
    pub tracked_connections: Option<u64>,
    /// The firewall.
    pub firewall: Firewall,
    /// Certificate and key.
    pub certificate: Option<Certificate>,
    /// The configuration file.
    pub config: Option<FileFacts>,
    /// The users file.
    pub users: Option<FileFacts>,
    /// The file of the private key.
    pub key: Option<FileFacts>,
    /// The directory that is to be served.
    pub directory: Option<DirectoryFacts>,
    /// Virtual hosts.
    pub hosts: Vec<HostFacts>,
    /// Authorities of client certificates.
    pub clients: Option<ClientFacts>,
    /// Now.
    pub now: Option<SystemTime>,
    /// Who runs the doctor.
    pub account: Account,
}

/// Who runs the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub user: u32,
}

/// Limits of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// The process id of a running server; absent when there is none and these are our own.
    pub server: Option<u32>,
    /// Open descriptors: soft limit; `u64::MAX` for unlimited.
    pub descriptors_soft: Option<u64>,
    /// Open descriptors: hard limit.
    pub descriptors_hard: Option<u64>,
    /// Locked memory in octets: soft limit.
    pub locked_memory: Option<u64>,
}

/// Memory in octets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the machine.
    pub total: Option<u64>,
    /// What programs may still take.
    pub available: Option<u64>,
    /// The tightest limit of the control groups above the process, and which file sets it.
    pub group_limit: Option<(u64, PathBuf)>,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processors {
    /// Those that this process may use.
    pub usable: Vec<usize>,
    /// Kept away from the scheduler (isolcpus=).
    pub isolated: Vec<usize>,
    /// NUMA nodes with their processors.
    pub nodes: BTreeMap<usize, Vec<usize>>,
    /// Frequency governors, and how many processors have them.
    pub governors: BTreeMap<String, usize>,
    /// The driver of the frequency.
    pub frequency_driver: Option<String>,
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Card {
    /// Its device.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Speed in Mbit/s, where the driver tells.
    pub megabits: Option<u64>,
    /// Queues for receiving.
    pub receive_queues: usize,
    /// Processors to which software spreads what is received (RPS); any queue's counts.
    pub spread_in_software: bool,
    /// The NUMA node it is attached to.
    pub node: Option<usize>,
    /// Interrupts that its queues have, each with its processors.
    pub interrupts: BTreeMap<u32, Vec<usize>>,
    /// Its queue discipline, or of its first queue.
    pub discipline: Option<String>,
    /// Features as `ethtool -k` prints them: on, and whether that is fixed. Absent when it could not be asked.
    pub features: Option<BTreeMap<String, Feature>>,
}

/// A feature of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Switched on.
    pub on: bool,
    /// Cannot be changed.
    pub fixed: bool,
}

/// Clock and time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    /// The clock source in use.
    pub source: Option<String>,
    /// Those that there are.
    pub available: Vec<String>,
    /// Whether the kernel's time is kept by a time service (adjtimex(2)).
    pub synchronised: Option<bool>,
}

/// Programs that write a firewall's rules for their operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirewallTool {
    /// None that is known: rules are written by hand.
    #[default]
    None,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
}

/// What is known of the firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Who writes its rules.
    pub tool: FirewallTool,
    /// Its rules for what comes in; absent when they could not be read.
    pub rules: Option<InputRules>,
}

/// What the rules say of what comes in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRules {
    /// Chains that drop or reject what no rule lets in.
    pub closed: Vec<String>,
    /// TCP ports that some rule lets in.
    pub accepted: Vec<RangeInclusive<u16>>,
}

/// A file's owner and mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Which.
    pub path: PathBuf,
    /// Why it cannot be used: absent, no right to read it, no regular file, too large; where it has a remedy of its own, after `; `.
    pub problem: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: u32,
    /// A directory above it that others may write to, so that they may replace the file.
    pub open_parent: Option<PathBuf>,
}

/// The directory that is to be served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// Which.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// The account that root is to become, if that one cannot list it.
    pub barred: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// The number of the device that holds it (`st_dev`).
    pub device: Option<u64>,
    /// The type of its file system.
    pub file_system: Option<String>,
    /// Options of the mount.
    pub mount_options: Vec<String>,
    /// Octets, and octets that are free for everybody.
    pub space: Option<(u64, u64)>,
    /// Inodes, and those that are free.
    pub inodes: Option<(u64, u64)>,
}

/// A certificate chain with its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Why certificate and key cannot be used at all, with the remedy.
    pub problem: Option<String>,
    /// The chain as it stands in the file.
    pub chain: Vec<Link>,
    /// Whether each certificate was issued by the next one.
    pub in_order: bool,
    /// Whether the chain leads to an authority that this machine trusts; absent when there is none here to compare with.
    pub trusted: Option<bool>,
}

/// One certificate of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// Valid from.
    pub not_before: Option<SystemTime>,
    /// Valid until.
    pub not_after: Option<SystemTime>,
    /// Its key: `RSA 2048`, `EC 256`, `Ed25519`.
    pub key: String,
    /// Bits of an RSA key.
    pub rsa_bits: Option<usize>,
    /// DNS names and addresses it is for (subjectAltName).
    pub names: Vec<String>,
    /// Its key may sign certificates (basicConstraints).
    pub is_authority: bool,
    /// Usable by TLS servers: no extendedKeyUsage, or with serverAuth.
    pub for_servers: bool,
    /// Its signature uses SHA-1 or MD5.
    pub weak_signature: bool,
}

impl Link {
    /// Whether subject and issuer are the same.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}
