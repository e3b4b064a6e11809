//! Counts and distributions: what a core writes, and what is added up from all of them.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::catalogue::{Catalogue, Count, Measure, Unit};
use crate::limits;

/// Microseconds a second.
const MICROSECONDS: u64 = 1_000_000;
/// Nanoseconds a second.
const NANOSECONDS: u64 = 1_000_000_000;

/// One distribution.
///
/// The histogram is made with the first value: most servers go few routes. A histogram of times takes
/// 26 KiB, one of rates 22 KiB.
#[derive(Debug, Clone, Default)]
pub struct Series {
    histogram: Option<Box<Histogram<u64>>>,
    /// Exact, where the histogram knows its values to one per cent.
    sum: u64,
}

impl Series {
    /// Records a time.
    pub(super) fn time(&mut self, time: Duration) {
        let seconds = time.as_secs();
        let microseconds = seconds
            .saturating_mul(MICROSECONDS)
            .saturating_add(u64::from(time.subsec_micros()));
        let nanoseconds = seconds
            .saturating_mul(NANOSECONDS)
            .saturating_add(u64::from(time.subsec_nanos()));
        self.record(Unit::Time, microseconds, nanoseconds);
    }

    /// Records octets a second.
    pub(super) fn rate(&mut self, rate: u64) {
        self.record(Unit::Rate, rate, rate);
    }

    fn record(&mut self, unit: Unit, value: u64, addend: u64) {
        self.sum = self.sum.saturating_add(addend);
        match &mut self.histogram {
            Some(histogram) => histogram.saturating_record(value),
            None => self.record_first(unit, value),
        }
    }

    #[cold]
    fn record_first(&mut self, unit: Unit, value: u64) {
        // The bounds are constants that the crate takes; a test makes both.
        let Some(mut histogram) = empty(unit) else {
            return;
        };
        histogram.saturating_record(value);
        self.histogram = Some(Box::new(histogram));
    }

    /// Adds what another one holds.
    pub(super) fn add(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        let Some(more) = &other.histogram else {
            return;
        };
        match &mut self.histogram {
            // Both have the bounds of their unit.
            Some(histogram) => histogram.add(&**more).unwrap_or_default(),
            None => self.histogram = Some(more.clone()),
        }
    }

    /// Forgets everything but keeps its memory.
    pub(super) fn reset(&mut self) {
        self.sum = 0;
        if let Some(histogram) = self.histogram.as_mut().filter(|one| !one.is_empty()) {
            histogram.reset();
        }
    }

    /// The distribution, if it has any value.
    pub(super) fn histogram(&self) -> Option<&Histogram<u64>> {
        self.histogram.as_deref().filter(|one| !one.is_empty())
    }

    /// The highest value of each bucket that is not empty, ascending, and how many values are in it.
    #[must_use]
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram().map_or_else(Vec::new, |histogram| {
            let recorded = histogram.iter_recorded();
            recorded
                .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
                .collect()
        })
    }

    /// The sum of all values: nanoseconds, or octets a second.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }
}

fn empty(unit: Unit) -> Option<Histogram<u64>> {
    let (lowest, highest) = match unit {
        Unit::Time => (1, limits::METRICS_TIME_MAX.as_secs() * MICROSECONDS),
        Unit::Rate => (
            limits::METRICS_RATE_OCTETS_PER_SECOND_MIN,
            limits::METRICS_RATE_OCTETS_PER_SECOND_MAX,
        ),
    };
    Histogram::new_with_bounds(lowest, highest, limits::METRICS_DIGITS).ok()
}

/// What is so at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Open control connections.
    pub connections: u64,
    /// Logged-in users among them.
    pub sessions: u64,
    /// Running transfers: downloads, uploads, listings.
    pub transfers: [u64; 3],
}

/// All counts and distributions since the last exchange.
#[derive(Debug)]
pub struct Books {
    catalogue: Arc<Catalogue>,
    measures: Vec<Vec<Series>>,
    counts: Vec<Vec<u64>>,
    pub(super) gauges: Gauges,
}

impl Books {
    /// Empty books.
    #[must_use]
    pub fn new(catalogue: &Arc<Catalogue>) -> Self {
        let measures = catalogue.measures();
        let counts = catalogue.counts();
        Self {
            measures: measures
                .map(|(_, family)| vec![Series::default(); family.len()])
                .collect(),
            counts: counts.map(|(_, family)| vec![0; family.len()]).collect(),
            catalogue: Arc::clone(catalogue),
            gauges: Gauges::default(),
        }
    }

    pub(super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    pub(super) fn series_mut(&mut self, measure: Measure, index: usize) -> Option<&mut Series> {
        self.measures.get_mut(measure as usize)?.get_mut(index)
    }

    pub(super) fn series(&self, measure: Measure) -> &[Series] {
        self.measures
            .get(measure as usize)
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn counts(&self, count: Count) -> &[u64] {
        self.counts.get(count as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn count(&mut self, count: Count, index: usize, addend: u64) {
        let counts = self.counts.get_mut(count as usize);
        if let Some(number) = counts.and_then(|counts| counts.get_mut(index)) {
            *number = number.saturating_add(addend);
        }
    }

    /// Adds what other books of the same catalogue hold. Gauges are no sums and stay.
    pub(super) fn add(&mut self, other: &Self) {
        let series = self.measures.iter_mut().flatten();
        for (series, more) in series.zip(other.measures.iter().flatten()) {
            series.add(more);
        }
        let numbers = self.counts.iter_mut().flatten();
        for (number, more) in numbers.zip(other.counts.iter().flatten()) {
            *number = number.saturating_add(*more);
        }
    }

    /// Empties them, and keeps the memory of the histograms.
    pub fn reset(&mut self) {
        self.measures.iter_mut().flatten().for_each(Series::reset);
        self.counts
            .iter_mut()
            .flatten()
            .for_each(|number| *number = 0);
        self.gauges = Gauges::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_both_units_are_as_small_as_said() {
        let octets = |unit| empty(unit).unwrap().distinct_values() * size_of::<u64>();
        assert_eq!(octets(Unit::Time), 26 * 1024);
        assert_eq!(octets(Unit::Rate), 22 * 1024);
    }

    #[test]
    fn values_are_kept_to_one_per_cent_and_sums_exactly() {
        let mut series = Series::default();
        assert!(series.histogram().is_none());
        for microseconds in 1..=100_000 {
            series.time(Duration::from_nanos(microseconds * 1000 + 7));
        }
        let histogram = series.histogram().unwrap();
        assert_eq!(histogram.len(), 100_000);
        let median = histogram.value_at_quantile(0.5);
        assert!(median.abs_diff(50_000) <= 500, "{median}");
        assert_eq!(series.sum(), 100_000 * 100_001 / 2 * 1000 + 7 * 100_000);
    }

    #[test]
    fn values_beyond_the_range_are_counted_at_its_ends() {
        let mut series = Series::default();
        series.time(Duration::ZERO);
        series.time(Duration::MAX);
        let histogram = series.histogram().unwrap();
        assert_eq!((histogram.len(), histogram.min()), (2, 0));
        let highest = limits::METRICS_TIME_MAX.as_secs() * MICROSECONDS;
        assert!(histogram.max() >= highest && histogram.max() < highest / 100 * 101);
        assert_eq!(series.sum(), u64::MAX);
        let mut rate = Series::default();
        rate.rate(0);
        rate.rate(u64::MAX);
        assert_eq!(rate.histogram().unwrap().len(), 2);
    }

    #[test]
    fn added_and_emptied() {
        let (mut one, mut other) = (Series::default(), Series::default());
        one.time(Duration::from_micros(10));
        other.time(Duration::from_micros(20));
        let mut sum = Series::default();
        sum.add(&one);
        sum.add(&other);
        sum.add(&Series::default());
        assert_eq!(sum.histogram().unwrap().len(), 2);
        assert_eq!(sum.histogram().unwrap().max(), 20);
        assert_eq!(sum.sum(), 30_000);
        sum.reset();
        assert!(sum.histogram().is_none());
        sum.add(&one);
        assert_eq!(sum.histogram().unwrap().max(), 10);
    }
}
