//! From a line to its command: the gates in their order, then the handler.

use super::Session;
use super::channel::Channel;
use super::settings::Requirement;
use crate::limits;
use crate::proto::command::{self, Gate, Row, Verb};
use crate::proto::line::Line;
use crate::proto::reply::{Code, Refusal};

impl Session {
    /// Runs one line of the client.
    pub(super) fn run_line(&mut self, line: &Line) {
        match line {
            Line::Command(octets) => self.run_command(octets),
            Line::Overlong => {
                self.ledger.take_up(None, self.now);
                self.lines_overlong += 1;
                if self.lines_overlong >= limits::COMMAND_LINES_OVERLONG_MAX {
                    self.depart("Too many lines too long.");
                } else {
                    self.reply(Code::NotRecognised, "Line too long.");
                }
            }
        }
    }

    fn run_command(&mut self, line: &[u8]) {
        let (name, argument) = command::split(line);
        // SECURITY: a browser or mail client was pointed at us; a reply could be read as the
        // other protocol's (cross-protocol attack), so there is none.
        if !self.is_logged_in() && command::is_foreign(name) {
            return self.close();
        }
        let row = command::find(name).filter(|row| self.knows(row));
        self.ledger.take_up(row.map(|row| row.verb), self.now);
        let Some(row) = row else {
            self.parameters.rename_from = None;
            return self.reply(Code::NotRecognised, "Command not recognised.");
        };
        // RNTO follows RNFR directly (RFC 959 §4.1.3); NOOP alone may come between.
        if !matches!(row.verb, Verb::Noop | Verb::Rnto) {
            self.parameters.rename_from = None;
        }
        let passed = self.pass_gates(row, argument);
        match passed.and_then(|argument| self.decode(row, argument)) {
            Ok(argument) => self.dispatch(row.verb, &argument),
            Err(refusal) => {
                if row.verb.is_transfer() {
                    self.forget_transfer();
                }
                self.refuse(refusal);
            }
        }
    }

    /// Policy, login, argument, in this order.
    fn pass_gates<'line>(
        &self,
        row: &Row,
        argument: Option<&'line [u8]>,
    ) -> Result<&'line [u8], Refusal> {
        let clear_refused =
            self.channel == Channel::Clear && self.settings.tls_control == Requirement::Required;
        if clear_refused && row.gate != Gate::Anyone {
            return Err((Code::PolicyDenied, "TLS is required: send AUTH TLS first."));
        }
        if row.gate == Gate::Login && !self.is_logged_in() {
            return Err((Code::NotLoggedIn, "Log in with USER and PASS first."));
        }
        let argument = row.check(argument)?;
        match row.refusal {
            Some(Code::BadSequence) => Err((Code::BadSequence, "Not expected here.")),
            Some(code) => Err((code, "Command not implemented.")),
            None => Ok(argument),
        }
    }

    fn dispatch(&mut self, verb: Verb, argument: &[u8]) {
        match verb {
            Verb::User => self.user_named(argument),
            Verb::Pass => self.password_given(argument),
            Verb::Acct => self.reply(Code::Superfluous, "No account needed."),
            Verb::Auth => self.authenticate(argument),
            Verb::Pbsz => self.set_buffer_size(argument),
            Verb::Prot => self.set_protection(argument),
            Verb::Ccc => self.clear_control(),
            Verb::Rein => self.reinitialise(),
            Verb::Quit => {
                self.reply(Code::Goodbye, "Goodbye.");
                self.close();
            }
            Verb::Type => self.set_type(argument),
            Verb::Stru => self.set_structure(argument),
            Verb::Mode => self.set_mode(argument),
            Verb::Rest => self.set_restart(argument),
            Verb::Opts => self.set_option(argument),
            Verb::Lang => self.set_language(argument),
            Verb::Pasv => self.listen(false),
            Verb::Epsv => self.extended_passive(argument),
            Verb::Port => self.active(argument),
            Verb::Eprt => self.extended_active(argument),
            Verb::Retr
            | Verb::Stor
            | Verb::Appe
            | Verb::Stou
            | Verb::List
            | Verb::Nlst
            | Verb::Mlsd => self.begin_transfer(verb, argument),
            Verb::Abor => {
                self.drop_setup();
                self.reply(Code::TransferComplete, "ABOR successful.");
            }
            Verb::Stat if argument.is_empty() => self.status(None),
            Verb::Allo => self.allocate(argument),
            Verb::Site => self.site(argument),
            Verb::Rnto => self.rename_to(argument),
            Verb::Mfmt => self.set_modify_time(argument),
            Verb::Pwd => self.show_directory(),
            Verb::Cwd
            | Verb::Cdup
            | Verb::Mkd
            | Verb::Rmd
            | Verb::Dele
            | Verb::Rnfr
            | Verb::Size
            | Verb::Mdtm
            | Verb::Mlst
            | Verb::Stat => self.file_command(verb, argument),
            Verb::Host => self.choose_host(argument),
            Verb::Feat => self.features(),
            Verb::Help => self.help(argument),
            Verb::Syst => self.reply(Code::SystemType, "UNIX Type: L8"),
            Verb::Clnt => self.reply(Code::Okay, "Noted."),
            Verb::Noop => self.reply(Code::Okay, "Okay."),
            Verb::Refused => self.reply(Code::NotImplemented, "Command not implemented."),
        }
    }
}
