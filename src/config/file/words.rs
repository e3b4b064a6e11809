//! Words of the command line: in and out of clap.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::ArgMatches;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use super::table::{Key, Kind, UNSET, command};
use crate::config::{Exit, Failure};

/// What the command line says of a key, if anything.
pub(super) fn words_given(matches: &ArgMatches, key: &Key) -> Option<Vec<OsString>> {
    let on_command_line = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if key.kind != Kind::Flag {
        return on_command_line(key.id()).then(|| raw(matches, key.id()));
    }
    let unset = format!("{UNSET}{}", key.name);
    if on_command_line(&unset) {
        return Some(vec!["false".into()]);
    }
    on_command_line(key.id()).then(|| vec!["true".into()])
}

pub(super) fn raw(matches: &ArgMatches, id: &str) -> Vec<OsString> {
    let values = matches.get_raw(id).into_iter().flatten();
    values.map(OsStr::to_owned).collect()
}

pub(super) fn absolute(word: OsString) -> Result<OsString, Failure> {
    match std::path::absolute(&word) {
        Ok(path) => Ok(path.into()),
        // An empty one is refused by the option itself.
        Err(_) if word.is_empty() => Ok(word),
        Err(error) => Err(Failure::io(Exit::NoInput, Path::new(&word), &error)),
    }
}

/// Parses the words behind `serve`.
pub(super) fn parse_serve(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let head = ["ringftpd", "serve"].map(OsString::from);
    let all = head.iter().chain(words);
    let mut matches = command().try_get_matches_from(all)?;
    let serve = matches.remove_subcommand();
    serve
        .map(|(_, matches)| matches)
        .ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))
}

pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
