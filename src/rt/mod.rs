//! The runtime seam: ring, timers, tasks, buffers and the pool for blocking work.
//!
//! The waiting principle: a wait for a peer is a readiness poll or an operation on a socket, and
//! is ended by shutting that socket down ([`within`], [`Socket::shut_down`]), never by dropping a
//! future that owns data.

mod buffers;
mod busy_poll;
mod file;
mod mailbox;
mod timer;

use std::cell::Cell;
use std::ffi::CString;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::limits;
use crate::sys::{host, ktls, ring, sendfile, socket};

pub use buffers::{BUFFER_OCTETS, give_buffer, give_vector, take_buffer, take_vector};
pub use busy_poll::{busy_poll, note_answer};
pub use file::{File, Pipe};
pub use mailbox::{Duty, Mailbox};
pub use timer::{Alarm, pause};

pub use crate::sys::ktls::Received;
pub use crate::sys::ring::{Buffered, READABLE, SharedFd, Span, WRITABLE};
pub use crate::sys::sendfile::Residency;
pub use crate::sys::socket::{Glance, SendBuffer};
pub use tokio_uring::spawn;

/// Runs `main` on a ring of its own on this thread until it ends.
///
/// # Errors
/// The ring could not be set up.
pub fn run<F: Future>(entries: u32, main: F) -> io::Result<F::Output> {
    let mut settings = tokio_uring::uring_builder();
    // Measured: completions are reaped without interrupting this thread, and nobody else submits.
    settings.setup_coop_taskrun().setup_single_issuer();
    let mut builder = tokio_uring::builder();
    builder.entries(entries).uring_builder(&settings);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    Ok(runtime.block_on(main))
}

/// The current time.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until then.
pub fn sleep_until(then: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(then.into())
}

/// Sleeps for so long.
pub fn sleep(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// Lets completions and other tasks have their turn. A plain yield would starve the ring, whose
/// submissions leave only when the thread parks; a no-op through the ring does not.
pub async fn yield_to_ring() {
    tokio_uring::no_op().await.unwrap_or_default();
}

/// Runs blocking work on the process's bounded pool. When its threads are all busy it waits.
///
/// # Panics
/// When `work` panics.
pub async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let _running = BlockingWork::begin();
    match blocking_pool().spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The same for work that nobody waits for. At the end of the process it may be cut off.
pub fn begin_blocking(work: impl FnOnce() + Send + 'static) {
    drop(blocking_pool().spawn_blocking(work));
}

thread_local! {
    static BLOCKING_WORK: Cell<usize> = const { Cell::new(0) };
}

/// How many tasks of this core wait for work on the pool.
fn blocking_work() -> usize {
    BLOCKING_WORK.get()
}

/// Counted while it lives.
struct BlockingWork;

impl BlockingWork {
    fn begin() -> Self {
        BLOCKING_WORK.set(BLOCKING_WORK.get() + 1);
        Self
    }
}

impl Drop for BlockingWork {
    fn drop(&mut self) {
        BLOCKING_WORK.set(BLOCKING_WORK.get() - 1);
    }
}

fn blocking_pool() -> &'static tokio::runtime::Runtime {
    static POOL: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    POOL.get_or_init(|| {
        #[expect(
            clippy::expect_used,
            reason = "no thread, no server: nothing can be served"
        )]
        tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
            .thread_name("blocking")
            // It is started by a core, and would be pinned to that core's processor.
            .on_thread_start(|| {
                let _ = host::unpin_thread();
            })
            .build()
            .expect("the runtime of the blocking pool needs no descriptors of its own")
    })
}

/// Opens `path` below `directory` through the ring: cached paths are resolved at once, others on a
/// kernel worker, so no core waits for a disk.
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
    ring::open(directory, path, flags, mode, resolve).await
}

/// Waits for what owns nothing, for so long at most; tells whether it came.
pub async fn until(event: impl Future<Output = ()>, limit: Duration) -> bool {
    tokio::time::timeout(limit, event).await.is_ok()
}

/// The limit of [`within`] was reached; the socket is shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut;

/// Awaits an operation on `socket`. When it takes longer than `limit` the socket is shut down,
/// which ends the operation; it is awaited all the same, so nothing it owns is lost.
///
/// # Errors
/// [`TimedOut`].
pub async fn within<F: Future>(
    limit: Duration,
    socket: &Socket,
    operation: F,
) -> Result<F::Output, TimedOut> {
    let mut operation = pin!(operation);
    if let Ok(output) = tokio::time::timeout(limit, operation.as_mut()).await {
        return Ok(output);
    }
    socket.shut_down();
    operation.await;
    Err(TimedOut)
}

/// A poll of a socket that is under way.
pub type Readiness = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// A socket, connected or listening; shared with the operations in flight on it.
#[derive(Debug, Clone)]
pub struct Socket(SharedFd);

impl Socket {
    /// Takes over a descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(Rc::new(fd))
    }

    /// Waits until there is something to read, a connection to accept, or the end.
    ///
    /// # Errors
    /// The kernel refused to poll.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(READABLE).await
    }

    /// As [`Self::readable`], for so long at most; tells whether it is. The poll stays under way for
    /// the next call, or until the socket is shut down: polls must not gather on a socket.
    ///
    /// # Errors
    /// The kernel refused to poll.
    pub async fn readable_within(
        &self,
        limit: Duration,
        under_way: &mut Option<Readiness>,
    ) -> io::Result<bool> {
        let readiness = under_way.get_or_insert_with(|| Box::pin(self.ready(READABLE)));
        let Ok(ready) = tokio::time::timeout(limit, readiness.as_mut()).await else {
            return Ok(false);
        };
        *under_way = None;
        ready.map(|()| true)
    }

    /// Octets that the peer's kernel has not acknowledged yet; FIN counts as one.
    #[must_use]
    pub fn unacknowledged(&self) -> u32 {
        socket::unacknowledged(self).unwrap_or(u32::MAX)
    }

    /// Whether there is no connection any more: both sides have ended and acknowledged that, or one
    /// has reset it. Unlike an error, which is told once, this can be asked for again.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        socket::is_gone(self)
    }

    /// Waits until there is room to write, a connect has ended, or the connection has.
    ///
    /// # Errors
    /// The kernel refused to poll.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(WRITABLE).await
    }

    /// As [`Self::readable`] and [`Self::writable`], as a future that owns what it needs.
    pub fn ready(&self, events: i16) -> impl Future<Output = io::Result<()>> + Unpin + 'static {
        Ready(ring::ready(&self.0, events))
    }

    /// Receives through the ring; 0 is the end.
    #[must_use]
    pub fn receive(&self, span: Span) -> Buffered {
        ring::receive(&self.0, span)
    }

    /// Takes octets through the ring without copying them: the span only says how many at most.
    #[must_use]
    pub fn discard(&self, span: Span) -> Buffered {
        ring::discard(&self.0, span)
    }

    /// Calls on this socket return instead of waiting, or wait again; ring operations on it too, so
    /// while they do not wait only readiness is for it.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn set_non_blocking(&self, on: bool) -> io::Result<()> {
        sendfile::set_non_blocking(self, on)
    }

    /// Moves octets of a file to this non-blocking socket; 0 at the end of the file.
    ///
    /// # Errors
    /// `WouldBlock` when the socket's buffer is full.
    pub fn send_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        sendfile::send_file(self, file, offset, count)
    }

    /// Moves octets from the pipe to this socket through the ring, which waits for the peer.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn splice_from(&self, pipe: &Pipe, count: u32) -> io::Result<u32> {
        ring::splice(pipe.reader(), None, &self.0, count).await.0
    }

    /// Attaches kernel TLS; without keys the socket goes on as TCP.
    ///
    /// # Errors
    /// As [`ktls::attach`].
    pub fn attach_kernel_tls(&self) -> io::Result<()> {
        ktls::attach(self)
    }

    /// Sends a record of kernel TLS through the ring, and whatever waits in front of it. The socket must
    /// be a blocking one.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_record(&self, record_type: u8, payload: &[u8]) -> io::Result<()> {
        ring::send_record(&self.0, record_type, payload)
            .await
            .map(drop)
    }

    /// Receives a record of kernel TLS that is there.
    ///
    /// # Errors
    /// As [`ktls::receive_record`].
    pub fn receive_record_now(&self, buffer: &mut [u8]) -> io::Result<Received> {
        ktls::receive_record(self, buffer)
    }

    /// Sends a record of kernel TLS of another type than application data.
    ///
    /// # Errors
    /// As [`ktls::send_record`].
    pub fn send_record_now(&self, record_type: u8, payload: &[u8]) -> io::Result<()> {
        ktls::send_record(self, record_type, payload)
    }

    /// Looks at the connection without waiting.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn glance(&self) -> io::Result<Glance> {
        socket::glance(self)
    }

    /// The account of the send buffer.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn send_buffer(&self) -> io::Result<SendBuffer> {
        socket::send_buffer(self)
    }

    /// Sends from the span through the ring; may send a part.
    #[must_use]
    pub fn send(&self, span: Span) -> Buffered {
        ring::send(&self.0, span)
    }

    /// Receives what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is.
    pub fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::receive_now(self, buffer)
    }

    /// Copies what is there and leaves it to be received.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is.
    pub fn peek_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::peek_now(self, buffer)
    }

    /// Sends what fits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing does.
    pub fn send_now(&self, octets: &[u8]) -> io::Result<usize> {
        socket::send_now(self, octets)
    }

    /// As [`Self::send_now`], where more follows at once, be it only FIN: segments are filled.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits.
    pub fn send_more_now(&self, octets: &[u8]) -> io::Result<usize> {
        socket::send_more_now(self, octets)
    }

    /// Acknowledges what comes next at once: for handshakes.
    pub fn acknowledge_at_once(&self) {
        socket::acknowledge_at_once(self);
    }

    /// Holds back segments that are not full, until FIN.
    pub fn cork(&self) {
        socket::cork(self);
    }

    /// Spreads what is sent at so many octets a second.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn pace(&self, rate: u64) -> io::Result<()> {
        socket::pace(self, rate)
    }

    /// Lets what was held back leave.
    pub fn uncork(&self) {
        socket::uncork(self);
    }

    /// Ends both directions and every wait on this socket.
    pub fn shut_down(&self) {
        socket::shut_down(self);
    }

    /// Ends every wait of this core on this socket, a listener, and leaves the socket as it is: other processes may have
    /// it too.
    pub async fn cancel_waits(&self) {
        // Nothing was waiting, or the kernel has done it already.
        let _ = ring::cancel_waits(&self.0).await;
    }

    /// Throws away what is still to be sent, with a reset, once the socket is closed.
    pub fn reset_on_close(&self) {
        socket::reset_on_close(self);
    }

    /// Sends FIN.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn finish_sending(&self) -> io::Result<()> {
        socket::finish_sending(self)
    }

    /// The local address.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        socket::local_address(self)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

struct Ready<F>(F);

impl<F, D> Future for Ready<F>
where
    F: Future<Output = (io::Result<u32>, D)> + Unpin,
{
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|(result, _)| result.map(drop))
    }
}
