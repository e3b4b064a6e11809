//! Logs: `tracing` to standard error, for people or as JSON.

use std::io;
use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, reload};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
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
}

impl LogSettings {
    /// The form, and the level of the option, or of `RINGFTPD_LOG`, or `info`.
    ///
    /// # Errors
    /// [`LevelError`].
    pub fn new(format: LogFormat, level: Option<&str>) -> Result<Self, LevelError> {
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
        })
    }

    /// Sends this process's logs to standard error from now on. A second call changes nothing.
    pub fn install(&self) {
        let filter = EnvFilter::new(&self.filter);
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr);
        let colours = io::IsTerminal::is_terminal(&io::stderr());
        // An error says that logs go somewhere already.
        let _ = match self.format {
            LogFormat::Human => {
                let builder = builder.with_ansi(colours).with_target(false);
                let builder = builder.with_filter_reloading();
                changed_by(builder.reload_handle());
                builder.try_init()
            }
            LogFormat::Json => {
                let builder = builder.json().flatten_event(true);
                let builder = builder.with_filter_reloading();
                changed_by(builder.reload_handle());
                builder.try_init()
            }
        };
    }

    /// Puts this level into force; the form stays that of [`LogSettings::install`].
    pub fn change_level(&self) {
        if let Some(change) = CHANGE_FILTER.get() {
            change(EnvFilter::new(&self.filter));
        }
    }
}

fn changed_by<S: 'static>(handle: reload::Handle<EnvFilter, S>) {
    // Refused only where logs are installed already, and then by those. A handle fails when they are gone.
    let _ = CHANGE_FILTER.set(Box::new(move |filter| drop(handle.reload(filter))));
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
        let error = LogSettings::new(LogFormat::Json, Some("loud")).unwrap_err();
        assert!(error.to_string().contains("--log-level `loud`"), "{error}");
    }
}
