//! Files that the server reads, and the directory that it serves.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Machine;
use crate::doctor::Input;
use crate::doctor::facts::{DirectoryFacts, FileFacts};
use crate::limits;
use crate::sys::host::cause;
use crate::sys::identity;

/// Owner, mode and usability of a file.
pub(in crate::doctor) fn file(path: &Path) -> FileFacts {
    let mut facts = FileFacts {
        path: path.to_path_buf(),
        problem: None,
        mode: 0,
        owner: 0,
        open_parent: open_parent(path),
    };
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            facts.problem = Some(cause(&error));
            return facts;
        }
    };
    facts.mode = metadata.mode() & 0o7777;
    facts.owner = metadata.uid();
    facts.problem = if !metadata.is_file() {
        // Opening a pipe would wait for whoever writes to it.
        Some("it is no file; give the path of one".to_owned())
    } else if metadata.len() > limits::SETTINGS_FILE_OCTETS_MAX {
        Some(format!(
            "larger than {} octets; give a file that is smaller: of a larger one the server reads nothing",
            limits::SETTINGS_FILE_OCTETS_MAX
        ))
    } else {
        File::open(path).err().map(|error| cause(&error))
    };
    facts
}

/// A directory above the file that everybody may write to, where names are not kept from others (the sticky bit).
fn open_parent(path: &Path) -> Option<std::path::PathBuf> {
    let path = path.canonicalize().ok()?;
    let parents = path.ancestors().skip(1);
    let mut open = parents.filter(|parent| {
        let mode = parent.metadata().map_or(0, |metadata| metadata.mode());
        mode & 0o002 != 0 && mode & 0o1000 == 0
    });
    open.next().map(Path::to_path_buf)
}

impl Machine {
    /// The directory that is to be served, and its file system.
    pub(in crate::doctor) fn directory(&self, path: &Path) -> DirectoryFacts {
        let mut facts = DirectoryFacts {
            path: path.to_path_buf(),
            ..DirectoryFacts::default()
        };
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) => {
                facts.problem = Some(cause(&error));
                return facts;
            }
        };
        match real.metadata() {
            Ok(metadata) if !metadata.is_dir() => {
                facts.problem = Some("it is no directory".to_owned());
            }
            Ok(metadata) => {
                facts.mode = metadata.mode() & 0o7777;
                facts.device = Some(metadata.dev());
                facts.problem = real.read_dir().err().map(|error| cause(&error));
            }
            Err(error) => facts.problem = Some(cause(&error)),
        }
        if let Ok(volume) = rustix::fs::statvfs(&real) {
            let octets = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
            facts.space = Some((octets(volume.f_blocks), octets(volume.f_bavail)));
            // File systems that make inodes as they need them say 0 (btrfs).
            facts.inodes = (volume.f_files > 0).then_some((volume.f_files, volume.f_favail));
        }
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        if let Some((file_system, options)) = mount(&mounts, &real) {
            facts.file_system = Some(file_system);
            facts.mount_options = options;
        }
        facts
    }
}

impl Machine {
    /// The account that root is to become, if from `start` it cannot list `directory`. Tried out by a process that is that
    /// account, with its groups: modes alone do not tell (ACLs).
    pub(in crate::doctor) fn barred(
        &self,
        input: &Input,
        start: &Path,
        directory: &Path,
    ) -> Option<String> {
        /// A status that neither setpriv nor a shell has: theirs are 1, and 126 and above.
        const BARRED: i32 = 77;
        const TEST: &str = r#"test -r "$1" && test -x "$1" || exit 77"#;
        let name = input.run_as.as_deref()?;
        let account = identity::find_by_name(name).ok()??;
        if !self.is_live() || !identity::is_root() || account.is_root() || !start.is_dir() {
            return None;
        }
        let status = Command::new("setpriv")
            .arg(format!("--reuid={}", account.user))
            .arg(format!("--regid={}", account.group))
            .args(["--init-groups", "--", "sh", "-c", TEST, "sh"])
            .arg(directory)
            .current_dir(start)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .ok()?;
        // Others are of a setpriv that failed, or does not know these options (busybox): it is not known then.
        (status.code() == Some(BARRED)).then(|| name.to_owned())
    }
}

/// The type and the options of the mount that holds `path`, from mountinfo (proc(5)).
fn mount(text: &str, path: &Path) -> Option<(String, Vec<String>)> {
    let mut best: Option<(usize, String, Vec<String>)> = None;
    for line in text.lines() {
        let Some((mount, volume)) = line.split_once(" - ") else {
            continue;
        };
        let fields: Vec<&str> = mount.split_whitespace().collect();
        let volume: Vec<&str> = volume.split_whitespace().collect();
        let (Some(point), Some(options), Some(kind)) =
            (fields.get(4), fields.get(5), volume.first())
        else {
            continue;
        };
        let point = unescape(point);
        let point = Path::new(&point);
        let depth = point.components().count();
        // Of two mounts on one point the later one is on top.
        if path.starts_with(point)
            && best
                .as_ref()
                .is_none_or(|(deepest, _, _)| depth >= *deepest)
        {
            let of_volume = volume.get(2).copied().unwrap_or_default();
            let options = options.split(',').chain(of_volume.split(','));
            let options = options.map(str::to_owned).collect();
            best = Some((depth, (*kind).to_owned(), options));
        }
    }
    best.map(|(_, kind, options)| (kind, options))
}

/// Blanks and backslashes of mount points are written in octal.
fn unescape(text: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n")];
    let text = pairs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let text = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
            30 22 0:40 / /srv rw,noatime shared:1 - nfs4 host:/srv rw,vers=4.2\n\
            31 22 0:41 / /srv rw,noatime - xfs /dev/sdb rw\n\
            32 22 0:42 / /srv\\040two ro - tmpfs tmpfs ro\nrubbish\n";
        let kind = |path: &str| mount(text, Path::new(path)).map(|(kind, _)| kind);
        assert_eq!(kind("/srv/files").as_deref(), Some("xfs"));
        assert_eq!(kind("/home").as_deref(), Some("ext4"));
        assert_eq!(kind("/srv two/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/srv tw").as_deref(), Some("ext4"));
        let (_, options) = mount(text, Path::new("/srv two")).unwrap();
        assert!(options.contains(&"ro".to_owned()));
        assert_eq!(mount("", Path::new("/")), None);
    }

    #[test]
    fn a_directory_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let facts = Machine::this().directory(directory.path());
        assert_eq!(facts.problem, None);
        assert!(facts.file_system.is_some() && facts.space.is_some());
        let missing = directory.path().join("missing");
        assert!(Machine::this().directory(&missing).problem.is_some());
        assert!(file(&missing).problem.is_some());
        assert!(file(directory.path()).problem.is_some());
    }
}
