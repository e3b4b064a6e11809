//! Facts about this machine: processors, descriptors, io_uring. No policy.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::limits;

/// The processors that this process may use, in ascending order; never empty.
#[must_use]
pub fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return vec![0];
    };
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    if usable.is_empty() { vec![0] } else { usable }
}

/// Lets the calling thread run on this processor only.
///
/// # Errors
/// The system's, when the processor may not be used.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets the calling thread run wherever the main thread may: a thread begins where the one that starts it is pinned.
///
/// # Errors
/// The system's.
pub fn unpin_thread() -> io::Result<()> {
    let set = sched_getaffinity(Some(rustix::process::getpid()))?;
    Ok(sched_setaffinity(None, &set)?)
}

/// CPU time that the calling thread has used, in this process and in the kernel for it.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Such a clock starts at zero.
    Duration::try_from(time).unwrap_or_default()
}

/// The system's words for an error, without the "(os error N)" that follows them.
#[must_use]
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// CPU time that this process has used, user and system.
#[must_use]
pub fn process_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Raises the limit on open descriptors as far as this process may, at most to
/// `DESCRIPTORS_MAX`: the soft limit to the hard one, and as root the hard one to `fs.nr_open`.
/// Returns the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let old = getrlimit(Resource::Nofile);
    let most = number_in("/proc/sys/fs/nr_open")
        .unwrap_or(limits::DESCRIPTORS_MAX)
        .min(limits::DESCRIPTORS_MAX);
    let limited = |value: Option<u64>| value.unwrap_or(u64::MAX);
    let raised = limited(old.maximum).max(most);
    let wish = Rlimit {
        current: Some(most.max(limited(old.current).min(raised))),
        maximum: Some(raised),
    };
    if limited(old.maximum) >= most || setrlimit(Resource::Nofile, wish).is_err() {
        let soft = Rlimit {
            current: Some(limited(old.maximum).min(most.max(limited(old.current)))),
            maximum: old.maximum,
        };
        // A limit that cannot be raised is lived with: connections are shed at it.
        let _ = setrlimit(Resource::Nofile, soft);
    }
    limited(getrlimit(Resource::Nofile).current)
}

/// Whether IPv6 sockets can be made and bound here.
#[must_use]
pub fn ipv6_available() -> bool {
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0);
    UdpSocket::bind(SocketAddr::V6(any)).is_ok()
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn number_in(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Why io_uring cannot be used. The message names the cause and the remedy in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingProblem {
    /// The kernel has no io_uring (ENOSYS).
    NoSystemCall {
        /// The kernel's release.
        kernel: String,
    },
    /// `kernel.io_uring_disabled` forbids it (EPERM).
    Disabled {
        /// The value of the setting: 1 (only for a group) or 2 (for all).
        setting: u64,
    },
    /// Something else forbids it: the seccomp profile of a container, or of a service (EPERM).
    Forbidden,
    /// The limit on locked memory is too low (ENOMEM).
    NoMemory {
        /// The soft limit RLIMIT_MEMLOCK in octets.
        locked_octets_max: u64,
    },
    /// Operations are missing.
    MissingOperations {
        /// Their names.
        names: Vec<&'static str>,
        /// The kernel's release.
        kernel: String,
    },
    /// Another error of the system.
    Other(String),
}

impl std::error::Error for RingProblem {}

impl fmt::Display for RingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystemCall { kernel } => write!(
                f,
                "io_uring is missing: Linux 6.1 or newer is needed, this is {kernel}, or a sandbox \
                 hides the system call; in a container allow it with `docker run --security-opt seccomp=unconfined`"
            ),
            Self::Disabled { setting } => write!(
                f,
                "io_uring is switched off by kernel.io_uring_disabled={setting}; switch it on with \
                 `sysctl -w kernel.io_uring_disabled=0`"
            ),
            Self::Forbidden => f.write_str(
                "io_uring is forbidden, most likely by a container's seccomp profile; allow it with \
                 `docker run --security-opt seccomp=unconfined` (podman likewise), or with a profile \
                 that permits io_uring_setup, io_uring_enter and io_uring_register",
            ),
            Self::NoMemory { locked_octets_max } => write!(
                f,
                "no memory for an io_uring: the limit on locked memory is {locked_octets_max} octets; \
                 raise it with `ulimit -l unlimited`, or LimitMEMLOCK=infinity in a systemd unit"
            ),
            Self::MissingOperations { names, kernel } => write!(
                f,
                "io_uring lacks {}: Linux 6.1 or newer is needed, this is {kernel}",
                names.join(", ")
            ),
            Self::Other(error) => write!(
                f,
                "io_uring does not work here ({error}); Linux 6.1 or newer is needed"
            ),
        }
    }
}

/// Every operation that the server submits.
const OPERATIONS: [(u8, &str); 12] = [
    (opcode::Nop::CODE, "NOP"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::OpenAt2::CODE, "OPENAT2"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Splice::CODE, "SPLICE"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
];

/// The names of the operations that the server submits.
pub fn ring_operations() -> impl Iterator<Item = &'static str> {
    OPERATIONS.iter().map(|(_, name)| *name)
}

/// Entries of the ring that is made to see whether one can be made.
const PROBE_RING_ENTRIES: u32 = 8;

/// Makes a small ring, with the flags that the cores' rings have, and asks it for every operation
/// that the server needs.
///
/// # Errors
/// [`RingProblem`] with the cause and the remedy.
pub fn probe_ring() -> Result<(), RingProblem> {
    let ring: IoUring = IoUring::builder()
        .setup_coop_taskrun()
        .setup_single_issuer()
        .build(PROBE_RING_ENTRIES)
        .map_err(|error| explain(&error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error))?;
    let missing = OPERATIONS
        .iter()
        .filter(|(code, _)| !probe.is_supported(*code))
        .map(|(_, name)| *name);
    let names: Vec<&'static str> = missing.collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(RingProblem::MissingOperations {
        names,
        kernel: kernel_release(),
    })
}

fn explain(error: &io::Error) -> RingProblem {
    let kernel = kernel_release();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => RingProblem::NoSystemCall { kernel },
        Some(libc::EPERM | libc::EACCES) => match number_in("/proc/sys/kernel/io_uring_disabled") {
            Some(setting) if setting > 0 => RingProblem::Disabled { setting },
            _ => RingProblem::Forbidden,
        },
        Some(libc::ENOMEM) => RingProblem::NoMemory {
            locked_octets_max: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        },
        // The flags are unknown before 6.0.
        Some(libc::EINVAL) => RingProblem::MissingOperations {
            names: vec!["SETUP_COOP_TASKRUN", "SETUP_SINGLE_ISSUER"],
            kernel,
        },
        _ => RingProblem::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_each_usable_core() {
        for cpu in cores() {
            let pinned = std::thread::spawn(move || {
                pin_thread(cpu).unwrap();
                let child = std::thread::spawn(|| {
                    unpin_thread().unwrap();
                    cores()
                });
                (cores(), child.join().unwrap())
            });
            assert_eq!(pinned.join().unwrap(), (vec![cpu], cores()));
        }
        assert!(pin_thread(usize::MAX).is_err());
    }

    #[test]
    fn the_clock_of_a_thread_runs_while_it_works() {
        let before = thread_cpu_time();
        while thread_cpu_time() < before + Duration::from_millis(1) {}
        let of_another = std::thread::spawn(thread_cpu_time).join().unwrap();
        assert!(of_another < thread_cpu_time(), "{of_another:?}");
    }

    #[test]
    fn the_descriptor_limit_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let raised = raise_descriptor_limit();
        assert!(raised >= before, "{raised} < {before}");
        assert_eq!(raise_descriptor_limit(), raised);
    }

    #[test]
    fn every_ring_problem_names_a_remedy_in_one_line() {
        let problem = |errno| explain(&io::Error::from_raw_os_error(errno));
        let texts = [
            (problem(libc::ENOSYS), "6.1"),
            (
                RingProblem::Disabled { setting: 2 },
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (RingProblem::Forbidden, "seccomp=unconfined"),
            (problem(libc::ENOMEM), "ulimit -l"),
            (problem(libc::EINVAL), "6.1"),
            (problem(libc::EMFILE), "6.1"),
        ];
        for (problem, remedy) in texts {
            let text = problem.to_string();
            assert!(text.contains(remedy) && !text.contains('\n'), "{text}");
        }
    }
}
