//! What two looks say: rates and percentiles of the time between them. Pure.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::Answer;
use crate::status::{Core, Distribution, Process, Session};

/// Everything that `top` shows; its JSON form is that of `top --json`. Rates are octets a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The processes that answered, the one that accepts connections first.
    pub processes: Vec<Process>,
    /// All of them together.
    pub sum: Sum,
    /// Their cores.
    pub cores: Vec<CoreRow>,
    /// Their sessions.
    pub sessions: Vec<SessionRow>,
    /// Cores that did not answer, as `CORE` or `CORE@PROCESS`: their sessions are missing.
    pub silent: Vec<String>,
}

/// All cores together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Open control connections.
    pub connections: u64,
    /// Logged-in users among them.
    pub logged_in: u64,
    /// Running downloads.
    pub downloads: u64,
    /// Running uploads.
    pub uploads: u64,
    /// Running listings.
    pub listings: u64,
    /// Sent.
    pub down: f64,
    /// Received.
    pub up: f64,
    /// Commands a second.
    pub commands_per_second: f64,
}

/// One core. Without an earlier look rates are those since the start of the process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoreRow {
    /// The process.
    pub process: u32,
    /// The processor.
    pub core: String,
    /// Whether it answered in time.
    pub answered: bool,
    /// Open control connections.
    pub connections: u64,
    /// The part of the time in which its thread had the processor, from 0 to 1.
    pub load: f64,
    /// Sent.
    pub down: f64,
    /// Received.
    pub up: f64,
    /// Commands a second.
    pub commands_per_second: f64,
    /// How late it did what was due.
    pub delay_p99_us: Option<u64>,
    /// From a command to its reply.
    pub command_p50_us: Option<u64>,
    /// The same.
    pub command_p99_us: Option<u64>,
    /// TLS handshakes.
    pub handshake_p50_us: Option<u64>,
    /// The same.
    pub handshake_p99_us: Option<u64>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionRow {
    /// How `session kill` names it: its number, and `@PROCESS` where that is not the process that accepts connections.
    pub id: String,
    /// The process.
    pub process: u32,
    /// Of the running transfer, since the last look or else since it began.
    pub rate: Option<f64>,
    /// What the server says of it.
    #[serde(flatten)]
    pub session: Session,
}

impl Report {
    /// Of what was answered now and, for rates, before.
    #[must_use]
    pub fn new(now: &[Answer], before: Option<&[Answer]>) -> Self {
        let main = now.first().map(|answer| answer.process.process);
        let mut report = Self {
            processes: now.iter().map(|answer| answer.process.clone()).collect(),
            sum: Sum::default(),
            cores: Vec::new(),
            sessions: Vec::new(),
            silent: Vec::new(),
        };
        for answer in now {
            let process = answer.process.process;
            let suffix = match main == Some(process) {
                true => String::new(),
                false => format!("@{process}"),
            };
            let earlier = before
                .into_iter()
                .flatten()
                .find(|earlier| earlier.process.process == process)
                .filter(|earlier| earlier.process.seconds < answer.process.seconds);
            let silent = answer.end.silent.iter();
            report
                .silent
                .extend(silent.map(|core| format!("{core}{suffix}")));
            report.add_cores(answer, earlier);
            let known: HashMap<u64, &Session> = earlier
                .iter()
                .flat_map(|earlier| &earlier.sessions)
                .map(|session| (session.session, session))
                .collect();
            // They come by core.
            let mut sessions: Vec<&Session> = answer.sessions.iter().collect();
            sessions.sort_by_key(|session| session.session);
            report
                .sessions
                .extend(sessions.into_iter().map(|session| SessionRow {
                    id: format!("{}{suffix}", session.session),
                    process,
                    rate: rate(session, known.get(&session.session).copied()),
                    session: session.clone(),
                }));
        }
        report
    }

    fn add_cores(&mut self, answer: &Answer, earlier: Option<&Answer>) {
        let none = Core::default();
        for core in &answer.cores {
            let before = earlier.and_then(|earlier| {
                let mut cores = earlier.cores.iter();
                cores.find(|before| before.core == core.core && before.answered)
            });
            let (before, time) = match (before, earlier) {
                (Some(before), Some(earlier)) => {
                    (before, answer.process.seconds - earlier.process.seconds)
                }
                _ => (&none, answer.process.seconds),
            };
            let time = time.max(1e-3);
            let row = core_row(answer.process.process, core, before, time);
            let sum = &mut self.sum;
            sum.connections += core.connections;
            sum.logged_in += core.sessions;
            sum.downloads += core.downloads;
            sum.uploads += core.uploads;
            sum.listings += core.listings;
            sum.down += row.down;
            sum.up += row.up;
            sum.commands_per_second += row.commands_per_second;
            self.cores.push(row);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates")]
fn core_row(process: u32, core: &Core, before: &Core, time: f64) -> CoreRow {
    let each_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / time;
    let quantile =
        |now: &Distribution, before: &Distribution, part| now.since(before).quantile(part);
    CoreRow {
        process,
        core: core.core.clone(),
        answered: core.answered,
        connections: core.connections,
        load: ((core.cpu_seconds - before.cpu_seconds) / time).clamp(0.0, 1.0),
        down: each_second(core.sent, before.sent),
        up: each_second(core.received, before.received),
        commands_per_second: each_second(core.commands, before.commands),
        delay_p99_us: quantile(&core.delay, &before.delay, 0.99),
        command_p50_us: quantile(&core.command, &before.command, 0.5),
        command_p99_us: quantile(&core.command, &before.command, 0.99),
        handshake_p50_us: quantile(&core.handshake, &before.handshake, 0.5),
        handshake_p99_us: quantile(&core.handshake, &before.handshake, 0.99),
    }
}

/// The rate of a session's transfer: since the last look where that saw the same one, else since its command.
#[allow(clippy::cast_precision_loss, reason = "rates")]
fn rate(session: &Session, before: Option<&Session>) -> Option<f64> {
    let now = session.transfer.as_ref()?;
    let same = before
        .and_then(|before| before.transfer.as_ref())
        .filter(|before| {
            before.path == now.path
                && before.command == now.command
                && before.octets <= now.octets
                && before.seconds < now.seconds
        });
    let (octets, seconds) = match same {
        Some(before) => (now.octets - before.octets, now.seconds - before.seconds),
        None => (now.octets, now.seconds),
    };
    let least = Duration::from_millis(1).as_secs_f64();
    Some(octets as f64 / seconds.max(least))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::status::{End, Killed, Phase, Tls, Transfer, VERSION};

    pub(in crate::screen) fn session(number: u64, user: Option<&str>) -> Session {
        Session {
            session: number,
            user: user.map(str::to_owned),
            host: None,
            address: [192, 0, 2, 7].into(),
            port: 40_000,
            server: "192.0.2.1:21".to_owned(),
            listener: "explicit".to_owned(),
            tls: Some(Tls {
                version: "TLSv1.3".to_owned(),
                suite: "TLS13_AES_128_GCM_SHA256".to_owned(),
                resumed: false,
            }),
            seconds: 185.0,
            idle_seconds: 12.0,
            phase: Phase::Idle,
            command: Some("NLST".to_owned()),
            transfer: None,
        }
    }

    pub(in crate::screen) fn download(octets: u64, seconds: f64) -> Session {
        Session {
            phase: Phase::Transfer,
            command: Some("RETR".to_owned()),
            transfer: Some(Transfer {
                command: "RETR".to_owned(),
                path: "/pub/long/way/image.iso".to_owned(),
                path_hex: None,
                upload: false,
                protected: true,
                octets,
                total: Some(4_000_000),
                seconds,
                route: Some("user-tls".to_owned()),
            }),
            ..session(18, Some("alice"))
        }
    }

    pub(in crate::screen) fn answer(process: u32, seconds: f64, sessions: Vec<Session>) -> Answer {
        Answer {
            process: Process {
                version: VERSION,
                release: "0.1.0".to_owned(),
                process,
                accepting: process == 100,
                seconds,
            },
            cores: Vec::new(),
            sessions,
            killed: Killed::default(),
            end: End::default(),
        }
    }

    pub(in crate::screen) fn core(sent: u64, cpu_seconds: f64, commands: &[(u64, u64)]) -> Core {
        Core {
            core: "0".to_owned(),
            answered: true,
            cpu_seconds,
            connections: 3,
            sessions: 2,
            downloads: 1,
            sent,
            commands: commands.iter().map(|(_, count)| count).sum(),
            command: Distribution(commands.to_vec()),
            delay: Distribution(vec![(90, 1000)]),
            ..Core::default()
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let mut before = answer(100, 50.0, vec![download(1_000_000, 2.0)]);
        before.cores = vec![core(5_000_000, 10.0, &[(40, 100)])];
        let mut now = answer(100, 54.0, vec![download(3_000_000, 6.0)]);
        now.cores = vec![core(9_000_000, 11.0, &[(40, 100), (2000, 8)])];
        let report = Report::new(std::slice::from_ref(&now), Some(&[before.clone()]));
        close(report.sessions[0].rate.unwrap(), 500_000.0);
        let core = &report.cores[0];
        close(core.down, 1_000_000.0);
        close(core.load, 0.25);
        close(core.commands_per_second, 2.0);
        assert_eq!(
            (core.command_p50_us, core.handshake_p50_us),
            (Some(2000), None)
        );
        // Everything was late before.
        assert_eq!(core.delay_p99_us, None);
        assert_eq!((report.sum.connections, report.sum.logged_in), (3, 2));

        let alone = Report::new(std::slice::from_ref(&now), None);
        close(alone.sessions[0].rate.unwrap(), 500_000.0);
        close(alone.cores[0].down, 9_000_000.0 / 54.0);

        // Another transfer of the same file, and another process with the same number.
        before.sessions = vec![download(3_500_000, 9.0)];
        before.process.seconds = 99.0;
        let report = Report::new(&[now], Some(&[before]));
        close(report.sessions[0].rate.unwrap(), 500_000.0);
        close(report.cores[0].load, 11.0 / 54.0);
    }

    #[test]
    fn sessions_of_retired_processes_bear_their_process() {
        let both = [
            answer(100, 5.0, vec![session(1, None)]),
            answer(99, 500.0, vec![session(1, Some("old"))]),
        ];
        let report = Report::new(&both, None);
        let ids: Vec<&str> = report.sessions.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["1", "1@99"]);
        let text = serde_json::to_string(&report.sessions[1]).unwrap();
        assert!(
            text.starts_with(r#"{"id":"1@99","process":99,"rate":null,"session":1,"#),
            "{text}"
        );
    }
}
