//! Transfer logs in the form of wu-ftpd's xferlog, which vsftpd, ProFTPD and Pure-FTPd write, too.

use std::time::Duration;

use time::{Date, Month, PrimitiveDateTime, Time};

/// Octets of an upload where the log says less than nothing can be sent.
const LINES_MAX: usize = 50_000_000;

/// One transfer of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it begins, counted from the first one.
    pub at: Duration,
    /// To the server.
    pub upload: bool,
    /// Its octets.
    pub size: u64,
    /// The file's path, as the log has it.
    pub path: String,
}

/// A line that is none of an xferlog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: not of an xferlog (Thu Feb 12 08:09:10 2026 3 host 1024 /path b _ o r user ftp 0 * c)"
)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
}

/// Reads a trace. Transfers that were not complete, deletions and empty lines are left out.
///
/// The log has a transfer's end and duration in whole seconds. Those that begin in the same second are
/// spread evenly over it, in the order of the log: a burst at every full second was never there.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Entry>, BadLine> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().take(LINES_MAX) {
        if line.trim().is_empty() {
            continue;
        }
        match parse_line(line) {
            Some(Some(entry)) => found.push(entry),
            Some(None) => {}
            None => return Err(BadLine { line: number + 1 }),
        }
    }
    // Stable: the log's order within a second stays.
    found.sort_by_key(|(second, _)| *second);
    Ok(spread(found))
}

/// The second of its beginning, and the transfer.
type Found = (i64, Entry);

/// `None` for a bad line, `Some(None)` for one that is left out.
fn parse_line(line: &str) -> Option<Option<Found>> {
    // Names may have spaces: the fields in front are counted from the front, those behind from behind.
    let mut rest = line;
    let mut front = || {
        let trimmed = rest.trim_start();
        let end = trimmed.find(' ')?;
        let (word, behind) = trimmed.split_at(end);
        rest = behind;
        Some(word)
    };
    let [_day_name, month, day, time, year] = [front()?, front()?, front()?, front()?, front()?];
    let took: i64 = front()?.parse().ok()?;
    let _host = front()?;
    let size: u64 = front()?.parse().ok()?;
    let mut behind: Vec<&str> = rest.trim().rsplitn(10, ' ').collect();
    behind.reverse();
    let &[
        path,
        _type,
        _action,
        direction,
        _access,
        _user,
        _service,
        _method,
        _id,
        status,
    ] = behind.as_slice()
    else {
        return None;
    };
    let end = seconds(month, day, time, year)?;
    let upload = match direction {
        "o" => false,
        "i" => true,
        "d" => return Some(None),
        _ => return None,
    };
    if status != "c" {
        return Some(None);
    }
    let entry = Entry {
        at: Duration::ZERO,
        upload,
        size,
        path: path.to_owned(),
    };
    Some(Some((end.saturating_sub(took.max(0)), entry)))
}

fn seconds(month: &str, day: &str, time: &str, year: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let mut parts = time.split(':').map(|part| part.parse::<u8>().ok());
    let [hour, minute, second] = [parts.next()??, parts.next()??, parts.next()??];
    let time = Time::from_hms(hour, minute, second.min(59)).ok()?;
    Some(
        PrimitiveDateTime::new(date, time)
            .assume_utc()
            .unix_timestamp(),
    )
}

/// Times from the beginning of the trace, those of one second spread over it.
fn spread(found: Vec<Found>) -> Vec<Entry> {
    let first = found.first().map_or(0, |(second, _)| *second);
    let mut entries = Vec::with_capacity(found.len());
    let mut rest = found.into_iter().peekable();
    while let Some((second, entry)) = rest.next() {
        let mut same = vec![entry];
        while let Some((_, entry)) = rest.next_if(|(other, _)| *other == second) {
            same.push(entry);
        }
        let base = Duration::from_secs(u64::try_from(second - first).unwrap_or(0));
        let step = Duration::from_secs(1) / u32::try_from(same.len()).unwrap_or(u32::MAX);
        let mut at = base;
        for mut entry in same {
            entry.at = at;
            at += step;
            entries.push(entry);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
Thu Feb 12 08:09:10 2026 3 192.0.2.7 1048576 /pub/a b c.iso b _ o r alice ftp 0 * c
Thu Feb 12 08:09:09 2026 0 ::1 12 /in/x b _ i r bob ftp 0 * c

Thu Feb  1 08:09:07 2026 0 ::1 5 /gone b _ d r bob ftp 0 * c
Thu Feb 12 08:09:07 2026 0 host 7 /pub/broken b _ o r bob ftp 0 * i
Thu Feb 12 08:09:08 2026 1 host 99 /pub/second a _ o a ? ftp 0 * c
";

    #[test]
    fn a_trace_is_put_in_order_and_spread() {
        let entries = parse(TRACE).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| {
                (
                    entry.at.as_millis(),
                    entry.upload,
                    entry.size,
                    entry.path.as_str(),
                )
            })
            .collect();
        let expected = [
            // 08:09:10 - 3 s and 08:09:08 - 1 s are the same second.
            (0, false, 1_048_576, "/pub/a b c.iso"),
            (500, false, 99, "/pub/second"),
            (2000, true, 12, "/in/x"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = "Thu Feb 12 08:09:10 2026 3 h 1 /a b _ o r u ftp 0 * c";
        assert_eq!(parse(good).unwrap().len(), 1);
        for bad in [
            "nonsense",
            "Thu Xyz 12 08:09:10 2026 3 h 1 /a b _ o r u ftp 0 * c",
            "Thu Feb 30 08:09:10 2026 3 h 1 /a b _ o r u ftp 0 * c",
            "Thu Feb 12 08:09 2026 3 h 1 /a b _ o r u ftp 0 * c",
            "Thu Feb 12 08:09:10 2026 3 h big /a b _ o r u ftp 0 * c",
            "Thu Feb 12 08:09:10 2026 3 h 1 /a b _ q r u ftp 0 * c",
            "Thu Feb 12 08:09:10 2026 3 h 1 /a b _ o r u ftp 0 c",
        ] {
            let text = format!("{good}\n{bad}\n");
            assert_eq!(parse(&text), Err(BadLine { line: 2 }), "{bad}");
        }
        assert!(parse("\n\n").unwrap().is_empty());
    }
}
