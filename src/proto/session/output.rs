//! What the session says, and how it ends.

use std::sync::Arc;

use super::{Life, Session, Waiting};
use crate::limits;
use crate::proto::charset::Charset;
use crate::proto::event::Action;
use crate::proto::line::LineSplitter;
use crate::proto::reply::{self, Code, Octet255};

impl Session {
    pub(super) fn greet(&mut self) {
        let settings = Arc::clone(&self.settings);
        let own = self.host.as_deref();
        let own = own.and_then(|host| settings.hosts.greeting(host));
        let greeting = own.unwrap_or(&settings.greeting);
        self.reply(Code::Ready, greeting);
    }

    /// Sends what `write` appends, together with what is already to be sent.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(Action::Send(octets)) = self.actions.back_mut() {
            write(octets);
        } else {
            let mut octets = Vec::new();
            write(&mut octets);
            self.actions.push_back(Action::Send(octets));
        }
    }

    pub(super) fn reply(&mut self, code: Code, text: &str) {
        self.reply_octets(code, text.as_bytes());
    }

    /// A reply of one line. Before login failures are counted, and the last one allowed is 421.
    pub(super) fn reply_octets(&mut self, code: Code, text: &[u8]) {
        if code.is_failure() && !self.is_logged_in() {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= limits::COMMANDS_FAILED_BEFORE_LOGIN_MAX {
                return self.depart("Too many failed commands.");
            }
        }
        let charset = self.charset();
        self.ledger.replied(code);
        self.send(|out| reply::append_line(out, code, &charset.encode(text), octet_255(charset)));
    }

    /// A reply of several lines.
    pub(super) fn reply_lines<'a>(
        &mut self,
        code: Code,
        first: &str,
        inner: impl IntoIterator<Item = &'a [u8]>,
        last: &str,
    ) {
        let charset = self.charset();
        self.ledger.replied(code);
        self.send(|out| {
            let first = charset.encode(first.as_bytes());
            let inner = inner.into_iter().map(|line| charset.encode(line));
            reply::append_lines(out, code, &first, inner, last, octet_255(charset));
        });
    }

    pub(super) fn refuse(&mut self, (code, text): reply::Refusal) {
        self.reply(code, text);
    }

    pub(super) fn depart_shutdown(&mut self) {
        self.depart(match self.killed {
            true => "Ended by the operator.",
            false => "The server is shutting down.",
        });
    }

    /// 421 in place of whatever reply is due, and the end.
    pub(super) fn depart(&mut self, text: &str) {
        self.ledger.replied(Code::ServiceClosing);
        self.send(|out| {
            reply::append_line(out, Code::ServiceClosing, text.as_bytes(), Octet255::Iac);
        });
        self.close();
    }

    pub(super) fn close(&mut self) {
        self.actions.push_back(Action::Close);
        self.life = Life::Closed;
        self.waiting = Waiting::Nothing;
        self.splitter = LineSplitter::new();
    }
}

/// Programs that have 0xFF as a letter neither double it nor take two for one; other sets do not use it.
const fn octet_255(charset: Charset) -> Octet255 {
    if charset.has_iac() {
        Octet255::Letter
    } else {
        Octet255::Iac
    }
}
