//! USER and PASS.

use std::sync::Arc;

use super::channel::Channel;
use super::{Session, Waiting, after};
use crate::limits;
use crate::proto::event::{Action, LoginVerdict, Secret};
use crate::proto::path::VirtualPath;
use crate::proto::reply::Code;

/// How far the login has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// No user named.
    None,
    /// USER was given, PASS is next.
    Named(Box<[u8]>),
    /// Logged in.
    Granted(Box<[u8]>),
}

impl Login {
    pub(super) fn name(&self) -> Option<&[u8]> {
        match self {
            Self::None => None,
            Self::Named(name) | Self::Granted(name) => Some(name),
        }
    }
}

impl Session {
    /// USER: 331 for every name, so that names cannot be probed (RFC 2577 §7), but for that of the client's
    /// certificate (232). An old login ends; the transfer parameters stay (RFC 959 §4.1.1).
    pub(super) fn user_named(&mut self, name: &[u8]) {
        self.log_out();
        self.parameters.restart = 0;
        self.parameters.directory = VirtualPath::root();
        self.login = Login::Named(Box::from(name));
        // SECURITY: after CCC a certificate proves nothing any more.
        if self.certified && self.channel == Channel::Protected {
            self.actions
                .push_back(Action::CheckCertificate(name.to_vec()));
            self.waiting = Waiting::Certificate;
        } else {
            self.ask_password();
        }
    }

    fn ask_password(&mut self) {
        self.reply(Code::NeedPassword, "Password, please.");
    }

    /// The client has shown a certificate in its TLS handshake. To be called before [`super::Event::TlsUp`].
    pub fn certificate_shown(&mut self) {
        self.certified = true;
    }

    /// 232 without a password (RFC 2228 §3, RFC 4217 §14), or 331.
    pub(super) fn on_certificate_checked(&mut self, verdict: Option<LoginVerdict>) {
        match verdict {
            Some(LoginVerdict::Refused) | None => self.ask_password(),
            Some(verdict) => {
                self.by_certificate = true;
                self.on_login_checked(verdict);
            }
        }
    }

    /// PASS: every octet counts.
    pub(super) fn password_given(&mut self, password: &[u8]) {
        let Login::Named(name) = &self.login else {
            // For clients that send it unasked.
            if self.by_certificate && self.is_logged_in() {
                return self.reply(Code::Superfluous, "Logged in already, by certificate.");
            }
            return self.reply(Code::BadSequence, "Send USER first.");
        };
        self.actions.push_back(Action::CheckLogin {
            user: name.to_vec(),
            password: Secret::new(password.to_vec()),
        });
        self.waiting = Waiting::Login;
    }

    pub(super) fn on_login_checked(&mut self, verdict: LoginVerdict) {
        match (verdict, std::mem::replace(&mut self.login, Login::None)) {
            (LoginVerdict::Granted, Login::Named(name)) => {
                self.login = Login::Granted(name);
                self.names.log_in(self.settings.charset);
                self.logged_in_before = true;
                self.failures = 0;
                self.passwords_rejected = 0;
                if self.by_certificate {
                    self.reply_to_login(Code::LoggedInSecurely, "Logged in by certificate.");
                } else {
                    self.reply_to_login(Code::LoggedIn, "Logged in.");
                }
            }
            (LoginVerdict::Unavailable, _) => self.depart("This account cannot be served now."),
            (LoginVerdict::TooManySessions, _) => self.depart("Too many sessions of this user."),
            (LoginVerdict::Banned, _) => self.depart("Too many failed logins, try again later."),
            _ => {
                self.passwords_rejected += 1;
                let delay = self.settings.bad_login_delay;
                let delay = delay.saturating_mul(std::mem::replace(&mut self.delay_ratio, 1));
                match after(self.now, delay) {
                    Some(at) if at > self.now => self.waiting = Waiting::Refusal(at),
                    _ => self.refuse_login(),
                }
            }
        }
    }

    /// The next login that succeeds is answered with these lines too; they are separated by LF.
    pub fn welcome(&mut self, text: Arc<str>) {
        self.welcome = Some(text);
    }

    fn reply_to_login(&mut self, code: Code, text: &str) {
        let Some(welcome) = self.welcome.take() else {
            return self.reply(code, text);
        };
        let mut lines = welcome.lines();
        let first = lines.next().unwrap_or_default();
        self.reply_lines(code, first, lines.map(str::as_bytes), text);
    }

    /// The next wrong password is answered after so many times the usual delay.
    pub fn slow_refusal(&mut self, ratio: u32) {
        self.delay_ratio = ratio;
    }

    /// Answers a wrong password, when its time has come.
    pub(super) fn refuse_login(&mut self) {
        if self.passwords_rejected >= limits::PASSWORDS_REJECTED_MAX {
            self.depart("Too many wrong passwords.");
        } else {
            self.reply(Code::NotLoggedIn, "Login incorrect.");
        }
    }

    /// Ends the login and all that came with it: the set-up goes too.
    pub(super) fn log_out(&mut self) {
        self.drop_setup();
        if self.is_logged_in() {
            self.actions.push_back(Action::Logout);
        }
        self.login = Login::None;
        self.names.log_out();
        self.by_certificate = false;
    }
}
