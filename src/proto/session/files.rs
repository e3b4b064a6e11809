//! Commands on files that need no data connection.

use super::parameters::{parse_decimal, split_word};
use super::{Session, Waiting};
use crate::proto::FileTime;
use crate::proto::command::Verb;
use crate::proto::event::{Action, FileError, FileReply, FileRequest};
use crate::proto::path::{PathError, VirtualPath};
use crate::proto::reply::{self, Code, FileContext, Refusal};
use crate::proto::timestamp;

/// The permission bits that SITE CHMOD may set.
const PERMISSION_BITS: u64 = 0o777;

/// What to do with the outcome of a file request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FilePurpose {
    /// Reply this.
    Acknowledge(Code, &'static str),
    /// CWD, CDUP: go there.
    ChangeDirectory(VirtualPath),
    /// MKD: show its name.
    MakeDirectory(VirtualPath),
    /// RNFR: keep it for RNTO.
    RenameFrom(VirtualPath),
    /// SIZE, MDTM, MLST, STAT: show what comes.
    Show,
    /// MFMT: show the time and the path as given.
    ShowModify(Box<[u8]>),
    /// ALLO.
    Allocate,
}

const DONE: FilePurpose = FilePurpose::Acknowledge(Code::FileActionDone, "Done.");

impl Session {
    /// Resolves a path argument against the current directory.
    pub(super) fn resolve(&self, argument: &[u8]) -> Result<VirtualPath, Refusal> {
        self.parameters
            .directory
            .join(argument)
            .map_err(|error| match error {
                PathError::TooLong => (Code::NameNotAllowed, "Name too long."),
                PathError::BadOctet => (Code::BadArgument, "Octet not allowed in a path."),
            })
    }

    /// Asks for a file request, or refuses it.
    pub(super) fn request(&mut self, request: Result<(FileRequest, FilePurpose), Refusal>) {
        match request {
            Ok((request, purpose)) => {
                self.actions.push_back(Action::File(request));
                self.waiting = Waiting::File(purpose);
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// The commands whose argument is one path.
    pub(super) fn file_command(&mut self, verb: Verb, argument: &[u8]) {
        let request = self.file_request(verb, argument);
        self.request(request);
    }

    fn file_request(
        &self,
        verb: Verb,
        argument: &[u8],
    ) -> Result<(FileRequest, FilePurpose), Refusal> {
        if verb == Verb::Stat {
            let listed = strip_options(argument);
            return Ok((
                FileRequest::StatListing {
                    path: self.resolve(listed.path)?,
                    shown: listed.path.to_vec(),
                    hidden: listed.hidden,
                },
                FilePurpose::Show,
            ));
        }
        let path = match verb {
            Verb::Cdup => self.parameters.directory.parent(),
            Verb::Cwd => self.resolve(from_home(argument).unwrap_or(argument))?,
            _ => self.resolve(argument)?,
        };
        Ok(match verb {
            Verb::Mkd => (
                FileRequest::MakeDirectory(path.clone()),
                FilePurpose::MakeDirectory(path),
            ),
            Verb::Rmd => (FileRequest::RemoveDirectory(path), DONE),
            Verb::Dele => (FileRequest::DeleteFile(path), DONE),
            Verb::Rnfr => (
                FileRequest::CheckRename(path.clone()),
                FilePurpose::RenameFrom(path),
            ),
            Verb::Size => {
                let ascii = self.parameters.ascii;
                (FileRequest::Size { path, ascii }, FilePurpose::Show)
            }
            Verb::Mdtm => (FileRequest::ModifyTime(path), FilePurpose::Show),
            Verb::Mlst => (
                FileRequest::Facts(path, self.parameters.facts),
                FilePurpose::Show,
            ),
            _ => (
                FileRequest::CheckDirectory(path.clone()),
                FilePurpose::ChangeDirectory(path),
            ),
        })
    }

    pub(super) fn show_directory(&mut self) {
        let mut text = self.parameters.directory.quoted();
        text.extend_from_slice(b" is the current directory.");
        self.reply_octets(Code::PathName, &text);
    }

    pub(super) fn rename_to(&mut self, argument: &[u8]) {
        let Some(from) = self.parameters.rename_from.take() else {
            return self.reply(Code::BadSequence, "Send RNFR first.");
        };
        let request = self
            .resolve(argument)
            .map(|to| (FileRequest::Rename { from, to }, DONE));
        self.request(request);
    }

    /// MFMT (draft-somers-ftp-mfxx §3): a time, one space, a path.
    pub(super) fn set_modify_time(&mut self, argument: &[u8]) {
        let request = split_path(argument)
            .and_then(|(time, path)| Some((timestamp::parse(time)?, path)))
            .ok_or((Code::BadArgument, "Not a time and a path."))
            .and_then(|(time, path)| {
                Ok((
                    FileRequest::SetModifyTime(self.resolve(path)?, time),
                    FilePurpose::ShowModify(Box::from(path)),
                ))
            });
        self.request(request);
    }

    /// ALLO: advice only, but a client that asks is told when there is no room.
    pub(super) fn allocate(&mut self, argument: &[u8]) {
        let (octets, rest) = split_word(argument);
        let (r, record) = split_word(rest);
        let record_fits = rest.is_empty()
            || (r.eq_ignore_ascii_case(b"R") && parse_decimal(record, u64::MAX).is_some());
        let request = parse_decimal(octets, u64::MAX)
            .filter(|_| record_fits)
            .map(|octets| {
                let path = self.parameters.directory.clone();
                (
                    FileRequest::CheckSpace { path, octets },
                    FilePurpose::Allocate,
                )
            })
            .ok_or((Code::BadArgument, "Not a number of octets."));
        self.request(request);
    }

    /// SITE: HELP, CHMOD, UTIME, QUOTA; nothing that runs programs (RFC 2577 §9).
    pub(super) fn site(&mut self, argument: &[u8]) {
        let argument = argument.trim_ascii_start();
        let (name, rest) = split_path(argument).unwrap_or_else(|| (argument.trim_ascii_end(), b""));
        match name.to_ascii_uppercase().as_slice() {
            b"HELP" => self.site_help(),
            b"QUOTA" => self.ask_quota(rest),
            b"CHMOD" => {
                let request = self.change_mode(rest);
                self.request(request);
            }
            b"UTIME" => {
                let request = self.set_times(rest);
                self.request(request);
            }
            _ => self.reply(Code::NotRecognised, "SITE command not recognised."),
        }
    }

    fn change_mode(&self, argument: &[u8]) -> Result<(FileRequest, FilePurpose), Refusal> {
        let (mode, path) = split_path(argument)
            .and_then(|(digits, path)| Some((parse_octal(digits)?, path)))
            .ok_or((Code::BadArgument, "Not an octal mode and a path."))?;
        let path = self.resolve(path)?;
        let mode = u32::try_from(mode)
            .ok()
            .filter(|mode| u64::from(*mode) <= PERMISSION_BITS)
            .ok_or((Code::FileUnavailable, "Only permission bits may be set."))?;
        Ok((
            FileRequest::ChangeMode(path, mode),
            FilePurpose::Acknowledge(Code::Okay, "Mode changed."),
        ))
    }

    fn set_times(&self, argument: &[u8]) -> Result<(FileRequest, FilePurpose), Refusal> {
        let (time, path) =
            parse_utime(argument).ok_or((Code::BadArgument, "Not a time and a path."))?;
        Ok((
            FileRequest::SetModifyTime(self.resolve(path)?, time),
            FilePurpose::Acknowledge(Code::Okay, "Time changed."),
        ))
    }

    pub(super) fn on_file_done(
        &mut self,
        purpose: FilePurpose,
        result: Result<FileReply, FileError>,
    ) {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                let context = match purpose {
                    FilePurpose::Allocate => FileContext::Allocate,
                    _ => FileContext::Other,
                };
                return self.refuse_file(error, context);
            }
        };
        match purpose {
            FilePurpose::Acknowledge(code, text) => self.reply(code, text),
            FilePurpose::Allocate => self.reply(Code::Superfluous, "There is room."),
            FilePurpose::ChangeDirectory(path) => {
                self.parameters.directory = path;
                self.reply(Code::FileActionDone, "Directory changed.");
            }
            FilePurpose::MakeDirectory(path) => {
                let mut text = path.quoted();
                text.extend_from_slice(b" created.");
                self.reply_octets(Code::PathName, &text);
            }
            FilePurpose::RenameFrom(path) => {
                self.parameters.rename_from = Some(path);
                self.reply(Code::NeedMore, "Send RNTO.");
            }
            FilePurpose::ShowModify(path) => match reply {
                FileReply::Time(time) => {
                    let mut text = format!("Modify={}; ", timestamp::format(time)).into_bytes();
                    text.extend_from_slice(&path);
                    self.reply_octets(Code::FileStatus, &text);
                }
                _ => self.refuse(reply::for_file_error(FileError::Local, FileContext::Other)),
            },
            FilePurpose::Show => self.show(reply),
        }
    }

    /// What SIZE, MDTM, MLST and STAT found.
    fn show(&mut self, found: FileReply) {
        match found {
            FileReply::Size(octets) => self.reply(Code::FileStatus, &octets.to_string()),
            FileReply::Time(time) => self.reply(Code::FileStatus, &timestamp::format(time)),
            FileReply::Line(facts) => {
                let mut line = vec![b' '];
                line.extend_from_slice(&facts);
                self.reply_lines(
                    Code::FileActionDone,
                    "Facts follow",
                    [line.as_slice()],
                    "End",
                );
            }
            FileReply::Listing { directory, lines } => {
                let code = if directory {
                    Code::DirectoryStatus
                } else {
                    Code::FileStatus
                };
                let rows = lines
                    .split(|octet| *octet == b'\n')
                    .map(|row| row.strip_suffix(b"\r").unwrap_or(row))
                    .filter(|row| !row.is_empty());
                self.reply_lines(code, "Status follows", rows, "End");
            }
            FileReply::Quota(usage) => self.show_quota(usage),
            FileReply::Done => {
                self.refuse(reply::for_file_error(FileError::Local, FileContext::Other));
            }
        }
    }
}

/// A listing's argument with its options taken off.
pub(super) struct Listed<'line> {
    /// Names that begin with a dot are shown.
    pub(super) hidden: bool,
    /// The path, empty for the current directory.
    pub(super) path: &'line [u8],
}

/// Takes leading words such as `-la` off: RFC 959 has no options, most clients send some. All but
/// `a` and `A` are ignored. A name that begins with `-` is reached as `./-x`.
pub(super) fn strip_options(argument: &[u8]) -> Listed<'_> {
    let mut listed = Listed {
        hidden: false,
        path: argument,
    };
    while let Some(rest) = listed.path.strip_prefix(b"-") {
        let end = rest
            .iter()
            .position(|octet| *octet == b' ')
            .unwrap_or(rest.len());
        let (letters, rest) = rest.split_at(end);
        if letters.is_empty() || !letters.iter().all(u8::is_ascii_alphanumeric) {
            break;
        }
        listed.hidden |= letters.iter().any(|letter| matches!(letter, b'a' | b'A'));
        listed.path = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    listed
}

/// `~` and `~/x` as paths from the root: the user's home is the root.
fn from_home(argument: &[u8]) -> Option<&[u8]> {
    match argument.strip_prefix(b"~")? {
        b"" => Some(b"/"),
        rest if rest.starts_with(b"/") => Some(rest),
        _ => None,
    }
}

/// A word, one space, and a path of at least one octet.
fn split_path(argument: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = argument.splitn(2, |octet| *octet == b' ');
    let word = parts.next()?;
    parts
        .next()
        .filter(|path| !path.is_empty())
        .map(|path| (word, path))
}

fn parse_octal(digits: &[u8]) -> Option<u64> {
    if !(1..=5).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |value, octet| match octet {
        b'0'..=b'7' => Some(value * 8 + u64::from(octet - b'0')),
        _ => None,
    })
}

/// Both forms of SITE UTIME: `time path`, and `path atime mtime ctime UTC`, of which the time of
/// modification counts.
fn parse_utime(argument: &[u8]) -> Option<(FileTime, &[u8])> {
    let words = argument.trim_ascii_end();
    let mut from_end = words.rsplitn(5, |octet| *octet == b' ');
    if let (Some(zone), Some(change), Some(modify), Some(access), Some(path)) = (
        from_end.next(),
        from_end.next(),
        from_end.next(),
        from_end.next(),
        from_end.next(),
    ) && zone.eq_ignore_ascii_case(b"UTC")
        && !path.is_empty()
        && let (Some(_), Some(time), Some(_)) = (
            timestamp::parse_digits(change, true),
            timestamp::parse_digits(modify, true),
            timestamp::parse_digits(access, true),
        )
    {
        return Some((time, path));
    }
    let (time, path) = split_path(argument)?;
    Some((timestamp::parse_digits(time, true)?, path))
}
