//! FEAT, HELP and STAT without a path.

use super::channel::Channel;
use super::settings::{ChannelKind, Requirement};
use super::{Session, Waiting};
use crate::proto::command::{self, FEATURES_WITHOUT_VERB, Feature, Row, TABLE, Verb};
use crate::proto::facts;
use crate::proto::reply::Code;

/// Verbs in one line of HELP.
const HELP_COLUMNS: usize = 8;

impl Session {
    /// FEAT (RFC 2389 §3.2): each feature behind one space, the same list in every state.
    pub(super) fn features(&mut self) {
        let mut lines: Vec<String> = TABLE.iter().filter_map(|row| self.feature(row)).collect();
        lines.extend(FEATURES_WITHOUT_VERB.map(|name| format!(" {name}")));
        self.reply_lines(
            Code::SystemStatus,
            "Features:",
            lines.iter().map(String::as_bytes),
            "End",
        );
    }

    /// Whether the command is one here: HOST is none without virtual hosts.
    pub(super) fn knows(&self, row: &Row) -> bool {
        row.verb != Verb::Host || !self.settings.hosts.names.is_empty()
    }

    fn feature(&self, row: &Row) -> Option<String> {
        let tls = self.settings.tls_available;
        if !self.knows(row) {
            return None;
        }
        match row.feature {
            Feature::None => None,
            Feature::Line("EPRT") if !self.settings.active => None,
            Feature::Line(line) => Some(format!(" {line}")),
            Feature::Security(line) => tls.then(|| format!(" {line}")),
            Feature::Protection => tls.then(|| {
                String::from(match self.settings.tls_data {
                    Requirement::Required => " PROT P;",
                    Requirement::Optional => " PROT C;P;",
                })
            }),
            Feature::ClearControl => {
                let shown = tls && self.settings.ccc && self.kind == ChannelKind::Explicit;
                shown.then(|| String::from(" CCC"))
            }
            Feature::Facts => Some(format!(" {}", facts::feature(self.parameters.facts))),
        }
    }

    /// HELP: all verbs, or one; 502 for what is none.
    pub(super) fn help(&mut self, argument: &[u8]) {
        if argument.is_empty() {
            let known: Vec<&Row> = TABLE.iter().filter(|row| self.knows(row)).collect();
            let lines: Vec<String> = known
                .chunks(HELP_COLUMNS)
                .map(|rows| {
                    rows.iter().fold(String::new(), |line, row| {
                        format!("{line} {:<4}", row.name())
                    })
                })
                .collect();
            self.reply_lines(
                Code::Help,
                "These commands are known:",
                lines.iter().map(String::as_bytes),
                "HELP command tells more.",
            );
        } else if argument.eq_ignore_ascii_case(b"SITE") {
            self.site_help();
        } else if let Some(row) = command::find(argument).filter(|row| self.knows(row)) {
            self.reply(Code::Help, &format!("{} ({})", row.help, row.reference));
        } else {
            self.reply(Code::NotImplemented, "Command not known.");
        }
    }

    pub(super) fn site_help(&mut self) {
        let lines: [&[u8]; 4] = [
            b" SITE HELP",
            b" SITE CHMOD mode path",
            b" SITE UTIME YYYYMMDDhhmm[ss] path",
            b" SITE QUOTA",
        ];
        self.reply_lines(Code::Help, "SITE commands:", lines, "End");
    }

    /// STAT without a path; `octets` are what the running transfer has moved (RFC 959 §4.1.3).
    pub(super) fn status(&mut self, octets: Option<u64>) {
        let channel = match self.channel {
            Channel::Protected => "protected by TLS",
            Channel::Clear | Channel::Cleared => "in the clear",
        };
        let data = if self.data_protected {
            "protected by TLS"
        } else {
            "in the clear"
        };
        let form = if self.parameters.ascii {
            "ASCII Non-print"
        } else {
            "Image"
        };
        let transfer = match (&self.waiting, octets) {
            (Waiting::Transfer(running), octets) => {
                let direction = if running.upload {
                    "Receiving"
                } else {
                    "Sending"
                };
                octets.map_or_else(
                    || format!(" {direction}"),
                    |octets| format!(" {direction}, {octets} octets so far"),
                )
            }
            _ if self.setup => String::from(" Ready for a transfer"),
            _ => String::from(" No data connection"),
        };
        let lines = [
            format!(" Control connection {channel}, data connections {data}"),
            format!(" TYPE: {form}; STRUcture: File; MODE: Stream"),
            transfer,
        ];
        let charset = self.charset();
        let names = (!charset.is_utf8()).then(|| format!(" Names are in {charset}"));
        self.reply_lines(
            Code::SystemStatus,
            "Status of the session:",
            lines.iter().chain(&names).map(String::as_bytes),
            "End of status",
        );
    }
}
