//! io_uring operations on raw descriptors, as futures.
//!
//! Each function submits when it is called, not when its future is first polled, so two of them
//! overlap by being called one after the other. The descriptor and the buffer of an operation
//! belong to it until it completes; a dropped future leaves both with the driver until then.
//! Dropping one does not cancel the operation: callers end a wait by shutting the socket down.
//! Operations that wait for a peer without a bound are [`ready`] only; it consumes nothing, so
//! dropping that one loses nothing.

use std::cell::Cell;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::ktls::Outgoing;
use io_uring::{cqueue, opcode, squeue, types};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// A descriptor shared by its owner and the operations in flight on it; closed with the last one.
pub type SharedFd = Rc<OwnedFd>;

/// Hands back the result code and what the operation owned.
#[derive(Debug)]
pub struct Completion<D>(PhantomData<D>);

impl<D> OneshotOutputTransform for Completion<D> {
    type Output = (io::Result<u32>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, cqe: cqueue::Entry) -> Self::Output {
        note_completion();
        let result = u32::try_from(cqe.result())
            .map_err(|_| io::Error::from_raw_os_error(cqe.result().wrapping_neg()));
        (result, data)
    }
}

type InFlight<D> = InFlightOneshot<D, Completion<D>>;

fn submit<D: Unpin + 'static>(data: D, entry: squeue::Entry) -> InFlight<D> {
    UnsubmittedOneshot::new(data, Completion(PhantomData), entry).submit()
}

thread_local! {
    static COMPLETIONS: Cell<u64> = const { Cell::new(0) };
    static WAITING: Cell<Option<Waker>> = const { Cell::new(None) };
}

fn note_completion() {
    COMPLETIONS.set(COMPLETIONS.get().wrapping_add(1));
    if let Some(waker) = WAITING.take() {
        waker.wake();
    }
}

/// How many operations of this file have completed on this thread.
#[must_use]
pub fn completions() -> u64 {
    COMPLETIONS.get()
}

/// Waits until [`completions`] is another number. One task of a thread may wait at a time.
pub fn completion_after(seen: u64) -> impl Future<Output = ()> {
    std::future::poll_fn(move |cx| {
        if completions() != seen {
            return Poll::Ready(());
        }
        WAITING.set(Some(cx.waker().clone()));
        Poll::Pending
    })
}

/// A buffer and the part of it that an operation reads or fills. The vector keeps its length.
#[derive(Debug)]
pub struct Span {
    /// The whole buffer, all of it initialised.
    pub buffer: Vec<u8>,
    /// First octet of the part.
    pub start: usize,
    /// One past the last octet of the part.
    pub end: usize,
}

impl Span {
    /// The octets of the part.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The part as pointer and length for the kernel. At most 1 GiB at a time.
    fn raw(&mut self) -> (*mut u8, u32) {
        let part = self
            .buffer
            .get_mut(self.start..self.end)
            .unwrap_or_default();
        (
            part.as_mut_ptr(),
            u32::try_from(part.len().min(1 << 30)).unwrap_or(0),
        )
    }
}

/// An operation that owns a buffer.
pub type Buffered = InFlight<(SharedFd, Span)>;

/// Readiness to receive, or a connection to accept.
pub const READABLE: i16 = libc::POLLIN;
/// Readiness to send.
pub const WRITABLE: i16 = libc::POLLOUT;

/// Waits until the socket is ready for one of `events` ([`READABLE`], [`WRITABLE`]), hung up or
/// in error. Consumes nothing: it may be dropped.
#[must_use]
pub fn ready(fd: &SharedFd, events: i16) -> InFlight<SharedFd> {
    let flags = u32::try_from(events).unwrap_or(0);
    let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), flags).build();
    submit(Rc::clone(fd), entry)
}

/// Ends every operation of this ring on the descriptor, with `ECANCELED`; nothing happens to what it leads to,
/// which other processes may have too. For polls only: of an operation that moves octets, some may be lost.
pub fn cancel_waits(fd: &SharedFd) -> impl Future<Output = io::Result<u32>> + Unpin + use<> {
    let which = types::CancelBuilder::fd(types::Fd(fd.as_raw_fd())).all();
    let entry = opcode::AsyncCancel2::new(which).build();
    WithoutData(submit(Rc::clone(fd), entry))
}

/// Waits for so long, to the microsecond; the result is always `ETIME`.
#[must_use]
pub fn pause(time: Duration) -> InFlight<Box<types::Timespec>> {
    let time = types::Timespec::new()
        .sec(time.as_secs())
        .nsec(time.subsec_nanos());
    // Boxed: the kernel reads it through a pointer that must not move with the future.
    let time = Box::new(time);
    let pointer = std::ptr::from_ref::<types::Timespec>(&time);
    submit(time, opcode::Timeout::new(pointer).build())
}

/// Receives into the span; 0 is the end of the stream.
#[must_use]
pub fn receive(fd: &SharedFd, mut span: Span) -> Buffered {
    let (pointer, length) = span.raw();
    let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), pointer, length).build();
    submit((Rc::clone(fd), span), entry)
}

/// Takes as many octets as the span has room for from a TCP socket without copying them anywhere
/// (`MSG_TRUNC`, tcp(7)): the span stays as it was. 0 is the end of the stream.
#[must_use]
pub fn discard(fd: &SharedFd, mut span: Span) -> Buffered {
    let (pointer, length) = span.raw();
    let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), pointer, length)
        .flags(libc::MSG_TRUNC)
        .build();
    submit((Rc::clone(fd), span), entry)
}

/// Sends from the span; may send a part.
#[must_use]
pub fn send(fd: &SharedFd, mut span: Span) -> Buffered {
    let (pointer, length) = span.raw();
    let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), pointer.cast_const(), length)
        .flags(libc::MSG_NOSIGNAL)
        .build();
    submit((Rc::clone(fd), span), entry)
}

/// Sends a record of kernel TLS, and with it every record that waits in the kernel in front of it: the
/// operation ends when TCP has them all. A thread of the kernel waits for that, so the socket must be a
/// blocking one.
pub fn send_record(
    fd: &SharedFd,
    record_type: u8,
    payload: &[u8],
) -> impl Future<Output = io::Result<u32>> + Unpin + use<> {
    let record = Outgoing::new(record_type, payload);
    let entry = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), record.message())
        .flags(libc::MSG_NOSIGNAL.cast_unsigned())
        .build()
        // An attempt that does not wait would count as success while records still wait.
        .flags(squeue::Flags::ASYNC);
    WithoutData(submit((Rc::clone(fd), record), entry))
}

/// An operation of which only the result matters.
struct WithoutData<D: Unpin + 'static>(InFlight<D>);

impl<D: Unpin + 'static> Future for WithoutData<D> {
    type Output = io::Result<u32>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|(result, _)| result)
    }
}

/// Moves up to `count` octets between a pipe and a file or socket; at least one of the two is a
/// pipe. `offset` is for a file, `None` for a pipe or socket. Runs on a thread of the kernel, which
/// waits for a peer that does not read.
#[must_use]
pub fn splice(
    from: &SharedFd,
    offset: Option<u64>,
    to: &SharedFd,
    count: u32,
) -> InFlight<(SharedFd, SharedFd)> {
    // -1 stands for "no offset".
    let offset = offset
        .and_then(|offset| i64::try_from(offset).ok())
        .unwrap_or(-1);
    let (source, target) = (types::Fd(from.as_raw_fd()), types::Fd(to.as_raw_fd()));
    let entry = opcode::Splice::new(source, offset, target, -1, count).build();
    submit((Rc::clone(from), Rc::clone(to)), entry)
}

/// Reads from a file at an offset; may read a part; 0 is the end.
#[must_use]
pub fn read_at(fd: &SharedFd, mut span: Span, offset: u64) -> Buffered {
    let (pointer, length) = span.raw();
    let entry = opcode::Read::new(types::Fd(fd.as_raw_fd()), pointer, length)
        .offset(offset)
        .build();
    submit((Rc::clone(fd), span), entry)
}

/// Writes to a file at an offset; may write a part.
#[must_use]
pub fn write_at(fd: &SharedFd, mut span: Span, offset: u64) -> Buffered {
    let (pointer, length) = span.raw();
    let entry = opcode::Write::new(types::Fd(fd.as_raw_fd()), pointer.cast_const(), length)
        .offset(offset)
        .build();
    submit((Rc::clone(fd), span), entry)
}

/// Brings a file's data and metadata to the disk.
#[must_use]
pub fn sync(fd: &SharedFd) -> InFlight<SharedFd> {
    submit(
        Rc::clone(fd),
        opcode::Fsync::new(types::Fd(fd.as_raw_fd())).build(),
    )
}

/// Opens `path` below `directory` (openat2(2)). `resolve` are the kernel's RESOLVE_ flags.
///
/// # Errors
/// The kernel's error.
pub async fn open(
    directory: &SharedFd,
    path: CString,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> io::Result<OwnedFd> {
    let how = types::OpenHow::new()
        .flags(u64::try_from(flags | libc::O_CLOEXEC).unwrap_or(0))
        .mode(u64::from(mode))
        .resolve(resolve);
    // Boxed: the kernel reads it through a pointer that must not move with the future.
    let how = Box::new(how);
    let pointer = std::ptr::from_ref::<types::OpenHow>(&how);
    let entry =
        opcode::OpenAt2::new(types::Fd(directory.as_raw_fd()), path.as_ptr(), pointer).build();
    let (result, _) = submit((Rc::clone(directory), path, how), entry).await;
    let number = i32::try_from(result?).unwrap_or(-1);
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
