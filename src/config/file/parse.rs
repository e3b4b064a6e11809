//! The text of a configuration file, checked against the table: every key and every value, each on its own.

use std::ffi::OsString;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::{nearest, normal};
use super::problem::{Place, Problem};
use super::sections::{Complaints, Section, Structures};
use super::table::{Key, Kind, Table, alternatives};

/// Longest value that an error quotes, in octets.
const QUOTED_OCTETS_MAX: usize = 80;

/// A key that the file sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: String,
    /// Its values as the command line takes them; relative paths begin at the file's directory. None when the
    /// key is said to be not set.
    pub(super) words: Vec<OsString>,
    /// Where the value stands.
    pub(super) place: Place,
}

/// What stands in a file.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The good keys, in the order of the file's sections.
    pub(super) entries: Vec<Entry>,
    /// The sections that are no lists of options.
    pub(super) structures: Structures,
    /// Their text without comments, to see whether it changes.
    pub(super) structured: Vec<(&'static str, String)>,
    /// Everything that is wrong.
    pub(super) problems: Vec<Problem>,
    /// Keys that the file sets to what they cannot take.
    pub(super) bad: Vec<String>,
}

/// Parses a text; paths in it are relative to `base`.
pub(super) fn parse(text: &str, base: &Path, table: &Table, sections: &[Section]) -> Parsed {
    let (document, errors) = DeTable::parse_recoverable(text);
    let syntax: Vec<Problem> = errors
        .iter()
        .map(|error| {
            let octet = error.span().map_or(text.len(), |span| span.start);
            // Not the whole error, which quotes the line.
            let message = error.message().lines().next().unwrap_or("not TOML");
            Problem::at(Place::of(text, octet), format!("not TOML: {message}"))
        })
        .collect();
    let mut reader = Reader {
        base,
        table,
        sections,
        complaints: Complaints::new(text),
        parsed: Parsed::default(),
    };
    let spoilt: Vec<usize> = syntax
        .iter()
        .flat_map(|p| p.place)
        .map(|p| p.line)
        .collect();
    let is_heading = |line: &usize| {
        let line = text.lines().nth(line.saturating_sub(1));
        line.is_none_or(|line| line.trim_start().starts_with('['))
    };
    // After a spoilt heading keys would be looked for in the wrong section.
    if !spoilt.iter().any(is_heading) {
        reader.document(document.get_ref());
    }
    let mut parsed = reader.parsed;
    parsed.problems = reader.complaints.into_list();
    parsed.problems.retain(|problem| {
        let line = problem.place.map(|place| place.line);
        line.is_none_or(|line| !spoilt.contains(&line))
    });
    parsed.problems.extend(syntax);
    if parsed.problems.is_empty()
        && let Ok(plain) = toml::from_str::<toml::Table>(text)
    {
        parsed.structured = sections
            .iter()
            .filter_map(|section| Some((section.name, plain.get(section.name)?.to_string())))
            .collect();
    }
    parsed
}

struct Reader<'a> {
    base: &'a Path,
    table: &'a Table,
    sections: &'a [Section],
    complaints: Complaints<'a>,
    parsed: Parsed,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let (octets, name) = (name.span(), name.get_ref().as_ref());
            let section = self.table.sections().find(|(section, _)| *section == name);
            if let Some((section, _)) = section {
                match value.get_ref() {
                    DeValue::Table(keys) => self.section(section, keys),
                    _ => {
                        let message = format!(
                            "`{section}` is a section: write [{section}] on a line of its own, and its keys below"
                        );
                        self.complaints.add(&octets, message);
                    }
                }
            } else if let Some(section) = self.sections.iter().find(|s| s.name == name) {
                (section.parse)(&mut self.parsed.structures, value, &mut self.complaints);
            } else {
                self.key(None, name, octets, value);
            }
        }
    }

    fn section(&mut self, section: &'static str, keys: &DeTable<'_>) {
        for (name, value) in keys {
            self.key(Some(section), name.get_ref(), name.span(), value);
        }
    }

    fn key(
        &mut self,
        section: Option<&str>,
        name: &str,
        octets: std::ops::Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let table = self.table;
        let Some(key) = table.keys_of(section).find(|key| key.name == name) else {
            let message = self.unknown(section, name, value.get_ref());
            self.complaints.add(&octets, message);
            return;
        };
        match self.words(key, value) {
            Some(words) => self.parsed.entries.push(Entry {
                name: key.name.clone(),
                words,
                place: self.complaints.place(&value.span()),
            }),
            None => self.parsed.bad.push(key.name.clone()),
        }
    }

    /// What is wrong with a name that is no key here. Says nothing of its value.
    fn unknown(&self, section: Option<&str>, name: &str, value: &DeValue<'_>) -> String {
        let place = |section: Option<&str>| match section {
            Some(section) => format!("in [{section}]"),
            None => "at the top of the file, before the first section".to_owned(),
        };
        let shown: String = name.chars().take(64).collect();
        let is_table = matches!(value, DeValue::Table(_) | DeValue::Array(_));
        let sections = || {
            let options = self.table.sections().map(|(section, _)| section);
            options.chain(self.sections.iter().map(|section| section.name))
        };
        let (kind, near) = if section.is_none() && is_table {
            let near = nearest(name, sections()).map(|near| format!("[{near}]"));
            ("section", near)
        } else {
            ("key", None)
        };
        let near = near.or_else(|| {
            let here = nearest(
                name,
                self.table.keys_of(section).map(|key| key.name.as_str()),
            );
            if let Some(here) = here {
                return Some(format!("`{here}`"));
            }
            let key = self.table.find(&normal(name)).or_else(|| {
                let all = self.table.keys.iter().map(|key| key.name.as_str());
                self.table.find(nearest(name, all)?)
            })?;
            Some(format!("`{}`, {}", key.name, place(key.section)))
        });
        let allowed = match section {
            Some(_) => {
                let keys = self.table.keys_of(section).map(|key| key.name.clone());
                format!("keys here are {}", listed(keys))
            }
            None => format!(
                "sections are {}",
                listed(sections().map(|s| format!("[{s}]")))
            ),
        };
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        let here = match section {
            Some(section) => format!(" in [{section}]"),
            None => String::new(),
        };
        format!("unknown {kind} `{shown}`{here}{hint} ({allowed})")
    }

    /// The values as words of the command line; `None` when one is wrong, and that was said.
    fn words(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Vec<OsString>> {
        match (key.kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(on)) => Some(vec![on.to_string().into()]),
            (Kind::Many, DeValue::Array(values)) => {
                let words: Vec<_> = values.iter().map(|value| self.word(key, value)).collect();
                words.into_iter().collect()
            }
            // What has no default can still be said to be unset.
            (Kind::One, DeValue::String(word)) if word.is_empty() && key.can_be_unset() => {
                Some(Vec::new())
            }
            _ => Some(vec![self.word(key, value)?]),
        }
    }

    fn word(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<OsString> {
        let result = match value.get_ref() {
            _ if key.kind == Kind::Flag => Err(format!("give {}", key.takes())),
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => {
                let digits = i128::from_str_radix(number.as_str(), number.radix());
                digits
                    .map(|number| number.to_string())
                    .map_err(|_| "the number is too large".to_owned())
            }
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Boolean(on) if key.is_switch() => {
                Ok(if *on { "on" } else { "off" }.to_owned())
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                let kind = value.get_ref().type_str();
                Err(format!("it takes no {kind}: give {}", key.takes()))
            }
        };
        let word = match result {
            Ok(word) => word,
            Err(message) => {
                let message = format!("{}: {message}", key.name);
                self.complaints.add(&value.span(), message);
                return None;
            }
        };
        if let Err(why) = check(key, &word) {
            let quotable = !key.is_secret()
                && word.len() <= QUOTED_OCTETS_MAX
                && !word.chars().any(char::is_control);
            let quoted = if quotable {
                format!(" \"{word}\"")
            } else {
                String::new()
            };
            let message = format!("{}{quoted}: {why}", key.name);
            self.complaints.add(&value.span(), message);
            return None;
        }
        if key.is_path() {
            return Some(self.base.join(word).into());
        }
        Some(word.into())
    }
}

fn check(key: &Key, word: &str) -> Result<(), String> {
    // SECURITY: whoever puts a private key here instead of its path must not find it in a log.
    if key.is_path() && (word.contains(['\n', '\r', '\0']) || word.contains("-----BEGIN")) {
        return Err("this is no path: give that of the file, not its contents".to_owned());
    }
    if word.contains('\0') {
        return Err("a value cannot contain the character NUL".to_owned());
    }
    key.check(word)
}

fn listed(words: impl Iterator<Item = String>) -> String {
    alternatives(words).replace(" or ", " and ")
}
