//! Work that the end of the process waits for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::ledger::lock;

/// Counts work that is under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    count: Mutex<usize>,
    none: Condvar,
}

impl Pending {
    /// Work begins; it ends with what is returned.
    pub(super) fn begin(self: &Arc<Self>) -> Token {
        *lock(&self.count) += 1;
        Token(Arc::clone(self))
    }

    /// Waits until no work is under way, for so long at most; tells whether it came to that. Blocks.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        let waited = self
            .none
            .wait_timeout_while(lock(&self.count), limit, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count == 0
    }
}

/// Work that is under way.
#[derive(Debug)]
pub(super) struct Token(Arc<Pending>);

impl Drop for Token {
    fn drop(&mut self) {
        let mut count = lock(&self.0.count);
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_the_last_one_and_not_for_ever() {
        let pending = Arc::<Pending>::default();
        assert!(pending.wait(Duration::ZERO));
        let (one, two) = (pending.begin(), pending.begin());
        assert!(!pending.wait(Duration::from_millis(1)));
        drop(one);
        assert!(!pending.wait(Duration::from_millis(1)));
        let other = std::thread::spawn(move || drop(two));
        assert!(pending.wait(Duration::from_secs(60)));
        other.join().unwrap();
    }
}
