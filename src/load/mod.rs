//! The load generator: many sessions of a real FTPS client on a ring for each core, and what they
//! measure.
//!
//! The order of things: [`options`] become [`settings`]; [`prepare`] logs in once, so that what is wrong
//! is said before anything is measured; [`run`] starts a thread for each core and takes all through the
//! stages; [`core`] runs sessions, [`workload`] is what a session does, over [`control`] and [`data`]
//! connections, which are [`channel`]s; [`statistics`] become a [`report`].

pub mod channel;
pub mod compare;
pub mod control;
pub mod core;
pub mod data;
pub mod failure;
pub mod hgrm;
pub mod html;
pub mod mix;
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
pub mod trace;
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
        Command::Mixed(options) => load(options, Workload::Mixed),
        Command::Replay(options) => load(options, Workload::Replay),
        Command::Compare { a, b } => {
            print!("{}", compare::table(&compare::read(a)?, &compare::read(b)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load(options: &Options, workload: Workload) -> Result<ExitCode, Fatal> {
    let settings = options.check(workload)?;
    let Finished {
        report,
        statistics,
        fatal,
    } = run::run(settings)?;
    let system = |error: serde_json::Error| Fatal::new(Exit::System, error.to_string());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(system)?;
        write(path, &(text + "\n"))?;
    }
    if let Some(path) = &options.html {
        write(path, &html::page(&report, &statistics).map_err(system)?)?;
    }
    if let Some(target) = &options.hgrm {
        hgrm::write(target, &statistics)?;
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
