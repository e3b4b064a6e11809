//! Counters and latency histograms, recorded by each core for itself, and what is made of them.
//!
//! ```text
//! core: Recorder ── filled Books ──> main thread: Totals ──> Prometheus text      (prometheus)
//!        ^                                │            ├───> percentiles, the log (table)
//!        └───────── empty Books ──────────┘            └───> histogram logs       (interval_log)
//! ```
//!
//! A core writes into books that nobody else sees. When somebody wants to know, the main thread sends
//! it empty books by its command channel, and the core answers with the filled ones: an exchange of
//! pointers between two events, whatever their size. They are added up, emptied, and are the empty ones
//! of the next exchange. So there are no locks, no atomics and no copies where octets move.
//!
//! Memory: a histogram of times keeps two significant digits from 1 us to an hour in 26 KiB, one of
//! rates takes 22 KiB, and it is made with its first value. A server that serves every command over
//! three routes has about 30 of them, 0.8 MiB; a core has two sets, and the main thread one, with a
//! histogram log two.

mod books;
mod catalogue;
mod interval_log;
mod labels;
mod prometheus;
mod recorder;
mod table;
mod totals;

pub use books::{Books, Gauges, Series};
pub use catalogue::{Catalogue, Count, Measure, Names};
pub use interval_log::IntervalLog;
pub use labels::{
    Admitted, Banned, Channel, Class, End, Handshake, Introduction, Kind, Listener, Mode, Refusal,
    Verdict,
};
pub use prometheus::{CONTENT_TYPE, Process, encode};
pub use recorder::{Counted, Ended, Recorder};
pub use table::log;
pub use totals::{CoreFigures, Totals};
