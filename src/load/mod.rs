//! The load generator: many sessions of a real FTPS client on a ring for each core, and what they
//! measure.
//!
//! The order of things: [`options`] become [`settings`]; [`prepare`] logs in once, so that what is wrong
//! is said before anything is measured; [`run`] starts a thread for each core and takes all through the
//! stages; [`core`] runs sessions, [`workload`] is what a session does, over [`control`] and [`data`]
//! connections, which are [`channel`]s; [`statistics`] become a [`report`].

pub mod channel;
pub mod control;
pub mod core;
pub mod data;
pub mod failure;
pub mod options;
pub mod prepare;
pub mod progress;
pub mod put;
pub mod report;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod statistics;
pub mod table;
pub mod tls;
pub mod workload;

use std::path::Path;
use std::process::ExitCode;

use self::failure::{Exit, Fatal};
use self::options::{Command, CommandLine, Options};
use self::run::Finished;
use self::settings::Workload;

/// Does what the command line says; returns the exit status.
///
/// # Errors
/// What prevented it, in one line.
pub fn execute(command_line: &CommandLine) -> Result<ExitCode, Fatal> {
    match &command_line.command {
        Command::Get(options) => load(options, Workload::Get),
        Command::Put(options) => load(options, Workload::Put),
        Command::Small(options) => load(options, Workload::Small),
        Command::List(options) => load(options, Workload::List),
        Command::Login(options) => load(options, Workload::Login),
        Command::Idle(options) => load(options, Workload::Idle),
        Command::Noop(options) => load(options, Workload::Noop),
    }
}

fn load(options: &Options, workload: Workload) -> Result<ExitCode, Fatal> {
    let settings = options.check(workload)?;
    let Finished { report, fatal, .. } = run::run(settings)?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report);
        let text = text.map_err(|error| Fatal::new(Exit::System, error.to_string()))?;
        write(path, &(text + "\n"))?;
    }
    if let Some(fatal) = fatal {
        return Err(fatal);
    }
    if !options.quiet {
        print!("{report}");
        if options.insecure {
            println!("certificates were not verified (--insecure)");
        }
    } else if report.error_count() > 0 {
        eprint!("{report}");
    }
    Ok(match report.error_count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(Exit::Errors as u8),
    })
}

fn write(path: &Path, text: &str) -> Result<(), Fatal> {
    std::fs::write(path, text).map_err(|error| {
        let cause = failure::cause(&error);
        Fatal::new(Exit::CannotCreate, format!("{}: {cause}", path.display()))
    })
}
