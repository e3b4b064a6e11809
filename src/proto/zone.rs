//! The time zone of the dates in LIST. Everything else on the wire is UTC (RFC 3659 §2.3).

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::timestamp::FileTime;

/// What local time is when; UTC by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone(Option<TimeZone>);

impl Zone {
    /// A zone by its rules.
    #[must_use]
    pub fn new(rules: TimeZone) -> Self {
        Self((rules != TimeZone::UTC).then_some(rules))
    }

    /// A zone that is always so many seconds ahead of UTC; `None` beyond a day or so.
    #[must_use]
    pub fn fixed(seconds: i32) -> Option<Self> {
        let offset = Offset::from_seconds(seconds).ok()?;
        Some(Self::new(TimeZone::fixed(offset)))
    }

    /// What clocks show there at this moment, as seconds of a UTC that would show the same.
    #[must_use]
    pub fn local(&self, time: FileTime) -> FileTime {
        let Some(rules) = &self.0 else {
            return time;
        };
        // No rules reach beyond the years that can be told.
        let offset = Timestamp::from_second(time).map_or(Offset::UTC, |at| rules.to_offset(at));
        time.saturating_add(i64::from(offset.seconds()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_follows_the_rules_of_the_moment() {
        assert_eq!(Zone::default().local(5), 5);
        assert_eq!(Zone::new(TimeZone::UTC), Zone::default());
        let east = Zone::fixed(5 * 3600 + 1800).unwrap();
        assert_eq!(east.local(0), 19_800);
        assert_eq!(Zone::fixed(-3600).unwrap().local(0), -3600);
        assert_eq!(Zone::fixed(1_000_000), None);
        assert_eq!(east.local(i64::MAX), i64::MAX);
        assert_eq!(east.local(i64::MIN), i64::MIN);
        // Summer time from the last Sunday of March to that of October.
        let berlin = Zone::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let (winter, summer) = (1_704_067_200, 1_719_792_000);
        assert_eq!(berlin.local(winter), winter + 3600);
        assert_eq!(berlin.local(summer), summer + 7200);
    }
}
