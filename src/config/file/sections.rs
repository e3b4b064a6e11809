//! Sections of the file that are no lists of options: tables and arrays of tables with a form of their own.
//!
//! An option of the command line needs nothing here. What the command line cannot say, as a list of directories
//! each with several settings, is a row in [`SECTIONS`] with a parser, an example and a field in [`Structures`].

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::hosts::HOSTS;
use super::problem::{Place, Problem};
use super::table::Change;
use crate::auth::FileRules;
use crate::config::file_rules;
use crate::config::hosts::{HostOptions, HostsOptions};

/// The rows, in the order in which the example shows them.
pub(super) const SECTIONS: &[Section] = &[file_rules::PATHS, file_rules::MOUNTS, HOSTS];

/// What such sections say, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Structures {
    /// `[[paths]]` and `[[mounts]]`.
    pub places: FileRules,
    /// `[[hosts]]`.
    pub hosts: HostsOptions,
}

impl Structures {
    /// Relative paths begin at this directory.
    pub(super) fn begin_at(&mut self, base: &Path) {
        for path in self.hosts.list.iter_mut().flat_map(HostOptions::paths) {
            *path = base.join(&*path);
        }
    }
}

/// One of them.
pub struct Section {
    /// Its name: that of `[name]` or `[[name]]`.
    pub name: &'static str,
    /// What `ringftpd config example` prints: comments, the heading, and keys behind `#`.
    pub example: &'static str,
    /// Whether SIGHUP can change it.
    pub change: Change,
    /// Takes what stands in the file, and tells everything that is wrong with it.
    pub parse: fn(&mut Structures, &Spanned<DeValue<'_>>, &mut Complaints<'_>),
}

/// Collects what is wrong with a text.
#[derive(Debug)]
pub struct Complaints<'a> {
    text: &'a str,
    list: Vec<Problem>,
}

impl<'a> Complaints<'a> {
    /// None yet.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let list = Vec::new();
        Self { text, list }
    }

    /// Something is wrong at these octets. The message must not quote what may be a password or a key.
    pub fn add(&mut self, octets: &Range<usize>, message: impl Into<String>) {
        let place = Place::of(self.text, octets.start);
        self.list.push(Problem::at(place, message));
    }

    /// What was collected.
    #[must_use]
    pub fn into_list(self) -> Vec<Problem> {
        self.list
    }

    /// Where these octets are.
    #[must_use]
    pub fn place(&self, octets: &Range<usize>) -> Place {
        Place::of(self.text, octets.start)
    }
}
