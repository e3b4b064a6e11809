//! Processes: which programs run, the limits of the server, memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Machine;
use crate::doctor::facts::{Limits, Memory};

/// The name that the kernel knows the server by.
const SERVER: &str = "ringftpd";

/// Limits of control groups of the first version above this stand for "none".
const NO_LIMIT_OCTETS: u64 = 1 << 60;

impl Machine {
    /// The limits of a running server, else our own; and the names of running programs.
    pub(super) fn processes(&self) -> (Limits, BTreeSet<String>) {
        let mut programs = BTreeSet::new();
        let mut server = None;
        for name in self.names("proc") {
            let Ok(process) = name.parse::<u32>() else {
                continue;
            };
            let Some(program) = self.text(&format!("proc/{process}/comm")) else {
                continue;
            };
            if program == SERVER && process != std::process::id() {
                server = Some(process);
            }
            programs.insert(program);
        }
        let process = server.map_or_else(|| "self".to_owned(), |process| process.to_string());
        let text = self
            .text(&format!("proc/{process}/limits"))
            .unwrap_or_default();
        let limit = |name: &str, column: usize| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            match line.split_whitespace().nth(column)? {
                "unlimited" => Some(u64::MAX),
                number => number.parse().ok(),
            }
        };
        let limits = Limits {
            server,
            descriptors_soft: limit("Max open files", 0),
            descriptors_hard: limit("Max open files", 1),
            locked_memory: limit("Max locked memory", 0),
        };
        (limits, programs)
    }

    /// Memory, and the limit of the control groups that the server (or this process) is in.
    pub(super) fn memory(&self, server: Option<u32>) -> Memory {
        let text = self.text("proc/meminfo").unwrap_or_default();
        let octets = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        };
        let process = server.map_or_else(|| "self".to_owned(), |process| process.to_string());
        let groups = self
            .text(&format!("proc/{process}/cgroup"))
            .unwrap_or_default();
        let limits = groups.lines().flat_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next().unwrap_or_default();
            let group = fields.next().unwrap_or_default();
            match controllers {
                "" => self.limits_above("sys/fs/cgroup", group, "memory.max"),
                "memory" => {
                    self.limits_above("sys/fs/cgroup/memory", group, "memory.limit_in_bytes")
                }
                _ => Vec::new(),
            }
        });
        Memory {
            total: octets("MemTotal"),
            available: octets("MemAvailable"),
            group_limit: limits.min(),
        }
    }

    /// The limits of a group and of all above it.
    fn limits_above(&self, mount: &str, group: &str, file: &str) -> Vec<(u64, PathBuf)> {
        let group = Path::new(group.trim_start_matches('/'));
        let limit = |group: &Path| {
            let path = Path::new(mount).join(group).join(file);
            let limit = self.number(path.to_str()?)?;
            (limit < NO_LIMIT_OCTETS).then(|| (limit, Path::new("/").join(path)))
        };
        group.ancestors().filter_map(limit).collect()
    }
}
