//! The logs of the real server: transfers in both forms, sessions, rotation, full disks, hostile names, and no password.
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;
mod rotation;
mod server_log;
mod transfers;
mod trouble;

use std::path::{Path, PathBuf};

use common::PATIENCE;
use common::server::{Accounts, Server, process_directory, wait_until};

/// A server with an account `ann` of its own and a transfer log, and where things are.
pub(crate) struct Logged {
    pub(crate) server: Server,
    /// What the account sees as `/`.
    pub(crate) home: PathBuf,
    pub(crate) transfers: PathBuf,
}

impl Logged {
    #[track_caller]
    pub(crate) fn start(name: &str, format: &str, options: &[&str]) -> Self {
        let home = process_directory().join(name);
        let transfers = home.with_extension("transfers");
        Self::start_with_log(&home, &transfers, format, options)
    }

    #[track_caller]
    pub(crate) fn start_with_log(
        home: &Path,
        transfers: &Path,
        format: &str,
        options: &[&str],
    ) -> Self {
        let accounts = Accounts::single("ann", home);
        let usual = [
            "--users",
            accounts.file.to_str().unwrap(),
            "--transfer-log",
            transfers.to_str().unwrap(),
            "--transfer-log-format",
            format,
        ];
        Self {
            server: Server::start(&[&usual, options].concat()),
            home: home.to_owned(),
            transfers: transfers.to_owned(),
        }
    }

    /// The transfer log, once it has so many whole lines.
    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        wait_until(PATIENCE, || {
            lines = lines_of(&self.transfers);
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "{:?}", self.transfers);
        lines
    }

    /// The same as JSON.
    #[track_caller]
    pub(crate) fn objects(&self, count: usize) -> Vec<serde_json::Value> {
        let lines = self.lines(count);
        let objects = lines.iter().map(|line| serde_json::from_slice(line));
        objects.collect::<Result<_, _>>().unwrap()
    }
}

/// The whole lines of a file; none if it is not there.
pub(crate) fn lines_of(path: &Path) -> Vec<Vec<u8>> {
    let octets = std::fs::read(path).unwrap_or_default();
    let whole = octets.split_inclusive(|octet| *octet == b'\n');
    whole
        .filter_map(|line| Some(line.strip_suffix(b"\n")?.to_vec()))
        .collect()
}
