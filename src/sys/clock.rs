//! The kernel's clock.

use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been up, sleep included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::from_secs(time.tv_sec.unsigned_abs())
}

/// Whether a time service keeps the kernel's clock (adjtimex(2)); `None` when the kernel does not tell.
#[must_use]
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: all-zero octets are a valid timex; with modes 0 nothing is changed.
    let mut time: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the pointer is valid for reads and writes for the whole call.
    let state = unsafe { libc::adjtimex(&raw mut time) };
    (state >= 0).then_some(state != libc::TIME_ERROR && time.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_since_boot_is_that_of_the_kernel() {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: u64 = text.split('.').next().unwrap().parse().unwrap();
        // A container may show its own.
        assert!(super::since_boot().as_secs() + 1 >= seconds);
    }

    #[test]
    fn the_kernel_tells_whether_its_clock_is_kept() {
        assert!(super::is_synchronised().is_some());
    }
}
