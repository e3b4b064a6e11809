//! Uploads: what is sent, under which names, and how it goes away again.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use super::control::Outcome;
use super::core::Core;
use super::data::Work;
use super::failure::Failure;
use super::workload::Session;

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
        let directory = settings.paths.first().map_or("", String::as_str);
        let directory = match directory {
            "" => String::new(),
            directory => format!("{}/", directory.trim_end_matches('/')),
        };
        let sessions = settings.sessions.max(1) as u64;
        let staying = STAYING_OCTETS_MAX / sessions / settings.size.max(1);
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
    pub(super) async fn put_next(&mut self, intended: Instant) -> Result<bool, Failure> {
        let core = Rc::clone(&self.core);
        let name = self.uploads.next_name();
        // Whatever becomes of it, something may be there now.
        self.uploads.staying.push_back(name.clone());
        let outcome = self.put(&name, intended).await?;
        if !core.settings().keep && self.uploads.staying.len() > self.uploads.staying_max {
            self.delete_oldest().await?;
        }
        Ok(!outcome.cut)
    }

    async fn put(&mut self, name: &str, intended: Instant) -> Result<Outcome, Failure> {
        let core = Rc::clone(&self.core);
        let mut work = Work::Send {
            octets: core.settings().size,
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
