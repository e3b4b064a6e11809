//! Performs each action of the session. What takes time becomes a task that posts a letter.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, trace, warn};

use super::certificate::permits_password;
use super::host::distinct_name;
use super::seat::Stage;
use super::{Connection, Core, Letter};
use crate::admission::UserPermit;
use crate::auth::{Account, Check, CheckFailed};
use crate::bandwidth::{self, Direction, UserRates};
use crate::logging::in_this_session;
use crate::metrics::Counted;
use crate::proto::{
    Action, Event, FileError, FileReply, FileRequest, LoginVerdict, Secret, Transfer, TransferEnd,
    TransferKind, TransferReady,
};
use crate::rt::{self, Duty};
use crate::tls::Role;
use crate::{data, limits, vfs, vhosts};

/// A user who is logged in.
pub(super) struct Login {
    pub(super) account: Arc<Account>,
    pub(super) root: Rc<vfs::Root>,
    bandwidth: Rc<bandwidth::Session>,
    /// Counts among those that are logged in.
    _counted: Counted,
    /// Counts as a session of the user until it is dropped.
    _permit: UserPermit,
}

/// The command of a transfer, for the log.
pub(super) fn verb(kind: &TransferKind) -> &'static str {
    use crate::proto::ListFormat;
    match kind {
        TransferKind::Retrieve => "RETR",
        TransferKind::Store => "STOR",
        TransferKind::Append => "APPE",
        TransferKind::StoreUnique(_) => "STOU",
        TransferKind::List {
            format: ListFormat::Long,
            ..
        } => "LIST",
        TransferKind::List {
            format: ListFormat::Names,
            ..
        } => "NLST",
        TransferKind::List {
            format: ListFormat::Machine(_),
            ..
        } => "MLSD",
    }
}

impl Connection {
    /// Performs what the session has ready, as much as one turn may take. Commands of a client that
    /// does not read its replies wait: the replies must not pile up. Returns whether more may be
    /// ready.
    pub(super) fn act(&mut self) -> io::Result<bool> {
        for _ in 0..limits::ACTIONS_PER_TURN {
            let congested = self.channel.is_congested();
            let action = if congested {
                self.session.poll_due_action()
            } else {
                self.session.poll_action()
            };
            match action {
                Some(action) => self.perform(action)?,
                None => return Ok(congested),
            }
        }
        Ok(true)
    }

    fn perform(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Send(octets) => {
                trace!(octets = %octets.escape_ascii(), "reply");
                self.channel.queue(&octets)?;
            }
            Action::StartTls => {
                let now = rt::now();
                self.marks.handshake = Some(now);
                self.seat.stage.set(Stage::Handshake);
                let deadline = now + self.settings.handshake_time_max;
                let host = self.session.host().cloned();
                self.channel.start_tls(&self.settings.tls, host, deadline)?;
            }
            Action::EndTls => self
                .channel
                .end_tls(rt::now() + self.settings.close_time_max),
            Action::CheckLogin { user, password } => self.check_login(&user, &password),
            Action::Logout => {
                self.login = None;
                self.seat.user.take();
                self.seat.host.take();
            }
            Action::CheckCertificate(user) => self.check_certificate(&user),
            Action::File(request) => self.request(request),
            Action::SetupPassive => self.set_up_passive(),
            Action::SetupActive(address) => self.setup = Some(data::Setup::Active(address)),
            Action::DropSetup => {
                self.setup = None;
                self.opened = None;
            }
            Action::OpenTransfer(transfer) => self.open_transfer(transfer),
            Action::RunTransfer => self.run_transfer(),
            Action::AbortTransfer => {
                if let Some(running) = &self.running {
                    running.abort();
                }
            }
            Action::AskProgress => {
                let octets = self.running.as_ref().map_or(0, |running| running.octets());
                self.session
                    .handle_event(Event::Progress(octets), rt::now());
            }
            Action::Close => {
                self.channel.close();
                self.closing = Some(rt::now() + self.settings.drain_time_max);
                self.seat.stage.set(Stage::Closing);
            }
        }
        Ok(())
    }

    fn check_login(&mut self, user: &[u8], password: &Secret) {
        let now = rt::now();
        self.marks.password = self.session.running_since().or(Some(now));
        if self.is_banned(now) {
            return self.logged_in(Err(LoginVerdict::Banned), now);
        }
        let check = self.authenticator().check(user, password, now);
        let (core, realm) = (Rc::clone(&self.core), self.realm());
        let control = self.protected_by();
        let unavailable = Letter::LoggedIn(Err(LoginVerdict::Unavailable));
        let duty = Duty::new(&self.mailbox, unavailable);
        let address = self.peer.ip().to_canonical();
        let mut refusal_time = self.authenticator().refusal_time();
        rt::spawn(in_this_session(async move {
            let verdict = match check {
                Check::Known(verdict) => Ok(verdict),
                Check::Hash(mut job) => {
                    job.turn().await;
                    rt::blocking(move || job.run()).await
                }
                Check::Wait(waiting) => waiting.verdict().await,
                Check::Pam(check) => check.verdict(address).await.map(|answer| {
                    refusal_time = answer.refusal_time;
                    answer.verdict
                }),
            };
            // Before the wait: the time must not tell that a password was right.
            let permitted = |account: &Arc<Account>| permits_password(account, control.as_deref());
            let verdict = verdict.map(|verdict| verdict.filter(permitted));
            if verdict == Ok(None) && !refusal_time.is_zero() {
                rt::sleep_until(now + refusal_time).await;
            }
            duty.done(Letter::LoggedIn(match verdict {
                Ok(Some(account)) => core.admit(account, realm).await,
                Ok(None) => Err(LoginVerdict::Refused),
                Err(CheckFailed) => Err(LoginVerdict::Unavailable),
            }));
        }));
    }

    pub(super) fn logged_in(&mut self, login: Result<Login, LoginVerdict>, now: Instant) {
        let verdict = self.enter(login, now);
        self.session.handle_event(Event::LoginChecked(verdict), now);
    }

    /// Takes note of a login, and weighs one that was refused.
    pub(super) fn enter(
        &mut self,
        login: Result<Login, LoginVerdict>,
        now: Instant,
    ) -> LoginVerdict {
        let peer = self.peer.ip().to_canonical();
        let verdict = match login {
            Ok(login) => {
                if let Some(control) = self.channel.control_tls() {
                    let user = distinct_name(&login.account, self.realm().as_deref());
                    control.logged_in(&user, peer, now);
                }
                self.welcome(&login.account);
                self.name_charset(&login.account);
                self.log_login(&login.account);
                self.seat.user.replace(Some(Arc::clone(&login.account)));
                self.seat.host.replace(self.session.host().cloned());
                self.login = Some(login);
                LoginVerdict::Granted
            }
            Err(verdict) => {
                self.log_refused_login(verdict);
                verdict
            }
        };
        let verdict = self.weigh(verdict, peer, now);
        self.password_judged(verdict, now);
        verdict
    }

    /// A request on files. The session asks only when somebody is logged in.
    fn request(&mut self, request: FileRequest) {
        let Some(root) = self.root() else {
            let denied: Result<FileReply, FileError> = Err(FileError::Denied);
            self.session
                .handle_event(Event::FileDone(denied), rt::now());
            return;
        };
        let failed = Letter::Event(Event::FileDone(Err(FileError::Local)));
        let duty = Duty::new(&self.mailbox, failed);
        let change = self.change(&request);
        rt::spawn(in_this_session(async move {
            let result = root.perform(&request).await;
            debug!(?request, error = ?result.as_ref().err(), "files");
            if let Some(change) = change {
                change.ended(&result);
            }
            duty.done(Letter::Event(Event::FileDone(result)));
        }));
    }

    fn root(&self) -> Option<Rc<vfs::Root>> {
        self.login.as_ref().map(|login| Rc::clone(&login.root))
    }

    fn open_transfer(&mut self, transfer: Transfer) {
        let root = self.root();
        let duty = Duty::new(&self.mailbox, Letter::Opened(Err(FileError::Local)));
        let opening = transfer.clone();
        self.seat.transfer.replace(Some(transfer));
        self.marks.transfer = self.session.running_since();
        rt::spawn(in_this_session(async move {
            let result = match root {
                Some(root) => open(&root, opening).await,
                None => Err(FileError::Denied),
            };
            if let Some(Letter::Opened(Ok((opened, _)))) = duty.done(Letter::Opened(result)) {
                give_up(opened).await;
            }
        }));
    }

    /// What protects a data connection: the TLS session of this control connection.
    pub(super) fn security(&self, role: Role) -> Option<data::Security> {
        let control = Rc::clone(self.channel.control_tls()?);
        let settings = self.settings.tls.clone();
        Some(data::Security {
            settings,
            control,
            role,
        })
    }

    fn run_transfer(&mut self) {
        let seat = Rc::clone(&self.seat);
        let transfer = seat.transfer.borrow();
        let parts = (self.setup.take(), self.opened.take(), transfer.as_ref());
        let (Some(setup), Some(opened), Some(transfer)) = parts else {
            // The session runs what it has opened, on the set-up it has: this would be a fault of
            // ours, and the client is told that its transfer failed.
            warn!("a transfer was to run that was not opened");
            let end = Event::TransferEnded(TransferEnd::File(FileError::Local));
            self.session.handle_event(end, rt::now());
            return;
        };
        let (role, direction) = if transfer.kind.is_upload() {
            (Role::Upload, Direction::Upload)
        } else {
            (Role::Download, Direction::Download)
        };
        let security = match (transfer.protected, self.security(role)) {
            // SECURITY: PROT P without a TLS session to belong to is refused, never sent in clear.
            (true, None) => {
                let end = Event::TransferEnded(TransferEnd::TlsFailed);
                self.session.handle_event(end, rt::now());
                return;
            }
            (true, security) => security,
            (false, _) => None,
        };
        let handle = setup.handle();
        let job = data::Job {
            setup,
            opened,
            ascii: transfer.ascii,
            security,
            local: self.local,
            peer: self.peer,
            settings: Arc::clone(&self.settings.data),
            budget: self
                .login
                .as_ref()
                .and_then(|login| login.bandwidth.transfer(direction)),
            handle: Rc::clone(&handle),
            asked: self.marks.transfer.take().unwrap_or_else(rt::now),
            metrics: Rc::clone(&self.core.metrics),
        };
        self.seat.begins(&handle, &job);
        self.running = Some(handle);
        let failed = data::Outcome::new(TransferEnd::File(FileError::Local));
        let duty = Duty::new(&self.mailbox, Letter::Ended(failed));
        rt::spawn(in_this_session(async move {
            let outcome = data::run(job).await;
            duty.done(Letter::Ended(outcome));
        }));
    }
}

impl Core {
    /// Lets a user in whose password was right.
    pub(super) async fn admit(
        self: Rc<Self>,
        account: Arc<Account>,
        realm: Option<Arc<vhosts::Host>>,
    ) -> Result<Login, LoginVerdict> {
        let name = distinct_name(&account, realm.as_deref());
        let own_max = account.bounds.sessions_max.map(|max| max as usize);
        let permit = self
            .admission
            .enter_user(&name, own_max)
            .ok_or(LoginVerdict::TooManySessions)?;
        let root = self.root_of(&account).await;
        let root = root.ok_or(LoginVerdict::Unavailable)?;
        let root = root.under_quota(&account.home, account.bounds.quota).await;
        let rates = UserRates {
            download: account.bounds.rate_download,
            upload: account.bounds.rate_upload,
        };
        let bandwidth = self.settings().bandwidth.session(&name, rates);
        drop(name);
        Ok(Login {
            account,
            root,
            bandwidth,
            _counted: self.metrics.session(),
            _permit: permit,
        })
    }
}

/// Takes back what was opened for a transfer that will not run: the client left meanwhile. A file
/// made for it would be empty and only mislead.
pub(super) async fn give_up(opened: data::Opened) {
    if let data::Opened::Upload(upload) = opened {
        let undo = upload.undo();
        drop(upload);
        undo.run(false).await;
    }
}

/// Opens what a transfer needs, and tells what the 150 reply should say.
async fn open(
    root: &Rc<vfs::Root>,
    transfer: Transfer,
) -> Result<(data::Opened, TransferReady), FileError> {
    let Transfer {
        kind,
        path,
        offset,
        ascii,
        ..
    } = transfer;
    let mode = match kind {
        TransferKind::Retrieve => {
            let vfs::Download { file, octets } = root.open_download(&path).await?;
            if offset > octets {
                return Err(FileError::BadRestart);
            }
            let ready = TransferReady {
                octets: (!ascii).then_some(octets - offset),
                ..TransferReady::default()
            };
            return Ok((
                data::Opened::Download {
                    file,
                    offset,
                    end: octets,
                },
                ready,
            ));
        }
        TransferKind::List {
            format,
            shown,
            hidden,
            charset,
        } => {
            let listing = root.open_listing(&path, format, &shown, hidden).await?;
            let listing = listing.in_charset(charset);
            return Ok((data::Opened::Listing(listing), TransferReady::default()));
        }
        TransferKind::Store if offset > 0 => vfs::UploadMode::At(offset),
        TransferKind::Store => vfs::UploadMode::Replace,
        // APPE after REST n acts as STOR at n (RFC 3659 §5.3).
        TransferKind::Append if offset > 0 => vfs::UploadMode::At(offset),
        TransferKind::Append => vfs::UploadMode::Append,
        TransferKind::StoreUnique(prefix) => vfs::UploadMode::Unique { prefix },
    };
    let upload = root.open_upload(&path, mode).await?;
    let ready = TransferReady {
        octets: None,
        unique_name: upload.name.clone(),
        atomic: upload.is_atomic(),
    };
    Ok((data::Opened::Upload(upload), ready))
}
