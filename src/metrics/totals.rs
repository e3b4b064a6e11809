//! What the books of all cores add up to.

use std::borrow::Cow;
use std::sync::Arc;

use super::books::{Books, Gauges, Series};
use super::catalogue::{Catalogue, Count, Family, Measure, Unit};

/// A label and its value.
pub(super) type Label = (&'static str, Cow<'static, str>);

/// One distribution with its name.
pub(super) struct Row<'a> {
    pub(super) unit: Unit,
    pub(super) labels: Vec<Label>,
    pub(super) series: &'a Series,
}

/// The sums over all cores, and what is told of each.
#[derive(Debug)]
pub struct Totals {
    books: Books,
    cores: Vec<Core>,
}

#[derive(Debug)]
struct Core {
    name: String,
    delay: Series,
    commands: Series,
    command_count: u64,
    handshakes: Series,
    gauges: Gauges,
}

/// What is known of one core.
#[derive(Debug)]
pub struct CoreFigures<'a> {
    /// Its processor, and `.1` and so on where threads share one.
    pub name: &'a str,
    /// What is so now.
    pub gauges: Gauges,
    /// Commands answered.
    pub command_count: u64,
    /// Times from commands to their replies, without those of PASS.
    pub commands: &'a Series,
    /// Times of TLS handshakes.
    pub handshakes: &'a Series,
    /// How late it did what was due.
    pub delay: &'a Series,
}

impl Totals {
    /// Nothing yet, of these processors.
    #[must_use]
    pub fn new(catalogue: &Arc<Catalogue>, cores: &[usize]) -> Self {
        let cores = cores.iter().enumerate().map(|(place, cpu)| Core {
            // Two threads on one processor have to be told apart.
            name: match cores.iter().take(place).filter(|one| *one == cpu).count() {
                0 => cpu.to_string(),
                again => format!("{cpu}.{again}"),
            },
            delay: Series::default(),
            commands: Series::default(),
            command_count: 0,
            handshakes: Series::default(),
            gauges: Gauges::default(),
        });
        Self {
            books: Books::new(catalogue),
            cores: cores.collect(),
        }
    }

    /// Adds what the core at this place has written.
    pub fn add(&mut self, place: usize, books: &Books) {
        self.books.add(books);
        if let Some(core) = self.cores.get_mut(place) {
            for (measure, sum) in [
                (Measure::LoopDelay, &mut core.delay),
                (Measure::Command, &mut core.commands),
                (Measure::Handshake, &mut core.handshakes),
            ] {
                books.series(measure).iter().for_each(|one| sum.add(one));
            }
            let commands: u64 = books.counts(Count::Commands).iter().sum();
            core.command_count = core.command_count.saturating_add(commands);
            core.gauges = books.gauges;
        }
    }

    /// Begins anew, for the next interval.
    pub fn reset(&mut self) {
        self.books.reset();
        for core in &mut self.cores {
            core.delay.reset();
            core.commands.reset();
            core.command_count = 0;
            core.handshakes.reset();
        }
    }

    /// What is known of each core.
    pub fn cores(&self) -> impl Iterator<Item = CoreFigures<'_>> {
        self.cores.iter().map(|core| CoreFigures {
            name: &core.name,
            gauges: core.gauges,
            command_count: core.command_count,
            commands: &core.commands,
            handshakes: &core.handshakes,
            delay: &core.delay,
        })
    }

    /// The sums of what is so on the cores now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let mut sum = Gauges::default();
        for Core { gauges, .. } in &self.cores {
            sum.connections += gauges.connections;
            sum.sessions += gauges.sessions;
            for (sum, more) in sum.transfers.iter_mut().zip(gauges.transfers) {
                *sum += more;
            }
        }
        sum
    }

    pub(super) fn catalogue(&self) -> &Catalogue {
        self.books.catalogue()
    }

    pub(super) fn counts(&self, count: Count) -> &[u64] {
        self.books.counts(count)
    }

    /// The distributions of a family that have values. The delay is that of each core: one that is
    /// late is not to be hidden by many that are not.
    pub(super) fn rows(&self, measure: Measure, family: &Family) -> Vec<Row<'_>> {
        let unit = measure.unit();
        let has_values = |row: &Row<'_>| row.series.histogram().is_some();
        if measure == Measure::LoopDelay {
            let rows = self.cores.iter().map(|core| Row {
                unit,
                labels: vec![("core", Cow::Owned(core.name.clone()))],
                series: &core.delay,
            });
            return rows.filter(has_values).collect();
        }
        let series = self.books.series(measure).iter().enumerate();
        let rows = series.map(|(index, series)| Row {
            unit,
            labels: owned(family.labels(index)),
            series,
        });
        rows.filter(has_values).collect()
    }
}

pub(super) fn owned(labels: Vec<super::catalogue::Label>) -> Vec<Label> {
    let labels = labels.into_iter();
    labels
        .map(|(key, value)| (key, Cow::Borrowed(value)))
        .collect()
}
