//! A report as lines of text, for any width.

use std::cmp::Ordering;

use clap::ValueEnum;

use super::report::{CoreRow, Report, SessionRow};
use super::table::{Column, lay_out};
use super::text;
use crate::status::{NO_HOST, Phase};

/// What sessions are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Fastest transfer first.
    #[default]
    Rate,
    /// Most octets of the running transfer first.
    Octets,
    /// Longest connected first.
    Time,
    /// Longest without a command first.
    Idle,
    /// By name.
    User,
    /// By address.
    Address,
    /// By number.
    Id,
}

impl Sort {
    /// The next one, and after the last the first.
    #[must_use]
    pub fn next(self) -> Self {
        let mut all = Self::value_variants().iter().copied().cycle();
        all.find(|one| *one == self);
        all.next().unwrap_or_default()
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn compare(self, a: &SessionRow, b: &SessionRow) -> Ordering {
        let octets = |row: &SessionRow| row.session.transfer.as_ref().map_or(0, |one| one.octets);
        let most = |value: fn(&SessionRow) -> f64| value(b).total_cmp(&value(a));
        match self {
            // Transfers that stand still come before sessions without one.
            Self::Rate => most(|row| row.rate.unwrap_or(-1.0)),
            Self::Octets => octets(b).cmp(&octets(a)),
            Self::Time => most(|row| row.session.seconds),
            Self::Idle => most(|row| match row.session.phase {
                Phase::Transfer => -1.0,
                _ => row.session.idle_seconds,
            }),
            // Those without a name last.
            Self::User => (a.session.user.is_none(), &a.session.user)
                .cmp(&(b.session.user.is_none(), &b.session.user)),
            Self::Address => a.session.address.cmp(&b.session.address),
            Self::Id => Ordering::Equal,
        }
        .then_with(|| (a.process, a.session.session).cmp(&(b.process, b.session.session)))
    }
}

const fn column(title: &'static str, right: bool, spare: u8, widest: usize) -> Column {
    Column {
        title,
        right,
        spare,
        widest,
    }
}

const SESSION_COLUMNS: [Column; 10] = [
    column("ID", true, 0, 20),
    column("USER", false, 0, 16),
    column("DOING", false, 0, 9),
    column("RATE", true, 1, 9),
    column("DONE", true, 2, 8),
    column("ADDRESS", false, 4, 39),
    column("TIME", true, 5, 7),
    column("ROUTE", false, 6, 20),
    column("TLS", false, 7, 40),
    column("PATH", false, 3, 0),
];

/// Behind USER, where a session has one.
const HOST_COLUMN: Column = column("HOST", false, 3, 24);
const HOST_PLACE: usize = 2;

const CORE_COLUMNS: [Column; 10] = [
    column("CORE", true, 0, 12),
    column("CONN", true, 0, 8),
    column("LOAD", true, 0, 5),
    column("DOWN", true, 0, 9),
    column("UP", true, 1, 9),
    column("CMD/S", true, 5, 9),
    column("DELAY P99", true, 2, 9),
    column("CMD P50", true, 4, 8),
    column("CMD P99", true, 3, 8),
    column("TLS P50/P99", true, 6, 17),
];

fn session_row(row: &SessionRow, with_host: bool) -> Vec<String> {
    let session = &row.session;
    let transfer = session.transfer.as_ref();
    let command = session.command.as_deref().unwrap_or_default();
    let doing = match session.phase {
        Phase::Greeting => "greeting".to_owned(),
        Phase::Handshake => "handshake".to_owned(),
        Phase::Login => "login".to_owned(),
        Phase::Idle => format!("idle {}", text::duration(session.idle_seconds)),
        Phase::Command => "command".to_owned(),
        Phase::Transfer => command.to_owned(),
        Phase::Closing => "closing".to_owned(),
    };
    let tls = session.tls.as_ref().map_or_else(
        || "-".to_owned(),
        |tls| format!("{} {}", tls.version, tls.suite),
    );
    let mut cells = vec![
        row.id.clone(),
        text::clean(session.user.as_deref().unwrap_or("-")).into_owned(),
        text::clean(&doing).into_owned(),
        row.rate.map_or_else(String::new, text::rate),
        transfer.map_or_else(String::new, |one| done(one.octets, one.total)),
        session.address.to_string(),
        text::duration(session.seconds),
        text::clean(transfer.and_then(|one| one.route.as_deref()).unwrap_or("")).into_owned(),
        text::clean(&tls).into_owned(),
        text::clean(transfer.map_or("", |one| &one.path)).into_owned(),
    ];
    if with_host {
        let host = session.host.as_deref().unwrap_or(NO_HOST);
        cells.insert(HOST_PLACE, text::clean(host).into_owned());
    }
    cells
}

/// Per cent where the end is known, else octets.
fn done(octets: u64, total: Option<u64>) -> String {
    match total {
        Some(0) => "100%".to_owned(),
        Some(total) => {
            let part = u128::from(octets) * 100 / u128::from(total);
            format!("{}%", part.min(100))
        }
        None => text::octets(octets),
    }
}

fn core_row(row: &CoreRow, main: Option<u32>) -> Vec<String> {
    let time = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), text::microseconds);
    let name = match main == Some(row.process) {
        true => row.core.clone(),
        false => format!("{}@{}", row.core, row.process),
    };
    let handshakes = match (row.handshake_p50_us, row.handshake_p99_us) {
        (Some(half), Some(most)) => {
            format!("{}/{}", text::microseconds(half), text::microseconds(most))
        }
        _ => "-".to_owned(),
    };
    let load = match row.answered {
        true => format!("{:.0}%", row.load * 100.0),
        // Its figures are old.
        false => "hung".to_owned(),
    };
    vec![
        text::clean(&name).into_owned(),
        row.connections.to_string(),
        load,
        text::rate(row.down),
        text::rate(row.up),
        format!("{:.0}", row.commands_per_second),
        time(row.delay_p99_us),
        time(row.command_p50_us),
        time(row.command_p99_us),
        handshakes,
    ]
}

/// The table of sessions in order, the titles first; no width for as wide as it comes. At most `most` rows from `from` on.
#[must_use]
pub fn sessions(
    report: &Report,
    sort: Sort,
    width: Option<usize>,
    (from, most): (usize, usize),
) -> Vec<String> {
    let mut rows: Vec<&SessionRow> = report.sessions.iter().collect();
    rows.sort_by(|a, b| sort.compare(a, b));
    let shown = rows.into_iter().skip(from).take(most);
    let with_host = report.sessions.iter().any(|row| row.session.host.is_some());
    let rows: Vec<Vec<String>> = shown.map(|row| session_row(row, with_host)).collect();
    let mut columns = SESSION_COLUMNS.to_vec();
    if with_host {
        columns.insert(HOST_PLACE, HOST_COLUMN);
    }
    lay_out(&columns, &rows, width)
}

fn words(parts: &[String], width: Option<usize>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line)
                if width.is_none_or(|width| text::width(line) + 3 + text::width(part) <= width) =>
            {
                line.push_str("   ");
                line.push_str(part);
            }
            _ => lines.push(text::begin(part, width.unwrap_or(usize::MAX)).into_owned()),
        }
    }
    lines
}

fn head(report: &Report, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for (place, process) in report.processes.iter().enumerate() {
        let state = match (process.accepting, place) {
            (true, _) => "serving",
            (false, 0) => "ending",
            (false, _) => "replaced, has its sessions",
        };
        let parts = [
            text::clean(&format!("ringftpd {}", process.release)).into_owned(),
            format!("process {}", process.process),
            format!("{state} {}", text::duration(process.seconds)),
        ];
        lines.extend(words(&parts, width));
    }
    let sum = &report.sum;
    let running = sum.downloads + sum.uploads + sum.listings;
    let parts = [
        format!("connections {}", sum.connections),
        format!("logged in {}", sum.logged_in),
        format!("transfers {running}"),
        format!("down {}", text::rate(sum.down)),
        format!("up {}", text::rate(sum.up)),
        format!("commands {:.0}/s", sum.commands_per_second),
    ];
    lines.extend(words(&parts, width));
    if !report.silent.is_empty() {
        let text = format!("no answer of core {}", report.silent.join(", "));
        let parts = [
            text::clean(&text).into_owned(),
            "sessions there are not shown".to_owned(),
        ];
        lines.extend(words(&parts, width));
    }
    lines
}

/// The lines of a whole screen, and which of them are titles. `height` bounds them; `from` is the first session shown.
#[must_use]
pub fn whole(
    report: &Report,
    sort: Sort,
    width: Option<usize>,
    height: Option<usize>,
    from: usize,
) -> (Vec<String>, Vec<usize>) {
    let mut lines = head(report, width);
    let main = report.processes.first().map(|process| process.process);
    // A third of the screen for cores at most, the busiest.
    let most = height.map_or(usize::MAX, |height| (height / 3).max(1));
    let mut cores: Vec<&CoreRow> = report.cores.iter().collect();
    let left_out = cores.len().saturating_sub(most);
    if left_out > 0 {
        cores.sort_by(|a, b| (a.answered.cmp(&b.answered)).then(b.load.total_cmp(&a.load)));
        cores.truncate(most);
    }
    let rows: Vec<Vec<String>> = cores.iter().map(|row| core_row(row, main)).collect();
    let mut titles = vec![lines.len()];
    lines.extend(lay_out(&CORE_COLUMNS, &rows, width));
    if left_out > 0 {
        lines.extend(words(
            &[format!("and {left_out} cores with less load")],
            width,
        ));
    }
    titles.push(lines.len());
    let room = height.map_or(usize::MAX, |height| height.saturating_sub(lines.len() + 1));
    lines.extend(sessions(report, sort, width, (from, room)));
    if let Some(height) = height {
        lines.truncate(height);
    }
    (lines, titles)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
