//! The number of the session whose task runs: each line logged meanwhile bears it, wherever in the code
//! it is written.
//!
//! Spans of `tracing` would do the same for an allocation a span and a look into a shared table each time
//! that a task is polled; this is two writes to a variable of the thread.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

thread_local! {
    /// 0: none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// A number that no session of this process has had, from 1.
#[must_use]
pub fn next_session() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The number of the session at work on this thread; 0 for none.
#[must_use]
pub fn session() -> u64 {
    CURRENT.get()
}

/// Lets what `future` logs bear the number of this session.
pub fn in_session<F: Future>(number: u64, future: F) -> InSession<F> {
    InSession { number, future }
}

/// Lets a task bear the number of the session that starts it.
pub fn in_this_session<F: Future>(future: F) -> InSession<F> {
    in_session(session(), future)
}

pin_project! {
    /// What [`in_session`] makes.
    #[derive(Debug)]
    #[must_use]
    pub struct InSession<F> {
        number: u64,
        #[pin]
        future: F,
    }
}

/// Gives the thread back to whoever had it, also after a panic.
struct Restore(u64);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl<F: Future> Future for InSession<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _restore = Restore(CURRENT.replace(*this.number));
        this.future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_its_number_while_it_runs() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let number = next_session();
        assert!(next_session() > number);
        runtime.block_on(async {
            let both = async {
                let inner = in_session(number + 1, async {
                    assert_eq!(session(), number + 1);
                    tokio::task::yield_now().await;
                    assert_eq!(session(), number + 1);
                });
                in_session(number, async {
                    tokio::join!(inner, async { assert_eq!(session(), number) });
                    in_this_session(async { assert_eq!(session(), number) }).await;
                })
                .await;
            };
            both.await;
            assert_eq!(session(), 0);
        });
    }
}
