//! What lies between a client and a session: the driver's part, the network, files, and time.

mod data;

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ringftpd::limits;
use ringftpd::proto::session::Hosts;
use ringftpd::proto::{
    Action, ChannelKind, Charset, Event, FileError, LoginVerdict, Requirement, Session, Settings,
    Transfer, TransferEnd,
};
use ringftpd::vhosts::Table;

use crate::line::{Kind, Line};
use crate::model::Model;
use crate::stranger::{Client, Deed, Notice, Stranger};
use crate::tree::{self, Tree};
use data::Running;

/// Steps of one run; far more than any run needs.
const STEPS_MAX: usize = 20_000;
/// Actions that one step may cause.
const ACTIONS_MAX: usize = 10_000;
/// Waits of the driver.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(30);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

/// The clock is read once; virtual time counts from here.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How often what happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) transfers: u64,
    pub(crate) aborts: u64,
    pub(crate) progress: u64,
    pub(crate) handshakes: u64,
    pub(crate) tls_ends: u64,
    pub(crate) departures: u64,
    pub(crate) actions: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.transfers += other.transfers;
        self.aborts += other.aborts;
        self.progress += other.progress;
        self.handshakes += other.handshakes;
        self.tls_ends += other.tls_ends;
        self.departures += other.departures;
        self.actions += other.actions;
    }
}

/// The protection of the control connection as the driver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Clear,
    Handshake,
    Protected,
    Ending,
    /// An error of the connection or of TLS: nothing comes any more.
    Broken,
}

/// What is on its way from the client.
#[derive(Debug)]
enum Unit {
    /// Octets, and where in them which lines end.
    Octets {
        clear: bool,
        octets: Vec<u8>,
        lines: Vec<(usize, Line)>,
        /// They are no part of the line that ends next.
        stray: bool,
    },
    Hello,
    CloseNotify,
    Finish,
    Reset,
}

/// What happens at a time of its own.
#[derive(Debug)]
enum Happening {
    Answer(Event),
    Notice(Notice),
    ShutDown { force: bool },
}

/// One run.
pub(crate) struct World {
    random: Rng,
    /// Whether anything may fail.
    faults: bool,
    shown: bool,
    session: Session,
    model: Model,
    client: Box<dyn Client>,
    happenings: BTreeMap<(Duration, u64), Happening>,
    number: u64,
    inbound: VecDeque<(Duration, Unit)>,
    inbound_time: Duration,
    outbound_time: Duration,
    layer: Layer,
    layer_deadline: Option<Duration>,
    /// The client's FIN was read.
    finished: bool,
    /// Octets came that belong to no line: the next line is damaged.
    damaged: bool,
    tree: Tree,
    port: u16,
    connected: bool,
    transfer: Option<Transfer>,
    running: Option<Running>,
    counts: Counts,
}

fn settings(random: &mut Rng) -> Settings {
    let requirement = |random: &mut Rng| match random.bool() {
        true => Requirement::Required,
        false => Requirement::Optional,
    };
    let seconds = |random: &mut Rng, usual, rare| {
        Duration::from_secs(if random.u8(..8) == 0 { rare } else { usual })
    };
    let rare_delay = random.u64(..4);
    Settings {
        greeting: String::from("hello"),
        tls_control: requirement(random),
        tls_data: requirement(random),
        tls_available: random.u8(..16) > 0,
        ccc: random.bool(),
        charset: match random.u8(..4) {
            0 => "GBK".parse().unwrap(),
            1 => "Shift_JIS".parse().unwrap(),
            _ => Charset::UTF_8,
        },
        active: random.u8(..8) > 0,
        login_time_max: seconds(random, 120, 3),
        idle_time_max: seconds(random, 300, 5),
        bad_login_delay: seconds(random, 1, rare_delay),
        hosts: if random.bool() {
            hosts()
        } else {
            Hosts::default()
        },
    }
}

/// Two virtual hosts.
fn hosts() -> Hosts {
    let mut names = Table::default();
    names.add_host("one.example").unwrap();
    names.add_host("*.example").unwrap();
    Hosts {
        names: Arc::new(names),
        greetings: vec![Some(String::from("one")), None],
    }
}

impl World {
    fn new(settings: Settings, kind: ChannelKind, client: Box<dyn Client>, random: Rng) -> Self {
        let session = Session::new(
            Arc::new(settings.clone()),
            kind,
            "10.0.0.1:21".parse().unwrap(),
            "10.0.0.9:5000".parse().unwrap(),
            *START,
        );
        Self {
            random,
            faults: false,
            shown: false,
            session,
            model: Model::new(settings, kind),
            client,
            happenings: BTreeMap::new(),
            number: 0,
            inbound: VecDeque::new(),
            inbound_time: Duration::ZERO,
            outbound_time: Duration::ZERO,
            layer: Layer::Clear,
            layer_deadline: None,
            finished: false,
            damaged: false,
            tree: Tree::new(),
            port: 2000,
            connected: false,
            transfer: None,
            running: None,
            counts: Counts::default(),
        }
    }

    /// A world where anything may happen.
    pub(crate) fn with_stranger(seed: u64, shown: bool) -> Self {
        let mut random = Rng::with_seed(seed);
        let kind = match random.bool() {
            true => ChannelKind::Explicit,
            false => ChannelKind::Implicit,
        };
        let client = Box::new(Stranger::new(kind, &mut random));
        let mut world = Self::new(settings(&mut random), kind, client, random);
        world.faults = true;
        world.shown = shown;
        world.happens(Duration::ZERO, Happening::Notice(Notice::Turn));
        for _ in 0..world.random.u8(..8).saturating_sub(5) {
            let time =
                Duration::from_millis(world.random.u64(..100_000) / world.random.u64(1..100));
            let force = world.random.bool();
            world.happens(time, Happening::ShutDown { force });
        }
        world
    }

    /// A world where nothing fails.
    pub(crate) fn without_faults(
        settings: Settings,
        kind: ChannelKind,
        client: Box<dyn Client>,
        random: Rng,
        shown: bool,
    ) -> Self {
        let mut world = Self::new(settings, kind, client, random);
        world.shown = shown;
        world
    }

    fn happens(&mut self, after: Duration, happening: Happening) -> (Duration, u64) {
        self.number += 1;
        let key = (self.model.now + after, self.number);
        self.happenings.insert(key, happening);
        key
    }

    fn now(&self) -> Instant {
        *START + self.model.now
    }

    fn latency(&mut self) -> Duration {
        match self.random.u8(..16) {
            0 if self.faults => Duration::from_millis(self.random.u64(..30_000)),
            0..4 => Duration::from_millis(self.random.u64(..500)),
            4 => Duration::ZERO,
            _ => Duration::from_micros(self.random.u64(..5000)),
        }
    }

    fn fails(&mut self, one_of: u32) -> bool {
        self.faults && self.random.u32(..one_of) == 0
    }

    fn show(&self, what: &dyn std::fmt::Debug) {
        if self.shown {
            eprintln!("{:>12?} {what:?}", self.model.now);
        }
    }

    /// Runs until the session has closed or the connection is broken.
    pub(crate) fn run(mut self) -> Counts {
        for _ in 0..STEPS_MAX {
            self.act();
            if self.model.closed {
                self.disturb_closed();
                return self.counts;
            }
            if self.step().is_none() {
                return self.counts;
            }
        }
        panic!("the session never ends");
    }

    /// Performs all that the session wants.
    fn act(&mut self) {
        for _ in 0..ACTIONS_MAX {
            let Some(action) = self.session.poll_action() else {
                self.model.rest(&self.session);
                return;
            };
            match &action {
                Action::Send(octets) if self.shown => {
                    eprintln!("{:>12?} out {}", self.model.now, octets.escape_ascii());
                }
                action => self.show(action),
            }
            self.counts.actions += 1;
            self.model.action(&action);
            self.perform(action);
        }
        panic!("actions without end");
    }

    /// One thing more happens; `None` when the driver is done.
    fn step(&mut self) -> Option<()> {
        let reads = match self.layer {
            Layer::Broken => false,
            Layer::Handshake | Layer::Ending => true,
            Layer::Clear | Layer::Protected => self.session.wants_octets(),
        };
        if reads && self.finished {
            let tls_changes = matches!(self.layer, Layer::Handshake | Layer::Ending);
            assert!(tls_changes, "reads the end again and again");
            // A command sent before the end began the change: the end is read once more.
            self.close_client();
            return Some(());
        }
        let read_at = self.inbound.front().filter(|_| reads);
        let read_at = read_at.map(|(at, _)| (*at).max(self.model.now));
        let happens_at = self.happenings.keys().next().map(|(at, _)| *at);
        let deadline = self.session.poll_deadline();
        let deadline = deadline.map(|at| at.saturating_duration_since(*START));
        let times = [read_at, happens_at, deadline, self.layer_deadline];
        let next = times.iter().flatten().min().copied();
        let next = next.expect("waits for nothing: a dead state");
        self.model.now = self.model.now.max(next);
        if self.fails(64) {
            self.session.handle_timeout(self.now());
        }
        if self.layer == Layer::Handshake && self.fails(64) {
            // No driver does that; a session must not trust in it.
            self.deliver(b"NOOP\r\n".to_vec(), vec![(6, Line::new(b"NOOP"))], false);
            return Some(());
        }
        if self.layer_deadline.is_some_and(|at| at <= next) {
            return self.break_off();
        }
        if deadline.is_some_and(|at| at <= next) {
            self.time_out();
        } else if read_at == Some(next) {
            return self.receive();
        } else if let Some((_, happening)) = self.happenings.pop_first() {
            if !matches!(happening, Happening::Notice(Notice::Octets(_))) {
                self.show(&happening);
            }
            self.happen(happening);
        }
        Some(())
    }

    fn time_out(&mut self) {
        if self.fails(8) {
            // A busy driver is late, and more than one deadline may have passed.
            self.model.now += Duration::from_millis(self.random.u64(..5000));
        }
        let now = self.now();
        self.session.handle_timeout(now);
        let later = self.session.poll_deadline().is_none_or(|at| at > now);
        assert!(later, "a deadline that stays");
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Answer(event) => self.answer(event),
            Happening::Notice(notice) => {
                for deed in self.client.notice(notice, &mut self.random) {
                    if !matches!(deed, Deed::Send { .. }) {
                        self.show(&deed);
                    }
                    self.perform_deed(deed);
                }
            }
            Happening::ShutDown { force } => {
                self.model.shut_down(force);
                let now = self.now();
                self.session.handle_shutdown(force, now);
            }
        }
    }

    /// The session learns something.
    fn answer(&mut self, event: Event) {
        match &event {
            Event::LoginChecked(_) | Event::FileDone(_) | Event::TransferReady(_)
                if self.model.ask().is_none() =>
            {
                // The session has closed meanwhile.
                return;
            }
            Event::Progress(_) if self.running.is_none() => return,
            Event::TransferEnded(end) => {
                let ended = self.running.take().expect("one ends only once");
                if *end == TransferEnd::Complete && ended.transfer.kind.is_upload() {
                    self.tree.store(&ended.transfer, ended.octets);
                }
            }
            _ => {}
        }
        self.model.answer(&event);
        let now = self.now();
        self.session.handle_event(event, now);
    }

    /// Nothing brings a closed session back.
    fn disturb_closed(&mut self) {
        while let Some((_, happening)) = self.happenings.pop_first() {
            match happening {
                Happening::Answer(event) => {
                    let now = self.now();
                    self.session.handle_event(event, now);
                }
                Happening::ShutDown { force } => {
                    let now = self.now();
                    self.session.handle_shutdown(force, now);
                }
                Happening::Notice(_) => {}
            }
        }
        self.model.now += Duration::from_secs(1000);
        let now = self.now();
        self.session.handle_timeout(now);
        self.session.handle_octets(b"NOOP\r\n", now);
        self.session.handle_closed();
        self.act();
    }

    /// The connection is of no use any more. The real driver drops the session here; the session
    /// must find its end all the same.
    fn break_off(&mut self) -> Option<()> {
        self.layer = Layer::Broken;
        self.layer_deadline = None;
        self.close_client();
        self.random.bool().then_some(())
    }

    fn close_client(&mut self) {
        self.model.close_client();
        self.session.handle_closed();
    }

    /// Reads once, as the layer understands it.
    fn receive(&mut self) -> Option<()> {
        let (_, unit) = self.inbound.pop_front()?;
        match (self.layer, unit) {
            (_, Unit::Finish) => {
                self.finished = true;
                self.close_client();
            }
            (Layer::Handshake, Unit::Hello) => {
                self.layer = Layer::Protected;
                self.layer_deadline = None;
                self.counts.handshakes += 1;
                let latency = self.latency();
                self.happens(latency, Happening::Notice(Notice::TlsUp));
                self.answer(Event::TlsUp);
            }
            (Layer::Ending, Unit::CloseNotify) => {
                self.layer = Layer::Clear;
                self.layer_deadline = None;
                self.counts.tls_ends += 1;
                self.answer(Event::TlsDown);
            }
            (Layer::Protected, Unit::CloseNotify) => {
                self.finished = true;
                self.close_client();
            }
            (
                Layer::Clear,
                Unit::Octets {
                    clear: true,
                    octets,
                    lines,
                    stray,
                },
            ) => self.deliver(octets, lines, stray),
            (
                Layer::Protected | Layer::Ending,
                Unit::Octets {
                    clear: false,
                    octets,
                    lines,
                    stray,
                },
            ) => self.deliver(octets, lines, stray),
            // Records in the clear are octets without sense.
            (Layer::Clear, Unit::Octets { .. } | Unit::Hello | Unit::CloseNotify) => {
                self.deliver(vec![0x16, 3, 1], Vec::new(), true);
            }
            _ => return self.break_off(),
        }
        Some(())
    }

    /// Gives octets to the session, with what follows them if it is at hand.
    fn deliver(&mut self, mut octets: Vec<u8>, mut lines: Vec<(usize, Line)>, stray: bool) {
        self.damaged |= stray;
        while let Some((
            at,
            Unit::Octets {
                clear,
                octets: more,
                lines: others,
                stray: false,
            },
        )) = self.inbound.front_mut()
            && *at <= self.model.now
            && *clear == (self.layer == Layer::Clear)
            && octets.len() + more.len() <= limits::CONTROL_READ_OCTETS
            && self.random.bool()
        {
            lines.extend(
                others
                    .drain(..)
                    .map(|(end, line)| (end + octets.len(), line)),
            );
            octets.append(more);
            self.inbound.pop_front();
        }
        let lines = lines.into_iter().map(|(_, mut line)| {
            if std::mem::take(&mut self.damaged) {
                line.kind = Kind::Damaged;
                line.kept = line.kept.min(1);
            }
            line
        });
        let lines: Vec<Line> = lines.collect();
        self.model.deliver(&octets, lines);
        if self.shown {
            eprintln!("{:>12?} in {}", self.model.now, octets.escape_ascii());
        }
        let now = self.now();
        self.session.handle_octets(&octets, now);
    }

    fn perform_deed(&mut self, deed: Deed) {
        match deed {
            Deed::Send { clear, lines } => self.send(clear, lines),
            Deed::Begin { clear, octets } => {
                let lines = Vec::new();
                self.travels(Unit::Octets {
                    clear,
                    octets,
                    lines,
                    stray: true,
                });
            }
            Deed::Hello => self.travels(Unit::Hello),
            Deed::CloseNotify => self.travels(Unit::CloseNotify),
            Deed::Finish => self.travels(Unit::Finish),
            Deed::Reset => self.travels(Unit::Reset),
            Deed::Connect(port) => {
                assert_eq!(port, self.port);
                self.connected = true;
                self.data_flows();
            }
            Deed::Turn(after) => {
                self.happens(after, Happening::Notice(Notice::Turn));
            }
        }
    }

    /// The client's octets leave in pieces that know nothing of lines.
    fn send(&mut self, clear: bool, lines: Vec<Line>) {
        let mut octets = Vec::new();
        let mut ends = VecDeque::new();
        for line in lines {
            octets.extend_from_slice(&line.wire);
            ends.push_back((octets.len(), line));
        }
        let whole = self.random.bool();
        let mut start = 0;
        while start < octets.len() {
            let most = (octets.len() - start).min(limits::CONTROL_READ_OCTETS);
            let length = if whole {
                most
            } else {
                self.random.usize(1..=most)
            };
            let end = start + length;
            let mut lines = Vec::new();
            while let Some((at, _)) = ends.front()
                && *at <= end
                && let Some((at, line)) = ends.pop_front()
            {
                lines.push((at - start, line));
            }
            self.travels(Unit::Octets {
                clear,
                octets: octets[start..end].to_vec(),
                lines,
                stray: false,
            });
            start = end;
        }
    }

    fn travels(&mut self, unit: Unit) {
        let latency = if self.random.bool() {
            self.latency()
        } else {
            Duration::ZERO
        };
        self.inbound_time = self.inbound_time.max(self.model.now + latency);
        self.inbound.push_back((self.inbound_time, unit));
    }

    fn tell_client(&mut self, notice: Notice) {
        let latency = self.latency();
        self.outbound_time = self.outbound_time.max(self.model.now + latency);
        let after = self.outbound_time - self.model.now;
        self.happens(after, Happening::Notice(notice));
    }

    fn answers_later(&mut self, event: Event) {
        let latency = self.latency();
        self.happens(latency, Happening::Answer(event));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(octets) => {
                self.counts.departures += u64::from(octets.starts_with(b"421"));
                // Between the layers there is nothing to say.
                if matches!(self.layer, Layer::Clear | Layer::Protected) {
                    self.tell_client(Notice::Octets(octets));
                }
            }
            Action::StartTls => {
                assert_eq!(self.layer, Layer::Clear);
                self.layer = Layer::Handshake;
                self.layer_deadline = Some(self.model.now + HANDSHAKE_TIME_MAX);
                self.tell_client(Notice::StartTls);
            }
            Action::EndTls => {
                assert_eq!(self.layer, Layer::Protected);
                self.layer = Layer::Ending;
                self.layer_deadline = Some(self.model.now + CLOSE_TIME_MAX);
                let restart = self.model.restarts();
                self.tell_client(Notice::EndTls { restart });
            }
            Action::CheckCertificate(_) => panic!("no client here shows a certificate"),
            Action::CheckLogin { user, password } => {
                let verdict = match tree::check_login(&user, &password) {
                    _ if self.fails(40) => LoginVerdict::Refused,
                    verdict => verdict,
                };
                self.answers_later(Event::LoginChecked(verdict));
            }
            Action::Logout | Action::DropSetup | Action::SetupActive(_) | Action::Close => {}
            Action::File(request) => {
                let result = match self.fails(16) {
                    true => Err(FileError::Local),
                    false => self.tree.perform(&request),
                };
                self.answers_later(Event::FileDone(result));
            }
            Action::SetupPassive => self.set_up(),
            Action::OpenTransfer(transfer) => {
                let result = match self.fails(16) {
                    true => Err(FileError::Busy),
                    false => self.tree.open(&transfer),
                };
                self.transfer = Some(transfer);
                self.answers_later(Event::TransferReady(result));
            }
            Action::RunTransfer => self.run_transfer(),
            Action::AbortTransfer => self.abort_transfer(),
            Action::AskProgress => self.ask_progress(),
        }
    }
}
