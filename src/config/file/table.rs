//! The keys of the configuration file: the options of `ringftpd serve`, as clap knows them.
//!
//! Nothing is said twice: name, help, default and parser of a key are those of the option. What clap does not
//! know stands here: the section of each help heading, and whether a reload can change the key.

use std::ffi::OsString;

use clap::builder::ValueHint;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::config::{CommandLine, DoctorOptions};

/// The section of each help heading.
const SECTIONS: &[(&str, &str)] = &[
    ("Listening", "listening"),
    ("Certificates and accounts", "accounts"),
    ("Protection", "protection"),
    ("Transfers", "transfers"),
    ("Files", "files"),
    ("Process", "process"),
    ("Timers (300, 300s, 500ms, 5m, 1h)", "timers"),
    ("Limits (0 for none)", "limits"),
    (
        "Rates (octets a second: 65536, 500k, 10M, 10Mi; 0 for no limit)",
        "rates",
    ),
    ("Who may connect", "access"),
    ("Restart and upgrade", "restart"),
    ("Logs", "logs"),
    ("Metrics", "metrics"),
];

/// Keys that a running server takes from the file at SIGHUP, for new connections.
const LIVE: &[&str] = &[
    "passive-ports",
    "passive-address",
    "passive-address-for",
    "passive-peer",
    "proxy-from",
    "proxy-others",
    "active",
    "cert",
    "key",
    "users",
    "client-cert",
    "client-ca",
    "client-crl",
    "anonymous",
    "pam-directory",
    "pam-permissions",
    "resume",
    "protect-control",
    "protect-data",
    "ccc",
    "strict-eof",
    "fsync",
    "remove-partial",
    "upload-mode",
    "hidden-name",
    "denied-name",
    "charset",
    "list-zone",
    "ktls",
    "ktls-download",
    "ktls-upload",
    "ktls-key-records",
    "route",
    "handshake-timeout",
    "login-timeout",
    "idle-timeout",
    "connect-timeout",
    "stall-timeout",
    "close-timeout",
    "drain-timeout",
    "bad-login-delay",
    "grace",
    "connections-max",
    "connections-per-address-max",
    "sessions-per-user-max",
    "quota-per-user",
    "download-rate-per-session",
    "upload-rate-per-session",
    "download-rate-per-user",
    "upload-rate-per-user",
    "download-rate-total",
    "upload-rate-total",
    "allow",
    "deny",
    "login-failures-max",
    "login-failures-per-network-max",
    "login-failure-window",
    "ban-time",
    "retire-timeout",
    "log-level",
];

/// Keys that only a new process takes: what is bound, forked or given away at the start.
const RESTART: &[&str] = &[
    "directory",
    "explicit",
    "implicit",
    "active-source-port",
    "pam",
    "pam-uid-min",
    "run-as",
    "cores",
    "busy-poll",
    "listing-cache",
    "state-dir",
    "log-format",
    "log-file",
    "transfer-log",
    "transfer-log-format",
    "metrics",
    "histogram-log",
    "histogram-interval",
];

/// Options that are no keys, as hidden ones: they are about the file itself, about this very start, or ask for help.
const NO_KEYS: &[&str] = &["config", "take_over", "help", "version"];

/// Begins the option that unsets a flag: `--no-ccc`.
pub(super) const UNSET: &str = "no-";

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At SIGHUP, for new connections.
    Live,
    /// When the server is started again.
    Restart,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// true or false.
    Flag,
    /// One value.
    One,
    /// One value, or an array of them.
    Many,
}

/// One key of the file, one option of the command line.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name: that of the option, without `--`.
    pub(super) name: String,
    /// Its section; `None` at the top of the file.
    pub(super) section: Option<&'static str>,
    pub(super) kind: Kind,
    /// `None` fails a test.
    pub(super) change: Option<Change>,
    arg: Arg,
}

impl Key {
    fn new(arg: &Arg) -> Option<Self> {
        let id = arg.get_id().as_str();
        let name = arg.get_long().unwrap_or(id).to_owned();
        if NO_KEYS.contains(&id) || arg.is_hide_set() {
            return None;
        }
        let section = match arg.get_help_heading() {
            Some(heading) => Some(section_of(heading)?),
            None => None,
        };
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Flag,
            ArgAction::Append => Kind::Many,
            ArgAction::Set => Kind::One,
            _ => return None,
        };
        let change = [(LIVE, Change::Live), (RESTART, Change::Restart)]
            .into_iter()
            .find(|(names, _)| names.contains(&name.as_str()))
            .map(|(_, change)| change);
        Some(Self {
            name,
            section,
            kind,
            change,
            arg: arg.clone(),
        })
    }

    /// Its name in clap.
    pub(super) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    /// Whether the command line takes it without a name.
    pub(super) fn is_positional(&self) -> bool {
        self.arg.is_positional()
    }

    /// What the option's help says.
    pub(super) fn help(&self) -> String {
        self.arg
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// The default; none for options that are off or unset, and whose help says what follows from that.
    pub(super) fn default(&self) -> Option<String> {
        let value = self.arg.get_default_values().first()?;
        (self.kind != Kind::Flag).then(|| value.to_string_lossy().into_owned())
    }

    /// Whether the empty string stands for what follows when nobody names a value. So it does for paths with a
    /// default, since a relative one would mean something else in the file than on the command line.
    pub(super) fn can_be_unset(&self) -> bool {
        self.default().is_none() || self.is_path()
    }

    /// Whether these values are the default, or say that the key is not set.
    pub(super) fn says_default(&self, words: &[OsString]) -> bool {
        match (words, self.kind) {
            ([], _) => true,
            ([word], Kind::Flag) => word == "false",
            ([word], _) => self.default().is_some_and(|default| **word == *default),
            _ => false,
        }
    }

    /// Whether the value is the path of a file or directory.
    pub(super) fn is_path(&self) -> bool {
        matches!(
            self.arg.get_value_hint(),
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
        )
    }

    /// Whether a value of this key must not be shown.
    pub(super) fn is_secret(&self) -> bool {
        let words = ["password", "passphrase", "secret", "token"];
        words.iter().any(|word| self.name.contains(word))
    }

    /// Whether `on` and `off` are among the values, so that true and false can stand for them.
    pub(super) fn is_switch(&self) -> bool {
        let values = self.possible_values();
        values.iter().any(|value| value == "on") && values.iter().any(|value| value == "off")
    }

    fn possible_values(&self) -> Vec<String> {
        let values = self.arg.get_possible_values();
        values
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect()
    }

    /// What may stand behind the `=`, in a few words.
    pub(super) fn takes(&self) -> String {
        if self.kind == Kind::Flag {
            return "true or false".to_owned();
        }
        let values = self.possible_values();
        if !values.is_empty() {
            return alternatives(values.iter().map(|value| format!("\"{value}\"")));
        }
        let name = self.arg.get_value_names().and_then(|names| names.first());
        let name = name.map_or("VALUE", |name| name.as_str());
        match self.kind {
            Kind::Many => format!("{name}, or an array of them"),
            Kind::Flag | Kind::One => name.to_owned(),
        }
    }

    /// Checks one value by the option's own parser.
    ///
    /// # Errors
    /// Why it is refused, and what is allowed.
    pub(super) fn check(&self, word: &str) -> Result<(), String> {
        let mut arg = Arg::new("value")
            .long("value")
            .action(self.arg.get_action().clone());
        if self.kind != Kind::Flag {
            arg = arg.value_parser(self.arg.get_value_parser().clone());
        }
        let command = Command::new("value").no_binary_name(true).arg(arg);
        let result = command.try_get_matches_from([format!("--value={word}")]);
        result
            .map(|_| ())
            .map_err(|error| self.explain(word, &error))
    }

    fn explain(&self, word: &str, error: &clap::Error) -> String {
        if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue)
            && !values.is_empty()
        {
            return format!("give {}", alternatives(values.iter().cloned()));
        }
        if word.is_empty() {
            return format!("it is empty: give {}", self.takes());
        }
        let source = std::error::Error::source(error).map(ToString::to_string);
        match source {
            // A parser's own words may quote the value.
            _ if self.is_secret() => format!("give {}", self.takes()),
            Some(why) if error.kind() == ErrorKind::ValueValidation => {
                let numbers = ["invalid digit", "number too", "cannot parse integer"];
                if numbers.iter().any(|number| why.starts_with(number)) {
                    return format!("give a whole number ({why})");
                }
                // Ours say what is allowed.
                if why.starts_with("give") || why.contains("; ") {
                    return why;
                }
                format!("{why} (it takes {})", self.takes())
            }
            _ => format!("give {}", self.takes()),
        }
    }
}

fn section_of(heading: &str) -> Option<&'static str> {
    let row = SECTIONS.iter().find(|(known, _)| *known == heading)?;
    Some(row.1)
}

/// `a, b or c`.
pub(super) fn alternatives(words: impl IntoIterator<Item = String>) -> String {
    let mut words: Vec<String> = words.into_iter().collect();
    let Some(last) = words.pop() else {
        return String::new();
    };
    if words.is_empty() {
        return last;
    }
    format!("{} or {last}", words.join(", "))
}

/// All keys, in the order of `--help`.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) keys: Vec<Key>,
}

impl Table {
    pub(super) fn new() -> Self {
        let keys = serve_command()
            .get_arguments()
            .filter_map(Key::new)
            .collect();
        Self { keys }
    }

    /// The key of this name, in whatever section.
    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The sections in order, each with the heading that `--help` gives it.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let used = |section| self.keys.iter().any(|key| key.section == Some(section));
        SECTIONS
            .iter()
            .filter(move |(_, section)| used(*section))
            .map(|(heading, section)| (*section, *heading))
    }

    /// The keys of a section, or of the top of the file.
    pub(super) fn keys_of(&self, section: Option<&str>) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.section == section)
    }
}

/// The whole command line. Each flag of `serve` has a counterpart that unsets it where the configuration file
/// sets it, `--no-ccc` for `--ccc`. `doctor` takes the same, and shows what it looks at.
pub fn command() -> Command {
    CommandLine::command()
        .mut_subcommand("serve", with_opposites)
        .mut_subcommand("doctor", |doctor| {
            DoctorOptions::show(with_opposites(doctor))
        })
}

fn with_opposites(command: Command) -> Command {
    let is_flag = |arg: &&Arg| matches!(arg.get_action(), ArgAction::SetTrue);
    let flags: Vec<(String, String)> = command
        .get_arguments()
        .filter(is_flag)
        .filter_map(|arg| Some((arg.get_id().to_string(), arg.get_long()?.to_owned())))
        .filter(|(_, long)| !DoctorOptions::OWN.contains(&long.as_str()))
        .collect();
    flags.into_iter().fold(command, |command, (id, long)| {
        let unset = format!("{UNSET}{long}");
        let opposite = Arg::new(unset.clone())
            .long(unset.clone())
            .action(ArgAction::SetTrue)
            .overrides_with(&id)
            .hide(true);
        command
            .mut_arg(&id, |arg| arg.overrides_with(&unset))
            .arg(opposite)
    })
}

/// The command `serve` by itself.
pub(super) fn serve_command() -> Command {
    let command = command();
    let serve = command.find_subcommand("serve").cloned();
    serve.unwrap_or_else(|| Command::new("serve"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_a_key_with_a_section_and_a_mark() {
        let table = Table::new();
        for arg in serve_command().get_arguments() {
            let id = arg.get_id().as_str();
            let name = arg.get_long().unwrap_or(id);
            if NO_KEYS.contains(&id) || arg.is_hide_set() {
                continue;
            }
            let heading = arg.get_help_heading();
            assert!(
                heading.is_some() || arg.is_positional(),
                "--{name} has no help heading, which is its section in the file"
            );
            assert!(
                heading.is_none_or(|heading| section_of(heading).is_some()),
                "give the heading {heading:?} of --{name} a row in SECTIONS"
            );
            let key = table.find(name);
            let key = key.unwrap_or_else(|| panic!("--{name} does what a file cannot say"));
            assert!(
                key.change.is_some(),
                "put `{name}` into LIVE or RESTART: can SIGHUP change it?"
            );
            assert!(!key.help().is_empty(), "--{name} is not documented");
        }
        for name in LIVE.iter().chain(RESTART) {
            assert!(table.find(name).is_some(), "`{name}` is no option any more");
            let twice = LIVE.contains(name) && RESTART.contains(name);
            assert!(!twice, "`{name}` is in LIVE and in RESTART");
        }
        for (heading, section) in SECTIONS {
            let used = table.sections().any(|(name, _)| name == *section);
            assert!(used, "no option has the heading {heading:?}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}
