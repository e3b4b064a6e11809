//! Clients that are killed at any moment of a transfer, on every route: no success is reported that was
//! none, and nothing is left behind.
//!
//! `RINGFTPD_TEST_KILLS` kills on each route (60, in an emulator 20), half of them one by one and half by eight clients at
//! once. What a kill does follows from `RINGFTPD_TEST_SEED` and its number.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use socket2::SockRef;

use crate::common::assert_same;
use crate::common::client::{Client, Reply};
use crate::common::link::{End, Link};
use crate::common::server::{Accounts, Server, wait_until};
use crate::pressure::{
    Belongings, DOWNLOADS, Logged, UPLOADS, Way, alone, connect, is_slow, logged, logged_last,
    number, patience, put_pattern, seed, slowness, variety,
};

/// More than the buffers of both sides of a connection hold.
const FILE_OCTETS: usize = 8 << 20;
/// Receive buffers of clients; the kernel doubles them.
const BUFFERS: [usize; 2] = [8 * 1024, 128 * 1024];
/// What may be on its way inside the test's own client.
const CLIENT_OCTETS: usize = 128 * 1024;
/// Data connections that a client makes at most. Its control connection brought it four sessions to
/// resume, and a killed data connection may cost one and bring none.
const LIVES: usize = 4;
/// Clients at once.
const CLIENTS: usize = 8;
/// A download whose client does not close ends 200 ms after everything was acknowledged. A client
/// that was killed well before has not got it.
const ENDED_FOR_SURE: Duration = Duration::from_millis(150);

/// When a client dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Moment {
    /// It never connects the data connection.
    Unconnected,
    /// Before it sends the command, connected.
    Uncommanded,
    /// Connected, nothing sent.
    Connected,
    /// After a part of its ClientHello, in per cent.
    Hello(usize),
    /// After the server's part of the handshake.
    Unfinished,
    /// After so many octets of the file.
    Octets(usize),
    /// When everything on the way is full.
    Stalled,
}

/// How it dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// RST.
    Reset,
    /// As the kernel closes for a process that was killed: FIN, or RST if something is unread.
    Close,
    /// FIN, and a little later RST.
    HalfThenReset,
    /// close_notify and FIN, then as `Close`.
    NotifyThenClose,
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scope {
    Data,
    Control,
    DataThenControl,
    ControlThenData,
}

/// One kill.
#[derive(Debug, Clone, Copy)]
struct Kill {
    moment: Moment,
    pause: Duration,
    manner: Manner,
    scope: Scope,
    buffer: usize,
    /// An upload ends in the middle of a record.
    cut: bool,
    variety: usize,
}

impl Kill {
    fn plan(seed: u64, number: usize, way: Way) -> Self {
        let mut rng = Rng::with_seed(seed.wrapping_add(number as u64 * 0x9e37_79b9));
        let moment = moment(&mut rng, way);
        let late = matches!(moment, Moment::Octets(octets) if octets > FILE_OCTETS / 2);
        let scope = match rng.u8(..8) {
            _ if moment == Moment::Unconnected => Scope::Control,
            0 if moment != Moment::Uncommanded => Scope::Control,
            1 => Scope::DataThenControl,
            2 => Scope::ControlThenData,
            _ => Scope::Data,
        };
        let manner = match (rng.u8(..8), way.upload) {
            // FIN is the proper end of an upload in the clear, close_notify of a protected one.
            (..3, _) => Manner::Reset,
            (_, true) if !way.protected => Manner::Reset,
            (3..6, _) | (_, true) => Manner::Close,
            (6, _) => Manner::HalfThenReset,
            _ => Manner::NotifyThenClose,
        };
        Self {
            moment,
            pause: Duration::from_micros(rng.u64(..20_000) * rng.u64(..2)),
            manner,
            scope,
            buffer: BUFFERS[usize::from(!late && rng.bool())],
            cut: rng.bool(),
            variety: rng.usize(..4),
        }
    }
}

fn moment(rng: &mut Rng, way: Way) -> Moment {
    match rng.u8(..20) {
        0 => Moment::Unconnected,
        1 => Moment::Uncommanded,
        2 => Moment::Connected,
        3 if way.protected => Moment::Hello(rng.usize(1..=100)),
        4 if way.protected => Moment::Unfinished,
        3..6 => Moment::Octets(0),
        6..8 => Moment::Stalled,
        8..12 => Moment::Octets(1 << rng.u32(..20)),
        12..16 => Moment::Octets(rng.usize(..FILE_OCTETS / 4)),
        // The end, where a reset is easiest overlooked.
        _ if !way.upload => Moment::Octets(FILE_OCTETS - 1 - rng.usize(..200_000)),
        _ => Moment::Octets(rng.usize(..FILE_OCTETS / 4)),
    }
}

/// What became of a kill.
#[derive(Debug)]
struct Fate {
    kill: Kill,
    name: String,
    /// Octets that the client took or gave.
    octets: usize,
    /// The final reply, if somebody was there to hear it.
    reply: Option<u16>,
    /// The server may honestly have believed that everything had arrived.
    perhaps_whole: bool,
}

impl Fate {
    /// Was there certainly a transfer?
    fn is_commanded(&self) -> bool {
        self.kill.moment != Moment::Uncommanded
    }
}

/// What all kills on a route share.
struct Scene<'a> {
    way: Way,
    server: &'a Server,
    content: &'a [u8],
    seed: u64,
}

/// Tells what was done when a test fails.
struct Confession<'a, T: std::fmt::Debug>(&'a str, T);

impl<T: std::fmt::Debug> Drop for Confession<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.0, self.1);
        }
    }
}

/// A data connection under way.
struct Attempt<'a> {
    scene: &'a Scene<'a>,
    kill: Kill,
    octets: usize,
    /// Since when the last octets may all be in the client's kernel.
    nearly_whole: Option<Instant>,
    /// The server may honestly have believed that everything had arrived.
    perhaps_whole: bool,
}

impl Attempt<'_> {
    /// From the set-up to the kill.
    fn carry_out(&mut self, mut client: Client, name: &str) -> Option<(Reply, Client)> {
        let verb = if self.scene.way.upload {
            "STOR"
        } else {
            "RETR"
        };
        let line = format!("{verb} {name}");
        let address = client.pasv();
        if self.kill.moment == Moment::Unconnected {
            client.ok(line, 150);
            std::thread::sleep(self.kill.pause);
            finish_control(client, self.kill);
            return None;
        }
        let mut data = connect(address, self.kill.buffer);
        if self.kill.moment == Moment::Uncommanded {
            std::thread::sleep(self.kill.pause);
            self.finish_off(data);
            client.send(line);
            let reply = final_reply(&mut client);
            return Some((reply, client));
        }
        client.ok(line, 150);
        self.proceed(&mut client, &mut data);
        std::thread::sleep(self.kill.pause);
        self.end(client, data)
    }

    /// Goes on until the moment has come.
    fn proceed(&mut self, client: &mut Client, data: &mut Link) {
        let Kill { moment, .. } = self.kill;
        if moment == Moment::Connected {
            return;
        }
        if self.scene.way.protected {
            data.begin_tls(&client.profile.resuming());
            match moment {
                Moment::Hello(share) => {
                    let hello = data.outgoing();
                    // The server may have ended it already.
                    let _ = data.tcp.write_all(&hello[..hello.len() * share / 100]);
                    return;
                }
                Moment::Unfinished => {
                    let hello = data.outgoing();
                    data.send_raw(&hello);
                    wait_for_octets(data);
                    return;
                }
                _ => assert_eq!(data.complete_handshake(), Ok(()), "{}", client.story()),
            }
        }
        if self.scene.way.upload {
            self.give(data);
        } else {
            self.take(data);
        }
    }

    fn take(&mut self, data: &mut Link) {
        let wanted = match self.kill.moment {
            Moment::Octets(octets) => octets,
            _ => 0,
        };
        let buffer = SockRef::from(&data.tcp).recv_buffer_size().unwrap();
        while self.octets < wanted {
            if self.octets + buffer + CLIENT_OCTETS >= FILE_OCTETS {
                self.nearly_whole.get_or_insert_with(Instant::now);
            }
            let octets = data.take().unwrap();
            let expected = &self.scene.content[self.octets..];
            assert_same(&octets, &expected[..octets.len().min(expected.len())]);
            self.octets += octets.len();
        }
        if self.kill.moment == Moment::Stalled {
            wait_until_full(data);
        }
    }

    fn give(&mut self, data: &mut Link) {
        let wanted = match self.kill.moment {
            Moment::Octets(octets) => octets,
            _ => 64 * 1024,
        };
        data.send(&self.scene.content[..wanted]).unwrap();
        self.octets = wanted;
        if self.kill.cut && self.scene.way.protected {
            let record = data.protect(&self.scene.content[wanted..wanted + 1000]);
            data.send_raw(&record[..record.len() / 2]);
        }
    }

    /// Kills, and takes the reply if there is still somebody to whom it is sent.
    fn end(&mut self, mut client: Client, data: Link) -> Option<(Reply, Client)> {
        let kill = self.kill;
        match kill.scope {
            Scope::Data => {
                self.finish_off(data);
                let reply = final_reply(&mut client);
                return Some((reply, client));
            }
            Scope::DataThenControl => {
                self.finish_off(data);
                finish_control(client, kill);
            }
            Scope::ControlThenData => {
                finish_control(client, kill);
                self.finish_off(data);
            }
            Scope::Control => {
                finish_control(client, kill);
                self.outlive(data);
            }
        }
        None
    }

    fn finish_off(&mut self, mut data: Link) {
        let kill = self.kill;
        let speaks = matches!(kill.moment, Moment::Octets(_) | Moment::Stalled);
        match kill.manner {
            Manner::Reset => data.reset(),
            Manner::Close => drop(data),
            Manner::HalfThenReset => {
                data.shutdown_write();
                std::thread::sleep(kill.pause);
                data.reset();
            }
            Manner::NotifyThenClose => {
                if data.is_protected() && speaks {
                    data.close_notify();
                }
                data.shutdown_write();
                drop(data);
            }
        }
        let in_time = |since: Instant| since.elapsed() < ENDED_FOR_SURE;
        // Who ends its own direction is believed to have all once its kernel has acknowledged it.
        let waived = matches!(kill.manner, Manner::HalfThenReset | Manner::NotifyThenClose);
        let late = |since| waived || !in_time(since);
        self.perhaps_whole = self.octets == FILE_OCTETS || self.nearly_whole.is_some_and(late);
    }

    /// The data connection of a control connection that is gone must end too.
    fn outlive(&mut self, mut data: Link) {
        let way = self.scene.way;
        if data.is_protected() && !matches!(self.kill.moment, Moment::Octets(_) | Moment::Stalled) {
            let (_, end) = data.take_all_raw();
            assert_ne!(end, End::Timeout);
            return;
        }
        let (octets, end) = data.take_all();
        assert_ne!(end, End::Timeout);
        if way.upload {
            return;
        }
        let expected = &self.scene.content[self.octets..];
        assert_same(&octets, &expected[..octets.len().min(expected.len())]);
        self.octets += octets.len();
        self.perhaps_whole = self.octets == FILE_OCTETS;
    }
}

fn final_reply(client: &mut Client) -> Reply {
    loop {
        let reply = client.reply();
        if reply.code >= 200 {
            return reply;
        }
    }
}

fn finish_control(client: Client, kill: Kill) {
    match kill.manner {
        Manner::Reset | Manner::HalfThenReset => client.link.reset(),
        Manner::Close | Manner::NotifyThenClose => drop(client),
    }
}

/// Waits until the server has answered something.
fn wait_for_octets(data: &Link) {
    let mut octet = [0];
    data.tcp.peek(&mut octet).unwrap();
}

/// Waits until nothing more comes that is not taken.
fn wait_until_full(data: &Link) {
    let start = Instant::now();
    let (mut unread, mut since) = (0, start);
    while since.elapsed() < Duration::from_millis(30) * slowness() && start.elapsed() < patience() {
        let now = rustix::io::ioctl_fionread(&data.tcp).unwrap();
        if now != unread {
            (unread, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Scene<'_> {
    /// One kill, by a client that may have survived others.
    fn kill(&self, number: usize, survivor: &mut Option<(Client, usize)>) -> Fate {
        let kill = Kill::plan(self.seed, number, self.way);
        let _confession = Confession("while killing", (number, kill));
        let (client, lives) = survivor.take().unwrap_or_else(|| {
            let (port, profile) = variety(kill.variety);
            let client = self.way.client(self.server, port, profile);
            client.link.set_patience(patience());
            (client, LIVES)
        });
        let name = format!("{}-{number}", self.prefix());
        if !self.way.upload {
            let home = &Accounts::shared().home;
            std::fs::hard_link(home.join("killed"), home.join(&name)).unwrap();
        }
        let mut attempt = Attempt {
            scene: self,
            kill,
            octets: 0,
            nearly_whole: None,
            perhaps_whole: false,
        };
        let told = client.story();
        let _confession = Confession("after", told);
        let ended = attempt.carry_out(client, &name);
        let reply = ended.map(|(reply, mut client)| {
            let fair = reply.code >= 400 || attempt.perhaps_whole;
            assert!(fair, "{reply:?}\n{}", client.story());
            client.ok("NOOP", 200);
            *survivor = (lives > 1).then_some((client, lives - 1));
            reply.code
        });
        Fate {
            kill,
            name,
            octets: attempt.octets,
            reply,
            perhaps_whole: attempt.perhaps_whole,
        }
    }

    /// How the names of files of these kills begin.
    fn prefix(&self) -> String {
        let direction = if self.way.upload { "up" } else { "down" };
        format!("{direction}-{}", self.way.route)
    }

    /// Kills one by one, then by several clients at once.
    fn kills(&self, belongings: &Belongings, count: usize) -> Vec<Fate> {
        let mut survivor = None;
        let mut fates: Vec<Fate> = Vec::new();
        for number in 0..count / 2 {
            fates.push(self.kill(number, &mut survivor));
            if number % 10 == 9 {
                survivor = None;
                belongings.assert_descriptors_return(self.server, "one by one");
            }
        }
        drop(survivor);
        let next = AtomicUsize::new(count / 2);
        let more = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut survivor = None;
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        let fate = self.kill(number, &mut survivor);
                        more.lock().unwrap().push(fate);
                    }
                });
            }
        });
        fates.append(&mut more.into_inner().unwrap());
        belongings.assert_descriptors_return(self.server, "at once");
        fates
    }

    /// What the log says about each file, once it says something about all that it must. It comes a
    /// moment later than the end of the connections.
    fn log_of(&self, fates: &[Fate]) -> BTreeMap<String, Vec<Logged>> {
        let mut log = BTreeMap::new();
        wait_until(patience(), || {
            log.clear();
            for transfer in logged(self.server) {
                let entries: &mut Vec<_> = log.entry(transfer.name.clone()).or_default();
                entries.push(transfer);
            }
            fates
                .iter()
                .all(|fate| !fate.is_commanded() || log.contains_key(&fate.name))
        });
        log
    }

    /// Compares what the clients know with what the server says.
    fn judge(&self, fates: &[Fate]) -> Verdict {
        let mut log = self.log_of(fates);
        let mut verdict = Verdict::default();
        for fate in fates {
            let entries = log.remove(&fate.name).unwrap_or_default();
            let _confession = Confession("judging", (fate, &entries));
            assert!(entries.len() <= 1, "logged more than once");
            assert!(!fate.is_commanded() || entries.len() == 1, "not logged");
            let said = match fate.reply {
                Some(code) => code.to_string(),
                None => "nobody".to_owned(),
            };
            *verdict.replies.entry(said).or_default() += 1;
            let Some(entry) = entries.first() else {
                continue;
            };
            *verdict.ends.entry(entry.end.clone()).or_default() += 1;
            assert!(
                entry.end != "Complete" || fate.perhaps_whole,
                "success of a killed client"
            );
            verdict.undecided += usize::from(fate.perhaps_whole);
            if fate.octets > 0 {
                verdict.moved += 1;
                verdict.on_route += usize::from(entry.route == self.way.route);
            }
            if self.way.upload {
                self.judge_upload(fate, entry);
            }
        }
        verdict
    }

    /// What arrived of a broken upload is kept for a restart, as much as the log says.
    fn judge_upload(&self, fate: &Fate, entry: &Logged) {
        let kept = std::fs::read(Accounts::shared().home.join(&fate.name));
        let kept = kept.unwrap_or_default();
        assert_eq!(kept.len() as u64, entry.octets, "the log and the disk");
        assert!(kept.len() <= fate.octets, "{} octets", kept.len());
        assert_same(&kept, &self.content[..kept.len()]);
        // FIN comes behind everything that was sent before it.
        let orderly = fate.kill.manner == Manner::Close && fate.kill.scope == Scope::Data;
        if orderly {
            assert_eq!(kept.len(), fate.octets, "what came before FIN");
        }
    }

    /// It still serves, on this route.
    fn serve(&self, name: &str) {
        const TIMES: usize = 4;
        let before = logged(self.server);
        let before = before.iter().filter(|transfer| transfer.name == name);
        let count = before.count() + TIMES;
        for number in 0..TIMES {
            let (port, profile) = variety(number);
            let mut client = self.way.client(self.server, port, profile);
            client.link.set_patience(patience());
            if self.way.upload {
                client.upload(format!("STOR {name}"), self.content);
                let kept = std::fs::read(Accounts::shared().home.join(name)).unwrap();
                assert_same(&kept, self.content);
            } else {
                let octets = client.download(format!("RETR {name}"));
                assert_same(&octets, self.content);
            }
            client.ok("QUIT", 221);
        }
        let last = logged_last(self.server, name, count);
        assert_eq!((&*last.route, &*last.end), (self.way.route, "Complete"));
    }

    fn clean_up(&self) {
        let prefix = self.prefix();
        for entry in std::fs::read_dir(&Accounts::shared().home).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

/// What came out.
#[derive(Debug, Default)]
struct Verdict {
    replies: BTreeMap<String, usize>,
    ends: BTreeMap<String, usize>,
    /// Kills so late that success may have been honest.
    undecided: usize,
    /// Kills after the first octet, and how many of them had gone the way they should.
    moved: usize,
    on_route: usize,
}

fn kill_on(way: Way) {
    let _alone = alone();
    if !way.is_open() {
        return;
    }
    let seed = seed();
    let _confession = Confession("RINGFTPD_TEST_SEED", seed);
    let count = number("RINGFTPD_TEST_KILLS", if is_slow() { 20 } else { 60 });
    let server = way.server(&["--cores", "2"]);
    let scene = Scene {
        way,
        server: &server,
        content: &put_pattern("killed", FILE_OCTETS),
        seed,
    };
    let served = if way.upload { "served" } else { "killed" };
    let belongings = Belongings::after(&server, || scene.serve(served));
    let fates = scene.kills(&belongings, count);
    let verdict = scene.judge(&fates);
    scene.clean_up();
    scene.serve(served);
    belongings.assert_descriptors_return(&server, "in the end");
    belongings.assert_threads_return(&server, 2, "in the end");
    eprintln!("{way}: {count} kills, seed {seed}: {verdict:?}");
    let Verdict {
        moved, on_route, ..
    } = verdict;
    // An upload whose end comes before the kernel can take over stays in the server.
    let enough = if way.upload { moved / 2 } else { moved };
    assert!(moved > count / 5 && on_route >= enough, "{verdict:?}");
}

fn find(ways: &[Way], route: &str) -> Way {
    *ways.iter().find(|way| way.route == route).unwrap()
}

macro_rules! kills {
    ($($name:ident: $ways:ident $route:literal,)*) => {
        $(#[test]
        fn $name() {
            kill_on(find(&$ways, $route));
        })*
    };
}

kills! {
    downloads_in_the_clear: DOWNLOADS "clear",
    downloads_in_the_clear_by_sendfile: DOWNLOADS "clear-sendfile",
    downloads_in_the_clear_by_splice: DOWNLOADS "clear-splice",
    downloads_sealed_in_the_server: DOWNLOADS "user-tls",
    downloads_by_kernel_tls: DOWNLOADS "ktls-read",
    downloads_by_kernel_tls_and_sendfile: DOWNLOADS "ktls-sendfile",
    downloads_by_kernel_tls_and_splice: DOWNLOADS "ktls-splice",
    uploads_in_the_clear: UPLOADS "clear",
    uploads_opened_in_the_server: UPLOADS "user-tls",
    uploads_by_kernel_tls: UPLOADS "ktls-receive",
}
