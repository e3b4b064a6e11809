//! The control channel: AUTH, PBSZ, PROT, CCC and REIN (RFC 2228, RFC 4217, MS-FTPS).

use super::parameters::{Parameters, parse_decimal};
use super::settings::{ChannelKind, Requirement};
use super::{Session, Waiting};
use crate::proto::event::Action;
use crate::proto::line::LineSplitter;
use crate::proto::reply::Code;

/// The protection of the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// In the clear.
    Clear,
    /// Under TLS.
    Protected,
    /// In the clear after CCC; it counts as having been protected.
    Cleared,
}

/// What follows the end of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterTls {
    /// CCC.
    Cleared,
    /// REIN.
    Restart,
}

impl Session {
    /// AUTH (RFC 4217 §4). Refused in TLS and after CCC, and so always on implicit connections
    /// (MS-FTPS 3.2.5.6).
    pub(super) fn authenticate(&mut self, mechanism: &[u8]) {
        if !self.settings.tls_available {
            return self.reply(Code::NotImplemented, "TLS is not available.");
        }
        if self.channel != Channel::Clear || self.kind == ChannelKind::Implicit {
            return self.reply(Code::PolicyDenied, "This connection has had its TLS.");
        }
        let known: [&[u8]; 3] = [b"TLS", b"TLS-C", b"SSL"];
        if !known
            .iter()
            .any(|known| known.eq_ignore_ascii_case(mechanism))
        {
            return self.reply(
                Code::ParameterNotImplemented,
                "Mechanism not known, use TLS.",
            );
        }
        // SECURITY: what follows AUTH in the clear could be an attacker's and would run as if it
        // had come under TLS.
        if self.splitter.has_more() {
            return self.depart("No commands behind AUTH.");
        }
        self.log_out();
        self.parameters = Parameters::default();
        self.reply(Code::SecurityAccepted, "Begin the TLS handshake.");
        self.start_tls();
    }

    pub(super) fn start_tls(&mut self) {
        self.splitter = LineSplitter::new();
        self.certified = false;
        self.actions.push_back(Action::StartTls);
        self.waiting = Waiting::TlsUp;
    }

    /// Implicit connections act as if PBSZ 0 and PROT P were sent (MS-FTPS 3.2.5.1).
    pub(super) fn on_tls_up(&mut self) {
        let implicit = self.kind == ChannelKind::Implicit;
        self.channel = Channel::Protected;
        self.buffer_size_given = implicit;
        self.data_protected = implicit;
        if implicit {
            self.greet();
        }
    }

    /// PBSZ: TLS needs no buffer size, so the answer is 0 (RFC 4217 §9).
    pub(super) fn set_buffer_size(&mut self, argument: &[u8]) {
        if parse_decimal(argument, u64::from(u32::MAX)).is_none() {
            self.reply(Code::BadArgument, "Not a buffer size.");
        } else if self.channel == Channel::Protected {
            self.buffer_size_given = true;
            self.reply(Code::Okay, "PBSZ=0");
        } else {
            self.reply(Code::BadSequence, "Not without TLS.");
        }
    }

    /// PROT: the level of data connections from the next transfer on.
    pub(super) fn set_protection(&mut self, argument: &[u8]) {
        if self.channel != Channel::Protected {
            return self.reply(Code::BadSequence, "Not without TLS.");
        }
        if !self.buffer_size_given {
            return self.reply(Code::BadSequence, "Send PBSZ 0 first.");
        }
        match argument.to_ascii_uppercase().as_slice() {
            b"P" => {
                self.data_protected = true;
                self.reply(Code::Okay, "Data connections are protected.");
            }
            b"C" if self.settings.tls_data == Requirement::Required => {
                self.reply(Code::PolicyDenied, "Data connections must be protected.");
            }
            b"C" => {
                self.data_protected = false;
                self.reply(Code::Okay, "Data connections are in the clear.");
            }
            b"S" | b"E" => self.reply(
                Code::ProtectionNotSupported,
                "TLS has no such level, use P.",
            ),
            _ => self.reply(Code::ParameterNotImplemented, "Level not known."),
        }
    }

    /// CCC (RFC 4217 §5); never on implicit connections (MS-FTPS 3.2.5.2).
    pub(super) fn clear_control(&mut self) {
        if self.channel != Channel::Protected {
            return self.reply(
                Code::CommandProtectionDenied,
                "This connection is not protected.",
            );
        }
        let allowed = self.settings.ccc && self.kind == ChannelKind::Explicit;
        if !allowed || !self.is_logged_in() {
            return self.reply(Code::PolicyDenied, "CCC is not allowed.");
        }
        if self.splitter.has_more() {
            return self.depart("No commands behind CCC.");
        }
        self.reply(Code::Okay, "Clear from here on.");
        self.end_tls(AfterTls::Cleared);
    }

    /// REIN: everything as after the connection was made. Under TLS the 220 still goes out under
    /// TLS and is the new greeting (RFC 4217 §13); implicit connections then begin with another
    /// handshake and greet after it (MS-FTPS 3.2.5.3).
    pub(super) fn reinitialise(&mut self) {
        self.log_out();
        self.forget_host();
        self.parameters = Parameters::default();
        self.greet();
        if self.channel == Channel::Protected {
            // SECURITY: a command behind REIN came under TLS and would run in the clear.
            if self.splitter.has_more() {
                return self.depart("No commands behind REIN.");
            }
            self.end_tls(AfterTls::Restart);
        } else {
            self.restart_clear();
        }
    }

    fn end_tls(&mut self, after: AfterTls) {
        self.splitter = LineSplitter::new();
        self.actions.push_back(Action::EndTls);
        self.waiting = Waiting::TlsDown(after);
    }

    pub(super) fn on_tls_down(&mut self, after: AfterTls) {
        match after {
            AfterTls::Cleared => self.channel = Channel::Cleared,
            AfterTls::Restart => {
                self.restart_clear();
                if self.kind == ChannelKind::Implicit {
                    self.start_tls();
                }
            }
        }
    }

    const fn restart_clear(&mut self) {
        self.channel = Channel::Clear;
        self.certified = false;
        self.buffer_size_given = false;
        self.data_protected = false;
    }
}
