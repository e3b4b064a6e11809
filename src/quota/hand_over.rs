//! Sets counts right after a hand-over.
//!
//! While a process serves beside the one it has taken over from, each knows only what its own uploads have open. A file
//! that one writes and the other removes is given back by both; one that both go on writing is charged twice. So where this
//! process has done anything meanwhile, homes are counted again once the other is gone: in turns, and those first whose
//! users log in. Where the other was killed its last counts are lost, and all homes are.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Quotas;
use super::keeper::{sleep, spawn};
use super::ledger::{Ledger, lock};
use super::run_file::Others;
use crate::limits;
use crate::rt;

/// Looks for the end of the other processes in the background, and sets the counts right then.
pub(super) fn begin(quotas: &Arc<Quotas>) {
    let quotas = Arc::downgrade(quotas);
    // Without the thread counts may be wrong for a day, which the log tells.
    spawn("quota-hand-over", move || {
        if let Some(doubted) = wait(&quotas) {
            count_all(&quotas, doubted.into());
        }
    });
}

/// Waits for the end of the others. `None` when the process ends before.
fn wait(quotas: &Weak<Quotas>) -> Option<Vec<Arc<Ledger>>> {
    loop {
        sleep(limits::QUOTA_OTHERS_LOOK_INTERVAL);
        let quotas = quotas.upgrade()?;
        if quotas.keeper.is_stopped() {
            return None;
        }
        if let Some(doubted) = quotas.others_ended() {
            return Some(doubted);
        }
    }
}

impl Quotas {
    /// The homes that are to be counted again, if the other processes are gone. Blocks.
    pub(super) fn others_ended(&self) -> Option<Vec<Arc<Ledger>>> {
        let others = self.keeper.look();
        if others == Others::Live {
            return None;
        }
        let mut ledgers: Vec<_> = lock(&self.ledgers).by_home.values().cloned().collect();
        let died = others == Others::Died;
        // First of all, so that a login finds it due; written with it, should this process end before.
        ledgers.retain(|ledger| {
            let doubted = ledger.doubt(died);
            // The others may have changed it after this one has.
            self.keeper.sync(ledger);
            doubted
        });
        if died {
            tracing::warn!(
                "a process that used the same counts for quotas was killed: homes are counted again"
            );
        } else if !ledgers.is_empty() {
            tracing::info!(
                homes = ledgers.len(),
                "the process before has ended: homes that both may have changed are counted again"
            );
        }
        Some(ledgers)
    }
}

/// Counts homes one after another. One that cannot be counted is left to the next login.
fn count_all(quotas: &Weak<Quotas>, mut homes: VecDeque<Arc<Ledger>>) {
    while let Some(ledger) = homes.pop_front() {
        let Some(quotas) = quotas.upgrade() else {
            return;
        };
        if quotas.keeper.is_stopped() {
            return;
        }
        if !ledger.is_doubted() {
            continue;
        }
        let began = rt::now();
        let begun = quotas.keeper.scan(&ledger);
        drop(quotas);
        while ledger.is_scanning() {
            sleep(limits::QUOTA_CATCH_UP_PAUSE);
        }
        let took = rt::now().saturating_duration_since(began);
        if begun {
            sleep(limits::QUOTA_CATCH_UP_PAUSE + took * limits::QUOTA_CATCH_UP_REST);
        } else {
            // It rests from a scan before.
            sleep(limits::QUOTA_SCAN_PAUSE);
            homes.push_back(ledger);
        }
    }
}
