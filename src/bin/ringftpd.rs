//! The server's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind;
use ringftpd::config::{
    Command, CommandLine, Exit, Failure, Refusal, Sources, check_config, command, doctor,
    hold_signals, run_config_command, run_session_command, run_user_command, serve, top, upgrade,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    // These two take what the configuration file says, too.
    let outcome = match words.get(1).and_then(|word| word.to_str()) {
        Some("serve") => hold_signals()
            .and_then(|()| Sources::new(words.into_iter().skip(2).collect()))
            .map_err(Refusal::from)
            .and_then(|sources| serve(&sources)),
        Some("doctor") => doctor(&words),
        _ => run(words),
    };
    outcome.unwrap_or_else(|refusal| match refusal {
        Refusal::Usage(error) => report_usage(&error),
        Refusal::Failure(failure) => report(&failure),
        Refusal::File(problems) => report(&problems.into()),
    })
}

fn run(words: Vec<OsString>) -> Result<ExitCode, Refusal> {
    let command_line = command()
        .try_get_matches_from(words)
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map_err(|error| Refusal::Usage(Box::new(error)))?;
    let outcome = match command_line.command {
        // Told apart above by the first word: there is no option that could stand before it.
        Command::Serve(_) | Command::Doctor(_) => Err(Failure::new(
            Exit::Usage,
            "`serve` or `doctor` must be the first word",
        )),
        Command::Config(command) => run_config_command(&command),
        Command::CheckConfig { file } => check_config(&file),
        Command::Session(command) => run_session_command(command),
        Command::Top(options) => top(options),
        Command::Upgrade(options) => return upgrade(options),
        Command::User(command) => run_user_command(command).map(|()| ExitCode::SUCCESS),
    };
    Ok(outcome?)
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("ringftpd: {failure}");
    failure.exit_code()
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
        Some("config") => "ringftpd config --help",
        Some("check-config") => "ringftpd check-config --help",
        Some("user") => "ringftpd user --help",
        Some("upgrade") => "ringftpd upgrade --help",
        Some("session") => "ringftpd session --help",
        Some("top") => "ringftpd top --help",
        Some("doctor") => "ringftpd doctor --help",
        _ => "ringftpd --help",
    };
    eprintln!("ringftpd: {sentence}; see `{help}`");
    ExitCode::from(Exit::Usage as u8)
}
