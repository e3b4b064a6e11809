//! The one table from the kernel's errors to what the session is told.

use std::io;

use rustix::io::Errno;

use crate::proto::FileError;

/// Says whose fault an error of the kernel is. For reading and writing an open file too.
#[must_use]
pub fn file_error(error: &io::Error) -> FileError {
    let Some(errno) = Errno::from_io_error(error) else {
        return FileError::Local;
    };
    match errno {
        // EXDEV and ELOOP: the name leaves the root, or nothing is at the end of its links.
        Errno::NOENT | Errno::XDEV | Errno::LOOP => FileError::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FileError::Denied,
        Errno::NOTDIR => FileError::NotADirectory,
        Errno::ISDIR => FileError::IsADirectory,
        Errno::EXIST => FileError::Exists,
        Errno::NOTEMPTY => FileError::NotEmpty,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => FileError::NameNotAllowed,
        // A FIFO that nobody reads, a socket, a device without a driver.
        Errno::NXIO | Errno::NODEV => FileError::NotRegular,
        Errno::NOSPC => FileError::VolumeFull,
        Errno::DQUOT | Errno::FBIG => FileError::QuotaExceeded,
        // EAGAIN: a lease that is not given up, or directories that are renamed without end.
        Errno::TXTBSY | Errno::BUSY | Errno::AGAIN => FileError::Busy,
        _ => FileError::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors() {
        let table = [
            (Errno::NOSPC, FileError::VolumeFull),
            (Errno::DQUOT, FileError::QuotaExceeded),
            (Errno::IO, FileError::Local),
            (Errno::MFILE, FileError::Local),
            (Errno::NOMEM, FileError::Local),
            (Errno::ACCESS, FileError::Denied),
            (Errno::PERM, FileError::Denied),
            (Errno::ROFS, FileError::Denied),
            (Errno::NOENT, FileError::NotFound),
            (Errno::XDEV, FileError::NotFound),
            (Errno::LOOP, FileError::NotFound),
            (Errno::NOTDIR, FileError::NotADirectory),
            (Errno::ISDIR, FileError::IsADirectory),
            (Errno::EXIST, FileError::Exists),
            (Errno::NOTEMPTY, FileError::NotEmpty),
            (Errno::NAMETOOLONG, FileError::NameNotAllowed),
            (Errno::INVAL, FileError::NameNotAllowed),
            (Errno::TXTBSY, FileError::Busy),
            (Errno::BUSY, FileError::Busy),
            (Errno::NXIO, FileError::NotRegular),
        ];
        for (errno, expected) in table {
            assert_eq!(file_error(&errno.into()), expected, "{errno:?}");
        }
        let without_number = io::Error::from(io::ErrorKind::WriteZero);
        assert_eq!(file_error(&without_number), FileError::Local);
    }
}
