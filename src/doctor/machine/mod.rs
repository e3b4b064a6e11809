//! Reads the facts: /proc, /sys and what programs of the system print. No judgement.

mod cards;
pub(super) mod files;
mod firewall;
mod processes;

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::facts::{Account, Clock, DirectoryFacts, Facts, Processors};
use super::{Input, tuning};
use super::{certificate, clients, hosts};
use crate::sys::{clock, host, identity};

/// Most octets of a file or of a program's output that are read.
const TEXT_OCTETS_MAX: u64 = 16 * 1024 * 1024;

/// Settings that are looked at beside those of `tuning/sysctl.conf`.
const MORE_SETTINGS: [&str; 10] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_group",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_available_ulp",
    "net.ipv4.tcp_window_scaling",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
];

/// A machine, or a tree of files that looks like one.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
    /// It is the one we run on: programs may be asked, and the system.
    live: bool,
}

impl Machine {
    /// The machine that this process runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            root: PathBuf::from("/"),
            live: true,
        }
    }

    /// What the files below `root` tell; nothing is run and nothing else is asked.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            live: false,
        }
    }

    fn is_live(&self) -> bool {
        self.live
    }

    /// Reads everything except io_uring and kernel TLS, which are tried out elsewhere.
    #[must_use]
    pub fn facts(&self, input: &Input) -> Facts {
        let now = SystemTime::now();
        let names = tuning::settings().into_iter().map(|line| line.name);
        let names = names.chain(MORE_SETTINGS.map(str::to_owned));
        let settings = names
            .filter_map(|name| {
                let value = self.text(&format!("proc/sys/{}", name.replace('.', "/")))?;
                Some((name, value))
            })
            .collect();
        let (limits, programs) = self.processes();
        let roots = LazyCell::new(certificate::system_roots);
        let pair = input.certificate.as_deref().zip(input.key.as_deref());
        let mut facts = Facts {
            kernel: self
                .text("proc/sys/kernel/osrelease")
                .unwrap_or_else(|| "unknown".to_owned()),
            settings,
            memory: self.memory(limits.server),
            limits,
            processors: self.processors(),
            cards: self.cards(),
            clock: self.clock(),
            tracked_connections: self.number("proc/sys/net/netfilter/nf_conntrack_count"),
            firewall: self.firewall(&programs),
            programs,
            certificate: pair.map(|(chain, key)| certificate::read(chain, key, &roots, now)),
            config: input.config.as_deref().map(files::file),
            users: input.users.as_deref().map(files::file),
            key: input.key.as_deref().map(files::file),
            directory: input.directory.as_deref().map(|path| {
                // The server starts inside: directories above it do not matter.
                let barred = self.barred(input, path, Path::new("."));
                let facts = self.directory(path);
                DirectoryFacts { barred, ..facts }
            }),
            hosts: input
                .hosts
                .iter()
                .map(|host| hosts::read(self, input, host, &roots, now))
                .collect(),
            clients: clients::read(&input.clients),
            now: Some(now),
            account: account(),
            ..Facts::default()
        };
        facts.modules = self.modules(&facts);
        facts
    }

    /// The text of a file below the root, trimmed; `None` when it is absent, unreadable or empty.
    fn text(&self, path: &str) -> Option<String> {
        let file = File::open(self.root.join(path)).ok()?;
        let mut octets = Vec::new();
        // Some files of /sys exist and refuse to be read: a card that is down tells no speed.
        file.take(TEXT_OCTETS_MAX).read_to_end(&mut octets).ok()?;
        let text = String::from_utf8_lossy(&octets).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory below the root, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = self.root.join(path).read_dir() else {
            return Vec::new();
        };
        let names = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// What a program prints; `None` when it is absent or fails, and on a machine that is only files.
    fn run(&self, program: &str, arguments: &[&str]) -> Option<String> {
        if !self.live {
            return None;
        }
        // Accounts other than root seldom have the directories of such programs in their path.
        let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.exists())?;
        let output = Command::new(path)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    fn modules(&self, facts: &Facts) -> BTreeSet<String> {
        let mut modules = BTreeSet::new();
        let loaded = self.text("proc/modules").unwrap_or_default();
        let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
        modules.extend(loaded.lines().filter_map(first_word));
        let built_in = format!("lib/modules/{}/modules.builtin", facts.kernel);
        let built_in = self.text(&built_in).unwrap_or_default();
        modules.extend(built_in.lines().filter_map(|line| {
            let name = line.rsplit('/').next()?.strip_suffix(".ko")?;
            Some(name.replace('-', "_"))
        }));
        // A kernel without modules tells by what it offers.
        let offers = |setting: &str, word: &str| {
            let value = facts.settings.get(setting);
            value.is_some_and(|value| value.split_whitespace().any(|offered| offered == word))
        };
        let ciphers = self.text("proc/crypto").unwrap_or_default();
        let signs = [
            ("tls", offers("net.ipv4.tcp_available_ulp", "tls")),
            (
                "tcp_bbr",
                offers("net.ipv4.tcp_available_congestion_control", "bbr"),
            ),
            ("sch_fq", offers("net.core.default_qdisc", "fq")),
            (
                "chacha20poly1305",
                ciphers.contains("rfc7539(chacha20,poly1305)"),
            ),
        ];
        let there = signs.iter().filter(|(_, there)| *there);
        modules.extend(there.map(|(name, _)| (*name).to_owned()));
        modules
    }

    fn processors(&self) -> Processors {
        let list = |path: &str| list(&self.text(path).unwrap_or_default());
        let mut processors = Processors {
            usable: if self.live {
                host::cores()
            } else {
                list("sys/devices/system/cpu/online")
            },
            isolated: list("sys/devices/system/cpu/isolated"),
            frequency_driver: self.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver"),
            ..Processors::default()
        };
        for name in self.names("sys/devices/system/node") {
            let number = name.strip_prefix("node").and_then(|node| node.parse().ok());
            if let Some(number) = number {
                let members = list(&format!("sys/devices/system/node/{name}/cpulist"));
                processors.nodes.insert(number, members);
            }
        }
        for name in self.names("sys/devices/system/cpu") {
            let path = format!("sys/devices/system/cpu/{name}/cpufreq/scaling_governor");
            if let Some(governor) = self.text(&path) {
                *processors.governors.entry(governor).or_default() += 1;
            }
        }
        processors
    }

    fn clock(&self) -> Clock {
        let directory = "sys/devices/system/clocksource/clocksource0";
        let available = self.text(&format!("{directory}/available_clocksource"));
        Clock {
            source: self.text(&format!("{directory}/current_clocksource")),
            available: available
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            synchronised: self.live.then(clock::is_synchronised).flatten(),
        }
    }
}

fn account() -> Account {
    let user = rustix::process::geteuid().as_raw();
    let known = identity::find_by_id(user).ok().flatten();
    Account {
        name: known.map_or_else(|| user.to_string(), |known| known.name),
        user,
    }
}

/// A list of numbers as the kernel writes them: `0-3,8`.
fn list(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<usize>()) {
            // A kernel has at most 8,192 processors; a file that says otherwise is none of its.
            numbers.extend((first..=last).take(8192));
        }
    }
    numbers
}

#[cfg(test)]
mod tests;
