//! What a control connection tells the logs: logins, transfers, changes of the tree, and its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{debug, info};

use super::{Connection, actions};
use crate::auth::Account;
use crate::data;
use crate::logging::{Moved, Operation, Record, Success, TransferLog};
use crate::proto::{
    FileError, FileReply, FileRequest, LoginVerdict, Transfer, TransferEnd, TransferKind,
    TransferReady, VirtualPath,
};
use crate::{rt, vhosts};

/// What a session has moved.
#[derive(Debug, Default)]
pub(super) struct Totals {
    downloads: u64,
    uploads: u64,
    listings: u64,
    broken: u64,
    octets_sent: u64,
    octets_received: u64,
    /// The last user who was logged in.
    user: Option<Arc<Account>>,
}

impl Totals {
    fn add(&mut self, kind: &TransferKind, outcome: &data::Outcome) {
        match kind {
            TransferKind::Retrieve => self.downloads += 1,
            TransferKind::List { .. } => self.listings += 1,
            _ => self.uploads += 1,
        }
        if kind.is_upload() {
            self.octets_received += outcome.octets;
        } else {
            self.octets_sent += outcome.octets;
        }
        if outcome.end != TransferEnd::Complete {
            self.broken += 1;
        }
    }
}

/// A change of the tree that is under way, for the transfer log.
pub(super) struct Change {
    log: Arc<TransferLog>,
    account: Arc<Account>,
    address: IpAddr,
    session: u64,
    host: Option<Arc<vhosts::Host>>,
    operation: Operation,
    path: VirtualPath,
    target: Option<VirtualPath>,
}

impl Change {
    /// It has ended so.
    pub(super) fn ended(self, result: &Result<FileReply, FileError>) {
        let reason = result.as_ref().err().map(ToString::to_string);
        self.log.write(&Record {
            ended: SystemTime::now(),
            session: self.session,
            host: self.host.as_deref().map(|host| &*host.name),
            user: &self.account.name,
            anonymous: self.account.anonymous,
            address: self.address,
            operation: self.operation,
            command: match self.operation {
                Operation::Delete => "DELE",
                Operation::Rename => "RNTO",
                Operation::MakeDirectory => "MKD",
                _ => "RMD",
            },
            path: self.path.as_bytes(),
            target: self.target.as_ref().map(VirtualPath::as_bytes),
            moved: None,
            success: match reason {
                None => Success::Complete,
                Some(_) => Success::Refused,
            },
            reason: reason.as_deref(),
        });
    }
}

impl Connection {
    /// The operator ends this session.
    pub(super) fn killed(&mut self, now: Instant) {
        info!(peer = %self.peer.ip().to_canonical(), "ended by the operator");
        self.session.handle_kill(now);
    }

    /// A login was granted to this account.
    pub(super) fn log_login(&mut self, account: &Arc<Account>) {
        let tls = self.channel.summary().map(|summary| summary.to_string());
        let control = self.protected_by();
        let certificate = control.and_then(|control| Some(control.certificate()?.to_string()));
        info!(
            peer = %self.peer.ip().to_canonical(),
            user = account.name,
            host = self.host_name(),
            tls = tls.as_deref().unwrap_or("-"),
            certificate = certificate.as_deref(),
            "login"
        );
        self.totals.user = Some(Arc::clone(account));
    }

    /// It was refused. The name is whatever the client sent.
    pub(super) fn log_refused_login(&self, verdict: LoginVerdict) {
        let user = self.session.user().unwrap_or_default().escape_ascii();
        let host = self.host_name();
        info!(peer = %self.peer.ip().to_canonical(), %user, host, ?verdict, "login refused");
    }

    /// What a change of the tree needs for its line in the transfer log, if it is to have one.
    pub(super) fn change(&self, request: &FileRequest) -> Option<Change> {
        let log = self.settings.transfer_log.as_ref()?;
        let (operation, path, target) = match request {
            FileRequest::DeleteFile(path) => (Operation::Delete, path, None),
            FileRequest::Rename { from, to } => (Operation::Rename, from, Some(to)),
            FileRequest::MakeDirectory(path) => (Operation::MakeDirectory, path, None),
            FileRequest::RemoveDirectory(path) => (Operation::RemoveDirectory, path, None),
            _ => return None,
        };
        let login = self.login.as_ref().filter(|_| log.has(operation))?;
        Some(Change {
            log: Arc::clone(log),
            account: Arc::clone(&login.account),
            address: self.peer.ip().to_canonical(),
            session: self.number,
            host: self.session.host().cloned(),
            operation,
            path: path.clone(),
            target: target.cloned(),
        })
    }

    /// The transfer has ended so.
    pub(super) fn log_transfer(&mut self, outcome: &data::Outcome) {
        let Some(transfer) = self.seat.transfer.take() else {
            return;
        };
        self.totals.add(&transfer.kind, outcome);
        if let TransferEnd::File(error) = outcome.end {
            self.note_quota(&transfer.kind, error);
        }
        let user = self
            .login
            .as_ref()
            .map_or("-", |login| login.account.name.as_str());
        let tls = outcome.tls.as_ref().map(ToString::to_string);
        info!(
            peer = %self.peer.ip().to_canonical(),
            user,
            verb = actions::verb(&transfer.kind),
            path = %transfer.path,
            octets = outcome.octets,
            seconds = outcome.time.as_secs_f64(),
            route = outcome.choice.map_or("-", |choice| choice.route.name()),
            not_kernel = outcome.choice.and_then(|choice| choice.fallback).map(data::route::Fallback::name),
            tls = tls.as_deref().unwrap_or("-"),
            end = ?outcome.end,
            discarded = outcome.discarded.then_some(true),
            "transfer"
        );
        let (success, reason) = match outcome.end {
            TransferEnd::Complete => (Success::Complete, None),
            end => (Success::Incomplete, Some(reason(end))),
        };
        self.record_transfer(&transfer, outcome, success, reason.as_deref());
    }

    /// STOU: the file has its name now.
    pub(super) fn name_transfer(&mut self, ready: &TransferReady) {
        if let (Some(transfer), Some(name)) =
            (self.seat.transfer.borrow_mut().as_mut(), &ready.unique_name)
            && let Ok(path) = transfer.path.join(name)
        {
            transfer.path = path;
        }
    }

    /// What the transfer needs could not be opened.
    pub(super) fn log_refused_transfer(&mut self, error: FileError) {
        let Some(transfer) = self.seat.transfer.take() else {
            return;
        };
        let verb = actions::verb(&transfer.kind);
        debug!(verb, path = %transfer.path, %error, "not opened");
        self.note_quota(&transfer.kind, error);
        let nothing = data::Outcome::new(TransferEnd::File(error));
        let reason = error.to_string();
        self.record_transfer(&transfer, &nothing, Success::Refused, Some(&reason));
    }

    fn record_transfer(
        &self,
        transfer: &Transfer,
        outcome: &data::Outcome,
        success: Success,
        reason: Option<&str>,
    ) {
        let Some(log) = &self.settings.transfer_log else {
            return;
        };
        let operation = match transfer.kind {
            TransferKind::Retrieve => Operation::Download,
            TransferKind::List { .. } => Operation::List,
            _ => Operation::Upload,
        };
        if !log.has(operation) {
            return;
        }
        let account = self.login.as_ref().map(|login| &login.account);
        log.write(&Record {
            ended: SystemTime::now(),
            session: self.number,
            host: self.host_name(),
            user: account.map_or("-", |account| &account.name),
            anonymous: account.is_some_and(|account| account.anonymous),
            address: self.peer.ip().to_canonical(),
            operation,
            command: actions::verb(&transfer.kind),
            path: transfer.path.as_bytes(),
            target: None,
            moved: Some(Moved {
                octets: outcome.octets,
                time: outcome.time,
                restart: transfer.offset,
                ascii: transfer.ascii,
                private: transfer.protected,
                route: outcome.choice.map(|choice| choice.route.name()),
                tls: outcome
                    .tls
                    .as_ref()
                    .map(|tls| (tls.version, tls.suite, tls.resumed)),
            }),
            success,
            reason,
        });
    }

    /// The connection is closed, after so long.
    pub(super) fn log_end(&self, accepted: Instant) {
        let totals = &self.totals;
        let peer = self.peer.ip().to_canonical();
        let Some(account) = &totals.user else {
            debug!(%peer, "control connection closed");
            return;
        };
        let time: Duration = rt::now().saturating_duration_since(accepted);
        info!(
            %peer,
            user = account.name,
            seconds = time.as_secs_f64(),
            downloads = totals.downloads,
            uploads = totals.uploads,
            listings = totals.listings,
            broken = totals.broken,
            octets_sent = totals.octets_sent,
            octets_received = totals.octets_received,
            "session ended"
        );
    }
}

/// Why a transfer did not end well, in words that stay the same from release to release.
fn reason(end: TransferEnd) -> String {
    let words = match end {
        TransferEnd::Complete => "complete",
        TransferEnd::NotConnected => "no data connection",
        TransferEnd::TlsFailed => "TLS handshake failed",
        TransferEnd::NotResumed => "TLS session not resumed",
        TransferEnd::ConnectionLost => "connection lost",
        TransferEnd::Truncated => "ended without close_notify",
        TransferEnd::Stalled => "stalled",
        TransferEnd::Aborted => "aborted",
        TransferEnd::Unsynced => "not brought to the disk",
        TransferEnd::File(error) => return error.to_string(),
    };
    words.to_owned()
}
