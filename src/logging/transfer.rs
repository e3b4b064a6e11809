//! The transfer log: a line for each transfer and each change of the tree, as xferlog(5) or as JSON.
//!
//! An xferlog line has exactly these fields, separated by single spaces (wu-ftpd, xferlog(5); vsftpd and ProFTPD write
//! the same):
//!
//! ```text
//! current-time transfer-time remote-host file-size filename transfer-type special-action-flag direction
//! access-mode username service-name authentication-method authenticated-user-id completion-status
//! ```

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::outlet::{Name, Outlet};
use super::sink::Sink;
use super::text::{is_unsafe, push_ctime, push_json, push_rfc3339};

/// Octets of most lines.
const LINE_OCTETS: usize = 512;
/// Transfers that the clock saw no time of have no rate.
const SECONDS_MIN: f64 = 1e-9;

/// The form of the transfer log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TransferLogFormat {
    /// xferlog(5): downloads, uploads and deleted files.
    Xferlog,
    /// One JSON object a line: listings and changes of the tree as well.
    Json,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// RETR.
    Download,
    /// STOR, APPE, STOU.
    Upload,
    /// LIST, NLST, MLSD.
    List,
    /// DELE.
    Delete,
    /// RNTO.
    Rename,
    /// MKD.
    MakeDirectory,
    /// RMD.
    RemoveDirectory,
}

impl Operation {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Rename => "rename",
            Self::MakeDirectory => "make-directory",
            Self::RemoveDirectory => "remove-directory",
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// The client was told so.
    Complete,
    /// It began and broke off.
    Incomplete,
    /// It did not begin.
    Refused,
}

/// What a transfer has and a change of the tree has not.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// Octets moved, as they lie in the file.
    pub octets: u64,
    /// How long it took.
    pub time: Duration,
    /// The restart marker.
    pub restart: u64,
    /// TYPE A.
    pub ascii: bool,
    /// PROT P.
    pub private: bool,
    /// The way of the octets, where one was taken.
    pub route: Option<&'static str>,
    /// TLS version, cipher suite, and whether the session was resumed.
    pub tls: Option<(&'static str, &'static str, bool)>,
}

/// One line of the transfer log.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it ended.
    pub ended: SystemTime,
    /// The session's number.
    pub session: u64,
    /// The virtual host, where there is one.
    pub host: Option<&'a str>,
    /// The account.
    pub user: &'a str,
    /// Whether that is the anonymous one.
    pub anonymous: bool,
    /// The client.
    pub address: IpAddr,
    /// What was done.
    pub operation: Operation,
    /// By this command.
    pub command: &'static str,
    /// On this path, as the client sees it.
    pub path: &'a [u8],
    /// The new name.
    pub target: Option<&'a [u8]>,
    /// Of a transfer.
    pub moved: Option<Moved>,
    /// How it went.
    pub success: Success,
    /// Why not well.
    pub reason: Option<&'a str>,
}

/// An open transfer log.
#[derive(Debug)]
pub struct TransferLog {
    format: TransferLogFormat,
    outlet: Arc<Outlet>,
}

impl TransferLog {
    /// Opens the file to append to, and makes it if it is not there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, format: TransferLogFormat) -> io::Result<Arc<Self>> {
        let outlet = Outlet::new(Name::Transfers);
        outlet.start(Sink::file(path)?)?;
        super::register(&outlet);
        Ok(Arc::new(Self { format, outlet }))
    }

    /// Whether operations that move no file have lines, too.
    #[must_use]
    pub fn has(&self, operation: Operation) -> bool {
        match self.format {
            TransferLogFormat::Json => true,
            TransferLogFormat::Xferlog => direction(operation).is_some(),
        }
    }

    /// Queues a line; never waits.
    pub fn write(&self, record: &Record<'_>) {
        let mut line = Vec::with_capacity(LINE_OCTETS);
        match self.format {
            TransferLogFormat::Json => push_object(&mut line, record),
            TransferLogFormat::Xferlog => push_xferlog(&mut line, record),
        }
        if !line.is_empty() {
            self.outlet.send(line);
        }
    }

    /// Opens the file again by its name, after the lines queued so far are written.
    pub fn reopen(&self) {
        self.outlet.reopen();
    }
}

/// The direction in an xferlog, for what has lines there.
fn direction(operation: Operation) -> Option<char> {
    match operation {
        Operation::Download => Some('o'),
        Operation::Upload => Some('i'),
        Operation::Delete => Some('d'),
        _ => None,
    }
}

/// Appends the line of an xferlog; nothing for what has none.
pub fn push_xferlog(line: &mut Vec<u8>, record: &Record<'_>) {
    let Some(direction) = direction(record.operation) else {
        return;
    };
    push_ctime(line, record.ended);
    let (octets, time, ascii) = record.moved.map_or((0, Duration::ZERO, false), |moved| {
        (moved.octets, moved.time, moved.ascii)
    });
    // Whole seconds, and at least one, as wu-ftpd and vsftpd have it: others divide by it.
    let seconds = (time + Duration::from_millis(500)).as_secs().max(1);
    let _ = write!(line, " {seconds} {} {octets} ", record.address);
    push_field(line, record.path);
    let kind = if ascii { 'a' } else { 'b' };
    let access = if record.anonymous { 'a' } else { 'r' };
    let _ = write!(line, " {kind} _ {direction} {access} ");
    push_field(line, record.user.as_bytes());
    let status = match record.success {
        Success::Complete => 'c',
        Success::Incomplete | Success::Refused => 'i',
    };
    let _ = writeln!(line, " ftp 0 * {status}");
}

/// Appends a field of an xferlog: "if the filename contains any spaces or control characters, each such character
/// is replaced by an underscore".
fn push_field(line: &mut Vec<u8>, octets: &[u8]) {
    if octets.is_empty() {
        line.push(b'_');
    }
    if octets.iter().all(u8::is_ascii_graphic) {
        line.extend_from_slice(octets);
        return;
    }
    let replaced = |character: char| character.is_whitespace() || is_unsafe(character);
    for chunk in octets.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut room = [0; 4];
            let written = match replaced(character) {
                true => "_",
                false => character.encode_utf8(&mut room),
            };
            line.extend_from_slice(written.as_bytes());
        }
        // Names of other encodings stay; in ISO 8859 and in terminals these are control characters.
        let others = chunk.invalid().iter();
        line.extend(others.map(|octet| match octet {
            0x80..=0xa0 => b'_',
            other => *other,
        }));
    }
}

/// Appends a JSON object and a line end.
pub fn push_object(line: &mut Vec<u8>, record: &Record<'_>) {
    line.extend_from_slice(b"{\"time\":\"");
    push_rfc3339(line, record.ended);
    let _ = write!(line, "\",\"session\":{},", record.session);
    if let Some(host) = record.host {
        line.extend_from_slice(b"\"host\":");
        push_json(line, host.as_bytes());
        line.push(b',');
    }
    line.extend_from_slice(b"\"user\":");
    push_json(line, record.user.as_bytes());
    let _ = write!(
        line,
        ",\"anonymous\":{},\"address\":\"{}\",\"operation\":\"{}\",\"command\":\"{}\"",
        record.anonymous,
        record.address,
        record.operation.name(),
        record.command,
    );
    push_path(line, "path", record.path);
    if let Some(target) = record.target {
        push_path(line, "target", target);
    }
    if let Some(moved) = &record.moved {
        push_moved(line, moved);
    }
    let result = match record.success {
        Success::Complete => "complete",
        Success::Incomplete => "incomplete",
        Success::Refused => "refused",
    };
    let _ = write!(line, ",\"result\":\"{result}\",\"reason\":");
    push_optional(line, record.reason);
    line.extend_from_slice(b"}\n");
}

fn push_moved(line: &mut Vec<u8>, moved: &Moved) {
    let seconds = moved.time.as_secs_f64();
    let rate = if seconds < SECONDS_MIN {
        0.0
    } else {
        moved.octets as f64 / seconds
    };
    let _ = write!(
        line,
        ",\"octets\":{},\"seconds\":{seconds:.6},\"rate\":{rate:.0},\"restart\":{},\"type\":\"{}\",\"protection\":\"{}\",\"route\":",
        moved.octets,
        moved.restart,
        if moved.ascii { "ascii" } else { "image" },
        if moved.private { "private" } else { "clear" },
    );
    push_optional(line, moved.route);
    line.extend_from_slice(b",\"tls\":");
    push_optional(line, moved.tls.map(|(version, _, _)| version));
    line.extend_from_slice(b",\"suite\":");
    push_optional(line, moved.tls.map(|(_, suite, _)| suite));
    let _ = match moved.tls {
        Some((_, _, resumed)) => write!(line, ",\"resumed\":{resumed}"),
        None => write!(line, ",\"resumed\":null"),
    };
}

fn push_optional(line: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => push_json(line, value.as_bytes()),
        None => line.extend_from_slice(b"null"),
    }
}

/// A path as text and, where it is none, its octets as well.
fn push_path(line: &mut Vec<u8>, key: &str, octets: &[u8]) {
    let _ = write!(line, ",\"{key}\":");
    push_json(line, octets);
    if std::str::from_utf8(octets).is_err() {
        let _ = write!(line, ",\"{key}_hex\":\"");
        for octet in octets {
            let _ = write!(line, "{octet:02x}");
        }
        line.push(b'"');
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
