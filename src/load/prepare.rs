//! What has to be known before the sessions are opened: that the server lets us in at all, the sizes of
//! the files, the files of a directory.

use std::rc::Rc;
use std::sync::Arc;

use super::control::Control;
use super::core::{Core, File};
use super::data::{Sink, Work};
use super::failure::{Exit, Failure, Fatal, Kind};
use super::settings::{ListCommand, Security, Workload};
use super::workload::listing;
use crate::rt;

/// What was found out.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The files to download.
    pub files: Vec<File>,
    /// TLS version and suite of the control connection.
    pub protection: Option<String>,
}

/// Logs in once, with a ring of its own on this thread.
///
/// # Errors
/// The failure, for the report, and what to say about it.
pub fn prepare(core: &Rc<Core>) -> Result<Prepared, (Failure, Fatal)> {
    let result = rt::run(64, look_around(core));
    let result = result.unwrap_or_else(|error| Err(error.into()));
    result.map_err(|failure| {
        let fatal = explain(core, &failure);
        (failure, fatal)
    })
}

async fn look_around(core: &Core) -> Result<Prepared, Failure> {
    let settings = core.settings();
    let mut control = Control::open(core, &Arc::default(), false).await?;
    let mut prepared = Prepared {
        protection: control.protection(),
        ..Prepared::default()
    };
    match settings.workload {
        Workload::Get => {
            for path in &settings.paths {
                let size = size(&mut control, path).await?;
                prepared.files.push(File {
                    path: path.clone(),
                    size,
                });
            }
        }
        Workload::Small => {
            let directory = settings.paths.first().map_or("", String::as_str);
            prepared.files = files(core, &mut control, directory).await?;
            if prepared.files.is_empty() {
                let what = format!("there is no file in {directory:?}");
                return Err(Failure::harmless(Kind::Mismatch, what));
            }
        }
        _ => {}
    }
    // What has been found out stays true.
    let _ = control.quit().await;
    Ok(prepared)
}

/// The size of a file, where the server tells it (RFC 3659 §4).
async fn size(control: &mut Control, path: &str) -> Result<Option<u64>, Failure> {
    let reply = control.command(&format!("SIZE {path}")).await?;
    let text = String::from_utf8_lossy(reply.text());
    Ok(match reply.code {
        213 => text.trim().parse().ok(),
        _ => None,
    })
}

/// The files of a directory: MLSD tells their sizes, too.
async fn files(core: &Core, control: &mut Control, directory: &str) -> Result<Vec<File>, Failure> {
    let mut result = Err(Failure::new(Kind::Protocol, "no listing"));
    for command in [ListCommand::Mlsd, ListCommand::Nlst] {
        let mut sink = Sink::Keep(Vec::new());
        let mut work = Work::Receive(&mut sink);
        let line = listing(command, directory);
        let transfer = control.transfer(core, 0, line, &mut work, rt::now());
        match transfer.await {
            Ok(_) => {
                let Sink::Keep(octets) = sink else {
                    break;
                };
                let text = String::from_utf8_lossy(&octets).into_owned();
                return Ok(match command {
                    ListCommand::Mlsd => from_mlsd(&text, directory),
                    _ => from_nlst(&text, directory),
                });
            }
            Err(failure) if failure.usable => result = Err(failure.of(directory)),
            Err(failure) => return Err(failure),
        }
    }
    result
}

fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        directory => format!("{}/{name}", directory.trim_end_matches('/')),
    }
}

/// RFC 3659 §7.2: `fact=value;...; name`.
fn from_mlsd(text: &str, directory: &str) -> Vec<File> {
    let mut files = Vec::new();
    for line in text.lines() {
        let Some((facts, name)) = line.split_once(' ') else {
            continue;
        };
        let fact = |wanted: &str| {
            facts.split(';').find_map(|fact| {
                let (key, value) = fact.split_once('=')?;
                key.eq_ignore_ascii_case(wanted).then_some(value)
            })
        };
        if fact("type").is_none_or(|kind| kind.eq_ignore_ascii_case("file")) {
            files.push(File {
                path: join(directory, name),
                size: fact("size").and_then(|size| size.parse().ok()),
            });
        }
    }
    files
}

/// Names, with or without the directory in front.
fn from_nlst(text: &str, directory: &str) -> Vec<File> {
    let names = text.lines().filter(|name| !name.is_empty());
    names
        .map(|name| File {
            path: match name.contains('/') {
                true => name.to_owned(),
                false => join(directory, name),
            },
            size: None,
        })
        .collect()
}

/// What to say when the server cannot be used.
fn explain(core: &Core, failure: &Failure) -> Fatal {
    let settings = core.settings();
    let server = format!("{} ({})", settings.host, settings.server);
    let (exit, remedy) = match failure.kind {
        Kind::Refused => (
            Exit::Unavailable,
            "nobody listens there: is the server running, and is --server HOST:PORT right?",
        ),
        Kind::Timeout => (
            Exit::Unavailable,
            "no answer within --timeout: is the port right, is a firewall in between, and does \
             --security fit? (implicit for a port that begins with TLS, usually 990)",
        ),
        Kind::Reply(421) => (
            Exit::Unavailable,
            "the server takes no more connections now",
        ),
        Kind::Reply(_) if failure.what.starts_with("login") => match settings.security {
            Security::None => (
                Exit::NoPermission,
                "check --user and --password; does the server want --security explicit?",
            ),
            _ => (Exit::NoPermission, "check --user and --password"),
        },
        Kind::Reply(_) => (Exit::Unavailable, "check --path"),
        Kind::Tls => (
            Exit::Unavailable,
            "check --ca or --insecure, --tls and --suite; --security implicit is for a port that \
             begins with TLS",
        ),
        Kind::Closed | Kind::Reset | Kind::Protocol => (
            Exit::Unavailable,
            "is this an FTP server, and does --security fit it?",
        ),
        Kind::Short | Kind::Mismatch => (Exit::Unavailable, "check --path"),
        Kind::System => (Exit::System, "an error of this machine"),
    };
    Fatal::new(exit, format!("{server}: {}; {remedy}", failure.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: Option<u64>) -> File {
        File {
            path: path.to_owned(),
            size,
        }
    }

    #[test]
    fn listings_name_files() {
        let text = "type=cdir;perm=el; .\r\n\
                    type=dir;modify=20200101000000; sub\r\n\
                    Type=FILE;Size=12;modify=20200101000000; one two.bin\r\n\
                    size=3; plain\r\n";
        let expected = [file("d/one two.bin", Some(12)), file("d/plain", Some(3))];
        assert_eq!(from_mlsd(text, "d/"), expected);
        let names = from_nlst("a\r\n/d/b\r\n\r\n", "d");
        assert_eq!(names, [file("d/a", None), file("/d/b", None)]);
        assert_eq!(from_nlst("a\n", ""), [file("a", None)]);
    }
}
