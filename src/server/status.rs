//! Answers at the status socket (see [`crate::status`]) on the main thread, core after core and page after page: what a
//! client does not take is not asked for, so however many sessions there are, an answer holds a page of them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::Command;
use super::monitor::Monitor;
use crate::control::{self, Page};
use crate::status::{
    Ask, Core, End, Killed, Line, Process, Request, Selected, VERSION, connect, file_name,
    process_of,
};
use crate::{limits, rt};

const BACKLOG: i32 = 64;
/// Pause after the system had no descriptor.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// What a core is asked.
pub(super) enum Question {
    /// Sessions from this number on.
    Page(u64, Arc<Selected>, oneshot::Sender<Page>),
    /// To end sessions.
    Kill(Arc<Selected>, oneshot::Sender<Vec<u64>>),
    /// What is not in its books.
    Measure(oneshot::Sender<Measured>),
}

/// CPU time of a core's thread, and octets sent and received.
pub(super) struct Measured {
    cpu: Duration,
    moved: [u64; 2],
}

impl Question {
    /// On the core. A question whose asker has given up costs nothing.
    pub(super) fn answer(self, core: &control::Core) {
        match self {
            Self::Page(from, selected, reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(core.page(from, &selected, rt::now()));
                }
            }
            // It was in time if it is heard late, too.
            Self::Kill(selected, reply) => {
                let _ = reply.send(core.kill(&selected));
            }
            Self::Measure(reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(Measured {
                        cpu: thread_time(),
                        moved: core.moved(),
                    });
                }
            }
        }
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The socket's file; it goes with this.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number: another process may have put its own there.
    file: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the socket in the state directory and answers there as long as the runtime of the main thread lives. A server
/// that cannot have one says so and serves.
pub(super) fn start(
    state_directory: Option<&Path>,
    monitor: &Arc<Monitor>,
    cores: &[mpsc::UnboundedSender<Command>],
) -> Option<SocketFile> {
    let directory = state_directory?;
    remove_stale(directory);
    match listen(directory) {
        Ok((listener, file)) => {
            let answerer = Arc::new(Answerer {
                monitor: Arc::clone(monitor),
                cores: cores.to_vec(),
            });
            tokio::spawn(serve(listener, answerer));
            Some(file)
        }
        Err(error) => {
            warn!(
                directory = %directory.display(), %error,
                "`ringftpd session` and `ringftpd top` cannot ask this process: give it a --state-dir that it can write, with a short path"
            );
            None
        }
    }
}

fn listen(directory: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let path = directory.join(file_name(std::process::id()));
    // Left by a process of this number that was killed.
    let _ = fs::remove_file(&path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(&path)?)?;
    // Nobody can connect before listen(2).
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    let metadata = fs::symlink_metadata(&path)?;
    let file = (metadata.dev(), metadata.ino());
    let listener = UnixListener::from_std(net::UnixListener::from(socket))?;
    Ok((listener, SocketFile { path, file }))
}

/// Removes the sockets of processes that were killed: nobody listens there.
fn remove_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process_of) else {
            continue;
        };
        // Never waits: one that hangs is not gone, and must not hold the start.
        let refused = connect(&entry.path())
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused && fs::remove_file(entry.path()).is_ok() {
            debug!(
                process,
                "the status socket of a process that is gone was removed"
            );
        }
    }
}

async fn serve(listener: UnixListener, answerer: Arc<Answerer>) {
    let free = Arc::new(Semaphore::new(limits::STATUS_CLIENTS_MAX));
    loop {
        // Never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "no client of the status socket accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        let answerer = Arc::clone(&answerer);
        tokio::spawn(async move {
            match timeout(limits::STATUS_CLIENT_TIME, answerer.attend(stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a client of the status socket was left"),
                Err(_) => debug!("a client of the status socket took too long"),
            }
            drop(permit);
        });
    }
}

struct Answerer {
    monitor: Arc<Monitor>,
    cores: Vec<mpsc::UnboundedSender<Command>>,
}

/// The asker, by the kernel's word.
#[derive(Clone, Copy)]
struct Asker {
    user: u32,
    process: i32,
}

impl Answerer {
    async fn attend(&self, stream: UnixStream) -> io::Result<()> {
        let credentials = stream.peer_cred()?;
        let asker = Asker {
            user: credentials.uid(),
            process: credentials.pid().unwrap_or(0),
        };
        let (reader, writer) = stream.into_split();
        let mut out = Out {
            writer,
            octets: Vec::new(),
        };
        // SECURITY: the socket's mode keeps strangers away; this holds where that was changed.
        if asker.user != 0 && asker.user != rustix::process::geteuid().as_raw() {
            warn!(
                user = asker.user,
                process = asker.process,
                "status refused: another account"
            );
            return out
                .fail("this server answers root and its own account only")
                .await;
        }
        let mut reader = BufReader::new(reader);
        loop {
            let mut request = Vec::new();
            let max = limits::STATUS_REQUEST_OCTETS_MAX as u64;
            let mut bounded = (&mut reader).take(max);
            let line = bounded.read_until(b'\n', &mut request);
            if timeout(limits::STATUS_TURN_TIME, line).await?? == 0 {
                return Ok(());
            }
            if request.last() != Some(&b'\n') {
                return out.fail("the request is too long, or has no end").await;
            }
            match serde_json::from_slice::<Request>(&request) {
                Err(error) => return out.fail(&format!("the request is none: {error}")).await,
                Ok(request) if request.version != VERSION => {
                    let message = format!(
                        "this server (ringftpd {}) speaks version {VERSION}, not {}: use the program of its release",
                        env!("CARGO_PKG_VERSION"),
                        request.version
                    );
                    return out.fail(&message).await;
                }
                Ok(request) => self.answer(request, asker, &mut out).await?,
            }
        }
    }

    async fn answer(&self, request: Request, asker: Asker, out: &mut Out) -> io::Result<()> {
        let all = request.selection.is_empty();
        let selected = match request.selection.check() {
            Ok(selected) => Arc::new(selected),
            Err(error) => return out.fail(&format!("address: {error}")).await,
        };
        if request.ask == Ask::Kill && all {
            return out
                .fail("kill: name sessions, a user, a host or an address")
                .await;
        }
        out.put(&Line::Process(Process {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            accepting: self.monitor.is_accepting(),
            seconds: self.monitor.age().as_secs_f64(),
        }))?;
        let mut end = End::default();
        match request.ask {
            Ask::Look => {
                for core in self.measured().await {
                    out.put(&Line::Core(core))?;
                }
                out.send().await?;
                self.tell_sessions(&selected, &mut end, out).await?;
            }
            Ask::Sessions => self.tell_sessions(&selected, &mut end, out).await?,
            Ask::Kill => {
                let killed = self.kill(&selected, &mut end).await;
                info!(
                    user = asker.user,
                    process = asker.process,
                    sessions = killed.sessions.len(),
                    "sessions ended by the operator"
                );
                out.put(&Line::Killed(killed))?;
            }
        }
        out.put(&Line::End(end))?;
        out.send().await
    }

    /// The cores' books, and what is not in them. Those that have ended are left out: the last sessions of a process that
    /// was replaced may be on others.
    async fn measured(&self) -> Vec<Core> {
        let mut due = Vec::new();
        for core in &self.cores {
            let (reply, answer) = oneshot::channel();
            let _ = core.send(Command::Status(Question::Measure(reply)));
            due.push(answer);
        }
        let cores = self.monitor.cores().await;
        let mut living = Vec::new();
        for (mut core, answer) in cores.into_iter().zip(due) {
            match timeout(limits::STATUS_ANSWER_TIME, answer).await {
                Ok(Ok(measured)) => {
                    core.cpu_seconds = measured.cpu.as_secs_f64();
                    [core.sent, core.received] = measured.moved;
                }
                Ok(Err(_)) => continue,
                Err(_) => core.answered = false,
            }
            living.push(core);
        }
        living
    }

    async fn tell_sessions(
        &self,
        selected: &Arc<Selected>,
        end: &mut End,
        out: &mut Out,
    ) -> io::Result<()> {
        let names = self.monitor.names().await;
        for (core, name) in self.cores.iter().zip(names) {
            let mut next = Some(0);
            while let Some(from) = next {
                let question = |reply| Question::Page(from, Arc::clone(selected), reply);
                let page = match ask(core, question).await {
                    Heard::Answer(page) => page,
                    Heard::Ended => break,
                    Heard::Silence => {
                        end.silent.push(name);
                        break;
                    }
                };
                for session in page.sessions {
                    end.sessions += 1;
                    out.put(&Line::Session(session))?;
                }
                out.send().await?;
                next = page.next;
            }
        }
        Ok(())
    }

    async fn kill(&self, selected: &Arc<Selected>, end: &mut End) -> Killed {
        let names = self.monitor.names().await;
        let mut killed = Killed::default();
        for (core, name) in self.cores.iter().zip(names) {
            match ask(core, |reply| Question::Kill(Arc::clone(selected), reply)).await {
                Heard::Answer(sessions) => killed.sessions.extend(sessions),
                Heard::Ended => {}
                Heard::Silence => end.silent.push(name),
            }
        }
        killed.sessions.sort_unstable();
        let found = |session: &&u64| killed.sessions.binary_search(session).is_ok();
        let unknown = selected.sessions.iter().filter(|session| !found(session));
        killed.unknown = unknown.copied().collect();
        end.sessions = killed.sessions.len() as u64;
        killed
    }
}

/// What became of a question.
enum Heard<T> {
    Answer(T),
    /// The core has ended, and with it its sessions.
    Ended,
    /// It does not answer in time.
    Silence,
}

/// Asks a core and waits a little.
async fn ask<T>(
    core: &mpsc::UnboundedSender<Command>,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Heard<T> {
    let (reply, answer) = oneshot::channel();
    // Where the core has ended, the question is dropped, and that answers.
    let _ = core.send(Command::Status(question(reply)));
    match timeout(limits::STATUS_ANSWER_TIME, answer).await {
        Ok(Ok(answer)) => Heard::Answer(answer),
        Ok(Err(_)) => Heard::Ended,
        Err(_) => Heard::Silence,
    }
}

/// Lines on their way to a client: a page at most.
struct Out {
    writer: tokio::net::unix::OwnedWriteHalf,
    octets: Vec<u8>,
}

impl Out {
    fn put(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.octets, line)?;
        self.octets.push(b'\n');
        Ok(())
    }

    async fn send(&mut self) -> io::Result<()> {
        timeout(
            limits::STATUS_TURN_TIME,
            self.writer.write_all(&self.octets),
        )
        .await??;
        self.octets.clear();
        Ok(())
    }

    async fn fail(&mut self, message: &str) -> io::Result<()> {
        self.octets.clear();
        let message = message.to_owned();
        self.put(&Line::Error { message })?;
        self.send().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A predecessor that hangs, with as many askers as its queue takes.
    #[test]
    fn only_sockets_of_processes_that_are_gone_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let [hung, gone] = [1, 2].map(|process| directory.path().join(file_name(process)));
        let listen = |path: &Path| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
            socket.listen(0).unwrap();
            socket
        };
        let _listener = listen(&hung);
        let asking: Vec<_> = (0..8).map_while(|_| connect(&hung).ok()).collect();
        assert!(connect(&hung).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        drop(listen(&gone));
        remove_stale(directory.path());
        assert!(hung.exists() && !gone.exists());
        drop(asking);
    }
}
