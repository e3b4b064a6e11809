//! Tests of the session, with a scripted driver that answers every action at once and a clock
//! that moves only when told.

mod certificate;
mod channel;
mod commands;
mod gates;
mod hosts;
mod ledger;
mod login;
mod names;
mod quota;
mod random;
mod shutdown;
mod transfers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ChannelKind, Requirement, Session, Settings};
use crate::proto::event::{
    Action, Event, FileError, FileReply, FileRequest, LoginVerdict, SetupError, TransferEnd,
    TransferReady,
};

/// Any moment will do: only differences count.
#[allow(clippy::disallowed_methods, reason = "an Instant cannot be made up")]
fn some_instant() -> Instant {
    Instant::now()
}

/// A session with its driver.
struct Wire {
    session: Session,
    now: Instant,
    /// Everything sent so far.
    sent: Vec<u8>,
    /// All other actions so far.
    actions: Vec<Action>,
    /// The answers to come.
    file: Result<FileReply, FileError>,
    verdict: LoginVerdict,
    certified: Option<LoginVerdict>,
    passive: Result<SocketAddr, SetupError>,
    ready: Result<TransferReady, FileError>,
    /// `None` leaves the transfer running.
    end: Option<TransferEnd>,
    /// Whether TLS comes up and goes down by itself.
    tls: bool,
}

fn policy() -> Settings {
    Settings {
        tls_data: Requirement::Optional,
        ..Settings::default()
    }
}

impl Wire {
    fn with(settings: Settings, kind: ChannelKind, local: &str, peer: &str) -> Self {
        let now = some_instant();
        let session = Session::new(
            Arc::new(settings),
            kind,
            local.parse().unwrap(),
            peer.parse().unwrap(),
            now,
        );
        Self {
            session,
            now,
            sent: Vec::new(),
            actions: Vec::new(),
            file: Ok(FileReply::Done),
            verdict: LoginVerdict::Granted,
            certified: None,
            passive: Ok("0.0.0.0:40001".parse().unwrap()),
            ready: Ok(TransferReady::default()),
            end: Some(TransferEnd::Complete),
            tls: true,
        }
    }

    /// Connected, nothing polled yet.
    fn fresh(settings: Settings, kind: ChannelKind) -> Self {
        Self::with(settings, kind, "10.0.0.1:21", "10.0.0.9:5000")
    }

    fn explicit(settings: Settings) -> Self {
        let mut wire = Self::fresh(settings, ChannelKind::Explicit);
        assert_eq!(wire.codes(), "220");
        wire
    }

    fn implicit(settings: Settings) -> Self {
        let mut wire = Self::fresh(settings, ChannelKind::Implicit);
        assert_eq!(wire.codes(), "220");
        wire.actions.clear();
        wire
    }

    /// The default of the checks: explicit, logged in over TLS, PBSZ 0, PROT P, TYPE I.
    fn ready_with(settings: Settings) -> Self {
        let mut wire = Self::explicit(settings);
        wire.prepare();
        wire
    }

    fn ready() -> Self {
        Self::ready_with(policy())
    }

    fn prepare(&mut self) {
        assert_eq!(self.tell("AUTH TLS"), "234");
        let lines = "USER a\r\nPASS b\r\nPBSZ 0\r\nPROT P\r\nTYPE I";
        assert_eq!(self.tell(lines), "331 230 200 200 200");
        self.actions.clear();
    }

    /// Sends lines and returns the codes of what comes back.
    fn tell(&mut self, lines: &str) -> String {
        self.tell_octets(lines.as_bytes())
    }

    fn tell_octets(&mut self, lines: &[u8]) -> String {
        self.session
            .handle_octets(&[lines, b"\r\n"].concat(), self.now);
        self.codes()
    }

    /// Sends a line and returns the replies whole.
    fn text(&mut self, line: &str) -> String {
        let before = self.sent.len();
        self.tell(line);
        String::from_utf8_lossy(&self.sent[before..]).into_owned()
    }

    fn event(&mut self, event: Event) -> String {
        self.session.handle_event(event, self.now);
        self.codes()
    }

    /// Lets time pass and the timers run.
    fn wait(&mut self, time: Duration) -> String {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.codes()
    }

    /// Performs what is asked and returns the codes of the new replies.
    fn codes(&mut self) -> String {
        let before = self.sent.len();
        while let Some(action) = self.session.poll_action() {
            if let Some(event) = self.answer(&action) {
                self.session.handle_event(event, self.now);
            }
            match action {
                Action::Send(octets) => self.sent.extend_from_slice(&octets),
                action => self.actions.push(action),
            }
        }
        codes_of(&self.sent[before..])
    }

    fn answer(&self, action: &Action) -> Option<Event> {
        match action {
            Action::StartTls => self.tls.then_some(Event::TlsUp),
            Action::EndTls => self.tls.then_some(Event::TlsDown),
            Action::CheckLogin { .. } => Some(Event::LoginChecked(self.verdict)),
            Action::CheckCertificate(_) => Some(Event::CertificateChecked(self.certified)),
            Action::File(request) => Some(Event::FileDone(self.file.clone().map(|reply| {
                match (reply, request) {
                    (FileReply::Done, FileRequest::Size { .. }) => FileReply::Size(5),
                    (FileReply::Done, FileRequest::ModifyTime(_)) => FileReply::Time(0),
                    (FileReply::Done, FileRequest::SetModifyTime(_, time)) => {
                        FileReply::Time(*time)
                    }
                    (FileReply::Done, FileRequest::Facts(path, _)) => {
                        FileReply::Line([b"type=file; ", path.as_bytes()].concat())
                    }
                    (FileReply::Done, FileRequest::StatListing { .. }) => FileReply::Listing {
                        directory: true,
                        lines: b"-rw-r--r-- a\r\n-rw-r--r-- b\r\n".to_vec(),
                    },
                    (reply, _) => reply,
                }
            }))),
            Action::SetupPassive => Some(Event::PassiveReady(self.passive)),
            Action::OpenTransfer(_) => Some(Event::TransferReady(self.ready.clone())),
            Action::RunTransfer => self.end.map(Event::TransferEnded),
            Action::AbortTransfer => Some(Event::TransferEnded(TransferEnd::Aborted)),
            Action::AskProgress => Some(Event::Progress(1234)),
            _ => None,
        }
    }

    fn is_closed(&self) -> bool {
        self.actions.last() == Some(&Action::Close)
    }

    fn last_action(&self) -> &Action {
        self.actions.last().expect("an action")
    }
}

/// The codes of all replies, each reply checked for its form.
fn codes_of(sent: &[u8]) -> String {
    let mut codes: Vec<String> = Vec::new();
    let mut open: Option<String> = None;
    assert!(sent.is_empty() || sent.ends_with(b"\r\n"));
    for line in sent.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("CRLF");
        assert!(!line.contains(&b'\r') && !line.contains(&0));
        let text = String::from_utf8_lossy(line);
        let digits = text.len() >= 4 && text.as_bytes()[..3].iter().all(u8::is_ascii_digit);
        let code = text.chars().take(3).collect::<String>();
        match (&open, digits.then(|| text.as_bytes()[3])) {
            (None, Some(b' ')) => codes.push(code),
            (None, Some(b'-')) => open = Some(code),
            (Some(first), Some(b' ')) => {
                assert_eq!(*first, code);
                codes.push(code);
                open = None;
            }
            (Some(_), None) => {}
            _ => panic!("not a reply: {text:?}"),
        }
    }
    assert!(open.is_none(), "reply not ended");
    codes.join(" ")
}

#[test]
fn an_idle_session_is_small() {
    let mut wire = Wire::ready();
    wire.tell("PASV");
    wire.tell("RETR x");
    assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
    assert_eq!(wire.session.actions.capacity(), 0);
    let long = format!("CWD /{}", "a/".repeat(1000));
    assert_eq!(wire.tell(&long), "250");
    assert_eq!(wire.tell("CWD /"), "250");
    assert_eq!(wire.session.actions.capacity(), 0);
}
