//! Histogram logs: the distributions of one interval after the other, in the format that the tools of
//! HdrHistogram read (version 1.3, histograms in V2 form, compressed).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use super::table::with_labels;
use super::totals::Totals;

/// The columns, as the other implementations name them.
const LEGEND: &[u8] =
    b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

/// A log that grows by one line for each distribution that got values in an interval. Times are in
/// microseconds, rates in octets a second, the tag says which.
pub struct IntervalLog {
    path: PathBuf,
    file: File,
    serializer: V2DeflateSerializer,
}

impl std::fmt::Debug for IntervalLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl IntervalLog {
    /// Makes a new file in `directory`, which is made if it is not there. Intervals are told relative
    /// to `started`.
    ///
    /// # Errors
    /// The system's, when the directory or the file cannot be made or written.
    pub fn create(directory: &Path, started: SystemTime) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let seconds = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let name = format!("ringftpd-{seconds}-{}.hlog", std::process::id());
        let path = directory.join(name);
        let mut log = Self {
            file: File::create_new(&path)?,
            path,
            serializer: V2DeflateSerializer::new(),
        };
        let mut head = Vec::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[ringftpd; times in microseconds, rates in bytes per second]")
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut head, &mut log.serializer)?;
        head.extend_from_slice(LEGEND);
        log.file.write_all(&head)?;
        Ok(log)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the distributions of an interval that began so long after the start.
    ///
    /// # Errors
    /// The system's: the interval is lost, in part perhaps.
    pub fn write(&mut self, totals: &Totals, since: Duration, length: Duration) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut writer =
            IntervalLogWriterBuilder::new().begin_log_with(&mut lines, &mut self.serializer)?;
        for (measure, family) in totals.catalogue().measures() {
            for row in totals.rows(measure, family) {
                let name = with_labels(family.name, &row.labels);
                if let Some(histogram) = row.series.histogram() {
                    let written = writer.write_histogram(histogram, since, length, Tag::new(&name));
                    written.map_err(|error| match error {
                        IntervalLogWriterError::IoError(error) => error,
                        IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
                    })?;
                }
            }
        }
        self.file.write_all(&lines)
    }
}
