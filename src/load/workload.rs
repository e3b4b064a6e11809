//! What sessions do.

use std::time::Duration;

use super::Shared;
use super::session::Session;
use super::trouble::Trouble;
use crate::rt;

/// Before a session that has failed tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a session does again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    /// Downloads of these files, in turn.
    Get(Vec<String>),
    /// Uploads of so many octets to a directory.
    Put {
        /// The directory, without the slash at its end.
        directory: String,
        /// Octets of each.
        octets: u64,
        /// They stay there.
        keep: bool,
    },
    /// Downloads of the files of a directory, in turn.
    Small(String),
    /// Listings: the command, with its argument.
    List(String),
    /// Of ten operations six downloads of files of a directory, two uploads of so many octets, which are
    /// deleted, and two listings.
    Mixed {
        /// The directory.
        directory: String,
        /// Octets of each upload.
        octets: u64,
    },
    /// Logins and QUIT.
    Login,
    /// Nothing but being there, for so long.
    Idle(Duration),
    /// NOOP.
    Noop,
}

impl Workload {
    /// The name in reports and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Put { .. } => "put",
            Self::Small(_) => "small",
            Self::List(_) => "list",
            Self::Mixed { .. } => "mixed",
            Self::Login => "login",
            Self::Idle(_) => "idle",
            Self::Noop => "noop",
        }
    }
}

/// A session from its login to its end.
pub(super) async fn session(shared: Shared) {
    let mut worker = Worker {
        number: shared.turn(),
        files: Vec::new(),
        done: 0,
        session: None,
        shared,
    };
    if worker.shared.plan.workload != Workload::Login {
        while let Err(trouble) = worker.prepare().await {
            worker.shared.fail(trouble);
            rt::sleep(PAUSE).await;
            if worker.shared.is_over() {
                break;
            }
        }
    }
    let common = &worker.shared.common;
    common
        .ready
        .fetch_add(1, std::sync::atomic::Ordering::Release);
    while common.start.get().is_none() {
        rt::sleep(Duration::from_millis(5)).await;
    }
    worker.work().await;
    if let Some(session) = worker.session.take() {
        let _ = session.quit().await;
    }
}

struct Worker {
    shared: Shared,
    /// Of the sessions of this core.
    number: usize,
    session: Option<Session>,
    /// Names of the files to be downloaded.
    files: Vec<String>,
    done: usize,
}

impl Worker {
    /// Logs in and finds out what there is.
    async fn prepare(&mut self) -> Result<(), Trouble> {
        let mut session = Session::log_in(&self.shared).await?;
        let workload = &self.shared.plan.workload;
        if let Workload::Small(directory) | Workload::Mixed { directory, .. } = workload
            && self.files.is_empty()
        {
            let mut names = Vec::new();
            let command = format!("NLST {directory}");
            session.download(&command, Some(&mut names)).await?;
            self.files = names_in(directory, &names);
            if self.files.is_empty() {
                return Err(Trouble::Size);
            }
        }
        self.session = Some(session);
        Ok(())
    }

    async fn work(&mut self) {
        if let Workload::Idle(time) = self.shared.plan.workload {
            let since = rt::now();
            rt::sleep(time).await;
            self.shared.count_operation(since);
            return;
        }
        while !self.shared.is_over() {
            let intended = self.shared.arrival().await;
            if self.shared.is_over() || !self.shared.take_one() {
                return;
            }
            match self.operate().await {
                Ok(()) => self.shared.count_operation(intended),
                Err(trouble) => {
                    self.shared.fail(trouble);
                    // What state the dialogue is in is unclear.
                    self.session = None;
                    rt::sleep(PAUSE).await;
                }
            }
            self.done += 1;
        }
    }

    async fn operate(&mut self) -> Result<(), Trouble> {
        let plan = std::sync::Arc::clone(&self.shared.plan);
        if plan.workload == Workload::Login {
            return Session::log_in(&self.shared).await?.quit().await;
        }
        if self.session.is_none() {
            self.prepare().await?;
        }
        let file = self.file();
        let name = format!("load-{}-{}", std::process::id(), self.number);
        let Some(session) = &mut self.session else {
            return Err(Trouble::Closed);
        };
        match &plan.workload {
            Workload::Get(_) | Workload::Small(_) => {
                session.download(&format!("RETR {file}"), None).await?;
            }
            Workload::Put {
                directory,
                octets,
                keep,
            } => {
                let path = match keep {
                    true => format!("{directory}/{name}-{}", self.done),
                    false => format!("{directory}/{name}"),
                };
                put(session, &path, *octets, !keep).await?;
            }
            Workload::List(command) => {
                session.download(command, None).await?;
            }
            Workload::Mixed { directory, octets } => match self.done % 10 {
                2 | 7 => put(session, &format!("{directory}/{name}"), *octets, true).await?,
                4 | 9 => {
                    session.download(&format!("MLSD {directory}"), None).await?;
                }
                _ => {
                    session.download(&format!("RETR {file}"), None).await?;
                }
            },
            Workload::Noop => {
                session.command("NOOP").await?;
            }
            Workload::Login | Workload::Idle(_) => {}
        }
        Ok(())
    }

    /// The file whose turn it is.
    fn file(&self) -> String {
        let files = match &self.shared.plan.workload {
            Workload::Get(files) => files,
            _ => &self.files,
        };
        let place = self.number + self.done * self.shared.plan.sessions;
        files
            .get(place % files.len().max(1))
            .cloned()
            .unwrap_or_default()
    }
}

/// Uploads, asks for the size, and deletes.
async fn put(session: &mut Session, path: &str, octets: u64, delete: bool) -> Result<(), Trouble> {
    session.upload(&format!("STOR {path}"), octets).await?;
    let reply = session.command(&format!("SIZE {path}")).await?;
    let size = std::str::from_utf8(reply.text()).ok();
    let size: Option<u64> = size.and_then(|size| size.trim().parse().ok());
    if delete {
        session.command(&format!("DELE {path}")).await?;
    }
    match size == Some(octets) {
        true => Ok(()),
        false => Err(Trouble::Size),
    }
}

/// The files that NLST has named, with the directory in front: some servers name it, some do not.
fn names_in(directory: &str, listing: &[u8]) -> Vec<String> {
    let listing = String::from_utf8_lossy(listing);
    let prefix = directory.trim_end_matches('/');
    // Some servers name the directory itself and the one above.
    let dots = |line: &str| matches!(line.rsplit('/').next(), Some("" | "." | ".."));
    let named = listing.lines().filter(|line| !dots(line));
    let full = |line: &str| match line.rsplit_once('/') {
        Some((_, name)) => format!("{prefix}/{name}"),
        None => format!("{prefix}/{line}"),
    };
    named.map(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_directory_once() {
        let expected = ["d/a", "d/b c"];
        assert_eq!(names_in("d", b"a\r\nb c\r\n"), expected);
        assert_eq!(names_in("d/", b"d/a\r\n/d/b c\r\nd/.\r\n..\r\n"), expected);
        assert_eq!(names_in("d", b""), Vec::<String>::new());
    }
}
