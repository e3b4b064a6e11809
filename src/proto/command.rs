//! The commands: one row per verb feeds the parser, the gate, FEAT and HELP.

use super::reply::{Code, Refusal};

/// Every verb that has an answer of its own; aliases share one.
#[allow(
    missing_docs,
    reason = "the names are the verbs; the table describes them"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Abor,
    Acct,
    Allo,
    Appe,
    Auth,
    Ccc,
    Cdup,
    Clnt,
    Cwd,
    Dele,
    Eprt,
    Epsv,
    Feat,
    Help,
    Host,
    Lang,
    List,
    Mdtm,
    Mfmt,
    Mkd,
    Mlsd,
    Mlst,
    Mode,
    Nlst,
    Noop,
    Opts,
    Pass,
    Pasv,
    Pbsz,
    Port,
    Prot,
    Pwd,
    Quit,
    Rein,
    Rest,
    Retr,
    Rmd,
    Rnfr,
    Rnto,
    Site,
    Size,
    Stat,
    Stor,
    Stou,
    Stru,
    Syst,
    Type,
    User,
    /// Known, and refused whatever its argument.
    Refused,
}

impl Verb {
    /// Whether this command uses the data connection, and with it the set-up.
    #[must_use]
    pub const fn is_transfer(self) -> bool {
        matches!(
            self,
            Self::Retr
                | Self::Stor
                | Self::Appe
                | Self::Stou
                | Self::List
                | Self::Nlst
                | Self::Mlsd
        )
    }

    /// Its name, in capitals; `None` for those that are known and never carried out.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let mut rows = TABLE.iter().filter(|_| self != Self::Refused);
        rows.find(|row| row.verb == self).map(Row::name)
    }
}

/// When a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Before login, and in the clear although policy wants TLS.
    Anyone,
    /// Before login, but only under TLS where policy wants it.
    Channel,
    /// After login.
    Login,
}

/// What follows the verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// Anything; it is not looked at.
    Ignored,
    /// Words, spaces around them taken off.
    Words,
    /// Words or nothing.
    OptionalWords,
    /// Every octet after the one space (RFC 2640 §3.1), at least one.
    Path,
    /// Every octet after the one space, or nothing.
    OptionalPath,
}

/// What FEAT shows of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Nothing: RFC 959 has it, or it is refused.
    None,
    /// This line.
    Line(&'static str),
    /// This line where TLS is available.
    Security(&'static str),
    /// `PROT C;P;` or `PROT P;`, by policy.
    Protection,
    /// CCC, where policy allows it and the connection is explicit.
    ClearControl,
    /// MLST with the facts in force.
    Facts,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// The verb.
    pub verb: Verb,
    /// Its name, then its aliases, in capitals.
    pub names: &'static [&'static str],
    /// When it may run.
    pub gate: Gate,
    /// What follows it.
    pub argument: Argument,
    /// Its FEAT line.
    pub feature: Feature,
    /// Its reply when it is known but never carried out.
    pub refusal: Option<Code>,
    /// HELP: the syntax and what it does.
    pub help: &'static str,
    /// Where it is specified.
    pub reference: &'static str,
}

impl Row {
    const fn new(
        verb: Verb,
        names: &'static [&'static str],
        gate: Gate,
        argument: Argument,
        help: &'static str,
        reference: &'static str,
    ) -> Self {
        Self {
            verb,
            names,
            gate,
            argument,
            feature: Feature::None,
            refusal: None,
            help,
            reference,
        }
    }

    const fn refused(
        names: &'static [&'static str],
        gate: Gate,
        code: Code,
        help: &'static str,
        reference: &'static str,
    ) -> Self {
        let mut row = Self::new(Verb::Refused, names, gate, Ignored, help, reference);
        row.refusal = Some(code);
        row
    }

    const fn with(mut self, feature: Feature) -> Self {
        self.feature = feature;
        self
    }

    /// The verb's first name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The part of the argument that counts; empty when there is none.
    ///
    /// # Errors
    /// 501 when it is missing, extra, or holds NUL or CR.
    pub fn check<'line>(&self, argument: Option<&'line [u8]>) -> Result<&'line [u8], Refusal> {
        if self.argument == Ignored {
            return Ok(&[]);
        }
        let argument = argument.unwrap_or_default();
        if argument.iter().any(|octet| matches!(octet, 0 | b'\r')) {
            return Err((Code::BadArgument, "Octet not allowed in an argument."));
        }
        let words = argument.trim_ascii();
        match self.argument {
            Argument::None if !words.is_empty() => {
                Err((Code::BadArgument, "No argument is allowed here."))
            }
            Words if words.is_empty() => Err((Code::BadArgument, "Argument missing.")),
            Path if argument.is_empty() => Err((Code::BadArgument, "Argument missing.")),
            Path | OptionalPath => Ok(argument),
            _ => Ok(words),
        }
    }
}

use Argument::{Ignored, OptionalPath, OptionalWords, Path, Words};
use Feature::{ClearControl, Facts, Line, Protection, Security};
use Gate::{Anyone, Channel, Login};

/// Every command, in the order of FEAT and HELP.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    Row::new(Verb::Abor, &["ABOR"], Channel, Argument::None, "ABOR: end the running transfer", "RFC 959 4.1.3"),
    Row::new(Verb::Acct, &["ACCT"], Login, Words, "ACCT text: not needed", "RFC 959 4.1.1"),
    Row::refused(&["ADAT"], Anyone, Code::BadSequence, "ADAT: not used by TLS", "RFC 4217 4"),
    Row::refused(&["ALGS"], Anyone, Code::NotImplemented, "ALGS: not implemented", "none"),
    Row::new(Verb::Allo, &["ALLO"], Login, Words, "ALLO octets [R octets]: ask whether there is room", "RFC 959 4.1.3"),
    Row::new(Verb::Appe, &["APPE"], Login, Path, "APPE path: append to a file, or create it", "RFC 959 4.1.3"),
    Row::new(Verb::Auth, &["AUTH"], Anyone, Words, "AUTH TLS|TLS-C|SSL: begin TLS on this connection", "RFC 4217 4").with(Security("AUTH TLS;SSL;")),
    Row::new(Verb::Ccc, &["CCC"], Anyone, Argument::None, "CCC: end TLS on this connection", "RFC 4217 5").with(ClearControl),
    Row::new(Verb::Cdup, &["CDUP", "XCUP"], Login, Argument::None, "CDUP: change to the parent directory", "RFC 959 4.1.1"),
    Row::new(Verb::Clnt, &["CLNT"], Anyone, Words, "CLNT name: name the client program", "custom").with(Line("CLNT")),
    Row::refused(&["CONF"], Anyone, Code::NotImplemented, "CONF: not implemented, use TLS", "RFC 2228 3"),
    Row::new(Verb::Cwd, &["CWD", "XCWD"], Login, Path, "CWD path: change the directory", "RFC 959 4.1.1"),
    Row::new(Verb::Dele, &["DELE"], Login, Path, "DELE path: delete a file", "RFC 959 4.1.3"),
    Row::refused(&["ENC"], Anyone, Code::NotImplemented, "ENC: not implemented, use TLS", "RFC 2228 3"),
    Row::new(Verb::Eprt, &["EPRT"], Login, Words, "EPRT |family|address|port|: connect there for the next transfer", "RFC 2428 2").with(Line("EPRT")),
    Row::new(Verb::Epsv, &["EPSV"], Login, OptionalWords, "EPSV [1|2|ALL]: listen for the next transfer", "RFC 2428 3").with(Line("EPSV")),
    Row::refused(&["ESTA"], Anyone, Code::NotImplemented, "ESTA: not implemented", "none"),
    Row::refused(&["ESTP"], Anyone, Code::NotImplemented, "ESTP: not implemented", "none"),
    Row::new(Verb::Feat, &["FEAT"], Anyone, Argument::None, "FEAT: list the features", "RFC 2389 3"),
    Row::new(Verb::Help, &["HELP"], Anyone, OptionalWords, "HELP [command]: explain a command", "RFC 959 4.1.3"),
    Row::new(Verb::Host, &["HOST"], Anyone, Words, "HOST name: choose a virtual host", "RFC 7151").with(Line("HOST")),
    Row::new(Verb::Lang, &["LANG"], Anyone, OptionalWords, "LANG [EN]: choose the language of the replies", "RFC 2640 4.1").with(Line("LANG EN*")),
    Row::new(Verb::List, &["LIST"], Login, OptionalPath, "LIST [-a] [path]: list a directory or a file", "RFC 959 4.1.3"),
    Row::refused(&["LPRT"], Login, Code::NotImplemented, "LPRT: not implemented, use EPRT", "RFC 5797"),
    Row::refused(&["LPSV"], Login, Code::NotImplemented, "LPSV: not implemented, use EPSV", "RFC 5797"),
    Row::new(Verb::Mdtm, &["MDTM"], Login, Path, "MDTM path: time of modification", "RFC 3659 3").with(Line("MDTM")),
    Row::refused(&["MFCT"], Login, Code::NotImplemented, "MFCT: not implemented", "draft-somers-ftp-mfxx"),
    Row::new(Verb::Mfmt, &["MFMT"], Login, Path, "MFMT YYYYMMDDHHMMSS path: set the time of modification", "draft-somers-ftp-mfxx 3").with(Line("MFMT")),
    Row::refused(&["MIC"], Anyone, Code::NotImplemented, "MIC: not implemented, use TLS", "RFC 2228 3"),
    Row::new(Verb::Mkd, &["MKD", "XMKD"], Login, Path, "MKD path: make a directory", "RFC 959 4.1.3"),
    Row::new(Verb::Mlsd, &["MLSD"], Login, OptionalPath, "MLSD [path]: list a directory for programs", "RFC 3659 7"),
    Row::new(Verb::Mlst, &["MLST"], Login, OptionalPath, "MLST [path]: facts of a file or directory", "RFC 3659 7").with(Facts),
    Row::new(Verb::Mode, &["MODE"], Login, Words, "MODE S: stream mode, the only one", "RFC 959 4.1.2"),
    Row::new(Verb::Nlst, &["NLST"], Login, OptionalPath, "NLST [-a] [path]: list names", "RFC 959 4.1.3"),
    Row::new(Verb::Noop, &["NOOP"], Anyone, Ignored, "NOOP: do nothing", "RFC 959 4.1.3"),
    Row::new(Verb::Opts, &["OPTS"], Anyone, Words, "OPTS UTF8 [ON|OFF]|MLST [facts]: set options", "RFC 2389 4"),
    Row::new(Verb::Pass, &["PASS"], Channel, OptionalPath, "PASS password: log in", "RFC 959 4.1.1"),
    Row::new(Verb::Pasv, &["PASV", "P@SW"], Login, Argument::None, "PASV: listen for the next transfer", "RFC 959 4.1.2"),
    Row::new(Verb::Pbsz, &["PBSZ"], Anyone, Words, "PBSZ 0: protection buffer size", "RFC 4217 8").with(Security("PBSZ")),
    Row::new(Verb::Port, &["PORT"], Login, Words, "PORT h1,h2,h3,h4,p1,p2: connect there for the next transfer", "RFC 959 4.1.2"),
    Row::refused(&["PRET"], Anyone, Code::NotImplemented, "PRET: not implemented", "none"),
    Row::new(Verb::Prot, &["PROT"], Anyone, Words, "PROT C|P: clear or protected data connections", "RFC 4217 9").with(Protection),
    Row::new(Verb::Pwd, &["PWD", "XPWD"], Login, Argument::None, "PWD: show the directory", "RFC 959 4.1.3"),
    Row::new(Verb::Quit, &["QUIT"], Anyone, Ignored, "QUIT: log out and close", "RFC 959 4.1.1"),
    Row::new(Verb::Rein, &["REIN"], Anyone, Argument::None, "REIN: begin again as if just connected", "RFC 959 4.1.1"),
    Row::new(Verb::Rest, &["REST"], Login, Words, "REST octets: where the next transfer begins", "RFC 3659 5").with(Line("REST STREAM")),
    Row::new(Verb::Retr, &["RETR"], Login, Path, "RETR path: download a file", "RFC 959 4.1.3"),
    Row::refused(&["RMDA"], Anyone, Code::NotImplemented, "RMDA: not implemented", "none"),
    Row::new(Verb::Rmd, &["RMD", "XRMD"], Login, Path, "RMD path: remove an empty directory", "RFC 959 4.1.3"),
    Row::new(Verb::Rnfr, &["RNFR"], Login, Path, "RNFR path: the old name, before RNTO", "RFC 959 4.1.3"),
    Row::new(Verb::Rnto, &["RNTO"], Login, Path, "RNTO path: the new name, after RNFR", "RFC 959 4.1.3"),
    Row::new(Verb::Site, &["SITE"], Login, Path, "SITE HELP|CHMOD|UTIME|QUOTA: commands of this server", "RFC 959 4.1.3"),
    Row::new(Verb::Size, &["SIZE"], Login, Path, "SIZE path: octets that a transfer would move", "RFC 3659 4").with(Line("SIZE")),
    Row::refused(&["SMNT"], Login, Code::NotImplemented, "SMNT: not implemented", "RFC 959 4.1.1"),
    Row::new(Verb::Stat, &["STAT"], Login, OptionalPath, "STAT [path]: status of the session, or list here", "RFC 959 4.1.3"),
    Row::new(Verb::Stor, &["STOR"], Login, Path, "STOR path: upload a file", "RFC 959 4.1.3"),
    Row::new(Verb::Stou, &["STOU"], Login, OptionalPath, "STOU [prefix]: upload under a new name", "RFC 1123 4.1.2.9"),
    Row::new(Verb::Stru, &["STRU"], Login, Words, "STRU F: file structure, the only one", "RFC 959 4.1.2"),
    Row::new(Verb::Syst, &["SYST"], Anyone, Argument::None, "SYST: system type", "RFC 959 4.1.3"),
    Row::refused(&["THMB"], Anyone, Code::NotImplemented, "THMB: not implemented", "none"),
    Row::new(Verb::Type, &["TYPE"], Login, Words, "TYPE A|I|L 8: text or binary", "RFC 959 4.1.2"),
    Row::new(Verb::User, &["USER"], Channel, Words, "USER name: name the user", "RFC 959 4.1.1"),
];

/// Features that belong to no verb, after those of the table (RFC 3659 §6, RFC 2640 §3.2).
pub const FEATURES_WITHOUT_VERB: [&str; 2] = ["TVFS", "UTF8"];

/// Splits a line at its first space; without one there is no argument.
#[must_use]
pub fn split(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = line.splitn(2, |octet| *octet == b' ');
    (parts.next().unwrap_or_default(), parts.next())
}

/// The row of a verb, in any case.
#[must_use]
pub fn find(verb: &[u8]) -> Option<&'static Row> {
    TABLE.iter().find(|row| {
        row.names
            .iter()
            .any(|name| name.as_bytes().eq_ignore_ascii_case(verb))
    })
}

/// Whether a line is this verb with nothing after it but spaces.
#[must_use]
pub fn is_bare(line: &[u8], verb: Verb) -> bool {
    let (name, argument) = split(line);
    argument.is_none_or(|argument| argument.trim_ascii().is_empty())
        && find(name).is_some_and(|row| row.verb == verb)
}

/// SECURITY: whether a verb comes from a client of another protocol, made to talk to us by an
/// attacker: HTTP requests and headers, SMTP, SSH. No FTP client sends these.
#[must_use]
pub fn is_foreign(verb: &[u8]) -> bool {
    const VERBS: [&[u8]; 12] = [
        b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"PATCH", b"TRACE", b"DELETE",
        b"EHLO", b"HELO", b"MAIL",
    ];
    let begins = |prefix: &[u8]| {
        verb.split_at_checked(prefix.len())
            .is_some_and(|(head, _)| head.eq_ignore_ascii_case(prefix))
    };
    VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))
        || begins(b"SSH-")
        || begins(b"HTTP/")
        || verb.ends_with(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_capitals() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|row| row.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            assert_eq!(
                find(name.to_lowercase().as_bytes()).unwrap().name().len(),
                {
                    let row = find(name.as_bytes()).unwrap();
                    row.names[0].len()
                }
            );
            assert_eq!(*name, name.to_uppercase());
            assert!(!is_foreign(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn c033_refused_verbs_are_not_features() {
        for row in TABLE {
            assert_eq!(row.refusal.is_some(), row.verb == Verb::Refused);
            assert!(row.refusal.is_none() || row.feature == Feature::None);
            assert!(row.help.starts_with(row.name()), "{}", row.name());
        }
    }

    #[test]
    fn splits_at_exactly_one_space() {
        assert_eq!(split(b"NOOP"), (&b"NOOP"[..], None));
        assert_eq!(split(b"CWD "), (&b"CWD"[..], Some(&b""[..])));
        assert_eq!(split(b"CWD  a "), (&b"CWD"[..], Some(&b" a "[..])));
        assert_eq!(split(b" CWD"), (&b""[..], Some(&b"CWD"[..])));
    }

    #[test]
    fn checks_arguments() {
        let check = |verb: &str, argument| find(verb.as_bytes()).unwrap().check(argument).ok();
        assert_eq!(check("RETR", None), None);
        assert_eq!(check("RETR", Some(b"")), None);
        assert_eq!(check("RETR", Some(b" a ")), Some(&b" a "[..]));
        assert_eq!(check("RETR", Some(b"a\0")), None);
        assert_eq!(check("RETR", Some(b"a\rb")), None);
        assert_eq!(check("TYPE", Some(b" i ")), Some(&b"i"[..]));
        assert_eq!(check("TYPE", Some(b"  ")), None);
        assert_eq!(check("PWD", Some(b"  ")), Some(&b""[..]));
        assert_eq!(check("PWD", Some(b"x")), None);
        assert_eq!(check("LIST", None), Some(&b""[..]));
        assert_eq!(check("NOOP", Some(b"\0")), Some(&b""[..]));
        assert_eq!(check("PASS", Some(b" x ")), Some(&b" x "[..]));
    }

    #[test]
    fn c128_other_protocols() {
        for verb in ["GET", "get", "Host:", "SSH-2.0-x", "HTTP/1.1", "EHLO"] {
            assert!(is_foreign(verb.as_bytes()), "{verb}");
        }
        for verb in ["USER", "SSH", "GETX", "", "OPTS"] {
            assert!(!is_foreign(verb.as_bytes()), "{verb}");
        }
    }

    #[test]
    fn bare_commands() {
        assert!(is_bare(b"abor", Verb::Abor));
        assert!(is_bare(b"STAT  ", Verb::Stat));
        assert!(!is_bare(b"STAT x", Verb::Stat));
        assert!(!is_bare(b"NOOP", Verb::Abor));
    }
}
