//! What a session may do, seen from outside: it is told what reaches the session and what the
//! session asks for, and fails on the first thing that is not allowed.

use std::collections::VecDeque;
use std::time::Duration;

use ringftpd::limits;
use ringftpd::proto::client::{Reply, ReplyReader};
use ringftpd::proto::command::Verb;
use ringftpd::proto::{
    Action, ChannelKind, Event, FileRequest, LoginVerdict, Requirement, Session, Settings,
    Transfer, TransferEnd, TransferKind,
};

use crate::line::{Kind, Line};

/// Octets of one [`Action::Send`]: the batch and the largest reply of this world.
const SEND_OCTETS_MAX: usize = 32 * 1024;

/// The answer that the session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    TlsUp,
    TlsDown,
    Login,
    File,
    Passive,
    Opening,
    Transfer,
}

/// How the control connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Clear,
    Protected,
    Cleared,
}

/// The rules' view of one session. Times count from the connection.
#[derive(Debug)]
pub(crate) struct Model {
    settings: Settings,
    kind: ChannelKind,
    pub(crate) now: Duration,
    active: Duration,
    reader: ReplyReader,
    /// Delivered and without a final reply; the first may be under way.
    queue: VecDeque<Line>,
    /// Octets delivered behind the last whole line, at most.
    partial: usize,
    /// An octet was ever delivered, and whether the first looked like TLS.
    first: Option<u8>,
    ask: Option<Ask>,
    channel: Channel,
    epoch: u32,
    /// The last command answered, with its code.
    answered: (Option<Verb>, u16),
    greeting_due: bool,
    /// 150 was sent, the final reply is due.
    opened: bool,
    ended: Option<TransferEnd>,
    pub(crate) abort_asked: bool,
    progress_asked: bool,
    refusal_due: bool,
    user: Vec<u8>,
    logged_in: bool,
    logged_in_before: bool,
    setup: bool,
    data_protected: bool,
    departed: bool,
    pub(crate) closed: bool,
    client_closed: bool,
    /// A shutdown, forced or not.
    shutdown: Option<bool>,
    disturbed: bool,
}

impl Model {
    pub(crate) fn new(settings: Settings, kind: ChannelKind) -> Self {
        Self {
            settings,
            kind,
            now: Duration::ZERO,
            active: Duration::ZERO,
            reader: ReplyReader::default(),
            queue: VecDeque::new(),
            partial: 0,
            first: None,
            ask: None,
            channel: Channel::Clear,
            epoch: 0,
            answered: (None, 0),
            greeting_due: kind == ChannelKind::Explicit,
            opened: false,
            ended: None,
            abort_asked: false,
            progress_asked: false,
            refusal_due: false,
            user: Vec::new(),
            logged_in: false,
            logged_in_before: false,
            setup: false,
            data_protected: false,
            departed: false,
            closed: false,
            client_closed: false,
            shutdown: None,
            disturbed: false,
        }
    }

    pub(crate) fn ask(&self) -> Option<Ask> {
        self.ask
    }

    /// Whether a REIN is what ends TLS.
    pub(crate) fn restarts(&self) -> bool {
        self.answered.0 == Some(Verb::Rein)
    }

    /// These octets, which end these lines, are given to the session.
    pub(crate) fn deliver(&mut self, octets: &[u8], lines: Vec<Line>) {
        self.active = self.now;
        self.first = self.first.or_else(|| octets.first().copied());
        self.disturbed |= matches!(self.ask, Some(Ask::TlsUp | Ask::TlsDown));
        let last = octets.iter().rposition(|octet| *octet == b'\n');
        match last {
            Some(at) => self.partial = octets.len() - at - 1,
            None => self.partial += octets.len(),
        }
        for mut line in lines {
            if line.kind != Kind::Blank {
                line.epoch = self.epoch;
                self.queue.push_back(line);
            }
        }
    }

    pub(crate) fn close_client(&mut self) {
        self.client_closed = true;
    }

    pub(crate) fn shut_down(&mut self, force: bool) {
        self.shutdown = Some(force || self.shutdown == Some(true));
    }

    /// This event is given to the session.
    pub(crate) fn answer(&mut self, event: &Event) {
        if self.closed {
            return;
        }
        self.active = self.now;
        match event {
            Event::CertificateChecked(_) => panic!("no client here shows a certificate"),
            Event::TlsUp => {
                self.answered_with(Ask::TlsUp);
                self.epoch += 1;
                self.channel = Channel::Protected;
                self.data_protected = self.kind == ChannelKind::Implicit;
                self.greeting_due = self.kind == ChannelKind::Implicit;
            }
            Event::TlsDown => {
                self.answered_with(Ask::TlsDown);
                self.epoch += 1;
                if self.restarts() {
                    self.channel = Channel::Clear;
                    self.data_protected = false;
                } else {
                    self.channel = Channel::Cleared;
                }
            }
            Event::LoginChecked(verdict) => {
                self.answered_with(Ask::Login);
                self.logged_in = *verdict == LoginVerdict::Granted;
                self.logged_in_before |= self.logged_in;
                self.refusal_due = *verdict == LoginVerdict::Refused;
            }
            Event::FileDone(_) => self.answered_with(Ask::File),
            Event::PassiveReady(result) => {
                self.answered_with(Ask::Passive);
                self.setup = result.is_ok();
            }
            Event::TransferReady(_) => self.answered_with(Ask::Opening),
            Event::TransferEnded(end) => {
                self.answered_with(Ask::Transfer);
                self.ended = Some(*end);
            }
            Event::Progress(_) => {}
        }
    }

    fn answered_with(&mut self, ask: Ask) {
        assert_eq!(self.ask.take(), Some(ask), "the world's fault");
    }

    /// The session wants this done.
    pub(crate) fn action(&mut self, action: &Action) {
        assert!(!self.closed, "{action:?} after Close");
        assert!(
            !self.departed || *action == Action::Close,
            "{action:?} after 421"
        );
        match action {
            Action::CheckCertificate(_) => panic!("no client here shows a certificate"),
            Action::Send(octets) => self.send(octets),
            Action::StartTls => self.start_tls(),
            Action::EndTls => {
                let asked = [(Some(Verb::Ccc), 200), (Some(Verb::Rein), 220)];
                assert!(asked.contains(&self.answered), "end of TLS");
                assert_eq!(self.channel, Channel::Protected, "end of no TLS");
                self.begin(Ask::TlsDown);
            }
            Action::CheckLogin { user, password } => self.check_login(user, password),
            Action::Logout => assert!(std::mem::take(&mut self.logged_in), "nobody to log out"),
            Action::File(request) => {
                self.head_of(&verbs_of(request));
                assert!(self.logged_in, "{request:?} before login");
                self.begin(Ask::File);
            }
            Action::SetupPassive => {
                self.head_of(&[Verb::Pasv, Verb::Epsv]);
                assert!(self.logged_in, "set-up before login");
                self.setup = false;
                self.begin(Ask::Passive);
            }
            Action::SetupActive(_) => {
                self.head_of(&[Verb::Port, Verb::Eprt]);
                assert!(self.logged_in && self.settings.active, "set-up");
                self.setup = true;
            }
            Action::DropSetup => assert!(std::mem::take(&mut self.setup), "no set-up to drop"),
            Action::OpenTransfer(transfer) => self.open(transfer),
            Action::RunTransfer => self.run_transfer(),
            Action::AbortTransfer => {
                assert_eq!(self.ask, Some(Ask::Transfer), "nothing to abort");
                assert!(
                    !std::mem::replace(&mut self.abort_asked, true),
                    "aborts twice"
                );
            }
            Action::AskProgress => {
                assert_eq!(self.ask, Some(Ask::Transfer), "no transfer to ask about");
                let stat = self
                    .queue
                    .get(1)
                    .is_some_and(|line| line.is_bare(Verb::Stat));
                assert!(stat, "progress for no STAT");
                assert!(
                    !std::mem::replace(&mut self.progress_asked, true),
                    "asks twice"
                );
            }
            Action::Close => self.close(),
        }
    }

    fn check_login(&mut self, user: &[u8], password: &[u8]) {
        let line = self.head(Verb::Pass);
        if line.kind != Kind::Damaged {
            assert_eq!(line.argument, password, "password");
        }
        assert_eq!(user, self.user, "user");
        let clear = self.channel == Channel::Clear;
        assert!(
            !clear || self.settings.tls_control == Requirement::Optional,
            "a password in the clear"
        );
        self.begin(Ask::Login);
    }

    fn run_transfer(&mut self) {
        assert!(self.opened, "a transfer without 150");
        assert!(std::mem::take(&mut self.setup), "a transfer without set-up");
        assert_ne!(self.shutdown, Some(true), "a transfer in a forced shutdown");
        assert_eq!(self.ask.replace(Ask::Transfer), None, "asks twice");
        self.ended = None;
        self.abort_asked = false;
        self.progress_asked = false;
    }

    fn start_tls(&mut self) {
        let invited = self.answered == (Some(Verb::Auth), 234);
        let implicit = self.kind == ChannelKind::Implicit
            && (self.epoch == 0 || self.answered == (Some(Verb::Rein), 220));
        assert!(invited || implicit, "handshake after {:?}", self.answered);
        assert_eq!(self.channel, Channel::Clear, "TLS in TLS");
        self.begin(Ask::TlsUp);
    }

    fn begin(&mut self, ask: Ask) {
        assert_eq!(self.ask, None, "asks for {ask:?} too");
        assert_eq!(self.shutdown, None, "asks for {ask:?} in a shutdown");
        self.ask = Some(ask);
    }

    /// The command under way, which must be one of these.
    fn head_of(&self, verbs: &[Verb]) -> &Line {
        let line = self.queue.front().expect("an action for no command");
        assert_eq!(
            line.epoch, self.epoch,
            "{:?} from before TLS changed",
            line.kind
        );
        let known = line.verb().is_some_and(|verb| verbs.contains(&verb));
        assert!(
            known || line.kind == Kind::Damaged,
            "{verbs:?} for {:?}",
            line.kind
        );
        line
    }

    fn head(&self, verb: Verb) -> &Line {
        self.head_of(&[verb])
    }

    fn open(&mut self, transfer: &Transfer) {
        self.head_of(match transfer.kind {
            TransferKind::Retrieve => &[Verb::Retr],
            TransferKind::Store => &[Verb::Stor],
            TransferKind::Append => &[Verb::Appe],
            TransferKind::StoreUnique(_) => &[Verb::Stou],
            TransferKind::List { .. } => &[Verb::List, Verb::Nlst, Verb::Mlsd],
        });
        assert!(self.logged_in, "transfer before login");
        assert!(self.setup, "transfer without set-up");
        assert!(!self.client_closed, "transfer for a client that has left");
        assert_eq!(transfer.protected, self.data_protected, "PROT");
        assert!(
            transfer.protected || self.settings.tls_data == Requirement::Optional,
            "data in the clear"
        );
        self.begin(Ask::Opening);
    }

    fn close(&mut self) {
        self.closed = true;
        let tls_changes = matches!(self.ask, Some(Ask::TlsUp | Ask::TlsDown));
        let foreign = self
            .queue
            .front()
            .is_some_and(|line| matches!(line.kind, Kind::Foreign | Kind::Damaged));
        let told = self.departed || self.answered.0 == Some(Verb::Quit);
        let silent = tls_changes
            || self.disturbed
            || self.client_closed
            || (foreign && !self.logged_in)
            || self.first == Some(0x16);
        assert!(told || silent, "closed without a word");
        assert!(
            !self.opened || self.departed || self.client_closed,
            "150 without a final reply"
        );
        self.ask = None;
    }

    fn send(&mut self, octets: &[u8]) {
        assert!(!octets.is_empty() && octets.len() <= SEND_OCTETS_MAX);
        let text = without_telnet(octets);
        assert!(
            text.is_empty() || text.ends_with(b"\r\n"),
            "a part of a reply"
        );
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            let line = line.strip_suffix(b"\r\n").expect("CRLF");
            let bad = line.iter().any(|octet| matches!(octet, 0 | b'\r'));
            assert!(!bad, "octets in {}", line.escape_ascii());
        }
        self.reader.push(&text);
        let mut replies = 0;
        while let Some(reply) = self.reader.take().expect("well formed") {
            replies += 1;
            self.reply(&reply);
        }
        assert!(text.is_empty() || replies > 0, "a part of a reply");
    }

    fn reply(&mut self, reply: &Reply) {
        assert!(!self.departed, "{} after 421", reply.code);
        if reply.code == 421 {
            self.departed = true;
            return self.depart(reply.text());
        }
        if std::mem::take(&mut self.greeting_due) {
            assert_eq!(reply.code, 220, "greeting");
            return;
        }
        let head = self.queue.front();
        let line = head.unwrap_or_else(|| panic!("{} that nothing asked for", reply.code));
        assert_eq!(
            line.epoch, self.epoch,
            "{:?} from before TLS changed",
            line.kind
        );
        if reply.is_preliminary() {
            assert_eq!(reply.code, 150);
            assert!(
                line.is_transfer() || line.kind == Kind::Damaged,
                "150 for {:?}",
                line.kind
            );
            assert!(!std::mem::replace(&mut self.opened, true), "150 twice");
            assert_eq!(self.ask, None, "150 before the file is open");
            return;
        }
        if self.opened && reply.code == 211 {
            assert!(std::mem::take(&mut self.progress_asked), "211 for no STAT");
            self.queue.remove(1);
            return;
        }
        if self.opened && reply.code == 200 {
            assert_eq!(self.ask, Some(Ask::Transfer), "200 for no transfer");
            assert!(!self.progress_asked, "200 before the 211 that is due");
            assert!(self.queue.get(1).is_some_and(is_noop), "200 for no NOOP");
            self.queue.remove(1);
            return;
        }
        assert_eq!(self.ask, None, "{} too early", reply.code);
        let line = self.queue.pop_front().expect("looked at above");
        assert!(
            line.may_have(reply.code),
            "{} for {:?}",
            reply.code,
            line.kind
        );
        if std::mem::take(&mut self.opened) {
            let complete = self.ended.take() == Some(TransferEnd::Complete);
            assert_eq!(complete, reply.code == 226, "{} for the end", reply.code);
            assert!(!self.progress_asked, "STAT forgotten");
        }
        self.refusal_due = false;
        self.finish(&line, reply);
    }

    /// What a final reply changes.
    fn finish(&mut self, line: &Line, reply: &Reply) {
        self.answered = (line.verb(), reply.code);
        match self.answered {
            (Some(Verb::User), 331) => self.user = line.argument.trim_ascii().to_vec(),
            (Some(Verb::Pass), 230) => assert!(self.logged_in, "230 without a verdict"),
            (Some(Verb::Prot), 200) => {
                self.data_protected = line.argument.trim_ascii().eq_ignore_ascii_case(b"P");
            }
            (Some(Verb::Rein), _) if self.channel != Channel::Protected => {
                self.channel = Channel::Clear;
                self.data_protected = false;
            }
            (Some(Verb::Rest), 350) => {
                let octets = std::str::from_utf8(line.argument.trim_ascii()).unwrap();
                let octets: u64 = octets.parse().unwrap();
                let expected = format!("Restarting at {octets}.");
                assert_eq!(reply.text(), expected.as_bytes(), "another command's reply");
            }
            _ => {}
        }
        if matches!(
            self.answered,
            (Some(Verb::User), 331) | (Some(Verb::Rein), _)
        ) {
            assert!(!self.logged_in, "still logged in");
        }
    }

    /// 421 may come at any time, but not for no reason.
    fn depart(&self, text: &[u8]) {
        let late = |since: Duration, time: Duration| self.now >= since + time;
        match text {
            b"Idle for too long." => {
                assert!(late(self.active, self.settings.idle_time_max), "not idle");
                assert_eq!(self.ask, None, "idle while {:?} is awaited", self.ask);
            }
            b"Login timed out." => {
                let time = self.settings.login_time_max;
                assert!(late(Duration::ZERO, time), "not late");
                assert!(!self.logged_in_before, "logged in");
            }
            b"The server is shutting down." => assert!(self.shutdown.is_some(), "no shutdown"),
            _ => {}
        }
        if self.opened {
            assert!(self.shutdown.is_some(), "a transfer ended by 421");
        }
    }

    /// What holds whenever the session has nothing more to do.
    pub(crate) fn rest(&self, session: &Session) {
        if self.closed {
            assert!(!session.wants_octets() && session.poll_deadline().is_none());
            return;
        }
        assert!(!self.departed, "421 and no Close");
        assert!(!self.disturbed, "octets between clear and TLS are taken");
        assert!(!self.greeting_due, "no greeting");
        assert_eq!(self.logged_in, session.is_logged_in());
        let awaited = match self.shutdown {
            None => true,
            Some(false) => !matches!(self.ask, None | Some(Ask::Login)),
            Some(true) => matches!(self.ask, Some(Ask::Passive | Ask::Transfer)),
        };
        assert!(awaited, "awaits {:?} in a shutdown", self.ask);
        assert!(
            !self.client_closed || self.ask.is_some() || self.refusal_due,
            "lives on without a client"
        );
        assert!(
            self.ask.is_some() || self.refusal_due || self.queue.is_empty(),
            "{} commands forgotten",
            self.queue.len()
        );
        self.rest_of_transfer();
        self.rest_of_queue(session);
        self.rest_of_time();
    }

    fn rest_of_transfer(&self) {
        if self.ask != Some(Ask::Transfer) {
            assert!(!self.opened, "150 and no transfer");
            return;
        }
        assert!(self.opened, "a transfer without 150");
        let wanted = self.client_closed
            || self.shutdown == Some(true)
            || self.queue.iter().any(|line| line.is_bare(Verb::Abor));
        assert!(!wanted || self.abort_asked, "ABOR not heard");
        let stat = self
            .queue
            .get(1)
            .is_some_and(|line| line.is_bare(Verb::Stat));
        assert!(
            !stat || self.progress_asked || self.client_closed,
            "STAT not heard"
        );
        let noop = self.queue.get(1).is_some_and(is_noop);
        assert!(
            !noop || self.progress_asked || self.client_closed,
            "NOOP not heard"
        );
    }

    /// Reading pauses when, and only when, the queue is full or nothing may be read.
    fn rest_of_queue(&self, session: &Session) {
        let tls_changes = matches!(self.ask, Some(Ask::TlsUp | Ask::TlsDown));
        if tls_changes || self.client_closed {
            assert!(!session.wants_octets(), "reads at a time for nothing");
            return;
        }
        // Who waits for TLS has no command under way; who waits for progress has taken STAT.
        let taken = 1 + usize::from(self.progress_asked);
        let queued = || self.queue.iter().skip(taken);
        let kept: usize = queued().map(|line| line.kept).sum();
        let lines = queued().count();
        let full =
            lines >= limits::COMMAND_QUEUE_LINES_MAX || kept >= limits::COMMAND_QUEUE_OCTETS_MAX;
        if full {
            assert!(!session.wants_octets(), "reads with {lines} lines queued");
        } else if kept + self.partial < limits::COMMAND_QUEUE_OCTETS_MAX {
            assert!(session.wants_octets(), "deaf with {lines} lines queued");
        }
    }

    fn rest_of_time(&self) {
        assert!(
            self.logged_in_before || self.now < self.settings.login_time_max,
            "the login takes for ever"
        );
        let busy = self.ask.is_some() || self.refusal_due;
        assert!(
            busy || self.now < self.active + self.settings.idle_time_max,
            "idle for ever"
        );
    }
}

fn verbs_of(request: &FileRequest) -> [Verb; 2] {
    match request {
        FileRequest::CheckDirectory(_) => [Verb::Cwd, Verb::Cdup],
        FileRequest::MakeDirectory(_) => [Verb::Mkd; 2],
        FileRequest::RemoveDirectory(_) => [Verb::Rmd; 2],
        FileRequest::DeleteFile(_) => [Verb::Dele; 2],
        FileRequest::CheckRename(_) => [Verb::Rnfr; 2],
        FileRequest::Rename { .. } => [Verb::Rnto; 2],
        FileRequest::Size { .. } => [Verb::Size; 2],
        FileRequest::ModifyTime(_) => [Verb::Mdtm; 2],
        FileRequest::SetModifyTime(..) => [Verb::Mfmt, Verb::Site],
        FileRequest::ChangeMode(..) => [Verb::Site; 2],
        FileRequest::Facts(..) => [Verb::Mlst; 2],
        FileRequest::StatListing { .. } => [Verb::Stat; 2],
        FileRequest::CheckSpace { .. } => [Verb::Allo; 2],
        FileRequest::Quota => [Verb::Site; 2],
    }
}

/// Takes refused Telnet options out, and undoes the doubling of `0xFF`.
pub(crate) fn without_telnet(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        if octet != 0xFF {
            text.push(octet);
            continue;
        }
        match octets.next() {
            Some(0xFF) => text.push(0xFF),
            Some(0xFC | 0xFE) => {
                octets.next().expect("an option");
            }
            other => panic!("Telnet {other:?} from the server"),
        }
    }
    text
}

fn is_noop(line: &Line) -> bool {
    line.verb() == Some(Verb::Noop)
}
