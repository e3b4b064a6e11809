//! Files of transfers: by calls where nothing has to wait, else through the ring.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::sys::ring::{SharedFd, Span};
use crate::sys::sendfile::Residency;
use crate::sys::{pipe, ring, sendfile};

/// A pipe between a file and a socket.
#[derive(Debug)]
pub struct Pipe {
    reader: SharedFd,
    writer: SharedFd,
}

impl Pipe {
    pub(super) fn reader(&self) -> &SharedFd {
        &self.reader
    }

    /// A pipe with room for about `octets`.
    ///
    /// # Errors
    /// No descriptor or memory is left.
    pub fn new(octets: usize) -> io::Result<Self> {
        let (reader, writer) = pipe::new(octets)?;
        Ok(Self {
            reader: Rc::new(reader),
            writer: Rc::new(writer),
        })
    }

    /// Moves pages of the file into the pipe through the ring, which waits for the disk; 0 at the end
    /// of the file.
    ///
    /// # Errors
    /// The kernel's error.
    pub async fn fill_from(&self, file: &File, offset: u64, count: u32) -> io::Result<u32> {
        ring::splice(&file.fd, Some(offset), &self.writer, count)
            .await
            .0
    }
}

/// How a file can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// What is in the page cache by a call that does not wait, the rest through the ring.
    Cached,
    /// By a call: its pages are in memory by nature.
    Memory,
    /// Through the ring: the file system does not say what would wait.
    Ring,
}

/// An open file of a transfer.
#[derive(Debug, Clone)]
pub struct File {
    fd: SharedFd,
    access: Rc<Cell<Option<Access>>>,
}

impl File {
    /// Takes over a descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Rc::new(fd),
            access: Rc::default(),
        }
    }

    /// The descriptor, for another thread: this one if nothing else uses it, else a duplicate.
    ///
    /// # Errors
    /// The file again, when no descriptor is left.
    pub fn into_fd(self) -> Result<OwnedFd, (Self, io::Error)> {
        let Self { fd, access } = self;
        Rc::try_unwrap(fd).or_else(|fd| match fd.try_clone() {
            Ok(duplicate) => Ok(duplicate),
            Err(error) => Err((Self { fd, access }, error)),
        })
    }

    /// Reads what needs no waiting; 0 where that is nothing. A read through the ring costs a turn of the
    /// loop, and on tmpfs a thread of the kernel.
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> usize {
        let read = match self.access.get() {
            Some(Access::Ring) => return 0,
            Some(Access::Memory) => sendfile::read_memory(self, buffer, offset),
            Some(Access::Cached) => sendfile::read_cached(self, buffer, offset),
            None => {
                let read = sendfile::read_cached(self, buffer, offset);
                let unsure =
                    matches!(&read, Err(error) if error.kind() != io::ErrorKind::WouldBlock);
                self.access.set(Some(match unsure {
                    false => Access::Cached,
                    true if sendfile::is_in_memory(self) => Access::Memory,
                    true => Access::Ring,
                }));
                if unsure {
                    return self.read_now(buffer, offset);
                }
                read
            }
        };
        // An error comes again through the ring.
        read.unwrap_or(0)
    }

    /// Where an octet is.
    #[must_use]
    pub fn residency(&self, offset: u64) -> Residency {
        if self.access.get().is_none() {
            self.read_now(&mut [0], offset);
        }
        match self.access.get() {
            Some(Access::Memory) => Residency::Cached,
            Some(Access::Ring) => Residency::Unknown,
            Some(Access::Cached) | None => sendfile::residency(self, offset),
        }
    }

    /// Fills the span from `offset`, to the end of the file at most; returns how much it filled.
    pub async fn read_full(&self, span: Span, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        let (start, end) = (span.start, span.end);
        let mut buffer = span.buffer;
        let room = buffer.get_mut(start..end).unwrap_or_default();
        let mut filled = self.read_now(room, offset);
        while start + filled < end {
            let part = Span {
                buffer,
                start: start + filled,
                end,
            };
            let (result, (_, back)) = ring::read_at(&self.fd, part, offset + filled as u64).await;
            buffer = back.buffer;
            match result {
                Ok(0) => break,
                Ok(count) => filled += count as usize,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(filled), buffer)
    }

    /// Writes what needs no waiting; returns how much.
    pub fn write_now(&self, octets: &[u8], offset: u64) -> usize {
        if self.access.get().is_none() {
            let memory = sendfile::is_in_memory(self);
            let access = if memory { Access::Memory } else { Access::Ring };
            self.access.set(Some(access));
        }
        match self.access.get() {
            // A full file system says so through the ring.
            Some(Access::Memory) => sendfile::write_memory(self, octets, offset).unwrap_or(0),
            _ => 0,
        }
    }

    /// Writes all of the span at `offset`.
    pub async fn write_all(&self, mut span: Span, mut offset: u64) -> (io::Result<()>, Vec<u8>) {
        while span.start < span.end {
            let (result, (_, back)) = ring::write_at(&self.fd, span, offset).await;
            span = back;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), span.buffer),
                Ok(count) => {
                    span.start += count as usize;
                    offset += u64::from(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), span.buffer),
            }
        }
        (Ok(()), span.buffer)
    }

    /// Brings it to the disk.
    ///
    /// # Errors
    /// The kernel's error.
    pub async fn sync(&self) -> io::Result<()> {
        ring::sync(&self.fd).await.0.map(drop)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
