//! Uploads: what is sent, under which names, and how it goes away again.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use aws_lc_rs::digest::{Context, Digest, SHA256};

use super::control::Outcome;
use super::core::Core;
use super::data::{Sink, Work};
use super::failure::{Failure, Kind};
use super::settings::Verify;
use super::workload::Session;
use crate::rt;

/// Octets of uploads that stay on the server at a time, all sessions together; older files are deleted
/// between two uploads. Else a minute of uploads would fill any disk.
const STAYING_OCTETS_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// What one session has uploaded.
pub struct Uploads {
    prefix: String,
    count: u64,
    staying: VecDeque<String>,
    staying_max: usize,
}

impl Uploads {
    /// The uploads of a session; no two sessions use the same names, no two runs at the same time
    /// either.
    #[must_use]
    pub fn new(core: &Core, number: usize) -> Self {
        let settings = core.settings();
        // The second one of `mixed`.
        let directory = settings.paths.last().map_or("", String::as_str);
        let directory = match directory {
            "" => String::new(),
            directory => format!("{}/", directory.trim_end_matches('/')),
        };
        let sessions = settings.sessions.max(1) as u64;
        let traced = settings.trace.iter().map(|entry| entry.size).max();
        let size = traced.unwrap_or(settings.size).max(1);
        let staying = STAYING_OCTETS_MAX / sessions / size;
        Self {
            prefix: format!("{directory}load-{}-{number}", std::process::id()),
            count: 0,
            staying: VecDeque::new(),
            staying_max: usize::try_from(staying.clamp(1, 100_000)).unwrap_or(1),
        }
    }

    fn next_name(&mut self) -> String {
        self.count += 1;
        format!("{}-{}.bin", self.prefix, self.count)
    }
}

impl Session {
    /// Uploads one file; false when the end of the run has cut it off.
    pub(super) async fn put_next(
        &mut self,
        octets: u64,
        intended: Instant,
    ) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let name = self.uploads.next_name();
        // Whatever becomes of it, something may be there now.
        self.uploads.staying.push_back(name.clone());
        let outcome = self.put(&name, octets, intended).await?;
        if core.settings().verify == Verify::Sha256 && self.uploads.count == 1 && !outcome.cut {
            self.check_upload(&name, octets).await?;
        }
        if !core.settings().keep && self.uploads.staying.len() > self.uploads.staying_max {
            self.delete_oldest().await?;
        }
        Ok(!outcome.cut)
    }

    /// Downloads an upload, out of turn: it counts for nothing but errors.
    async fn check_upload(&mut self, name: &str, octets: u64) -> Result<(), Failure> {
        let core = Rc::clone(&self.core);
        let mut context = Context::new(&SHA256);
        let mut rest = octets;
        while rest > 0 {
            let count = usize::try_from(rest).unwrap_or(usize::MAX);
            let block = &core.shared.block;
            let part = block.get(..count).unwrap_or(block);
            context.update(part);
            rest -= part.len() as u64;
        }
        let sent: Digest = context.finish();
        let mut sink = Sink::hash();
        let slot = self.slot;
        let command = format!("RETR {name}");
        let mut work = Work::Receive(&mut sink);
        let control = self.control()?;
        let transfer = control.transfer(&core, slot, command, &mut work, rt::now());
        let outcome = transfer.await.map_err(|failure| failure.of(name))?;
        match sink.digest() {
            Some(came) if !outcome.cut && came.as_ref() != sent.as_ref() => {
                let what = format!("{name}: what comes back is not what was sent");
                Err(Failure::harmless(Kind::Mismatch, what))
            }
            _ => Ok(()),
        }
    }

    async fn put(
        &mut self,
        name: &str,
        octets: u64,
        intended: Instant,
    ) -> Result<Outcome, Failure> {
        let core = Rc::clone(&self.core);
        let mut work = Work::Send {
            octets,
            block: &core.shared.block,
        };
        let slot = self.slot;
        let command = format!("STOR {name}");
        self.control()?
            .transfer(&core, slot, command, &mut work, intended)
            .await
            .map_err(|failure| failure.of(name))
    }

    async fn delete_oldest(&mut self) -> Result<(), Failure> {
        if let Some(name) = self.uploads.staying.pop_front() {
            let reply = self.control()?.command(&format!("DELE {name}")).await?;
            if !reply.is_positive() {
                return Err(Failure::reply(&reply).of(name));
            }
        }
        Ok(())
    }

    /// Deletes what is left, unless `--keep` says otherwise.
    pub(super) async fn delete_uploads(&mut self) {
        if self.core.settings().keep {
            return;
        }
        while self.control.is_some() && !self.uploads.staying.is_empty() {
            // An upload that has failed may have left nothing.
            if let Err(failure) = self.delete_oldest().await
                && !failure.usable
            {
                self.control = None;
            }
        }
    }
}
