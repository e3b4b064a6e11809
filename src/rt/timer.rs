//! Timers beyond a plain sleep.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{now, sleep_until};
use crate::sys::ring;

/// Waits for so long, to the microsecond, where [`sleep`] rounds up to the next millisecond. Once begun
/// it ends by itself only: for short waits.
pub async fn pause(time: Duration) {
    // It ends with ETIME, as it should; a kernel that refused it would be no reason to wait.
    let _ = ring::pause(time).await;
}

/// A timer that is touched only when it has to ring earlier than before: a deadline that moves on
/// with every command costs nothing.
#[derive(Debug, Default)]
pub struct Alarm(Option<(Instant, Pin<Box<tokio::time::Sleep>>)>);

impl Alarm {
    /// Ready once `deadline` has passed; never without one. One waiter only.
    pub fn poll_at(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let (armed, sleep) = self
            .0
            .get_or_insert_with(|| (deadline, Box::pin(sleep_until(deadline))));
        if deadline < *armed {
            *armed = deadline;
            sleep.as_mut().reset(deadline.into());
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if deadline <= now() {
                self.0 = None;
                return Poll::Ready(());
            }
            // It was armed for an earlier deadline that has moved on.
            *armed = deadline;
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }
}
