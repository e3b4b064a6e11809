//! Text in cells of a terminal: escaped, measured, cut; numbers as people read them.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text with what would move the cursor, begin a line, turn the text around it or take no room written out: names are
/// whatever clients choose.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

fn is_unsafe(character: char) -> bool {
    let invisible = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    character.is_control() || invisible
}

/// Columns of a terminal that the text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning of a text in so many columns, with a sign where the rest is missing.
pub(super) fn begin(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(mut room) = columns.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut kept = String::new();
    for character in text.chars() {
        let Some(left) = room.checked_sub(character.width().unwrap_or(0)) else {
            break;
        };
        room = left;
        kept.push(character);
    }
    kept.push('…');
    Cow::Owned(kept)
}

/// The same of its end, which tells more of a path.
pub(super) fn end(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(mut room) = columns.checked_sub(1) else {
        return Cow::Borrowed("");
    };
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        let Some(left) = room.checked_sub(character.width().unwrap_or(0)) else {
            break;
        };
        room = left;
        from = at;
    }
    Cow::Owned(format!("…{}", text.get(from..).unwrap_or_default()))
}

/// Octets in three digits: `999 B`, `1.23 kB`, `45.6 MB` (powers of 1000).
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn octets(octets: u64) -> String {
    if octets < 1000 {
        return format!("{octets} B");
    }
    let mut value = octets as f64;
    let mut unit = "";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        value /= 1000.0;
        unit = next;
        if value < 999.5 {
            break;
        }
    }
    format!("{} {unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Octets a second.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is no more than the kernel moves"
)]
pub(super) fn rate(rate: f64) -> String {
    format!("{}/s", octets(rate.max(0.0) as u64))
}

/// A time: `12s`, `3m05s`, `2h07m`, `4d12h`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of sessions"
)]
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (minutes, hours, days) {
        (0, ..) => format!("{seconds}s"),
        (_, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (_, _, 0) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Microseconds: `850us`, `1.23ms`, `2.50s`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn microseconds(time: u64) -> String {
    match time {
        0..1000 => format!("{time}us"),
        1000..1_000_000 => format!("{}ms", three_digits(time as f64 / 1e3)),
        _ => format!("{}s", three_digits(time as f64 / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(clean("plain name.txt"), "plain name.txt");
        assert_eq!(clean("a\x1b[2Jb\r\n\u{7f}"), "a\\u{1b}[2Jb\\r\\n\\u{7f}");
        assert_eq!(
            clean("x\u{202e}txt\u{200b}\u{9b}"),
            "x\\u{202e}txt\\u{200b}\\u{9b}"
        );
        assert_eq!(clean("Ünïcode 文件"), "Ünïcode 文件");
    }

    #[test]
    fn cuts_count_columns_not_characters() {
        assert_eq!(width("文件"), 4);
        assert_eq!(begin("文件名", 5), "文件…");
        assert_eq!(begin("文件名", 4), "文…");
        assert_eq!(begin("e\u{301}tude", 3), "e\u{301}t…");
        assert_eq!(end("/a/文件名", 5), "…件名");
        assert_eq!(end("/a/b.txt", 6), "…b.txt");
        for columns in 0..9 {
            for text in ["文件名字四", "plain text"] {
                assert!(width(&begin(text, columns)) <= columns);
                assert!(width(&end(text, columns)) <= columns);
            }
        }
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (45_678, "45.7 kB"),
            (999_400, "999 kB"),
            (999_600, "1.00 MB"),
            (1_234_567_890, "1.23 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (number, text) in cases {
            assert_eq!(octets(number), text);
        }
        assert_eq!(rate(1500.4), "1.50 kB/s");
        assert_eq!(rate(-1.0), "0 B/s");
        let times = [
            (0.4, "0s"),
            (185.0, "3m05s"),
            (7620.0, "2h07m"),
            (388_800.0, "4d12h"),
        ];
        for (time, text) in times {
            assert_eq!(duration(time), text);
        }
        let times = [
            (850, "850us"),
            (1230, "1.23ms"),
            (999_000, "999ms"),
            (2_500_000, "2.50s"),
        ];
        for (time, text) in times {
            assert_eq!(microseconds(time), text);
        }
    }
}
