//! The character set of names: what comes in is decoded here, what goes out is encoded in [`super::output`] and, for
//! listings on data connections, where their lines are made. All else has names as they are on disk.

use std::borrow::Cow;

use super::Session;
use crate::proto::charset::Charset;
use crate::proto::command::{Argument, Gate, Row};
use crate::proto::reply::{Code, Refusal};

/// How names are written for users.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// For the one who is logged in, but for OPTS UTF8; UTF-8 before a login: nobody can be told of another.
    charset: Charset,
    /// For the one who logs in next, if not as for all.
    own: Option<Charset>,
}

impl Names {
    pub(super) fn log_in(&mut self, usual: Charset) {
        self.charset = self.own.take().unwrap_or(usual);
    }

    pub(super) const fn log_out(&mut self) {
        self.charset = Charset::UTF_8;
    }
}

impl Session {
    /// The next login that succeeds has its names in this character set; `None`: in that of
    /// [`super::Settings::charset`]. To be called before the verdict is told.
    pub const fn names_in(&mut self, charset: Option<Charset>) {
        self.names.own = charset;
    }

    /// How names are written now.
    pub(super) const fn charset(&self) -> Charset {
        if self.parameters.utf8 {
            Charset::UTF_8
        } else {
            self.names.charset
        }
    }

    /// The argument with its names as they are on disk. Those before a login are none: USER and PASS have to be what the
    /// users file and PAM know, octet by octet, and whose they are is not known yet.
    pub(super) fn decode<'line>(
        &self,
        row: &Row,
        argument: &'line [u8],
    ) -> Result<Cow<'line, [u8]>, Refusal> {
        let path = matches!(row.argument, Argument::Path | Argument::OptionalPath);
        if !path || row.gate != Gate::Login {
            return Ok(Cow::Borrowed(argument));
        }
        self.charset().decode(argument).ok_or((
            Code::BadArgument,
            "No name in the character set of this session; send OPTS UTF8 ON for names in UTF-8.",
        ))
    }

    /// OPTS UTF8 and UTF-8: ON, which may be left out, for the session, and before a login for what comes after it; OFF
    /// back to the account's character set, which is not known before a login, 501 where that is UTF-8.
    pub(super) fn choose_utf8(&mut self, value: &[u8]) {
        if value.is_empty() || value.eq_ignore_ascii_case(b"ON") {
            self.parameters.utf8 = true;
            self.reply(Code::Okay, "Names are UTF-8.");
        } else if !value.eq_ignore_ascii_case(b"OFF") {
            self.reply(Code::BadArgument, "Give ON or OFF.");
        } else if !self.is_logged_in() {
            self.parameters.utf8 = false;
            self.reply(Code::Okay, "Names will be as the account has them.");
        } else if self.names.charset.is_utf8() {
            self.reply(Code::BadArgument, "Names are always UTF-8.");
        } else {
            self.parameters.utf8 = false;
            let text = format!("Names are in {}.", self.names.charset);
            self.reply(Code::Okay, &text);
        }
    }
}
