//! Data connections of the simulated world: a number of octets, and an end.

use std::time::Duration;

use ringftpd::proto::{Event, FileError, SetupError, Transfer, TransferEnd};

use super::{Happening, World};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);
/// Octets of a data connection in one second.
const OCTETS_PER_SECOND: u64 = 100_000;

/// A transfer under way.
pub(super) struct Running {
    pub(super) transfer: Transfer,
    /// Its end in the queue of happenings; `None` while the client must connect.
    pub(super) key: Option<(Duration, u64)>,
    pub(super) begin: Duration,
    pub(super) octets: u64,
}

impl World {
    pub(super) fn set_up(&mut self) {
        self.connected = false;
        self.port += 1;
        let result = match self.fails(16) {
            true => Err(SetupError::NoPort),
            false => Ok(([10, 0, 0, 1], self.port).into()),
        };
        // The driver answers at once; the contract does not ask for that.
        if self.random.bool() {
            self.answer(Event::PassiveReady(result));
        } else {
            self.answers_later(Event::PassiveReady(result));
        }
    }

    pub(super) fn run_transfer(&mut self) {
        self.counts.transfers += 1;
        let transfer = self.transfer.take().expect("opened before");
        let octets = match transfer.kind.is_upload() {
            true => self.random.u64(..300_000),
            false => self.tree.octets(&transfer),
        };
        self.running = Some(Running {
            transfer,
            key: None,
            begin: self.model.now,
            octets,
        });
        if self.faults {
            let (after, end) = self.draw_end(octets);
            self.end_transfer(after, end);
        } else {
            self.data_flows();
        }
    }

    /// In a world without faults a transfer takes what its octets take, once the client is there.
    pub(super) fn data_flows(&mut self) {
        let Some(running) = &self.running else { return };
        if self.connected && running.key.is_none() {
            let time = Duration::from_secs(running.octets / OCTETS_PER_SECOND) + self.latency();
            self.end_transfer(time, TransferEnd::Complete);
        }
    }

    pub(super) fn draw_end(&mut self, octets: u64) -> (Duration, TransferEnd) {
        let full = Duration::from_millis(1000 * octets / OCTETS_PER_SECOND + 1);
        let part = full.mul_f64(self.random.f64());
        match self.random.u8(..24) {
            0 => (CONNECT_TIME_MAX, TransferEnd::NotConnected),
            1 => (part, TransferEnd::TlsFailed),
            2 => (Duration::ZERO, TransferEnd::NotResumed),
            3 => (part, TransferEnd::ConnectionLost),
            4 => (part, TransferEnd::Truncated),
            5 => (part + Duration::from_secs(300), TransferEnd::Stalled),
            6 => (part, TransferEnd::File(FileError::VolumeFull)),
            7 => (full * 1000, TransferEnd::Complete),
            _ => (full, TransferEnd::Complete),
        }
    }

    pub(super) fn end_transfer(&mut self, after: Duration, end: TransferEnd) {
        let key = self.happens(after, Happening::Answer(Event::TransferEnded(end)));
        if let Some(running) = &mut self.running {
            running.key = Some(key);
        }
    }

    pub(super) fn abort_transfer(&mut self) {
        self.counts.aborts += 1;
        let running = self.running.as_ref().expect("something to abort");
        let latency = self.random.u64(..3) * 500;
        let after = Duration::from_millis(latency);
        if let Some(key) = running.key {
            if key.0 <= self.model.now + after {
                // It ends by itself before it can be stopped.
                return;
            }
            self.happenings.remove(&key);
        }
        self.end_transfer(after, TransferEnd::Aborted);
    }

    pub(super) fn ask_progress(&mut self) {
        self.counts.progress += 1;
        let running = self.running.as_ref().expect("something to ask about");
        let time = (self.model.now - running.begin).as_secs();
        let octets = running.octets.min(time * OCTETS_PER_SECOND);
        if self.fails(2) {
            self.answers_later(Event::Progress(octets));
        } else {
            self.answer(Event::Progress(octets));
        }
    }
}
