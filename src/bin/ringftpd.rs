//! The server's command line.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use ringftpd::config::{
    Checked, Command, CommandLine, Exit, doctor, run_user_command, serve, upgrade,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => return report_usage(&error),
    };
    let outcome = match command_line.command {
        Command::Serve(options) => Checked::new(*options).and_then(|checked| serve(&checked)),
        Command::Doctor(options) => doctor(&options),
        Command::Upgrade(options) => upgrade(options),
        Command::User(command) => run_user_command(command).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("ringftpd: {failure}");
        failure.exit_code()
    })
}

/// Help and version go to standard output in full; an error is one line.
fn report_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has left needs no help.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(Exit::Usage as u8);
        }
        _ => {}
    }
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let sentence = words.join(" ").replace(" tip: ", "; ");
    let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence);
    let help = match std::env::args().nth(1).as_deref() {
        Some("serve") => "ringftpd serve --help",
        Some("user") => "ringftpd user --help",
        Some("upgrade") => "ringftpd upgrade --help",
        Some("doctor") => "ringftpd doctor --help",
        _ => "ringftpd --help",
    };
    eprintln!("ringftpd: {sentence}; see `{help}`");
    ExitCode::from(Exit::Usage as u8)
}
