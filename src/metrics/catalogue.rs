//! What is recorded: names, units, labels. Everything else follows this table.

use super::labels::{
    Admitted, Banned, Channel, Class, End, Handshake, Introduction, Kind, Listener, Mode, Refusal,
    Verdict,
};

/// Labels that are named by the modules that they belong to.
#[derive(Debug, Clone)]
pub struct Names {
    /// Routes of transfers, in the order of their numbers.
    pub routes: Vec<&'static str>,
    /// Reasons why the kernel did not protect a transfer, likewise.
    pub fallbacks: Vec<&'static str>,
}

/// What has a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// From accept to the greeting.
    Greeting,
    /// A TLS handshake.
    Handshake,
    /// From a command to its first reply.
    Command,
    /// From PASS to the verdict.
    Login,
    /// From the transfer's beginning to its data connection.
    DataConnection,
    /// From the transfer command to the first octet.
    FirstByte,
    /// A whole transfer.
    Transfer,
    /// Octets a second.
    Rate,
    /// How late a core does what is due.
    LoopDelay,
}

impl Measure {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 9] = [
        Self::Greeting,
        Self::Handshake,
        Self::Command,
        Self::Login,
        Self::DataConnection,
        Self::FirstByte,
        Self::Transfer,
        Self::Rate,
        Self::LoopDelay,
    ];
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Control connections.
    Connections,
    /// TLS handshakes that failed.
    HandshakesFailed,
    /// Verdicts on passwords.
    Logins,
    /// Commands that were answered.
    Commands,
    /// Replies.
    Replies,
    /// Transfers that have ended.
    Transfers,
    /// Octets that they moved.
    Octets,
    /// Transfers that the kernel did not protect.
    Fallbacks,
    /// Connections of trusted proxies.
    Introductions,
    /// Connections, logins and uploads that a limit turned away.
    Refusals,
    /// Bans.
    Bans,
}

impl Count {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 11] = [
        Self::Connections,
        Self::HandshakesFailed,
        Self::Logins,
        Self::Commands,
        Self::Replies,
        Self::Transfers,
        Self::Octets,
        Self::Fallbacks,
        Self::Introductions,
        Self::Refusals,
        Self::Bans,
    ];
}

/// What the values of a distribution are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Microseconds in the histogram, nanoseconds in the sum; seconds in Prometheus.
    Time,
    /// Octets a second, everywhere.
    Rate,
}

/// The first digits of replies.
const REPLIES: &[&str] = &["1yz", "2yz", "3yz", "4yz", "5yz"];

#[derive(Debug)]
struct Dimension {
    key: &'static str,
    values: Vec<&'static str>,
}

/// A name with its labels.
#[derive(Debug)]
pub(super) struct Family {
    /// Without prefix, and without `_total`.
    pub(super) name: &'static str,
    /// What it is, with the unit.
    pub(super) help: &'static str,
    dimensions: Vec<Dimension>,
}

/// A label and its value.
pub(super) type Label = (&'static str, &'static str);

impl Family {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            dimensions: Vec::new(),
        }
    }

    fn by(mut self, key: &'static str, values: &[&'static str]) -> Self {
        let values = values.to_vec();
        self.dimensions.push(Dimension { key, values });
        self
    }

    /// How many series it has.
    pub(super) fn len(&self) -> usize {
        self.dimensions.iter().map(|one| one.values.len()).product()
    }

    /// The labels of a series; the last label changes fastest.
    pub(super) fn labels(&self, mut index: usize) -> Vec<Label> {
        let mut labels = Vec::new();
        for Dimension { key, values } in self.dimensions.iter().rev() {
            let count = values.len().max(1);
            labels.push((*key, values.get(index % count).copied().unwrap_or_default()));
            index /= count;
        }
        labels.reverse();
        labels
    }
}

/// All names, for one set of routes.
#[derive(Debug)]
pub struct Catalogue {
    measures: Vec<Family>,
    counts: Vec<Family>,
    routes: usize,
}

impl Catalogue {
    /// A catalogue with these routes and reasons.
    #[must_use]
    pub fn new(names: &Names) -> Self {
        // A transfer that did not get so far has none.
        let routes = [&names.routes[..], &["none"]].concat();
        Self {
            measures: Measure::ALL.map(|one| measure(one, &routes)).into(),
            counts: Count::ALL.map(|one| count(one, &routes, names)).into(),
            routes: names.routes.len(),
        }
    }

    pub(super) fn measures(&self) -> impl Iterator<Item = (Measure, &Family)> {
        Measure::ALL.into_iter().zip(&self.measures)
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Count, &Family)> {
        Count::ALL.into_iter().zip(&self.counts)
    }

    /// The number that stands for no route.
    pub(super) fn no_route(&self) -> usize {
        self.routes
    }
}

impl Measure {
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Rate => Unit::Rate,
            _ => Unit::Time,
        }
    }
}

fn measure(measure: Measure, routes: &[&'static str]) -> Family {
    match measure {
        Measure::Greeting => Family::new(
            "greeting_seconds",
            "Time from accepting a control connection to its greeting in seconds; on implicit listeners with the TLS handshake.",
        )
        .by("listener", Listener::NAMES),
        Measure::Handshake => Family::new(
            "tls_handshake_seconds",
            "Time of a complete TLS handshake in seconds, waits for the client included.",
        )
        .by("connection", Channel::NAMES)
        .by("kind", Handshake::NAMES),
        Measure::Command => Family::new(
            "command_seconds",
            "Time from the octets of a command to its first reply in seconds, PASS excepted.",
        )
        .by("class", Class::NAMES),
        Measure::Login => Family::new(
            "login_seconds",
            "Time from PASS to the verdict in seconds, without the delay before a refusal.",
        )
        .by("result", Verdict::NAMES),
        Measure::DataConnection => Family::new(
            "data_connection_seconds",
            "Time from the beginning of a transfer to its data connection in seconds.",
        )
        .by("mode", Mode::NAMES),
        Measure::FirstByte => Family::new(
            "first_byte_seconds",
            "Time from a transfer command to the first octet sent or received in seconds.",
        )
        .by("kind", Kind::NAMES),
        Measure::Transfer => Family::new(
            "transfer_seconds",
            "Time of a complete transfer in seconds, from its 150 until the client has acknowledged everything.",
        )
        .by("route", routes)
        .by("kind", Kind::NAMES),
        Measure::Rate => Family::new(
            "transfer_rate_bytes_per_second",
            "Rate of a complete transfer of 1 MiB or more in bytes per second, without connecting and handshake.",
        )
        .by("route", routes)
        .by("kind", Kind::NAMES),
        Measure::LoopDelay => Family::new(
            "event_loop_delay_seconds",
            "How late a core does what is due in seconds, looked at ten times a second.",
        ),
    }
}

fn count(count: Count, routes: &[&'static str], names: &Names) -> Family {
    match count {
        Count::Connections => Family::new("connections", "Control connections.")
            .by("listener", Listener::NAMES)
            .by("result", Admitted::NAMES),
        Count::HandshakesFailed => {
            Family::new("tls_handshake_failures", "TLS handshakes that failed.")
                .by("connection", Channel::NAMES)
        }
        Count::Logins => {
            Family::new("logins", "Verdicts on passwords.").by("result", Verdict::NAMES)
        }
        Count::Commands => {
            Family::new("commands", "Commands that were answered.").by("class", Class::NAMES)
        }
        Count::Replies => {
            Family::new("replies", "Replies by their first digit.").by("code", REPLIES)
        }
        Count::Transfers => Family::new("transfers", "Transfers that have ended.")
            .by("route", routes)
            .by("kind", Kind::NAMES)
            .by("end", End::NAMES),
        Count::Octets => Family::new(
            "transferred_bytes",
            "Bytes of files and listings that transfers moved, counted when they end.",
        )
        .by("route", routes)
        .by("kind", Kind::NAMES),
        Count::Fallbacks => Family::new(
            "kernel_tls_fallbacks",
            "Protected transfers that the kernel did not protect, by reason.",
        )
        .by("reason", &names.fallbacks),
        Count::Introductions => Family::new(
            "proxy_headers",
            "Connections of trusted proxies by what their PROXY header said.",
        )
        .by("connection", Channel::NAMES)
        .by("result", Introduction::NAMES),
        Count::Refusals => Family::new(
            "refusals",
            "Connections, logins and uploads that a limit turned away, by reason.",
        )
        .by("reason", Refusal::NAMES),
        Count::Bans => Family::new("bans", "Bans for failed logins, by what was banned.")
            .by("of", Banned::NAMES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_labels_of_its_own() {
        let names = Names {
            routes: vec!["a", "b"],
            fallbacks: vec!["x"],
        };
        let catalogue = Catalogue::new(&names);
        let families = catalogue
            .measures()
            .map(|(_, family)| family)
            .chain(catalogue.counts().map(|(_, family)| family));
        for family in families {
            let mut all: Vec<_> = (0..family.len()).map(|at| family.labels(at)).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), family.len(), "{}", family.name);
        }
        let (_, transfers) = catalogue.counts().nth(Count::Transfers as usize).unwrap();
        let index =
            (Kind::NAMES.len() + Kind::Upload as usize) * End::NAMES.len() + End::Stalled as usize;
        let expected = [("route", "b"), ("kind", "upload"), ("end", "stalled")];
        assert_eq!(transfers.labels(index), expected);
        assert_eq!(catalogue.no_route(), 2);
    }

    #[test]
    fn numbers_are_places() {
        for (place, one) in Measure::ALL.into_iter().enumerate() {
            assert_eq!(one as usize, place, "{one:?}");
        }
        for (place, one) in Count::ALL.into_iter().enumerate() {
            assert_eq!(one as usize, place, "{one:?}");
        }
    }
}
