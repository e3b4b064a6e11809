//! File systems whose octets come slowly, for tests that want to know who waits for them.
//!
//! Where `RINGFTPD_TEST_SLOW_DIR` names a directory on a throttled disk (the kernel lab has one), that is
//! the slow disk. Elsewhere this process is the disk: it serves a file system by the FUSE protocol
//! (linux/fuse.h), answers reads at the speed of a slow disk, and a loop device makes a disk of a file
//! in it. That takes root.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::common::server::process_directory;
use crate::pressure::slowness;

/// What the disk that this process plays takes for 256 KiB.
pub(crate) fn chunk_time() -> Duration {
    Duration::from_millis(400) * slowness().min(4)
}

/// A directory with slow files; unmounted at the end.
pub(crate) struct SlowDevice {
    /// Where they are.
    pub(crate) directory: PathBuf,
    mounts: Mounts,
}

impl SlowDevice {
    /// A disk with files of one content, and a file system that tells what of it is in memory: nothing.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(crate) fn disk(files: &[String], content: &[u8]) -> Result<Self, String> {
        if let Some(directory) = std::env::var_os("RINGFTPD_TEST_SLOW_DIR") {
            return Self::throttled(Path::new(&directory), files, content);
        }
        let place = place("disk")?;
        let tree = place.join("tree");
        put(&tree, files, content)?;
        let image = place.join("image");
        std::fs::create_dir(&image).map_err(words)?;
        let octets = files.len() * content.len();
        let blocks = format!("{}K", octets / 1024 + 4096);
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-O", "^has_journal", "-d"])
            .arg(&tree)
            .arg(image.join("disk"))
            .arg(blocks))?;
        let mut mounts = Mounts::default();
        let slow = place.join("slow");
        mounts.fuse(&image, &slow, Duration::ZERO)?;
        let directory = place.join("home");
        mounts.disk(&slow.join("disk"), &directory)?;
        Ok(Self { directory, mounts })
    }

    /// A file system that does not tell what is in memory, as one on the network. `answer_time` is what
    /// it takes to tell something of its files. What the kernel asks by itself is answered at once: FLUSH
    /// when a descriptor is closed, POLL when the ring reads.
    ///
    /// # Errors
    /// What this machine lacks.
    pub(crate) fn fuse(
        files: &[String],
        content: &[u8],
        answer_time: Duration,
    ) -> Result<Self, String> {
        let place = place("fuse")?;
        let backing = place.join("backing");
        put(&backing, files, content)?;
        let directory = place.join("home");
        let mut mounts = Mounts::default();
        mounts.fuse(&backing, &directory, answer_time)?;
        Ok(Self { directory, mounts })
    }

    fn throttled(directory: &Path, files: &[String], content: &[u8]) -> Result<Self, String> {
        let directory = directory.join(format!("home-{:x}", fastrand::u32(..)));
        put(&directory, files, content)?;
        run(&mut Command::new("sync"))?;
        std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(words)?;
        Ok(Self {
            directory,
            mounts: Mounts::default(),
        })
    }

    /// Brings a page of a file into memory, and nothing around it.
    pub(crate) fn touch(&self, name: &str, offset: u64) {
        let file = File::open(self.directory.join(name)).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        file.read_exact_at(&mut [0], offset).unwrap();
    }

    /// Reads a little of a file. A throttled disk does some work at once when it was idle, and the pages
    /// that the server only asks for would come in while it asks.
    pub(crate) fn tire(&self, name: &str) {
        let file = File::open(self.directory.join(name)).unwrap();
        file.read_exact_at(&mut vec![0; 256 * 1024], 0).unwrap();
    }

    /// Unmounts.
    pub(crate) fn end(self) {
        drop(self.mounts);
    }
}

/// A directory of its own for each use.
fn place(name: &str) -> Result<PathBuf, String> {
    let place = process_directory().join(format!("slow-{name}-{:x}", fastrand::u32(..)));
    std::fs::create_dir_all(&place).map_err(words)?;
    Ok(place)
}

fn put(directory: &Path, files: &[String], content: &[u8]) -> Result<(), String> {
    std::fs::create_dir_all(directory).map_err(words)?;
    for name in files {
        std::fs::write(directory.join(name), content).map_err(words)?;
    }
    Ok(())
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{command:?}: {said}"))
}

/// What was mounted, to be taken back in reverse order, by another process if this one is killed.
#[derive(Default)]
struct Mounts {
    undo: Vec<String>,
    keeper: Option<Child>,
}

impl Mounts {
    fn add(&mut self, undo: String) -> Result<(), String> {
        self.undo.insert(0, undo);
        let old = self.keeper.take();
        let script = format!(
            "read -r done || {{ {}; }} 2>/dev/null",
            self.undo.join("; ")
        );
        let keeper = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .spawn();
        self.keeper = Some(keeper.map_err(words)?);
        if let Some(keeper) = old {
            dismiss(keeper);
        }
        Ok(())
    }

    /// Mounts a file system at `directory` that has the files of `backing`, and serves it.
    fn fuse(
        &mut self,
        backing: &Path,
        directory: &Path,
        answer_time: Duration,
    ) -> Result<(), String> {
        std::fs::create_dir_all(directory).map_err(words)?;
        let channel = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| format!("/dev/fuse: {error}"))?;
        let passed = channel.try_clone().map_err(words)?;
        run(Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0,allow_other")
            .arg("slow")
            .arg(directory)
            .stdin(passed))?;
        self.add(format!("umount -l '{}'", directory.display()))?;
        serve(channel, backing, answer_time);
        Ok(())
    }

    /// Makes a disk of the file and mounts what is on it.
    fn disk(&mut self, file: &Path, directory: &Path) -> Result<(), String> {
        std::fs::create_dir_all(directory).map_err(words)?;
        let device = run(Command::new("losetup")
            .args(["-r", "-f", "--show"])
            .arg(file))?;
        self.add(format!("losetup -d {device}"))?;
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "ro,noload", &device])
            .arg(directory))?;
        self.add(format!("umount -l '{}'", directory.display()))
    }
}

/// Ends the process that would have unmounted.
fn dismiss(mut keeper: Child) {
    if let Some(mut input) = keeper.stdin.take() {
        let _ = input.write_all(b"\n");
    }
    let _ = keeper.wait();
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for undo in &self.undo {
            let _ = Command::new("sh").args(["-c", undo]).output();
        }
        if let Some(keeper) = self.keeper.take() {
            dismiss(keeper);
        }
    }
}

/// A file of the file system; its number is its place and two, as the root is 1.
struct Served {
    name: String,
    file: File,
    octets: u64,
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// `struct fuse_in_header`.
const HEADER_OCTETS: usize = 40;
/// Attributes and names stay valid for so many seconds: only octets are slow.
const VALID_SECONDS: u64 = 3600;
const REQUEST_OCTETS_MAX: usize = 256 * 1024;

/// A read to be answered after the time that it takes the disk.
struct SlowRead {
    unique: u64,
    file: usize,
    offset: u64,
    count: usize,
}

fn serve(channel: File, backing: &Path, answer_time: Duration) {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(backing).unwrap() {
        let entry = entry.unwrap();
        files.push(Served {
            name: entry.file_name().into_string().unwrap(),
            octets: entry.metadata().unwrap().len(),
            file: File::open(entry.path()).unwrap(),
        });
    }
    let files = Arc::new(files);
    let (reads, queue) = std::sync::mpsc::channel();
    let (disk, disk_files) = (channel.try_clone().unwrap(), Arc::clone(&files));
    std::thread::spawn(move || serve_reads(&disk, &disk_files, &queue));
    std::thread::spawn(move || {
        let mut request = vec![0; REQUEST_OCTETS_MAX];
        // Ends when it is unmounted.
        while let Ok(count) = (&channel).read(&mut request) {
            let operation = u32::from_ne_bytes(number(&request, 4));
            if matches!(
                operation,
                LOOKUP | GETATTR | OPEN | STATFS | OPENDIR | READDIR
            ) {
                std::thread::sleep(answer_time);
            }
            if let Some(read) = answer(&channel, &files, &request[..count]) {
                let _ = reads.send(read);
            }
        }
    });
}

/// One after the other, as a disk does.
fn serve_reads(channel: &File, files: &[Served], queue: &Receiver<SlowRead>) {
    for read in queue {
        let served = &files[read.file];
        let left = served.octets.saturating_sub(read.offset);
        let count = left.min(read.count as u64);
        std::thread::sleep(chunk_time().mul_f64(count as f64 / (256.0 * 1024.0)));
        let mut octets = vec![0; count as usize];
        served.file.read_exact_at(&mut octets, read.offset).unwrap();
        reply(channel, read.unique, 0, &octets);
    }
}

fn number<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().unwrap()
}

/// Answers a request, or hands a read on.
fn answer(channel: &File, files: &[Served], request: &[u8]) -> Option<SlowRead> {
    let operation = u32::from_ne_bytes(number(request, 4));
    let unique = u64::from_ne_bytes(number(request, 8));
    let node = u64::from_ne_bytes(number(request, 16));
    let body = &request[HEADER_OCTETS..];
    match operation {
        INIT => {
            let mut out = [7_u32, 31, 128 * 1024, 1].map(u32::to_ne_bytes).concat();
            out.resize(64, 0);
            reply(channel, unique, 0, &out);
        }
        LOOKUP => {
            let name = body.strip_suffix(b"\0").unwrap_or(body);
            match files.iter().position(|file| file.name.as_bytes() == name) {
                Some(place) => reply(channel, unique, 0, &entry(files, place as u64 + 2)),
                None => reply(channel, unique, -ENOENT, &[]),
            }
        }
        GETATTR => {
            let mut out = [VALID_SECONDS, 0].map(u64::to_ne_bytes).concat();
            out.extend(attributes(files, node));
            reply(channel, unique, 0, &out);
        }
        READ => {
            return Some(SlowRead {
                unique,
                file: usize::try_from(node).unwrap() - 2,
                offset: u64::from_ne_bytes(number(body, 8)),
                count: u32::from_ne_bytes(number(body, 16)) as usize,
            });
        }
        OPEN | OPENDIR => reply(channel, unique, 0, &[0; 16]),
        STATFS => reply(channel, unique, 0, &[0; 80]),
        RELEASE | RELEASEDIR | READDIR => reply(channel, unique, 0, &[]),
        FORGET | BATCH_FORGET | INTERRUPT => {}
        _ => reply(channel, unique, -ENOSYS, &[]),
    }
    None
}

/// `struct fuse_entry_out`.
fn entry(files: &[Served], node: u64) -> Vec<u8> {
    let mut out = [node, 0, VALID_SECONDS, VALID_SECONDS, 0]
        .map(u64::to_ne_bytes)
        .concat();
    out.extend(attributes(files, node));
    out
}

/// `struct fuse_attr`.
fn attributes(files: &[Served], node: u64) -> Vec<u8> {
    let file = node.checked_sub(2).map(|place| &files[place as usize]);
    let octets = file.map_or(4096, |file| file.octets);
    let mode: u32 = file.map_or(0o040_755, |_| 0o100_644);
    let mut out = [node, octets, octets.div_ceil(512), 0, 0, 0]
        .map(u64::to_ne_bytes)
        .concat();
    out.extend(
        [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
            .map(u32::to_ne_bytes)
            .concat(),
    );
    out
}

fn reply(mut channel: &File, unique: u64, error: i32, payload: &[u8]) {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut out = length.to_ne_bytes().to_vec();
    out.extend(error.to_ne_bytes());
    out.extend(unique.to_ne_bytes());
    out.extend(payload);
    // Fails for requests that were interrupted.
    let _ = channel.write(&out);
}
