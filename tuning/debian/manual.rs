//! Writes manual pages and shell completions of both programs into a directory, from the definitions of their
//! command lines: `cargo run --example manual -- DIRECTORY` makes `DIRECTORY/man` and `DIRECTORY/completions`.
//!
//! Pages bear the date of `SOURCE_DATE_EPOCH`, or none.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use ringftpd::config::{Change, ManualKey, command, manual, structures};
use ringftpd::load::options::CommandLine as LoadCommandLine;

const SOURCE: &str = concat!("ringftpd ", env!("CARGO_PKG_VERSION"));
const FILES: &[(&str, &str)] = &[
    ("/etc/ringftpd/ringftpd.toml", "The configuration file."),
    (
        "/etc/ringftpd/users.toml",
        "The users file that it names; see ringftpd-user(8).",
    ),
    (
        "/var/lib/ringftpd",
        "The state directory: the self-signed certificate, the sockets for upgrades and for ringftpd-session(8) and ringftpd-top(8).",
    ),
    (
        "/var/log/ringftpd",
        "For logs, where the configuration names them.",
    ),
    (
        "/srv/ftps",
        "What is served, unless the configuration names another directory.",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or("name the directory to write into")?;
    let (man, completions) = (
        Path::new(&directory).join("man"),
        Path::new(&directory).join("completions"),
    );
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    let date = date()?;
    for (mut program, section, kind) in [
        (command(), "8", "System Administration"),
        (LoadCommandLine::command(), "1", "User Commands"),
    ] {
        program = program.disable_help_subcommand(true);
        program.build();
        let pages = Pages {
            directory: &man,
            section,
            kind,
            date: &date,
        };
        pages.write(&program, None)?;
        let name = program.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut program, &name, &completions)?;
        }
    }
    fs::write(man.join("ringftpd.toml.5"), configuration(&date).to_roff())?;
    Ok(())
}

/// The date of the pages, `YYYY-MM-DD`.
fn date() -> Result<String, Box<dyn Error>> {
    let Some(seconds) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(String::new());
    };
    let seconds = seconds.to_str().ok_or("SOURCE_DATE_EPOCH is no number")?;
    let date = time::OffsetDateTime::from_unix_timestamp(seconds.parse()?)?;
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    Ok(format!("{year:04}-{month:02}-{day:02}"))
}

/// The pages of a program.
struct Pages<'a> {
    directory: &'a Path,
    section: &'a str,
    kind: &'a str,
    date: &'a str,
}

impl Pages<'_> {
    /// The page of this command, and those of its subcommands.
    fn write(&self, command: &Command, parent: Option<&str>) -> Result<(), Box<dyn Error>> {
        let man = Man::new(command.clone())
            .section(self.section)
            .date(self.date)
            .source(SOURCE)
            .manual(self.kind);
        let mut page = Vec::new();
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        if command.get_arguments().any(|arg| !arg.is_hide_set()) {
            man.render_options_section(&mut page)?;
        }
        let subcommands = || command.get_subcommands().filter(|sub| !sub.is_hide_set());
        if subcommands().next().is_some() {
            man.render_subcommands_section(&mut page)?;
        }
        let mut rest = Roff::new();
        if let Some(help) = command.get_after_help() {
            rest.control("SH", ["NOTES"]);
            paragraphs(&mut rest, &help.to_string());
        }
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        if ["ringftpd", "ringftpd-serve"].contains(&name) {
            rest.control("SH", ["FILES"]);
            for (path, what) in FILES {
                rest.control("TP", []);
                rest.text([italic(*path)]).text([roman(*what)]);
            }
        }
        rest.control("SH", ["SEE ALSO"]);
        let ours = parent.map(|parent| format!("{parent}({})", self.section));
        let others = ["ringftpd(8)", "ringftpd.toml(5)", "ringftpd-load(1)"].map(str::to_owned);
        let own = format!("{name}({})", self.section);
        let mut pages: Vec<String> = ours.into_iter().chain(others).collect();
        pages.retain(|page| *page != own);
        pages.dedup();
        rest.text([roman(pages.join(", "))]);
        page.extend_from_slice(rest.to_roff().as_bytes());
        fs::write(self.directory.join(man.get_filename()), page)?;
        for subcommand in subcommands() {
            self.write(subcommand, Some(name))?;
        }
        Ok(())
    }
}

/// Each line a paragraph; indented ones as they stand.
fn paragraphs(page: &mut Roff, text: &str) {
    for line in text.lines() {
        page.control("PP", []);
        if line.starts_with(' ') {
            page.control("RS", ["4"]).control("nf", []);
            page.text([roman(line.trim())]);
            page.control("fi", []).control("RE", []);
        } else {
            page.text([roman(line)]);
        }
    }
}

/// ringftpd.toml(5).
fn configuration(date: &str) -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["ringftpd.toml", "5", date, SOURCE, "File Formats"]);
    page.control("SH", ["NAME"]);
    page.text([roman(
        "ringftpd.toml - configuration file of the FTPS server ringftpd",
    )]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in [
        "A TOML file for `ringftpd serve --config FILE`. Every key is the option of `ringftpd serve` of the same name, in the \
         section of its kind; an option on the command line overrides the file, and --no-FLAG unsets a flag. Numbers \
         and times may stand without quotes; \"\" and [] mean: not set. Relative paths begin at the directory of the file.",
        "`ringftpd config example` prints a file with every key. `ringftpd check-config FILE` tells everything that is wrong \
         with one: unknown keys, values, keys that do not go together, and the files that it names.",
        "SIGHUP (`systemctl reload ringftpd`) reads it again. Keys marked live change then, for new connections; those marked \
         restart need a new process. A file with errors changes nothing.",
    ] {
        page.control("PP", []);
        page.text([roman(paragraph)]);
    }
    for section in manual() {
        page.control("SH", [section.heading.to_uppercase().as_str()]);
        if let Some(name) = section.name {
            page.text([roman("Section "), bold(format!("[{name}]"))]);
        }
        for key in &section.keys {
            describe(&mut page, key);
        }
    }
    for section in structures() {
        page.control(
            "SH",
            [format!("[{}]", section.name).to_uppercase().as_str()],
        );
        page.text([roman(match section.change {
            Change::Live => "As `ringftpd config example` shows it (live):",
            Change::Restart => "As `ringftpd config example` shows it (restart):",
        })]);
        page.control("PP", []).control("nf", []);
        for line in section.example.trim().lines() {
            page.text([roman(line)]);
        }
        page.control("fi", []);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(
        "ringftpd(8), ringftpd-serve(8), ringftpd-check-config(8), ringftpd-config-example(8)",
    )]);
    page
}

fn describe(page: &mut Roff, key: &ManualKey) {
    page.control("TP", []);
    page.text([bold(&key.name), roman(" = "), italic(&key.takes)]);
    page.text([roman(&key.help)]);
    page.control("br", []);
    page.text([roman(format!(
        "Default {}; {}.",
        key.default,
        match key.change {
            Change::Live => "live",
            Change::Restart => "restart",
        }
    ))]);
}
