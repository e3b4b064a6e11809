//! What the session has done, for whoever counts: commands with the moment at which they began, and
//! replies by their first digit.

use std::time::Instant;

use super::Session;
use crate::proto::command::Verb;
use crate::proto::reply::Code;

/// A command that has had its first reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The command; `None` when it is not known.
    pub verb: Option<Verb>,
    /// When its octets came, or, of one that had queued, when that which it waited for had happened.
    pub began: Instant,
}

/// Small while there is nothing to tell, and without memory of its own while one command at a time is
/// answered.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The command that was taken up and has no reply yet.
    running: Option<Answered>,
    answered: Option<Answered>,
    more: Vec<Answered>,
    replies: [u32; 5],
}

impl Ledger {
    pub(super) fn take_up(&mut self, verb: Option<Verb>, began: Instant) {
        self.running = Some(Answered { verb, began });
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.more.capacity()
    }

    pub(super) fn replied(&mut self, code: Code) {
        let digit = usize::from(code.number() / 100);
        let count = digit.checked_sub(1).and_then(|at| self.replies.get_mut(at));
        if let Some(count) = count {
            *count = count.saturating_add(1);
        }
        if let Some(answered) = self.running.take() {
            if self.answered.is_none() {
                self.answered = Some(answered);
            } else {
                self.more.push(answered);
            }
        }
    }
}

impl Session {
    /// How many replies there were since the last call, by first digit from 1 to 5; `None` without any.
    pub fn take_replies(&mut self) -> Option<[u32; 5]> {
        let replies = std::mem::take(&mut self.ledger.replies);
        (replies != [0; 5]).then_some(replies)
    }

    /// A command that was answered since the last call, in any order.
    pub fn take_answered(&mut self) -> Option<Answered> {
        let last = self.ledger.more.pop();
        if last.is_some() {
            return last;
        }
        if self.ledger.more.capacity() > 0 {
            // An idle session keeps no buffer.
            self.ledger.more = Vec::new();
        }
        self.ledger.answered.take()
    }

    /// When the command began that is not answered yet.
    #[must_use]
    pub fn running_since(&self) -> Option<Instant> {
        self.ledger.running.map(|running| running.began)
    }
}
