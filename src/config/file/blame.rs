//! Who is to blame for what is wrong, and where it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};

use super::parse::Entry;
use super::problem::{Place, Problem};
use super::words::first_line;
use crate::config::{Exit, Failure};

/// Where in which file a key was set.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    pub(super) file: PathBuf,
    pub(super) places: BTreeMap<String, Place>,
}

impl Origins {
    /// Where this key stands, if the file sets it.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// Puts the place before the message of a failure that names an option which the file has set.
    #[must_use]
    pub fn locate(&self, mut failure: Failure) -> Failure {
        // Behind the semicolon stands the remedy.
        let about = failure.message.split("; ").next().unwrap_or_default();
        let named = about
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .find_map(|word| self.places.get_key_value(word.strip_prefix("--")?));
        let Some((name, _)) = named else {
            return failure;
        };
        failure.message = without_dashes(&failure.message, name);
        self.locate_at(name, failure)
    }

    /// Puts the place of this key before the message, if the file has set it.
    #[must_use]
    pub(in crate::config) fn locate_at(&self, name: &str, mut failure: Failure) -> Failure {
        if let Some(place) = self.place(name) {
            failure.message = format!("{}:{place}: {}", self.file.display(), failure.message);
            if failure.exit == Exit::Usage {
                failure.exit = Exit::Config;
            }
        }
        failure
    }
}

/// In a file the option is a key; in the remedy it stays an option, of whatever command.
fn without_dashes(message: &str, name: &str) -> String {
    let (about, remedy) = message.split_at(message.find("; ").unwrap_or(message.len()));
    about.replace(&format!("--{name}"), name) + remedy
}

/// What a parse came to nothing for.
pub(super) enum Stage {
    Usage(Box<clap::Error>),
    Check(Failure),
}

impl Stage {
    pub(super) fn message(&self) -> String {
        match self {
            // Less the usage, which depends on everything that is given.
            Self::Usage(error) => {
                let text = error.to_string();
                text.split("Usage:").next().unwrap_or_default().to_owned()
            }
            Self::Check(failure) => failure.message.clone(),
        }
    }

    /// Whether it speaks of one of these keys.
    pub(super) fn names(&self, keys: &[String]) -> bool {
        let message = self.message();
        let mut words = message.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.any(|word| {
            let name = word.strip_prefix("--");
            name.is_some_and(|name| keys.iter().any(|key| key == name))
        })
    }
}

/// A problem at the place of the key to blame.
pub(super) fn explain(stage: &Stage, entry: &Entry) -> Problem {
    let (message, exit) = match stage {
        Stage::Check(failure) => (without_dashes(&failure.message, &entry.name), failure.exit),
        Stage::Usage(error) => {
            let message = match error.get(ContextKind::InvalidArg) {
                // The one that is demanded; it is shown with the name of its value.
                Some(ContextValue::Strings(names)) => {
                    let names = names.iter().map(|name| {
                        let name = name.split([' ', '=']).next().unwrap_or(name);
                        format!("`{}`", name.trim_start_matches('-'))
                    });
                    let names: Vec<String> = names.collect();
                    format!("{} needs {} beside it", entry.name, names.join(" and "))
                }
                _ => first_line(error),
            };
            (message, Exit::Config)
        }
    };
    let exit = if exit == Exit::Usage {
        Exit::Config
    } else {
        exit
    };
    Problem {
        exit,
        ..Problem::at(entry.place, message)
    }
}
