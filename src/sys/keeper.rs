//! The keeper: reads a few files named at start, even after this process has given root away.
//!
//! A users file or a private key is often readable by root alone, yet it is to be read again on
//! SIGHUP. So before the server becomes an unprivileged account, it forks a small process that
//! keeps the right to read files and no other. It takes a number over a socket and answers with
//! the contents of the file of that number: a server that is taken over can ask for nothing but
//! what it has read anyway.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use zeroize::Zeroizing;

use crate::limits;

/// Reads the files that were named when it was made.
pub struct Keeper {
    files: Vec<PathBuf>,
    /// `None` where this process reads for itself.
    process: Option<Process>,
}

/// The keeper process, seen from the server.
struct Process {
    socket: Mutex<UnixStream>,
    /// To be reaped; `None` where a test plays the process.
    id: Option<Pid>,
}

/// Answers of the keeper process: a status octet, a number, and octets of that number.
const STATUS_READ: u8 = 0;
const STATUS_FAILED: u8 = 1;

/// Why root does not help with a path that the keeper was not told of.
const NEW_PATH: &str = "Permission denied; root was given away, and this path is new since then: let the server's \
                        account read it, or start the server again";

impl Keeper {
    /// A keeper without a process of its own: this process reads, with the rights it has.
    #[must_use]
    pub fn direct(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            process: None,
        }
    }

    /// Forks the keeper process. To be called as root, before any thread is started.
    ///
    /// # Errors
    /// The system's.
    pub fn fork(files: Vec<PathBuf>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: the process has one thread, so the child may do whatever the parent may.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(ours);
                let status = i32::from(serve(&files, theirs).is_err());
                // SAFETY: `_exit` ends the child without the parent's clean-up.
                unsafe { libc::_exit(status) }
            }
            child => Ok(Self {
                files,
                process: Some(Process {
                    socket: Mutex::new(ours),
                    id: Pid::from_raw(child),
                }),
            }),
        }
    }

    /// Reads the file of this path. One that was not named at the start is read with the rights of this process: the
    /// keeper would not know it from what a stranger asks for. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let position = self.files.iter().position(|file| file == path);
        let number = position.and_then(|position| u16::try_from(position).ok());
        match (&self.process, number) {
            (None, _) => read_file(path),
            (Some(_), None) => read_file(path).map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), NEW_PATH),
                _ => error,
            }),
            (Some(process), Some(number)) => {
                let mut socket = process
                    .socket
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                ask(&mut socket, number).or_else(|error| match error.kind() {
                    // Root without CAP_DAC_OVERRIDE cannot read what is closed and belongs to this account.
                    io::ErrorKind::PermissionDenied => read_file(path),
                    _ => Err(error),
                })
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let socket = self
            .socket
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        // The end of input ends the keeper; its end of the socket closes then. Whatever fails
        // here, the keeper ends when this process does.
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.set_read_timeout(Some(limits::KEEPER_END_MAX));
        let _ = socket.read(&mut [0]);
        if self.id.is_some() {
            let _ = waitpid(self.id, WaitOptions::NOHANG);
        }
    }
}

fn ask(socket: &mut UnixStream, number: u16) -> io::Result<Zeroizing<Vec<u8>>> {
    socket.write_all(&number.to_be_bytes())?;
    let (mut status, mut head) = ([0; 1], [0; 8]);
    socket.read_exact(&mut status)?;
    socket.read_exact(&mut head)?;
    let value = u64::from_be_bytes(head);
    if status != [STATUS_READ] {
        let errno = i32::try_from(value).unwrap_or(libc::EIO);
        return Err(io::Error::from_raw_os_error(errno));
    }
    let octets = usize::try_from(value.min(limits::SETTINGS_FILE_OCTETS_MAX))
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut contents = Zeroizing::new(vec![0; octets]);
    socket.read_exact(&mut contents)?;
    Ok(contents)
}

/// The keeper process: answers until the server is gone.
fn serve(files: &[PathBuf], mut socket: UnixStream) -> io::Result<()> {
    // The server's listeners and logs must not stay open here: pipes to them would never end.
    let keep = std::os::fd::AsRawFd::as_raw_fd(&socket);
    close_others(keep);
    // Told apart from the server in process lists; a failure is of no importance.
    let _ = rustix::thread::set_name(c"ringftpd-keeper");
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let kept = CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    // A container may withhold the capability: what remains is the plain right of user 0.
    let _ = rustix::thread::set_capabilities(None, sets);
    ignore_signals_of_the_terminal();
    answer_all(files, &mut socket)
}

fn answer_all(files: &[PathBuf], socket: &mut UnixStream) -> io::Result<()> {
    loop {
        let mut number = [0; 2];
        match socket.read_exact(&mut number) {
            Ok(()) => {}
            // The server has ended, and so does its keeper.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let file = files.get(usize::from(u16::from_be_bytes(number)));
        let contents =
            file.map_or_else(|| Err(io::ErrorKind::InvalidInput.into()), |f| read_file(f));
        match contents {
            Ok(contents) => {
                socket.write_all(&[STATUS_READ])?;
                socket.write_all(&u64::try_from(contents.len()).unwrap_or(0).to_be_bytes())?;
                socket.write_all(&contents)?;
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                socket.write_all(&[STATUS_FAILED])?;
                socket.write_all(&u64::try_from(errno).unwrap_or(0).to_be_bytes())?;
            }
        }
    }
}

/// Closes every descriptor but the one to keep.
pub(super) fn close_others(keep: i32) {
    let Ok(keep) = u32::try_from(keep) else {
        return;
    };
    for (first, last) in [(0, keep.checked_sub(1)), (keep + 1, Some(u32::MAX))] {
        if let Some(last) = last.filter(|last| first <= *last) {
            // SAFETY: nothing in this process uses another descriptor than `keep` from here on;
            // a standard stream that is written to fails with EBADF, which is ignored.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Ctrl-C at a terminal and a reload are the server's to handle; the keeper ends with it.
fn ignore_signals_of_the_terminal() {
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The contents of a file as the server reads its settings, certificates and keys: of a regular file, and at most
/// [`limits::SETTINGS_FILE_OCTETS_MAX`] octets. A pipe or a device is not waited for. Blocks.
///
/// # Errors
/// The system's; `EINVAL` for what is no regular file, `EFBIG` for one that is larger.
pub fn read_without_waiting(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path).and_then(contents_of)
}

fn read_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    File::open(path).and_then(contents_of)
}

/// The contents of a regular file of bounded size.
fn contents_of(file: File) -> io::Result<Zeroizing<Vec<u8>>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    if metadata.len() > limits::SETTINGS_FILE_OCTETS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let mut contents = Zeroizing::new(Vec::new());
    file.take(limits::SETTINGS_FILE_OCTETS_MAX)
        .read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_of_bounded_size_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let large = File::create(path("large")).unwrap();
        // Without a block on the disk.
        large.set_len(limits::SETTINGS_FILE_OCTETS_MAX + 1).unwrap();
        let error = read_without_waiting(&path("large")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        large.set_len(2 * 1024 * 1024).unwrap();
        assert_eq!(
            read_without_waiting(&path("large")).unwrap().len(),
            2 * 1024 * 1024
        );

        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), kind, mode, 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let pipe = path("pipe");
        std::thread::spawn(move || tell.send(read_without_waiting(&pipe)));
        let read = told.recv_timeout(std::time::Duration::from_secs(30));
        let error = read.expect("it waits for a writer").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_dialogue_hands_over_named_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        std::fs::write(&one, b"first").unwrap();
        let files = vec![one.clone(), two.clone()];
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let answering = files.clone();
        let keeper = Keeper {
            files,
            process: Some(Process {
                socket: Mutex::new(ours),
                id: None,
            }),
        };
        let process = std::thread::spawn(move || answer_all(&answering, &mut theirs));
        assert_eq!(**keeper.read(&one).unwrap(), *b"first");
        assert_eq!(
            keeper.read(&two).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        std::fs::write(&two, vec![7; 100_000]).unwrap();
        assert_eq!(keeper.read(&two).unwrap().len(), 100_000);
        let other = keeper.read(directory.path()).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::InvalidInput);
        drop(keeper);
        process.join().unwrap().unwrap();
    }
}
