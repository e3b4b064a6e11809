//! The project's own client against its server, in a world without faults.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use ringftpd::proto::client::{Dialogue, Mode, Options, Request, Security, Step};
use ringftpd::proto::{ChannelKind, Requirement, Settings};

use crate::line::Line;
use crate::stranger::{Client, Deed, Notice};
use crate::tree;
use crate::world::World;

/// A request and the code that it must have.
type Task = (Request, u16);

struct Person {
    dialogue: Dialogue,
    tasks: VecDeque<Task>,
    expected: u16,
    protected: bool,
    /// Requests finished; shared with the test, which outlives the world.
    finished: Rc<RefCell<usize>>,
}

fn transfer(command: &[u8], restart: u64) -> Request {
    Request::Transfer {
        command: command.to_vec(),
        restart,
        mode: Mode::Passive,
    }
}

fn draw_task(random: &mut Rng) -> Task {
    let command = |text: &[u8], code| (Request::Command(text.to_vec()), code);
    match random.u8(..16) {
        0 => command(b"NOOP", 200),
        1 => command(b"PWD", 257),
        2 => command(b"CWD /d", 250),
        3 => command(b"SIZE /f", 213),
        4 => command(b"CWD /nowhere", 550),
        5 => command(b"MLST /f", 250),
        6 => command(b"FEAT", 211),
        7 => (transfer(b"LIST", 0), 226),
        8 => (transfer(b"RETR /nowhere", 0), 550),
        9 => (transfer(b"RETR /d/f", 70_001), 554),
        10 => (transfer(b"RETR /d/f", random.u64(..70_001)), 226),
        11 => (transfer(b"STOR /new", 0), 226),
        12 => (transfer(b"APPE /new", 0), 226),
        13 => (transfer(b"MLSD /", 0), 226),
        _ => (transfer(b"RETR /f", 0), 226),
    }
}

impl Person {
    fn follow(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        while let Some(step) = self.dialogue.poll_step() {
            match step {
                Step::Send(octets) => {
                    let text = octets.strip_suffix(b"\r\n").expect("CRLF");
                    deeds.push(Deed::Send {
                        clear: !self.protected,
                        lines: vec![Line::new(text)],
                    });
                }
                Step::StartTls => {
                    self.protected = true;
                    deeds.push(Deed::Hello);
                }
                Step::ConnectData(port) => deeds.push(Deed::Connect(port)),
                Step::DataAccepted | Step::AwaitData => {}
                Step::LoggedIn => deeds.push(Deed::Turn(Duration::ZERO)),
                Step::Refused(reply) => panic!("refused: {reply:?}"),
                Step::Finished(reply) => {
                    assert_eq!(reply.code, self.expected, "{reply:?}");
                    *self.finished.borrow_mut() += 1;
                    deeds.push(Deed::Turn(Duration::ZERO));
                }
            }
        }
        deeds
    }
}

impl Client for Person {
    fn notice(&mut self, notice: Notice, random: &mut Rng) -> Vec<Deed> {
        match notice {
            Notice::Octets(octets) => {
                let mut rest = octets.as_slice();
                while !rest.is_empty() {
                    let (part, more) = rest.split_at(random.usize(1..=rest.len()));
                    self.dialogue.handle_octets(part).expect("no fault");
                    rest = more;
                }
            }
            Notice::TlsUp => self.dialogue.handle_tls_up(),
            Notice::Turn => {
                assert!(self.dialogue.is_ready());
                let Some((request, code)) = self.tasks.pop_front() else {
                    return Vec::new();
                };
                self.expected = code;
                self.dialogue.start(request);
            }
            // The dialogue knows by itself.
            Notice::StartTls => return self.follow_if_first(),
            Notice::EndTls { .. } => panic!("nobody asked for that"),
        }
        self.follow()
    }
}

impl Person {
    /// An implicit dialogue begins with its handshake.
    fn follow_if_first(&mut self) -> Vec<Deed> {
        if self.protected {
            Vec::new()
        } else {
            self.follow()
        }
    }
}

/// One dialogue from login to QUIT.
pub(crate) fn run(seed: u64, shown: bool) {
    let mut random = Rng::with_seed(seed);
    let (security, kind) = match random.u8(..3) {
        0 => (Security::Explicit, ChannelKind::Explicit),
        1 => (Security::Implicit, ChannelKind::Implicit),
        _ => (Security::None, ChannelKind::Explicit),
    };
    let protect_data = security != Security::None && random.bool();
    let requirement = |needed: bool| match needed {
        true => Requirement::Required,
        false => Requirement::Optional,
    };
    let settings = Settings {
        tls_control: requirement(security != Security::None && random.bool()),
        tls_data: requirement(protect_data && random.bool()),
        ..Settings::default()
    };
    let mut tasks: VecDeque<Task> = (0..random.usize(1..40))
        .map(|_| draw_task(&mut random))
        .collect();
    tasks.push_back((Request::Command(b"QUIT".to_vec()), 221));
    let expected = tasks.len() - 1;
    let finished = Rc::new(RefCell::new(0));
    let person = Person {
        dialogue: Dialogue::new(Options {
            security,
            protect_data,
            user: tree::USER.to_vec(),
            password: tree::PASSWORD.to_vec(),
        }),
        tasks,
        expected: 0,
        protected: false,
        finished: Rc::clone(&finished),
    };
    World::without_faults(settings, kind, Box::new(person), random, shown).run();
    // The world ends with Close, before the 221 is read.
    assert_eq!(*finished.borrow(), expected);
}
