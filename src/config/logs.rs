//! Log files: checked with the options, opened as the account that serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::options::LogOptions;
use super::{Exit, Failure, absolute, cause, usage};
use crate::logging::{Log, LogSettings, TransferLog, TransferLogFormat};

/// The log of the server, and the file and form of the transfer log.
///
/// # Errors
/// [`Failure`] with the option at fault.
pub(super) fn check(
    options: &LogOptions,
) -> Result<(LogSettings, Option<(PathBuf, TransferLogFormat)>), Failure> {
    let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let file = path(&options.log_file)?;
    let transfers = path(&options.transfer_log)?;
    if file.is_some() && file == transfers {
        return Err(usage(
            "--log-file and --transfer-log name one file: give each its own",
        ));
    }
    let log = LogSettings::new(options.log_format, options.log_level.as_deref(), file)
        .map_err(|error| usage(error.to_string()))?;
    Ok((
        log,
        transfers.map(|file| (file, options.transfer_log_format)),
    ))
}

/// Opens the log files, as the account that will open them again.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn open(
    log: &mut Log,
    transfers: Option<&(PathBuf, TransferLogFormat)>,
) -> Result<Option<Arc<TransferLog>>, Failure> {
    let failed = |option: &str, path: &Path, error: &std::io::Error| {
        let remedy = format!(
            "{}; make its directory, let the server's account write there, or choose another file with {option} FILE",
            cause(error)
        );
        Failure::file(Exit::CannotCreate, path, remedy)
    };
    let opened = transfers.map(|(path, format)| {
        TransferLog::open(path, *format).map_err(|error| failed("--transfer-log", path, &error))
    });
    let opened = opened.transpose()?;
    log.start()
        .map_err(|(path, error)| failed("--log-file", &path, &error))?;
    Ok(opened)
}
