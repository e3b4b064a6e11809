//! Calendar dates of file times, in UTC.

use super::event::FileTime;

/// Seconds of a day.
pub(super) const DAY_SECONDS: i64 = 24 * 60 * 60;
/// 0000-01-01T00:00:00 and 9999-12-31T23:59:59: what four digits of a year can show.
pub(super) const TIME_MIN: FileTime = -62_167_219_200;
/// The other end of [`TIME_MIN`].
pub(super) const TIME_MAX: FileTime = 253_402_300_799;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    /// 0 to 9999.
    pub(super) year: u16,
    /// 1 to 12.
    pub(super) month: u8,
    /// 1 to 31.
    pub(super) day: u8,
}

impl Date {
    /// The date of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted
    /// from March, so that the leap day is the last of its year.
    pub(super) fn of_day(day: i64) -> Self {
        /// Days of 400, 100, 4 and 1 years, and from 0000-03-01 to 1970-01-01.
        const CYCLE: i64 = 146_097;
        const CENTURY: i64 = 36_524;
        const OLYMPIAD: i64 = 1461;
        const YEAR: i64 = 365;
        const EPOCH: i64 = 719_468;
        let shifted = day + EPOCH;
        let mut rest = shifted.rem_euclid(CYCLE);
        let mut year = shifted.div_euclid(CYCLE) * 400;
        // The last day of a cycle, a leap day, must not count as a fifth century or year.
        let centuries = (rest / CENTURY).min(3);
        rest -= centuries * CENTURY;
        let olympiads = rest / OLYMPIAD;
        rest -= olympiads * OLYMPIAD;
        let years = (rest / YEAR).min(3);
        rest -= years * YEAR;
        year += centuries * 100 + olympiads * 4 + years;
        // From March on months have 31, 30, 31, 30, 31 days, again and again: 153 in five.
        let month = (5 * rest + 2) / 153;
        let day_of_month = rest - (153 * month + 2) / 5 + 1;
        let (month, year) = if month < 10 {
            (month + 3, year)
        } else {
            (month - 9, year + 1)
        };
        Self {
            year: year as u16,
            month: month as u8,
            day: day_of_month as u8,
        }
    }
}

/// `07`, for numbers below 100.
pub(super) fn two_digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10 % 10, b'0' + number % 10]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let length = |year: u16, month: u8| match month {
            2 if year.is_multiple_of(4)
                && (!year.is_multiple_of(100) || year.is_multiple_of(400)) =>
            {
                29
            }
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = Date {
            year: 1970,
            month: 1,
            day: 1,
        };
        for day in 0..150_000 {
            assert_eq!(Date::of_day(day), expected, "day {day}");
            expected.day += 1;
            if expected.day > length(expected.year, expected.month) {
                expected.day = 1;
                expected.month += 1;
            }
            if expected.month > 12 {
                expected.month = 1;
                expected.year += 1;
            }
        }
    }
}
