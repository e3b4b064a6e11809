//! The keys of the configuration file for its manual page: what `ringftpd config example` says, in pieces.

use super::example::{default, help};
use super::sections::{SECTIONS, Section};
use super::table::{Change, Key, Table};

/// A section of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualSection {
    /// Its name; `None` for keys at the top of the file.
    pub name: Option<&'static str>,
    /// The heading that `--help` gives to its options.
    pub heading: &'static str,
    /// Its keys, in the order of `--help`.
    pub keys: Vec<ManualKey>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualKey {
    /// Its name.
    pub name: String,
    /// What may stand behind the `=`.
    pub takes: String,
    /// The default, as TOML.
    pub default: String,
    /// When a change takes effect.
    pub change: Change,
    /// What it means.
    pub help: String,
}

/// Every section with its keys.
#[must_use]
pub fn manual() -> Vec<ManualSection> {
    let table = Table::new();
    let top = ManualSection {
        name: None,
        heading: "At the top of the file",
        keys: table.keys_of(None).map(describe).collect(),
    };
    let sections = table.sections().map(|(name, heading)| ManualSection {
        name: Some(name),
        heading,
        keys: table.keys_of(Some(name)).map(describe).collect(),
    });
    std::iter::once(top).chain(sections).collect()
}

/// The sections that have a form of their own.
#[must_use]
pub fn structures() -> &'static [Section] {
    SECTIONS
}

fn describe(key: &Key) -> ManualKey {
    ManualKey {
        name: key.name.clone(),
        takes: key.takes(),
        default: default(key),
        change: key.change.unwrap_or(Change::Restart),
        help: help(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_key_once() {
        let sections = manual();
        let described: Vec<&str> = sections
            .iter()
            .flat_map(|section| section.keys.iter().map(|key| key.name.as_str()))
            .collect();
        let table = Table::new();
        assert_eq!(described.len(), table.keys.len());
        for key in &table.keys {
            assert!(described.contains(&key.name.as_str()), "{}", key.name);
        }
    }
}
