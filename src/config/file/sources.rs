//! The command line and the configuration file together: the command line overrides.
//!
//! What the file says is put as options before those of the command line, less what the command line says too, and
//! all of it is parsed by clap. So relations between options hold across both.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use zeroize::Zeroizing;

use super::blame::{Origins, Stage, explain};
use super::parse::{Entry, Parsed, parse};
use super::problem::{Place, Problem, Problems};
use super::sections::{SECTIONS, Structures};
use super::table::{Change, Key, Kind, Table, UNSET, serve_command};
use super::words::{absolute, first_line, parse_serve, raw, words_given};
use crate::config::hosts::HostsOptions;
use crate::config::{Checked, Exit, Failure, ServeOptions};

/// Why there is no configuration.
#[derive(Debug)]
pub enum Refusal {
    /// The command line is wrong, or asks for help.
    Usage(Box<clap::Error>),
    /// The file is.
    File(Problems),
    /// Something of the system, or the two together.
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::File(problems)
    }
}

/// Where the configuration comes from, at the start and at every reload.
#[derive(Debug)]
pub struct Sources {
    table: Table,
    /// The words behind `serve`, as given.
    given: Vec<OsString>,
    /// The same, less what is no option, with absolute paths: what a reload parses, perhaps in another directory.
    pinned: Vec<Setting>,
    file: Option<PathBuf>,
    /// What this start is for, so no key of the file.
    take_over: bool,
}

/// A key that the command line or the file sets, in the words of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    words: Vec<OsString>,
}

/// One configuration, whole and checked.
#[derive(Debug)]
pub struct Loaded {
    /// What the server is made from.
    pub checked: Checked,
    /// Sections that are no options.
    pub structures: Structures,
    /// Where in the file the keys stand that come from it.
    pub origins: Origins,
    pub(super) effective: Effective,
}

/// What came of looking at everything.
#[derive(Debug)]
pub(super) struct Survey {
    /// The configuration without the keys that are wrong.
    pub(super) loaded: Result<Loaded, Refusal>,
    pub(super) problems: Vec<Problem>,
}

/// The values of all keys. `true` beside those that are no defaults.
pub(super) type Effective = BTreeMap<String, (Vec<OsString>, bool)>;

impl Sources {
    /// The command line behind `ringftpd serve`, and the file that it names.
    ///
    /// # Errors
    /// The system does not tell the current directory, and a path depends on it.
    pub fn new(given: Vec<OsString>) -> Result<Self, Failure> {
        let table = Table::new();
        // What is wrong is told by the parse of everything; here it is only looked who says what.
        let lenient = serve_command().ignore_errors(true).no_binary_name(true);
        let Ok(matches) = lenient.try_get_matches_from(&given) else {
            // Help was asked for.
            return Ok(Self {
                table,
                given,
                pinned: Vec::new(),
                file: None,
                take_over: false,
            });
        };
        let mut pinned = Vec::new();
        for key in &table.keys {
            if let Some(words) = words_given(&matches, key) {
                let name = key.name.clone();
                let absolute = |word| {
                    if key.is_path() {
                        absolute(word)
                    } else {
                        Ok(word)
                    }
                };
                let words: Result<_, _> = words.into_iter().map(absolute).collect();
                pinned.push(Setting {
                    name,
                    words: words?,
                });
            }
        }
        let file = matches.get_one::<PathBuf>("config");
        let file = file.map(|file| absolute(file.clone().into())).transpose()?;
        Ok(Self {
            table,
            given,
            pinned,
            file: file.map(PathBuf::from),
            // Without a default where other words are wrong.
            take_over: matches.get_one("take_over").copied().unwrap_or(false),
        })
    }

    /// A file by itself.
    ///
    /// # Errors
    /// As [`Sources::new`].
    pub(in crate::config) fn only(file: &Path) -> Result<Self, Failure> {
        let mut option = OsString::from("--config=");
        option.push(file);
        Self::new(vec![option])
    }

    /// The configuration file, absolute.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file and makes the configuration.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(&self) -> Result<Loaded, Refusal> {
        self.parse_given()?;
        self.load_from(&self.read()?, None)
    }

    /// The options of file and command line together, and how clap saw them. Files that they name may be missing:
    /// whoever asks looks for them.
    ///
    /// # Errors
    /// Everything else that keeps a server from running with them.
    pub(in crate::config) fn options(&self) -> Result<(ServeOptions, ArgMatches), Refusal> {
        self.parse_given()?;
        let octets = self.read()?;
        let survey = self.survey(&octets, None);
        let problems = survey.problems.into_iter();
        let problems = problems.filter(|problem| problem.exit != Exit::NoInput);
        Problems::refuse(self.file_name(), problems.collect())?;
        match survey.loaded {
            Err(Refusal::Failure(failure)) if failure.exit == Exit::NoInput => {}
            // It may be so only without the key whose file is missing; the parse below decides.
            Err(Refusal::Usage(_)) => {}
            loaded => drop(loaded?),
        }
        let parsed = self.parse_file(self.file_name(), &octets);
        let overridden = |name: &str| self.pinned.iter().any(|setting| setting.name == name);
        let is_default = |entry: &Entry| {
            let key = self.table.find(&entry.name);
            key.is_some_and(|key| key.says_default(&entry.words))
        };
        let entries = parsed.entries.iter();
        let entries = entries.filter(|entry| !overridden(&entry.name) && !is_default(entry));
        let from_file = entries.map(|entry| (&entry.name, &entry.words));
        let given = self.pinned.iter();
        let given = given.map(|setting| (&setting.name, &setting.words));
        let usage = |error| Refusal::Usage(Box::new(error));
        let matches = parse_serve(&self.words(from_file.chain(given))).map_err(usage)?;
        let options = ServeOptions::from_arg_matches(&matches).map_err(usage)?;
        Ok((options, matches))
    }

    /// The virtual hosts of the file, as far as they make sense.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(in crate::config) fn hosts(&self) -> Result<HostsOptions, Failure> {
        let parsed = self.parse_file(self.file_name(), &self.read()?);
        Ok(parsed.structures.hosts)
    }

    /// The contents of the file, empty without one.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.file
            .as_deref()
            .map_or_else(|| Ok(Zeroizing::default()), read)
    }

    /// The words as given: an error shows them so. Where a file may add what is missing, nothing is judged yet.
    fn parse_given(&self) -> Result<(), Refusal> {
        match parse_serve(&self.given) {
            Err(error)
                if self.file.is_some() && error.kind() == ErrorKind::MissingRequiredArgument =>
            {
                Ok(())
            }
            parsed => parsed
                .map(|_| ())
                .map_err(|error| Refusal::Usage(Box::new(error))),
        }
    }

    /// Makes the configuration from the contents of the file. `state_directory`: what the server chose when it
    /// started, where neither says.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn load_from(
        &self,
        octets: &[u8],
        state_directory: Option<&Path>,
    ) -> Result<Loaded, Refusal> {
        let survey = self.survey(octets, state_directory);
        Problems::refuse(self.file_name(), survey.problems)?;
        survey.loaded
    }

    /// All that is wrong, and what there is without it.
    pub(super) fn survey(&self, octets: &[u8], state_directory: Option<&Path>) -> Survey {
        let mut pinned = self.pinned.clone();
        let file = self.file_name();
        let parsed = self.parse_file(file, octets);
        let sets = |name: &str| {
            let in_file = parsed.entries.iter().any(|entry| entry.name == name);
            in_file || pinned.iter().any(|setting| setting.name == name)
        };
        if let Some(directory) = state_directory.filter(|_| !sets("state-dir")) {
            pinned.push(Setting {
                name: "state-dir".to_owned(),
                words: vec![directory.into()],
            });
        }
        let overridden = |name: &str| pinned.iter().any(|setting| setting.name == name);
        // What says the default says nothing: some options demand others beside them as soon as they are given.
        let is_default = |entry: &Entry| {
            let key = self.table.find(&entry.name);
            key.is_some_and(|key| key.says_default(&entry.words))
        };
        let entries: Vec<&Entry> = parsed
            .entries
            .iter()
            .filter(|entry| !overridden(&entry.name) && !is_default(entry))
            .collect();
        let (result, found) = self.judge(&pinned, entries.clone(), &parsed.bad);
        let mut problems = parsed.problems;
        problems.extend(found);
        let places = entries
            .iter()
            .map(|entry| (entry.name.clone(), entry.place));
        let origins = Origins {
            file: file.to_path_buf(),
            places: places.collect(),
        };
        let loaded = match result {
            Ok((matches, mut checked)) => {
                checked.take_structures(&parsed.structures);
                let mut effective = self.effective(&matches);
                for (name, text) in parsed.structured {
                    effective.insert(name.to_owned(), (vec![text.into()], true));
                }
                Ok(Loaded {
                    checked,
                    structures: parsed.structures,
                    origins,
                    effective,
                })
            }
            Err(Stage::Check(failure)) => Err(Refusal::Failure(failure)),
            // Told in the words that were given.
            Err(Stage::Usage(error)) => {
                let words = self.with_given(&entries);
                let error = parse_serve(&words).err().map_or(error, Box::new);
                Err(Refusal::Usage(error))
            }
        };
        Survey { loaded, problems }
    }

    fn file_name(&self) -> &Path {
        self.file.as_deref().unwrap_or_else(|| Path::new(""))
    }

    fn parse_file(&self, file: &Path, octets: &[u8]) -> Parsed {
        match std::str::from_utf8(octets) {
            Ok(text) => {
                let base = file.parent().unwrap_or_else(|| Path::new("/"));
                let mut parsed = parse(text, base, &self.table, SECTIONS);
                parsed.structures.begin_at(base);
                parsed
            }
            Err(error) => {
                let before = octets.get(..error.valid_up_to()).unwrap_or_default();
                let place = Place::of(&String::from_utf8_lossy(before), before.len());
                let problem = Problem::at(place, "this is not UTF-8 text, which TOML has to be");
                Parsed {
                    problems: vec![problem],
                    ..Parsed::default()
                }
            }
        }
    }

    /// Parses and checks everything together. What a key of the file is to blame for, because it would not be
    /// wrong without that key, becomes a problem at its place; then the rest is judged without it. What is left
    /// is the result.
    fn judge(
        &self,
        pinned: &[Setting],
        mut entries: Vec<&Entry>,
        bad: &[String],
    ) -> (Result<(ArgMatches, Checked), Stage>, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut absent = bad.to_vec();
        loop {
            let stage = match self.assemble(pinned, &entries) {
                Ok(both) => return (Ok(both), problems),
                Err(stage) => stage,
            };
            let message = stage.message();
            let mended = |without: usize| {
                let mut fewer = entries.clone();
                fewer.remove(without);
                match self.assemble(pinned, &fewer) {
                    Ok(_) => true,
                    Err(other) => other.message() != message,
                }
            };
            let Some(culprit) = (0..entries.len()).find(|entry| mended(*entry)) else {
                return (Err(stage), problems);
            };
            let entry = entries.remove(culprit);
            // A key that was taken out before may be all that is missing now.
            if !stage.names(&absent) {
                problems.push(explain(&stage, entry));
            }
            absent.push(entry.name.clone());
        }
    }

    fn assemble(
        &self,
        pinned: &[Setting],
        entries: &[&Entry],
    ) -> Result<(ArgMatches, Checked), Stage> {
        let from_file = entries.iter().map(|entry| (&entry.name, &entry.words));
        let given = pinned.iter().map(|setting| (&setting.name, &setting.words));
        let words = self.words(from_file.chain(given));
        let failed = |error| Stage::Usage(Box::new(error));
        let matches = parse_serve(&words).map_err(failed)?;
        let options = ServeOptions::from_arg_matches(&matches).map_err(failed)?;
        let mut checked = Checked::new(options).map_err(Stage::Check)?;
        checked.config_file.clone_from(&self.file);
        checked.take_over = self.take_over;
        Ok((matches, checked))
    }

    /// The file's words and those of the command line as they were given.
    fn with_given(&self, entries: &[&Entry]) -> Vec<OsString> {
        let mut words = self.words(entries.iter().map(|entry| (&entry.name, &entry.words)));
        words.extend(self.given.iter().cloned());
        words
    }

    /// Keys with their values as words of the command line.
    fn words<'a>(
        &self,
        settings: impl Iterator<Item = (&'a String, &'a Vec<OsString>)>,
    ) -> Vec<OsString> {
        let mut words = Vec::new();
        for (name, values) in settings {
            let Some(key) = self.table.find(name) else {
                continue;
            };
            for value in values {
                words.push(match key.kind {
                    Kind::Flag if value == "false" => format!("--{UNSET}{name}").into(),
                    Kind::Flag => format!("--{name}").into(),
                    _ if key.is_positional() => value.clone(),
                    Kind::One | Kind::Many => {
                        let mut word = OsString::from(format!("--{name}="));
                        word.push(value);
                        word
                    }
                });
            }
        }
        words
    }

    /// The same configuration, but with keys that only a new process takes as they were at the start.
    ///
    /// # Errors
    /// The two do not go together.
    pub(super) fn pin(
        &self,
        effective: &Effective,
        started: &Effective,
        is_live: impl Fn(&str) -> bool,
    ) -> Result<(Checked, Effective), Failure> {
        let mut all = effective.clone();
        for (name, value) in started {
            if !is_live(name) {
                all.insert(name.clone(), value.clone());
            }
        }
        all.retain(|name, _| is_live(name) || started.contains_key(name));
        let given = all.iter().filter(|(_, (_, given))| *given);
        let words = self.words(given.map(|(name, (values, _))| (name, values)));
        let failed = |error: clap::Error| Failure::new(Exit::Config, first_line(&error));
        let matches = parse_serve(&words).map_err(failed)?;
        let options = ServeOptions::from_arg_matches(&matches).map_err(failed)?;
        let mut checked = Checked::new(options)?;
        checked.config_file.clone_from(&self.file);
        Ok((checked, all))
    }

    /// When a change of this key or section takes effect.
    pub(super) fn change(&self, name: &str) -> Change {
        let section = SECTIONS.iter().find(|section| section.name == name);
        let key = self.table.find(name);
        let change = key.and_then(|key| key.change);
        change
            .or_else(|| section.map(|section| section.change))
            .unwrap_or(Change::Restart)
    }

    /// Whether values of this key must not be shown.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.table.find(name).is_none_or(Key::is_secret)
    }

    fn effective(&self, matches: &ArgMatches) -> Effective {
        let value = |key: &Key| {
            let given = words_given(matches, key);
            let is_given = given.is_some();
            let words = given.unwrap_or_else(|| raw(matches, key.id()));
            (key.name.clone(), (words, is_given))
        };
        self.table.keys.iter().map(value).collect()
    }
}

/// The contents of a configuration file.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "; `ringftpd config example` prints one to begin with",
            _ => "",
        };
        let message = format!("{}{remedy}", crate::config::cause(&error));
        Failure::file(Exit::NoInput, file, message)
    };
    let keeper = crate::sys::keeper::Keeper::direct(vec![file.to_path_buf()]);
    keeper.read(file).map_err(failed)
}
