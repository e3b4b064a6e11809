//! Asks the processes of a server: the one that accepts connections, and those that only have their sessions still.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::limits;
use crate::status::{
    Core, End, Killed, Line, Process, Request, Session, connect, file_name, process_of,
};

/// What one process has answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who it is.
    pub process: Process,
    /// Its cores, if they were asked for.
    pub cores: Vec<Core>,
    /// Its sessions, if they were asked for.
    pub sessions: Vec<Session>,
    /// What it ended, if it was asked to.
    pub killed: Killed,
    /// What is missing.
    pub end: End,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens in the state directory.
    #[error(
        "no server answers in {}: is it running, and with this --state-dir? As root, and as the server's account, the default differs",
        .0.display()
    )]
    Nobody(PathBuf),
    /// The socket or its directory belongs to another account.
    #[error("{}: permission denied; ask as root or as the account that the server runs as", .0.display())]
    Denied(PathBuf),
    /// The system's.
    #[error("{}: {error}", path.display())]
    System {
        /// The socket or the directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It does not answer in time.
    #[error(
        "process {process} does not answer: too many ask at once, or it hangs (its log would say so)"
    )]
    Silent {
        /// The process.
        process: u32,
    },
    /// The process refuses, or cannot be understood.
    #[error("process {process}: {message}")]
    Refused {
        /// The process.
        process: u32,
        /// In its words.
        message: String,
    },
}

/// What was answered, and what was not.
#[derive(Debug, Default)]
pub struct Answers {
    /// Of the processes that have answered; the one that accepts connections comes first.
    pub answers: Vec<Answer>,
    /// Why others have not.
    pub failed: Vec<AskError>,
}

/// Asks every process whose socket is in the state directory.
///
/// # Errors
/// [`AskError`], if no process answers. One that ends meanwhile is passed over.
pub fn ask(state_directory: &Path, request: &Request) -> Result<Answers, AskError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            AskError::Nobody(state_directory.to_owned())
        }
        io::ErrorKind::PermissionDenied => AskError::Denied(state_directory.to_owned()),
        _ => AskError::System {
            path: state_directory.to_owned(),
            error,
        },
    };
    let mut processes = Vec::new();
    for entry in fs::read_dir(state_directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        processes.extend(name.to_str().and_then(process_of));
    }
    ask_these(state_directory, &processes, request)
}

/// Asks these processes only.
///
/// # Errors
/// As [`ask`].
pub fn ask_these(
    state_directory: &Path,
    processes: &[u32],
    request: &Request,
) -> Result<Answers, AskError> {
    let mut all = Answers::default();
    for process in processes {
        match ask_one(state_directory, *process, request) {
            Ok(answer) => all.answers.push(answer),
            // It was killed, or has ended just now.
            Err(AskError::Nobody(_)) => {}
            // The others are asked all the same.
            Err(error) => all.failed.push(error),
        }
    }
    if all.answers.is_empty() {
        let first = all.failed.into_iter().next();
        return Err(first.unwrap_or_else(|| AskError::Nobody(state_directory.to_owned())));
    }
    all.answers
        .sort_by_key(|answer| (!answer.process.accepting, answer.process.process));
    Ok(all)
}

/// Asks one process.
///
/// # Errors
/// [`AskError`]; `Nobody` when it has ended.
pub fn ask_one(
    state_directory: &Path,
    process: u32,
    request: &Request,
) -> Result<Answer, AskError> {
    let path = state_directory.join(file_name(process));
    ask_process(&path, request).map_err(|problem| match problem {
        Problem::Words(message) => AskError::Refused { process, message },
        Problem::System(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => AskError::Nobody(state_directory.to_owned()),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskError::Silent { process },
            io::ErrorKind::PermissionDenied => AskError::Denied(path),
            _ => AskError::System { path, error },
        },
    })
}

enum Problem {
    System(io::Error),
    Words(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Waits a while, but not for ever, for room in the queue of the socket.
fn join_queue(path: &Path) -> io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(50);
    let mut left = limits::STATUS_TURN_TIME;
    loop {
        match connect(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !left.is_zero() => {
                left = left.saturating_sub(PAUSE);
                thread::park_timeout(PAUSE);
            }
            result => return result,
        }
    }
}

fn ask_process(path: &Path, request: &Request) -> Result<Answer, Problem> {
    let mut stream = join_queue(path)?;
    // It may be busy with other askers first.
    stream.set_read_timeout(Some(2 * limits::STATUS_TURN_TIME))?;
    stream.set_write_timeout(Some(limits::STATUS_TURN_TIME))?;
    let mut words = serde_json::to_vec(request).map_err(io::Error::from)?;
    words.push(b'\n');
    if words.len() > limits::STATUS_REQUEST_OCTETS_MAX {
        return Err(Problem::Words(
            "that are too many sessions for one request: name fewer, or a user or an address"
                .to_owned(),
        ));
    }
    // One that refuses this account answers before it has read anything.
    let sent = stream.write_all(&words);
    let answer = read_answer(BufReader::new(stream));
    match (answer, sent) {
        (Err(Problem::System(_)), Err(error)) => Err(error.into()),
        (answer, _) => answer,
    }
}

fn read_answer(mut reader: impl BufRead) -> Result<Answer, Problem> {
    let (mut process, mut cores, mut sessions) = (None, Vec::new(), Vec::new());
    let mut killed = Killed::default();
    let mut octets = Vec::new();
    loop {
        octets.clear();
        let max = limits::STATUS_LINE_OCTETS_MAX as u64;
        (&mut reader).take(max).read_until(b'\n', &mut octets)?;
        if octets.last() != Some(&b'\n') {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let line = serde_json::from_slice(&octets)
            .map_err(|error| Problem::Words(format!("its answer is not understood: {error}")))?;
        match line {
            Line::Process(one) => process = Some(one),
            Line::Core(core) => cores.push(core),
            Line::Session(session) => sessions.push(session),
            Line::Killed(one) => killed = one,
            Line::Error { message } => return Err(Problem::Words(message)),
            Line::Unknown => {}
            Line::End(end) => {
                let process = process.ok_or_else(|| {
                    Problem::Words("its answer does not say who it is".to_owned())
                })?;
                return Ok(Answer {
                    process,
                    cores,
                    sessions,
                    killed,
                    end,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answer, String> {
        read_answer(text.as_bytes()).map_err(|problem| match problem {
            Problem::System(error) => format!("{:?}", error.kind()),
            Problem::Words(words) => words,
        })
    }

    const PROCESS: &str = r#"{"kind":"process","version":1,"release":"0.1.0","process":7,"accepting":true,"seconds":1.5}"#;

    #[test]
    fn answers_end_with_their_last_line() {
        let end = r#"{"kind":"end","sessions":0,"silent":["3"]}"#;
        let later = r#"{"kind":"weather"}"#;
        let answer = read(&format!("{PROCESS}\n{later}\n{end}\nmore")).unwrap();
        assert_eq!(
            (answer.process.process, answer.end.silent),
            (7, vec!["3".to_owned()])
        );
        assert_eq!(read(&format!("{PROCESS}\n")).unwrap_err(), "UnexpectedEof");
        assert_eq!(
            read(&format!("{PROCESS}\n{end}")).unwrap_err(),
            "UnexpectedEof"
        );
        assert!(read(end).is_err() && read(&format!("{end}\n")).unwrap_err().contains("who it is"));
        let refused = r#"{"kind":"error","message":"no"}"#;
        assert_eq!(read(&format!("{refused}\n")).unwrap_err(), "no");
        assert!(read("nonsense\n").unwrap_err().contains("not understood"));
    }

    #[test]
    fn a_directory_without_a_server_is_told_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let request = Request {
            version: 1,
            ask: crate::status::Ask::Look,
            selection: crate::status::Selection::default(),
        };
        let words = |path: &Path| ask(path, &request).unwrap_err().to_string();
        assert!(words(directory.path()).contains("--state-dir"));
        assert!(words(&directory.path().join("none")).contains("no server answers"));
        // A process that was killed leaves its socket.
        let socket = directory.path().join(file_name(1));
        drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
        assert!(words(directory.path()).contains("no server answers"));
    }

    /// One process that refuses hides neither those that answer nor itself.
    #[test]
    fn a_process_that_fails_does_not_stop_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let refused = r#"{"kind":"error","message":"no"}"#.to_owned();
        let answered = format!(
            "{PROCESS}\n{}",
            r#"{"kind":"end","sessions":0,"silent":[]}"#
        );
        let answering: Vec<_> = [(1, refused), (7, answered)]
            .into_iter()
            .map(|(process, words)| {
                let path = directory.path().join(file_name(process));
                let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
                thread::spawn(move || {
                    // It is asked twice.
                    for _ in 0..2 {
                        let (stream, _) = listener.accept().unwrap();
                        let mut reader = BufReader::new(stream);
                        reader.read_line(&mut String::new()).unwrap();
                        let answer = format!("{words}\n");
                        reader.get_mut().write_all(answer.as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        let request = Request {
            version: 1,
            ask: crate::status::Ask::Sessions,
            selection: crate::status::Selection::default(),
        };
        let all = ask(directory.path(), &request).unwrap();
        assert_eq!((all.answers.len(), all.answers[0].process.process), (1, 7));
        assert_eq!(all.failed[0].to_string(), "process 1: no");
        let one = ask_these(directory.path(), &[7], &request).unwrap();
        assert!(one.answers.len() == 1 && one.failed.is_empty());
        let none = ask_these(directory.path(), &[1], &request).unwrap_err();
        assert_eq!(none.to_string(), "process 1: no");
        for one in answering {
            one.join().unwrap();
        }
    }
}
