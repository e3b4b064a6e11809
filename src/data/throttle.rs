//! Transfers with a limit on their rate: a budget says how much may move, and the kernel spreads a download's
//! pieces over their time.

use std::time::Instant;

use super::Link;
use crate::bandwidth::Budget;
use crate::limits;
use crate::proto::TransferEnd;
use crate::rt::{self, Socket};

impl Link {
    /// How many of so many octets may move now; waits until it is one at least. What moves is to be told with
    /// [`Self::moved`].
    pub(super) async fn permitted(&self, octets: u64) -> Result<u64, TransferEnd> {
        let Some(budget) = &self.budget else {
            return Ok(octets);
        };
        if budget.left() == 0 {
            let begins = budget.ask(rt::now());
            self.wait_until(begins).await?;
        }
        Ok(octets.min(budget.left()))
    }

    /// So many octets have moved, or will at once.
    pub(super) fn moved(&self, octets: u64) {
        if let Some(budget) = &self.budget {
            budget.spend(octets);
        }
    }

    /// Waits until so many octets may move, however many.
    pub(super) async fn pay(&self, mut octets: u64) -> Result<(), TransferEnd> {
        while octets > 0 {
            let permitted = self.permitted(octets).await?;
            self.moved(permitted);
            octets -= permitted;
        }
        Ok(())
    }

    /// Nothing on the network tells of the end of this wait, so an abort does, and now and then a look whether there
    /// still is a connection: at low rates many waits follow each other before octets move again.
    async fn wait_until(&self, then: Instant) -> Result<(), TransferEnd> {
        loop {
            self.handle.check()?;
            let now = rt::now();
            self.look(now)?;
            let Some(time) = then
                .checked_duration_since(now)
                .filter(|time| !time.is_zero())
            else {
                return Ok(());
            };
            let time = time.min(limits::THROTTLED_LOOK_INTERVAL);
            let _ = rt::until(self.handle.stopped.notified(), time).await;
        }
    }

    /// Whether the client has gone. One that has only ended its direction has not.
    fn look(&self, now: Instant) -> Result<(), TransferEnd> {
        let looked = self.looked.get().unwrap_or(now);
        if self.looked.get().is_none()
            || now.saturating_duration_since(looked) >= limits::THROTTLED_LOOK_INTERVAL
        {
            self.looked.set(Some(now));
            let socket = self.handle.socket.borrow();
            if socket.as_ref().is_some_and(Socket::is_gone) {
                return Err(TransferEnd::ConnectionLost);
            }
        }
        Ok(())
    }

    /// Lets the kernel spread what is sent: the budget decides how much that is, so the kernel's rate is
    /// higher, by more than segments and records add.
    pub(super) fn pace(&self, socket: &Socket) {
        let Some(rate) = self.budget.as_ref().and_then(Budget::rate) else {
            return;
        };
        let rate = rate.saturating_mul(limits::PACING_RATIO);
        if let Err(error) = socket.pace(rate) {
            tracing::debug!(%error, "the kernel does not pace this connection");
        }
    }
}
