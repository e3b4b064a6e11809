//! Times of files: `YYYYMMDDHHMMSS` on the wire (RFC 3659 §2.3), dates in listings, always UTC.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A time of modification: seconds since 1970-01-01T00:00:00 UTC.
pub type FileTime = i64;

/// Seconds of a day.
pub(super) const DAY_SECONDS: i64 = 24 * 60 * 60;
/// 0000-01-01T00:00:00, the first that four digits of a year can show.
pub(super) const TIME_MIN: FileTime = -62_167_219_200;
/// 9999-12-31T23:59:59, the last.
pub(super) const TIME_MAX: FileTime = 253_402_300_799;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// The date of a day counted from 1970-01-01; days without one, beyond the years 0 to 9999, are
/// 1970-01-01.
pub(super) fn date_of_day(day: i64) -> Date {
    i32::try_from(day + EPOCH_JULIAN_DAY)
        .ok()
        .and_then(|day| Date::from_julian_day(day).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH.date())
}

/// Reads a time of exactly 14 digits, or 12 without the seconds when `seconds_optional`.
///
/// Returns `None` for anything else and for dates that do not exist. Second 60 is a leap second
/// and counts as the next one's beginning.
#[must_use]
pub fn parse_digits(text: &[u8], seconds_optional: bool) -> Option<FileTime> {
    let expected = text.len() == 14 || (seconds_optional && text.len() == 12);
    if !expected || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        Some(
            digits
                .iter()
                .fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0')),
        )
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| u8::try_from(value).ok());
    let year = number(0, 4)?;
    let month = Month::try_from(small(4)?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, small(6)?).ok()?;
    let second = if text.len() == 14 { small(12)? } else { 0 };
    let leap = second == 60;
    let time = Time::from_hms(small(8)?, small(10)?, second - u8::from(leap)).ok()?;
    let seconds = PrimitiveDateTime::new(date, time)
        .assume_utc()
        .unix_timestamp();
    Some(seconds + i64::from(leap))
}

/// Reads an RFC 3659 time value: 14 digits and perhaps a fraction, which is dropped.
#[must_use]
pub fn parse(text: &[u8]) -> Option<FileTime> {
    let mut parts = text.splitn(2, |octet| *octet == b'.');
    let digits = parts.next()?;
    if let Some(fraction) = parts.next()
        && (fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit))
    {
        return None;
    }
    parse_digits(digits, false)
}

/// Fourteen digits; times outside the years 0 to 9999 show the nearest that can be shown.
#[must_use]
pub fn format(time: FileTime) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(time.clamp(TIME_MIN, TIME_MAX))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for (text, seconds) in [
            ("19700101000000", 0),
            ("20240229123456", 1_709_210_096),
            ("20380119031408", 2_147_483_648),
            ("99991231235959", 253_402_300_799),
            ("00000101000000", -62_167_219_200),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(seconds));
            assert_eq!(format(seconds), text);
        }
        assert_eq!(format(i64::MIN), "00000101000000");
        assert_eq!(format(i64::MAX), "99991231235959");
    }

    #[test]
    fn c114_impossible_times() {
        for bad in [
            "20230229000000",
            "20231301000000",
            "20230100000000",
            "20230101240000",
            "20230101006000",
            "20230101000061",
            "2023010100000",
            "202301010000000",
            "20230101000000.",
            "20230101000000.x",
            "+0230101000000",
            "",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"20240101000000.125"), Some(1_704_067_200));
        assert_eq!(parse(b"20231231235960"), Some(1_704_067_200));
        assert_eq!(parse_digits(b"202401010000", true), Some(1_704_067_200));
        assert_eq!(parse_digits(b"202401010000", false), None);
    }
}
