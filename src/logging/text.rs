//! Text that is safe in a line: control characters escaped, times written out.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// How a character that may not stand in a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `\n`, `\u{1b}`.
    Plain,
    /// Inside a JSON string (RFC 8259 §7): `\u000a`, and `"` and `\` too.
    Json,
}

/// Appends text, escaped.
pub(super) struct Escaped<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) form: Form,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let json = self.form == Form::Json;
        let plain =
            |octet| matches!(octet, b' '..=b'~') && !(json && matches!(octet, b'"' | b'\\'));
        // Nearly always.
        if text.bytes().all(plain) {
            self.out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let mut rest = text;
        while let Some((at, character)) = self.next_bad(rest) {
            let (before, behind) = rest.split_at(at);
            self.out.extend_from_slice(before.as_bytes());
            match (self.form, character) {
                (Form::Json, '"' | '\\') => {
                    self.out.extend_from_slice(&[b'\\', character as u8]);
                }
                // All of them are below U+FFFF.
                (Form::Json, _) => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(character));
                }
                (Form::Plain, _) => {
                    let _ = write!(self.out, "{}", character.escape_default());
                }
            }
            rest = behind.get(character.len_utf8()..).unwrap_or_default();
        }
        self.out.extend_from_slice(rest.as_bytes());
        Ok(())
    }
}

impl Escaped<'_> {
    fn next_bad(&self, text: &str) -> Option<(usize, char)> {
        let quoted = self.form == Form::Json;
        text.char_indices().find(|(_, character)| {
            is_unsafe(*character) || quoted && matches!(character, '"' | '\\')
        })
    }
}

/// Whether a character begins another line, moves a terminal's cursor, or turns the text around it.
pub(super) fn is_unsafe(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Appends a JSON string. Octets that are no UTF-8 are written as U+FFFD.
pub(super) fn push_json(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(b'"');
    let mut escaped = Escaped {
        out,
        form: Form::Json,
    };
    for chunk in octets.utf8_chunks() {
        let _ = fmt::Write::write_str(&mut escaped, chunk.valid());
        if !chunk.invalid().is_empty() {
            let _ = fmt::Write::write_char(&mut escaped, char::REPLACEMENT_CHARACTER);
        }
    }
    out.push(b'"');
}

/// The moment in UTC, and what is left below the second. A clock before 1970 is taken for 1970.
fn utc(moment: SystemTime) -> (OffsetDateTime, Duration) {
    let since = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    let utc = OffsetDateTime::from_unix_timestamp(seconds);
    (utc.unwrap_or(OffsetDateTime::UNIX_EPOCH), since)
}

/// Appends a time as RFC 3339 has it: `2026-02-12T08:09:10.123456Z`.
pub(super) fn push_rfc3339(out: &mut Vec<u8>, moment: SystemTime) {
    let (utc, since) = utc(moment);
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        since.subsec_micros(),
    );
}

/// Appends a time as ctime(3) has it, in UTC: `Thu Feb  2 08:09:10 2026`.
pub(super) fn push_ctime(out: &mut Vec<u8>, moment: SystemTime) {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (utc, _) = utc(moment);
    let day = usize::from(utc.weekday().number_days_from_sunday());
    let month = usize::from(u8::from(utc.month())) - 1;
    let _ = write!(
        out,
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        DAYS.get(day).copied().unwrap_or_default(),
        MONTHS.get(month).copied().unwrap_or_default(),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        utc.year(),
    );
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn escaped(form: Form, text: &str) -> String {
        let mut out = Vec::new();
        Escaped {
            out: &mut out,
            form,
        }
        .write_str(text)
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_that_a_terminal_or_a_line_would_obey_stays() {
        let hostile = "a\r\nb\x1b[31m\u{9b}2J\x7f\u{202e}\u{2028}\u{e4}\"\\";
        let plain = escaped(Form::Plain, hostile);
        assert_eq!(
            plain,
            "a\\r\\nb\\u{1b}[31m\\u{9b}2J\\u{7f}\\u{202e}\\u{2028}\u{e4}\"\\"
        );
        let json = format!("\"{}\"", escaped(Form::Json, hostile));
        assert!(!json.chars().any(is_unsafe), "{json}");
        let read: String = serde_json::from_str(&json).unwrap();
        assert_eq!(read, hostile);
        for octet in 0..=u8::MAX {
            let text = char::from(octet).to_string();
            assert!(!escaped(Form::Plain, &text).chars().any(is_unsafe));
        }
    }

    #[test]
    fn octets_that_are_no_text_are_replaced() {
        let mut out = Vec::new();
        push_json(&mut out, b"a\xff\xc3\xa4\xc3");
        let read: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(read, "a\u{fffd}\u{e4}\u{fffd}");
    }

    #[test]
    fn times_are_written_as_the_standards_say() {
        let written = |push: fn(&mut Vec<u8>, SystemTime), moment| {
            let mut out = Vec::new();
            push(&mut out, moment);
            String::from_utf8(out).unwrap()
        };
        let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(1_770_883_750_000_042);
        assert_eq!(written(push_rfc3339, moment), "2026-02-12T08:09:10.000042Z");
        assert_eq!(written(push_ctime, moment), "Thu Feb 12 08:09:10 2026");
        let leap = SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_400 + 86_400 * 2);
        assert_eq!(written(push_ctime, leap), "Thu Mar  2 00:00:00 2000");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(written(push_ctime, before), "Thu Jan  1 00:00:00 1970");
    }
}
