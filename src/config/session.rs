//! `ringftpd session` and `ringftpd top`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::failure::cause;
use super::value::parse_time;
use super::{Exit, Failure};
use crate::proto::network::Network;
use crate::screen::{self, Answer, Answers, AskError, Report, ScreenError, Sort};
use crate::status::{Ask, Request, Selection, VERSION};

/// The shortest time between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// The state directory of the running server [default: as that of `serve`].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Which sessions.
#[derive(Debug, Clone, Args)]
pub struct SelectOptions {
    /// Those of this user.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Those whose users are logged in at this virtual host, by its first name; `-` for at none.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    pub host: Option<String>,
    /// Those of clients with this address, or of this network.
    #[arg(long, value_name = "ADDRESS|CIDR")]
    pub address: Option<Network>,
}

/// What is done with sessions.
#[derive(Debug, Clone, Subcommand)]
pub enum SessionCommand {
    /// List the sessions of the running server: who, from where, what they do, how far transfers are.
    #[command(after_help = "\
        Sessions of a process that was replaced by an upgrade are listed too, as NUMBER@PROCESS. RATE is that since the \
        transfer began. --json prints an object a line, with all figures.\n\
        Exit status: 0 also without any session, 69 no server answers, 71 none of its processes answers in time, 77 permission missing.")]
    List {
        /// Where the server is.
        #[command(flatten)]
        server: ServerOptions,
        /// Which sessions.
        #[command(flatten)]
        select: SelectOptions,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// End sessions: a running transfer ends with 426, and the client gets 421.
    #[command(after_help = "\
        IDs are those of `ringftpd session list`. Several kinds of choice together select sessions of which all hold.\n\
        Exit status: 0 done, 1 an ID is not there, or nobody was chosen, 2 two processes have a session of that number, \
        69 no server answers, 71 it does not answer in \
        time, 77 permission missing.")]
    Kill {
        /// Where the server is.
        #[command(flatten)]
        server: ServerOptions,
        /// Numbers of sessions, or NUMBER@PROCESS.
        #[arg(value_name = "ID", required_unless_present_any = ["user", "host", "address"])]
        ids: Vec<SessionId>,
        /// Which sessions.
        #[command(flatten)]
        select: SelectOptions,
    },
}

/// The options of `ringftpd top`.
#[derive(Debug, Clone, Args)]
pub struct TopOptions {
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Between two looks, from 100ms on.
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "2s")]
    pub interval: Duration,
    /// Print once, as text, and end.
    #[arg(long)]
    pub once: bool,
    /// One JSON object a line for each look.
    #[arg(long)]
    pub json: bool,
    /// What sessions are sorted by.
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t)]
    pub sort: Sort,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text).map_err(|error| error.to_string())?;
    if time < INTERVAL_MIN {
        return Err("give 100ms or more".to_owned());
    }
    Ok(time)
}

/// A session, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId {
    session: u64,
    /// None: whichever process has one of that number.
    process: Option<u32>,
}

impl std::str::FromStr for SessionId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "give NUMBER or NUMBER@PROCESS, as `ringftpd session list` shows them";
        let (session, process) = match text.split_once('@') {
            Some((session, process)) => (session, Some(process.parse().map_err(|_| wrong)?)),
            None => (text, None),
        };
        let session = session.parse().map_err(|_| wrong)?;
        Ok(Self { session, process })
    }
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.process {
            Some(process) => write!(f, "{}@{process}", self.session),
            None => write!(f, "{}", self.session),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let exit = match error {
            AskError::Nobody(_) => Exit::Unavailable,
            AskError::Denied(_) => Exit::NoPermission,
            AskError::System { .. } | AskError::Silent { .. } | AskError::Refused { .. } => {
                Exit::System
            }
        };
        Self::new(exit, error.to_string())
    }
}

fn request(ask: Ask, select: SelectOptions) -> Request {
    Request {
        version: VERSION,
        ask,
        selection: Selection {
            sessions: Vec::new(),
            user: select.user,
            host: select.host,
            address: select.address.map(|network| network.to_string()),
        },
    }
}

/// Writes to standard output; a reader that has left wants no more.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::System,
            format!("standard output: {}", cause(&error)),
        )),
        _ => Ok(()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value);
    text.map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::System, error.to_string()))
}

/// The columns of the terminal that standard output is; none where it is none.
fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(&stdout).ok())
        .flatten();
    size.map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
}

/// `ringftpd session`.
///
/// # Errors
/// [`Failure`]: no server answers, or this account may not ask.
pub fn run_session_command(command: SessionCommand) -> Result<ExitCode, Failure> {
    match command {
        SessionCommand::List {
            server,
            select,
            json: as_json,
        } => {
            let directory = super::state_directory(server.state_dir)?;
            let answers = answers(screen::ask(&directory, &request(Ask::Sessions, select)))?;
            let report = Report::new(&answers, None);
            let mut text = String::new();
            if as_json {
                for row in &report.sessions {
                    text += &json(row)?;
                }
            } else {
                let all = (0, usize::MAX);
                for line in screen::sessions(&report, Sort::Id, columns(), all) {
                    text += &line;
                    text.push('\n');
                }
            }
            print(&text)?;
            tell_missing(&report);
            Ok(ExitCode::SUCCESS)
        }
        SessionCommand::Kill {
            server,
            ids,
            select,
        } => kill(server, &ids, select),
    }
}

/// What was answered. Of processes that did not it is told; it is a failure only where none did.
fn answers(asked: Result<Answers, AskError>) -> Result<Vec<Answer>, Failure> {
    let Answers { answers, failed } = asked?;
    for error in failed {
        eprintln!("ringftpd: {error}; its sessions are left out");
    }
    Ok(answers)
}

/// Those of the processes that may have one of these sessions.
fn ask_for(directory: &Path, ids: &[SessionId], request: &Request) -> Result<Vec<Answer>, Failure> {
    let named: Option<BTreeSet<u32>> = ids.iter().map(|id| id.process).collect();
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let named: Vec<u32> = named.into_iter().collect();
        match screen::ask_these(directory, &named, request) {
            // Whether there is a server at all is said by the others.
            Err(AskError::Nobody(_)) => {}
            asked => return answers(asked),
        }
    }
    answers(screen::ask(directory, request))
}

fn tell_missing(report: &Report) {
    if !report.silent.is_empty() {
        eprintln!(
            "ringftpd: no answer of core {}: its sessions are missing; the server's log may say why",
            report.silent.join(", ")
        );
    }
}

fn kill(
    server: ServerOptions,
    ids: &[SessionId],
    select: SelectOptions,
) -> Result<ExitCode, Failure> {
    let directory = super::state_directory(server.state_dir)?;
    // Looked for first: processes count for themselves, and a number may be that of two sessions.
    let mut here = request(Ask::Sessions, select.clone());
    here.selection.sessions = ids.iter().map(|id| id.session).collect();
    let (chosen, unknown) = choose(ids, &ask_for(&directory, ids, &here)?)?;
    let (mut ended, mut answered) = (0, false);
    // Told at once, but for the last one: where nobody has answered it is why this program fails, which is told then.
    let mut failed: Option<Failure> = None;
    for (process, sessions) in chosen {
        if sessions.is_empty() {
            continue;
        }
        let mut wish = request(Ask::Kill, select.clone());
        // Without IDs the wish is for everybody who is chosen, also those who came since.
        if !ids.is_empty() {
            wish.selection.sessions = sessions;
        }
        let answer = match screen::ask_one(&directory, process, &wish) {
            Ok(answer) => answer,
            // Its sessions have ended with it.
            Err(AskError::Nobody(_)) => continue,
            Err(error) => {
                let mut failure = Failure::from(error);
                failure.message.push_str("; its sessions go on");
                if let Some(before) = failed.replace(failure) {
                    eprintln!("ringftpd: {before}");
                }
                continue;
            }
        };
        answered = true;
        ended += answer.killed.sessions.len();
        for core in &answer.end.silent {
            eprintln!(
                "ringftpd: no answer of core {core} of process {process}: its sessions go on"
            );
        }
    }
    match failed {
        Some(failure) if !answered => return Err(failure),
        Some(failure) => eprintln!("ringftpd: {failure}"),
        None => {}
    }
    print(&match ended {
        1 => "1 session ended\n".to_owned(),
        _ => format!("{ended} sessions ended\n"),
    })?;
    for id in &unknown {
        eprintln!("ringftpd: no session {id}: `ringftpd session list` shows those that there are");
    }
    Ok(match unknown.is_empty() && ended > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

/// The sessions of each process that are meant, and IDs that are not there.
type Chosen = (Vec<(u32, Vec<u64>)>, Vec<SessionId>);

/// # Errors
/// A number that sessions of two processes have.
fn choose(ids: &[SessionId], answers: &[Answer]) -> Result<Chosen, Failure> {
    let mut chosen: Vec<(u32, Vec<u64>)> = answers
        .iter()
        .map(|answer| (answer.process.process, Vec::new()))
        .collect();
    if ids.is_empty() {
        for ((_, sessions), answer) in chosen.iter_mut().zip(answers) {
            sessions.extend(answer.sessions.iter().map(|session| session.session));
        }
        return Ok((chosen, Vec::new()));
    }
    let mut unknown = Vec::new();
    for id in ids {
        let has = |answer: &&Answer| {
            let process = answer.process.process;
            id.process.is_none_or(|wanted| wanted == process)
                && answer.sessions.iter().any(|one| one.session == id.session)
        };
        let found: Vec<u32> = answers
            .iter()
            .filter(has)
            .map(|answer| answer.process.process)
            .collect();
        match found.as_slice() {
            [] => unknown.push(*id),
            [process] => {
                let of_process = chosen.iter_mut().find(|(one, _)| one == process);
                if let Some((_, sessions)) = of_process {
                    sessions.push(id.session);
                }
            }
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|process| format!("{}@{process}", id.session))
                    .collect();
                let message = format!(
                    "{} processes have a session {}: say {}",
                    several.len(),
                    id.session,
                    names.join(" or ")
                );
                return Err(Failure::new(Exit::Usage, message));
            }
        }
    }
    Ok((chosen, unknown))
}

/// `ringftpd top`.
///
/// # Errors
/// [`Failure`]: no server answers, this account may not ask, or the terminal is of no use.
pub fn top(options: TopOptions) -> Result<ExitCode, Failure> {
    let directory = super::state_directory(options.server.state_dir)?;
    let everybody = SelectOptions {
        user: None,
        host: None,
        address: None,
    };
    let request = request(Ask::Look, everybody);
    let interactive = io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb");
    if interactive && !options.once && !options.json {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = screen::run(&directory, &request, options.interval, options.sort, plain);
        return match screen {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(ScreenError::Ask(error)) => Err(error.into()),
            Err(error) => Err(Failure::new(Exit::System, error.to_string())),
        };
    }
    let mut before = screen::ask(&directory, &request)?.answers;
    loop {
        thread::park_timeout(options.interval);
        let now = answers(screen::ask(&directory, &request))?;
        let report = Report::new(&now, Some(&before));
        if options.json {
            print(&json(&report)?)?;
        } else {
            let (lines, _) = screen::whole(&report, options.sort, columns(), None, 0);
            print(&(lines.join("\n") + "\n"))?;
        }
        if options.once || !options.json {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Vec<Answer> {
        let session = |number: u64| {
            format!(
                r#"{{"kind":"session","session":{number},"user":null,"address":"192.0.2.1","port":1,"server":"","listener":"explicit","tls":null,"seconds":0,"idle_seconds":0,"phase":"idle","command":null,"transfer":null}}"#
            )
        };
        let answer = |process: u32, numbers: [u64; 2]| Answer {
            process: serde_json::from_str(&format!(
                r#"{{"version":1,"release":"","process":{process},"accepting":true,"seconds":0}}"#
            ))
            .unwrap(),
            cores: Vec::new(),
            sessions: numbers
                .map(|number| serde_json::from_str(&session(number)).unwrap())
                .to_vec(),
            killed: crate::status::Killed::default(),
            end: crate::status::End::default(),
        };
        vec![answer(100, [1, 2]), answer(99, [2, 3])]
    }

    #[test]
    fn ids_name_one_session_or_are_refused() {
        let id = |text: &str| text.parse::<SessionId>();
        let (chosen, unknown) = choose(
            &[
                id("1").unwrap(),
                id("2@99").unwrap(),
                id("3").unwrap(),
                id("3@100").unwrap(),
            ],
            &answers(),
        )
        .unwrap();
        assert_eq!(chosen, [(100, vec![1]), (99, vec![2, 3])]);
        assert_eq!(unknown, [id("3@100").unwrap()]);
        let twice = choose(&[id("2").unwrap()], &answers()).unwrap_err();
        assert!(twice.message.contains("2@100 or 2@99"), "{twice}");
        let (all, _) = choose(&[], &answers()).unwrap();
        assert_eq!(all, [(100, vec![1, 2]), (99, vec![2, 3])]);
        for wrong in ["", "x", "1@", "@1", "-1", "1@x"] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
        assert_eq!(id("17@4711").unwrap().to_string(), "17@4711");
        assert!(parse_interval("99ms").is_err() && parse_interval("100ms").is_ok());
    }
}
