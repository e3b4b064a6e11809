//! Data connections: set-up, the transfer commands, and what may happen during a transfer.
//!
//! ```text
//! no set-up --PASV, EPSV, PORT, EPRT--> set-up --RETR, STOR, …--> opening --150--> transfer --> no set-up
//!                                          ^---- set-up again ----'   '--4yz, 5yz--> no set-up
//! ```

use std::net::{IpAddr, SocketAddr};

use super::files::strip_options;
use super::settings::Requirement;
use super::{Session, Waiting};
use crate::proto::address::{self, Family};
use crate::proto::command::{self, Verb};
use crate::proto::event::{
    Action, FileError, ListFormat, SetupError, Transfer, TransferEnd, TransferKind, TransferReady,
};
use crate::proto::reply::{Code, FileContext, Refusal};

/// A transfer that the driver opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) upload: bool,
    ascii: bool,
    context: FileContext,
}

/// A transfer that runs: 150 is sent, the final reply is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    /// The direction.
    pub(super) upload: bool,
    /// It was asked to end.
    pub(super) aborted: bool,
    /// STAT waits for [`super::Event::Progress`].
    asked: bool,
    /// If it breaks off, nothing of it is kept.
    atomic: bool,
    context: FileContext,
}

impl Session {
    /// PASV and EPSV.
    pub(super) fn listen(&mut self, extended: bool) {
        if !extended {
            if self.parameters.extended_passive_only {
                return self.refuse(EXTENDED_ONLY);
            }
            if Family::of(self.local) == Family::V6 {
                return self.reply(Code::NoDataConnection, "Use EPSV on IPv6.");
            }
        }
        self.setup = false;
        self.actions.push_back(Action::SetupPassive);
        self.waiting = Waiting::Passive { extended };
    }

    /// EPSV (RFC 2428 §3).
    pub(super) fn extended_passive(&mut self, argument: &[u8]) {
        let family = Family::of(self.local);
        match argument {
            b"" => self.listen(true),
            b"1" if family == Family::V4 => self.listen(true),
            b"2" if family == Family::V6 => self.listen(true),
            number if number.iter().all(u8::is_ascii_digit) => self.refuse(family.only()),
            word if word.eq_ignore_ascii_case(b"ALL") => {
                self.parameters.extended_passive_only = true;
                self.reply(Code::Okay, "Only EPSV from here on.");
            }
            _ => self.reply(Code::BadArgument, "Not a network protocol."),
        }
    }

    pub(super) fn on_passive_ready(
        &mut self,
        extended: bool,
        result: Result<SocketAddr, SetupError>,
    ) {
        let (told, port) = match result {
            Ok(told) => (told.ip(), told.port()),
            Err(SetupError::NoPort) => {
                return self.reply(Code::NoDataConnection, "No passive port is free: try again, or ask for a wider range of passive ports.");
            }
            Err(SetupError::System) => {
                return self.reply(Code::NoDataConnection, "Cannot listen now.");
            }
        };
        let shown = match (told, self.local) {
            (IpAddr::V4(told), _) if !told.is_unspecified() => Some(told),
            (_, IpAddr::V4(local)) => Some(local),
            (_, IpAddr::V6(_)) => None,
        };
        self.setup = true;
        match shown {
            Some(shown) if !extended => {
                self.reply(Code::Passive, &address::passive_text(shown, port));
            }
            _ => self.reply(Code::ExtendedPassive, &address::extended_passive_text(port)),
        }
    }

    /// PORT.
    pub(super) fn active(&mut self, argument: &[u8]) {
        self.connect_to(address::parse_port(argument));
    }

    /// EPRT.
    pub(super) fn extended_active(&mut self, argument: &[u8]) {
        self.connect_to(address::parse_eprt(argument, Family::of(self.peer)));
    }

    fn connect_to(&mut self, address: Result<SocketAddr, Refusal>) {
        if !self.settings.active {
            return self.reply(
                Code::NotImplemented,
                "Active mode is off: use PASV or EPSV.",
            );
        }
        // Bad syntax comes first, as for every command; then the sequence; then policy.
        let checked = match address {
            Err(refusal @ (Code::BadArgument, _)) => Err(refusal),
            _ if self.parameters.extended_passive_only => Err(EXTENDED_ONLY),
            Err(refusal) => Err(refusal),
            Ok(address) => address::check_active(address, self.peer).map(|()| address),
        };
        match checked {
            Ok(address) => {
                self.setup = true;
                self.actions.push_back(Action::SetupActive(address));
                self.reply(Code::Okay, "Address noted.");
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// A transfer command was refused: it used up the set-up and the restart marker all the same,
    /// or the next transfer could meet a stale connection.
    pub(super) fn forget_transfer(&mut self) {
        self.parameters.restart = 0;
        self.drop_setup();
    }

    /// RETR, STOR, APPE, STOU, LIST, NLST, MLSD.
    pub(super) fn begin_transfer(&mut self, verb: Verb, argument: &[u8]) {
        if self.life == super::Life::Ending {
            // The client has left: nothing may be truncated for a transfer that cannot be.
            return self.close();
        }
        match self.plan_transfer(verb, argument) {
            Ok(transfer) => {
                self.parameters.restart = 0;
                self.waiting = Waiting::Opening(Opening {
                    upload: transfer.kind.is_upload(),
                    ascii: transfer.ascii,
                    context: match transfer.kind {
                        TransferKind::List {
                            format: ListFormat::Machine(_),
                            ..
                        } => FileContext::MachineListing,
                        ref kind if kind.is_upload() => FileContext::Store,
                        _ => FileContext::Other,
                    },
                });
                self.actions.push_back(Action::OpenTransfer(transfer));
            }
            Err(refusal) => {
                self.forget_transfer();
                self.refuse(refusal);
            }
        }
    }

    fn plan_transfer(&self, verb: Verb, argument: &[u8]) -> Result<Transfer, Refusal> {
        if self.settings.tls_data == Requirement::Required && !self.data_protected {
            return Err((
                Code::ProtocolNotSupported,
                "Data connections must be protected: send PROT P first.",
            ));
        }
        if !self.setup {
            return Err((
                Code::NoDataConnection,
                "Send PASV, EPSV, PORT or EPRT first.",
            ));
        }
        let restartable = matches!(verb, Verb::Retr | Verb::Stor | Verb::Appe);
        let listing = matches!(verb, Verb::List | Verb::Nlst | Verb::Mlsd);
        let ascii = self.parameters.ascii && !listing;
        let offset = if restartable {
            self.parameters.restart
        } else {
            0
        };
        if ascii && offset > 0 {
            return Err((Code::BadRestart, "No restart in TYPE A."));
        }
        let (kind, path) = match verb {
            Verb::Retr => (TransferKind::Retrieve, argument),
            Verb::Stor => (TransferKind::Store, argument),
            Verb::Appe => (TransferKind::Append, argument),
            Verb::Stou => (
                TransferKind::StoreUnique(unique_prefix(argument)?),
                &b""[..],
            ),
            _ => self.listing(verb, argument),
        };
        Ok(Transfer {
            kind,
            path: self.resolve(path)?,
            offset,
            ascii,
            protected: self.data_protected,
        })
    }

    fn listing<'line>(&self, verb: Verb, argument: &'line [u8]) -> (TransferKind, &'line [u8]) {
        let (format, hidden, path) = if verb == Verb::Mlsd {
            (ListFormat::Machine(self.parameters.facts), true, argument)
        } else {
            let listed = strip_options(argument);
            let format = if verb == Verb::List {
                ListFormat::Long
            } else {
                ListFormat::Names
            };
            (format, listed.hidden, listed.path)
        };
        let kind = TransferKind::List {
            format,
            shown: path.to_vec(),
            hidden,
            charset: self.charset(),
        };
        (kind, path)
    }

    pub(super) fn on_transfer_ready(
        &mut self,
        opening: Opening,
        result: Result<TransferReady, FileError>,
    ) {
        let ready = match result {
            Ok(ready) => ready,
            Err(error) => {
                self.drop_setup();
                return self.refuse_file(error, opening.context);
            }
        };
        let text = match (ready.unique_name, ready.octets) {
            (Some(name), _) => [b"FILE: ".as_slice(), &name].concat(),
            (None, octets) => opening_text(opening.ascii, octets).into_bytes(),
        };
        self.reply_octets(Code::OpeningData, &text);
        self.setup = false;
        self.actions.push_back(Action::RunTransfer);
        self.waiting = Waiting::Transfer(Running {
            upload: opening.upload,
            aborted: false,
            asked: false,
            atomic: ready.atomic,
            context: opening.context,
        });
    }

    /// During a transfer only ABOR, wherever it queues, and STAT without a path and NOOP at the queue's
    /// head are acted on (RFC 959 §4.1.3). ABOR stays queued: its 226 keeps its place. NOOP is how clients keep the
    /// control connection alive meanwhile; its 200 behind the final reply would be taken for that (Commons Net
    /// counts replies and takes the last for the transfer's).
    pub(super) fn look_ahead(&mut self) {
        let Waiting::Transfer(running) = &mut self.waiting else {
            return;
        };
        if !running.aborted
            && self
                .splitter
                .queued()
                .any(|line| command::is_bare(line, Verb::Abor))
        {
            running.aborted = true;
            self.actions.push_back(Action::AbortTransfer);
        }
        if running.asked {
            // What is behind STAT is answered behind it.
            return;
        }
        let asks = self
            .splitter
            .queued()
            .next()
            .is_some_and(|line| command::is_bare(line, Verb::Stat));
        if asks {
            running.asked = true;
            self.splitter.next_line();
            self.ledger.take_up(Some(Verb::Stat), self.now);
            self.actions.push_back(Action::AskProgress);
        } else if self.splitter.queued().next().is_some_and(is_noop) {
            self.splitter.next_line();
            self.ledger.take_up(Some(Verb::Noop), self.now);
            self.reply(Code::Okay, "Okay.");
        }
    }

    pub(super) fn on_progress(&mut self, mut running: Running, octets: u64) {
        let asked = std::mem::take(&mut running.asked);
        self.waiting = Waiting::Transfer(running);
        if asked {
            self.status(Some(octets));
        }
    }

    pub(super) fn on_transfer_ended(&mut self, running: Running, end: TransferEnd) {
        if running.asked {
            self.status(None);
        }
        self.reply_end(end, running.context, running.atomic);
    }
}

/// Whether a line is NOOP, with or without an argument.
fn is_noop(line: &[u8]) -> bool {
    let (name, _) = command::split(line);
    command::find(name).is_some_and(|row| row.verb == Verb::Noop)
}

const EXTENDED_ONLY: Refusal = (Code::BadSequence, "Only EPSV after EPSV ALL.");

/// STOU's argument as the first part of the new name: one component.
fn unique_prefix(argument: &[u8]) -> Result<Vec<u8>, Refusal> {
    if argument.contains(&b'/') || matches!(argument, b"." | b"..") {
        return Err((Code::NameNotAllowed, "A prefix is one component."));
    }
    Ok(argument.to_vec())
}

/// Some clients read the size from these parentheses.
fn opening_text(ascii: bool, octets: Option<u64>) -> String {
    let form = if ascii { "ASCII" } else { "BINARY" };
    octets.map_or_else(
        || format!("Opening {form} mode data connection"),
        |octets| format!("Opening {form} mode data connection ({octets} bytes)"),
    )
}
