//! `ringftpd config example`: the configuration file with every key, its default and what it means.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use super::sections::{SECTIONS, Section};
use super::table::{Change, Key, Kind, Table};
use crate::config::{Exit, Failure};

/// The width of comments.
const COLUMNS: usize = 100;

const HEAD: &str = "\
Configuration of ringftpd, for `ringftpd serve --config FILE`. Every line that begins with # and a key shows the \
default: take the # away to change it. A key is the option of `ringftpd serve` of the same name; an option on the \
command line overrides it (and `--no-FLAG` unsets a flag). Numbers and times may stand without quotes; \"\" and [] \
mean: not set. Relative paths begin at the directory of this file.
`ringftpd check-config FILE` tells everything that is wrong with it. SIGHUP (`systemctl reload ringftpd`) reads it \
again: keys marked `live` change then, for new connections; for those marked `restart` the server has to be started \
again.";

/// The subcommands of `ringftpd config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file with every key, its default and what it means.
    Example,
}

/// Performs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run_config_command(command: &ConfigCommand) -> Result<ExitCode, Failure> {
    match command {
        ConfigCommand::Example => {
            let text = example(&Table::new(), SECTIONS);
            let written = std::io::stdout().lock().write_all(text.as_bytes());
            written
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| Failure::new(Exit::System, format!("standard output: {error}")))
        }
    }
}

/// The text.
pub(super) fn example(table: &Table, sections: &[Section]) -> String {
    let mut text = String::new();
    for paragraph in HEAD.lines() {
        comment(&mut text, paragraph);
        text.push_str("#\n");
    }
    text.push('\n');
    for key in table.keys_of(None) {
        describe(&mut text, key);
    }
    for (section, heading) in table.sections() {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n# {heading}\n[{section}]\n\n");
        for key in table.keys_of(Some(section)) {
            describe(&mut text, key);
        }
    }
    for section in sections {
        let _ = write!(text, "\n{}\n", section.example.trim_end());
    }
    text
}

fn describe(text: &mut String, key: &Key) {
    comment(text, &help(key));
    let change = match key.change {
        Some(Change::Live) => "live",
        Some(Change::Restart) | None => "restart",
    };
    comment(text, &format!("{} ({change})", key.takes()));
    let _ = write!(text, "#{} = {}\n\n", key.name, default(key));
}

/// What the key means.
pub(super) fn help(key: &Key) -> String {
    let mut help = key.help();
    if let Some(default) = key.default().filter(|_| key.is_path()) {
        // Writing to a string cannot fail.
        let _ = write!(
            help,
            " [default: `{default}`, from where the server is started]"
        );
    }
    help
}

/// The default as TOML.
pub(super) fn default(key: &Key) -> String {
    match (key.kind, key.default()) {
        (Kind::Flag, _) => "false".to_owned(),
        (Kind::Many, None) => "[]".to_owned(),
        (Kind::One, _) if key.can_be_unset() => "\"\"".to_owned(),
        (Kind::One | Kind::Many, Some(value)) if value.parse::<i64>().is_ok() => value,
        (Kind::One | Kind::Many, Some(value)) => toml::Value::String(value).to_string(),
        (Kind::One, None) => String::new(),
    }
}

/// Comment lines of bounded width.
fn comment(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split_whitespace() {
        let width = word.chars().count();
        if column == 0 {
            text.push('#');
            column = 1;
        } else if column + 1 + width > COLUMNS {
            text.push_str("\n#");
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + width;
    }
    text.push('\n');
}
