//! Logs: the server's own, by `tracing`, and the transfer log.
//!
//! Both are written by threads of their own (`outlet`), so that no core ever waits for a disk, a pipe or the journal.
//! Each line that concerns a session bears its number ([`in_session`]).

mod line;
mod outlet;
mod session;
mod sink;
mod text;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

pub use session::{InSession, in_session, in_this_session, next_session, session};
pub use transfer::{
    Moved, Operation, Record, Success, TransferLog, TransferLogFormat, push_object, push_xferlog,
};

use line::{Lines, Shape};
use outlet::{Name, Outlet};
use sink::Sink;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; under systemd, fields of the journal.
    Human,
    /// One JSON object a line.
    Json,
}

/// The level is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name} `{level}` is no level: give error, warn, info, debug or trace")]
pub struct LevelError {
    source_name: &'static str,
    level: String,
}

/// The environment variable that names the level when no option does.
pub const LEVEL_VARIABLE: &str = "RINGFTPD_LOG";

/// Puts another filter into force, once logs are installed.
static CHANGE_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// The checked form and level of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    format: LogFormat,
    filter: String,
    file: Option<PathBuf>,
}

impl LogSettings {
    /// The form, the level of the option, or of `RINGFTPD_LOG`, or `info`, and the file; without one the log goes to
    /// standard error.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn new(
        format: LogFormat,
        level: Option<&str>,
        file: Option<PathBuf>,
    ) -> Result<Self, LevelError> {
        let variable = std::env::var(LEVEL_VARIABLE).ok();
        let (source, filter) = match (level, variable.as_deref()) {
            (Some(level), _) => ("--log-level", level),
            (None, Some(level)) if !level.is_empty() => (LEVEL_VARIABLE, level),
            _ => ("", "info"),
        };
        if !is_filter(filter) {
            return Err(LevelError {
                source_name: source,
                level: filter.escape_debug().to_string(),
            });
        }
        Ok(Self {
            format,
            filter: filter.to_owned(),
            file,
        })
    }

    /// Collects this process's logs from now on; [`Log::start`] lets them be written. A second call changes nothing.
    pub fn install(&self) -> Log {
        let (shape, sink) = self.destination();
        let outlet = Outlet::new(Name::Server);
        let layer = Lines {
            shape,
            outlet: Arc::clone(&outlet),
        };
        let (filter, handle) = reload::Layer::new(EnvFilter::new(&self.filter));
        // An error says that logs go somewhere already.
        let installed = tracing_subscriber::registry().with(filter).with(layer);
        if installed.try_init().is_ok() {
            // A handle fails when its logs are gone.
            let change = move |filter| drop(handle.reload(filter));
            let _ = CHANGE_FILTER.set(Box::new(change));
        }
        register(&outlet);
        Log {
            outlet,
            sink,
            file: self.file.clone(),
        }
    }

    /// Puts this level into force; form and file stay those of [`LogSettings::install`].
    pub fn change_level(&self) {
        if let Some(change) = CHANGE_FILTER.get() {
            change(EnvFilter::new(&self.filter));
        }
    }

    /// How lines look, and where they go; a file is not opened yet.
    fn destination(&self) -> (Shape, Option<Sink>) {
        let to_journal = self.file.is_none() && sink::stderr_is_journal();
        match self.format {
            LogFormat::Json => (Shape::Json { prefix: to_journal }, None),
            LogFormat::Human if to_journal => {
                // Not there: journald takes lines from standard error all the same.
                Sink::journal(Path::new(sink::JOURNAL_SOCKET)).map_or(
                    (
                        Shape::Human {
                            colours: false,
                            prefix: true,
                        },
                        None,
                    ),
                    |journal| (Shape::Journal, Some(journal)),
                )
            }
            LogFormat::Human => {
                let colours = self.file.is_none() && io::IsTerminal::is_terminal(&io::stderr());
                let prefix = false;
                (Shape::Human { colours, prefix }, None)
            }
        }
    }
}

/// The log of the server. Dropping it writes what is left.
#[derive(Debug)]
#[must_use]
pub struct Log {
    outlet: Arc<Outlet>,
    sink: Option<Sink>,
    file: Option<PathBuf>,
}

impl Log {
    /// Lets lines be written, those too that were logged before. To be called as the account that the server serves
    /// as: it must be able to open the file again.
    ///
    /// # Errors
    /// The file that could not be opened.
    pub fn start(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let sink = match (self.sink.take(), &self.file) {
            (Some(sink), _) => sink,
            (None, Some(path)) => Sink::file(path).map_err(|error| (path.clone(), error))?,
            (None, None) => Sink::Stderr,
        };
        let started = self.outlet.start(sink);
        started.map_err(|error| (PathBuf::from("a thread for the log"), error))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.outlet.is_started() {
            // The server did not get as far as that; its reasons are told on standard error.
            let _ = self.outlet.start(self.sink.take().unwrap_or(Sink::Stderr));
        }
        finish();
    }
}

/// The logs of this process; looked at on reload, on a look at metrics, and at the end.
static OUTLETS: Mutex<Vec<Arc<Outlet>>> = Mutex::new(Vec::new());

fn register(outlet: &Arc<Outlet>) {
    let mut outlets = OUTLETS.lock().unwrap_or_else(PoisonError::into_inner);
    outlets.push(Arc::clone(outlet));
}

fn outlets() -> Vec<Arc<Outlet>> {
    let outlets = OUTLETS.lock().unwrap_or_else(PoisonError::into_inner);
    outlets.clone()
}

/// Opens the files of all logs again by their names, after rotation. What was logged before goes to the old files.
pub fn reopen() {
    for outlet in outlets() {
        outlet.reopen();
    }
}

/// Writes what is left of all logs. Nothing is logged afterwards.
fn finish() {
    // The transfer log's troubles are told in the server's log, so that one ends last.
    let mut outlets = outlets();
    outlets.sort_by_key(|outlet| outlet.name() == Name::Server);
    for outlet in outlets {
        outlet.finish();
    }
}

/// How many lines each log has lost, with its name.
#[must_use]
pub fn lines_lost() -> [(&'static str, u64); 2] {
    let outlets = outlets();
    [Name::Server, Name::Transfers].map(|name| {
        let of = outlets.iter().filter(|outlet| outlet.name() == name);
        (name.label(), of.map(|outlet| outlet.lost()).sum())
    })
}

/// Whether these are levels, alone or of modules: a bare word that is no level would be taken for
/// a module's name and silence everything else.
fn is_filter(filter: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let well_formed = |part: &str| match part.split_once('=') {
        Some((module, level)) => !module.is_empty() && is_level(level),
        None => is_level(part),
    };
    filter.split(',').all(well_formed) && EnvFilter::try_new(filter).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_levels() {
        for filter in ["info", "DEBUG", "warn,ringftpd::tls=trace", "off"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "loud", "info,", "ringftpd", "ringftpd=loud", "=info"] {
            assert!(!is_filter(filter), "{filter}");
        }
        let error = LogSettings::new(LogFormat::Json, Some("loud"), None).unwrap_err();
        assert!(error.to_string().contains("--log-level `loud`"), "{error}");
    }
}
