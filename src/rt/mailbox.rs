//! Letters between the tasks of a core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Letters to one task from others on its core. Small while empty.
#[derive(Debug)]
pub struct Mailbox<T>(RefCell<Letters<T>>);

#[derive(Debug)]
struct Letters<T> {
    queue: VecDeque<T>,
    reader: Option<Waker>,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self(RefCell::new(Letters {
            queue: VecDeque::new(),
            reader: None,
            closed: false,
        })))
    }

    /// Leaves a letter and wakes the reader. Returns the letter when nobody will read it.
    pub fn post(&self, letter: T) -> Option<T> {
        let mut letters = self.0.borrow_mut();
        if letters.closed {
            return Some(letter);
        }
        letters.queue.push_back(letter);
        if let Some(reader) = letters.reader.take() {
            reader.wake();
        }
        None
    }

    /// Takes the oldest letter, or waits for one. One reader only.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut letters = self.0.borrow_mut();
        if let Some(letter) = letters.queue.pop_front() {
            if letters.queue.is_empty() {
                letters.queue.shrink_to(0);
            }
            return Poll::Ready(letter);
        }
        letters.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes no more letters; returns those that nobody has read.
    pub fn close(&self) -> VecDeque<T> {
        let mut letters = self.0.borrow_mut();
        letters.closed = true;
        std::mem::take(&mut letters.queue)
    }
}

/// A task's duty to leave a letter. Should it end without, by a panic, the letter written beforehand
/// is left in its place, so that nobody waits for it for ever.
#[derive(Debug)]
pub struct Duty<T> {
    mailbox: Rc<Mailbox<T>>,
    otherwise: Option<T>,
}

impl<T> Duty<T> {
    /// The duty to post to `mailbox`; `otherwise` is what a failure leaves.
    #[must_use]
    pub fn new(mailbox: &Rc<Mailbox<T>>, otherwise: T) -> Self {
        Self {
            mailbox: Rc::clone(mailbox),
            otherwise: Some(otherwise),
        }
    }

    /// Leaves the letter; gives it back when nobody reads any more.
    pub fn done(mut self, letter: T) -> Option<T> {
        self.otherwise = None;
        self.mailbox.post(letter)
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        if let Some(letter) = self.otherwise.take() {
            self.mailbox.post(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{run, spawn};

    #[test]
    fn a_closed_mailbox_gives_letters_back() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.post(1), None);
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(mailbox.post(2), Some(2));
    }

    #[test]
    fn a_task_that_panics_leaves_the_letter_for_that_case() {
        let mailbox = Mailbox::new();
        let taken = run(64, async {
            let duty = Duty::new(&mailbox, "failed");
            let broken = spawn(async move {
                let _duty = duty;
                panic!("as a defect would");
            });
            assert!(broken.await.is_err());
            let duty = Duty::new(&mailbox, "failed");
            let _ = spawn(async move { duty.done("done") }).await;
            let first = std::future::poll_fn(|cx| mailbox.poll_take(cx)).await;
            let second = std::future::poll_fn(|cx| mailbox.poll_take(cx)).await;
            (first, second)
        });
        assert_eq!(taken.unwrap(), ("failed", "done"));
    }
}
