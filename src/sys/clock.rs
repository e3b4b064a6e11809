//! The kernel's clock.

use std::mem::MaybeUninit;

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
    fn the_kernel_tells_whether_its_clock_is_kept() {
        assert!(super::is_synchronised().is_some());
    }
}
