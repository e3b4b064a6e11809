//! Is what the kernel does right? Octets both ways, their ends, and new keys.

use std::io;

use rustix::event::PollFlags;
use rustls::ClientConnection;

use super::link::{self, Bench, Content, Ends, Link};
use super::{Problem, SuiteReport, attach, refused, wrong};
use crate::sys::{ktls, sendfile, socket};
use crate::tls::record::{ALERT, CLOSE_NOTIFY, KEY_UPDATE, KEY_UPDATE_TYPE, Record};
use crate::tls::{DetachedTls, Protection, Version};

/// How octets get into the kernel's TLS.
#[derive(Clone, Copy)]
enum Way {
    Send,
    SendFile,
}

/// What the kernel is given, one call after the other: less and more than a record holds, and never
/// only whole ones.
const SENT: [(Way, usize); 6] = [
    (Way::Send, 1),
    (Way::Send, 16 * 1024 + 1),
    (Way::SendFile, 50_001),
    (Way::Send, 70_000),
    (Way::SendFile, 16 * 1024 - 1),
    (Way::SendFile, 1),
];
/// What the client writes, each in records of its own.
const WRITTEN: [usize; 5] = [1, 16 * 1024 + 1, 5_000, 40_000, 16 * 1024 - 1];
/// The same before and after keys change.
const WRITTEN_AROUND_UPDATE: usize = 20_000;
/// Turns of a loop that has octets to wait for.
const TURNS_MAX: usize = 100_000;

/// Finds out whether the kernel protects the suite, and what else it can do with it.
pub(super) fn check(bench: &Bench, suite: &mut SuiteReport) {
    let protection = suite.protection;
    let subject = match Subject::new(bench, protection) {
        Ok(subject) => subject,
        Err(problem) => {
            suite.problem = Some(problem);
            return;
        }
    };
    check_ends(subject, &bench.content, suite);
    if protection.version == Version::Tls12 || suite.problem.is_some() {
        return;
    }
    if suite.receive_problem.is_none() {
        // In a connection of its own, since a failure ends it. Whatever the reason is: what does not work
        // is not used, and nothing else depends on it.
        suite.rekey = check_update(bench, protection).is_ok();
    }
}

fn check_ends(mut subject: Subject, content: &Content, suite: &mut SuiteReport) {
    if let Err(problem) = subject.check_sending(content) {
        suite.problem = Some(problem);
        return;
    }
    if let Err(problem) = subject.check_receiving(content) {
        suite.receive_problem = Some(problem);
    }
}

/// New keys both ways, as the server would change them.
fn check_update(bench: &Bench, protection: Protection) -> Result<(), Problem> {
    let mut subject = Subject::new(bench, protection)?;
    let octets = bench.content.part(0, WRITTEN_AROUND_UPDATE);
    let mut records = Vec::new();
    let client = &mut subject.client;
    link::write_records(client, octets, &mut records).map_err(wrong("writing"))?;
    client
        .refresh_traffic_keys()
        .map_err(wrong("the client's new keys"))?;
    link::write_records(client, octets, &mut records).map_err(wrong("writing"))?;

    let mut records = &records[..];
    let mut plain = Vec::new();
    let first = subject.receive(&mut records, &mut plain, octets.len() + 1)?;
    if !matches!(first, Record::KeyUpdate { .. }) {
        return Err(unexpected("a key update", first));
    }
    compare("before a key update", &plain, octets)?;
    subject
        .kernel
        .update_receiving(&subject.link.ours)
        .map_err(wrong("new keys for receiving"))?;
    plain.clear();
    subject.receive(&mut records, &mut plain, octets.len())?;
    compare("after a key update", &plain, octets)?;

    subject.send_record(KEY_UPDATE_TYPE, &KEY_UPDATE)?;
    subject
        .kernel
        .update_sending(&subject.link.ours)
        .map_err(wrong("new keys for sending"))?;
    subject.check_sending(&bench.content)
}

/// A connection that the kernel has taken over.
struct Subject {
    link: Link,
    client: ClientConnection,
    kernel: DetachedTls,
}

impl Subject {
    fn new(bench: &Bench, protection: Protection) -> Result<Self, Problem> {
        let Ends {
            link,
            client,
            engine,
        } = bench.connect(protection)?;
        attach(&link)?;
        let kernel = DetachedTls::new(engine, protection, super::KERNEL, &link.ours)
            .map_err(|error| refused(error, protection))?;
        Ok(Self {
            link,
            client,
            kernel,
        })
    }

    /// What the kernel encrypts is what the client decrypts, up to close_notify.
    fn check_sending(&mut self, content: &Content) -> Result<(), Problem> {
        let Self { link, client, .. } = self;
        let ours = &link.ours;
        let mut reader = Reader::new(link, client);
        let mut start = 0;
        for (way, count) in SENT {
            let octets = content.part(start, count);
            let send = |at: usize| match way {
                Way::Send => socket::send_now(ours, octets.get(at..).unwrap_or_default()),
                Way::SendFile => {
                    sendfile::send_file(ours, &content.file, (start + at) as u64, count - at)
                }
            };
            link::send_all(link, count, send, || reader.take_in().map(drop))?;
            start += count;
        }
        // So little is waiting now that the record cannot find the buffer full.
        reader.read_until(start)?;
        ktls::send_record(ours, ALERT, &CLOSE_NOTIFY).map_err(wrong("sending close_notify"))?;
        reader.read_to_end()?;
        compare("sent by the kernel", &reader.plain, content.part(0, start))
    }

    /// What the client encrypts is what the kernel decrypts, with its type, up to close_notify.
    fn check_receiving(&mut self, content: &Content) -> Result<(), Problem> {
        let mut records = Vec::new();
        let mut start = 0;
        for count in WRITTEN {
            let octets = content.part(start, count);
            link::write_records(&mut self.client, octets, &mut records)
                .map_err(wrong("writing"))?;
            start += count;
        }
        self.client.send_close_notify();
        link::take_records(&mut self.client, &mut records).map_err(wrong("writing"))?;
        let mut plain = Vec::new();
        match self.receive(&mut &records[..], &mut plain, start + 1)? {
            Record::CloseNotify => {
                compare("received by the kernel", &plain, content.part(0, start))
            }
            other => Err(unexpected("close_notify", other)),
        }
    }

    /// Sends the client's records and receives until there are so many octets, or a record that
    /// is something else, which is returned.
    fn receive(
        &self,
        records: &mut &[u8],
        plain: &mut Vec<u8>,
        octets: usize,
    ) -> Result<Record, Problem> {
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..TURNS_MAX {
            if plain.len() >= octets {
                return Ok(Record::Data);
            }
            link::feed(&self.link.theirs, records)?;
            let received = match ktls::receive_record(&self.link.ours, &mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    link::wait(&self.link.ours, PollFlags::IN).map_err(wrong("receiving"))?;
                    continue;
                }
                Err(error) => return Err(wrong("receiving")(error)),
            };
            let payload = buffer.get(..received.count).unwrap_or_default();
            let tls13 = self.kernel.is_tls13();
            match Record::read(received.record_type, payload, tls13) {
                Record::Data if received.record_type.is_none() => {
                    return Err(Problem::Wrong("octets came without a type".to_owned()));
                }
                Record::Data => plain.extend_from_slice(payload),
                other => return Ok(other),
            }
        }
        Err(Problem::Wrong("receiving comes to no end".to_owned()))
    }

    fn send_record(&self, record_type: u8, payload: &[u8]) -> Result<(), Problem> {
        ktls::send_record(&self.link.ours, record_type, payload).map_err(wrong("sending a record"))
    }
}

/// The client as the reader of what the kernel sends.
struct Reader<'a> {
    link: &'a Link,
    client: &'a mut ClientConnection,
    buffer: Vec<u8>,
    plain: Vec<u8>,
    closed: bool,
}

impl<'a> Reader<'a> {
    fn new(link: &'a Link, client: &'a mut ClientConnection) -> Self {
        Self {
            link,
            client,
            buffer: vec![0; 64 * 1024],
            plain: Vec::new(),
            closed: false,
        }
    }

    /// Takes what is there.
    fn take_in(&mut self) -> Result<(), Problem> {
        let doing = "decrypting what the kernel sent";
        let count = match socket::receive_now(&self.link.theirs, &mut self.buffer) {
            Ok(0) => {
                return Err(Problem::Wrong(
                    "the kernel closed the connection".to_owned(),
                ));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(wrong(doing)(error)),
        };
        let records = self.buffer.get(..count).unwrap_or_default();
        self.closed |=
            link::give_records(self.client, records, &mut self.plain).map_err(wrong(doing))?;
        Ok(())
    }

    fn read_until(&mut self, octets: usize) -> Result<(), Problem> {
        while self.plain.len() < octets && !self.closed {
            self.wait("octets")?;
        }
        Ok(())
    }

    fn read_to_end(&mut self) -> Result<(), Problem> {
        while !self.closed {
            self.wait("close_notify")?;
        }
        Ok(())
    }

    fn wait(&mut self, what: &str) -> Result<(), Problem> {
        link::wait(&self.link.theirs, PollFlags::IN).map_err(|error| {
            Problem::Wrong(format!("waiting for {what} of the kernel: {error}"))
        })?;
        self.take_in()
    }
}

fn compare(what: &str, actual: &[u8], expected: &[u8]) -> Result<(), Problem> {
    if actual == expected {
        return Ok(());
    }
    let same = actual.iter().zip(expected).take_while(|(a, b)| a == b);
    Err(Problem::Wrong(format!(
        "octets {what} differ from octet {} on ({} of {})",
        same.count(),
        actual.len(),
        expected.len()
    )))
}

fn unexpected(expected: &str, record: Record) -> Problem {
    Problem::Wrong(format!("{expected} was received as {record:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says whether the kernel has what these tests are about.
    fn has_kernel_tls() -> bool {
        let has = attach(&Link::new().unwrap()).is_ok();
        if !has {
            println!("skipped: this kernel has no TLS (modprobe tls)");
        }
        has
    }

    #[test]
    fn keys_of_another_connection_are_noticed() {
        if !has_kernel_tls() {
            return;
        }
        let bench = Bench::new().unwrap();
        for protection in Protection::ALL {
            // The client of another connection; a failure ends it, so each way has its own.
            let subject = || {
                let mut subject = Subject::new(&bench, protection).ok()?;
                subject.client = bench.connect(protection).unwrap().client;
                Some(subject)
            };
            let (Some(mut sending), Some(mut receiving)) = (subject(), subject()) else {
                println!("skipped: {protection} (its module is not loaded)");
                continue;
            };
            let sent = sending.check_sending(&bench.content).unwrap_err();
            assert!(sent.to_string().contains("decrypting"), "{sent}");
            let received = receiving.check_receiving(&bench.content).unwrap_err();
            assert!(received.to_string().contains("receiving"), "{received}");
        }
    }

    #[test]
    fn a_changed_record_is_noticed() {
        if !has_kernel_tls() {
            return;
        }
        let bench = Bench::new().unwrap();
        let mut subject = Subject::new(&bench, Protection::ALL[0]).unwrap();
        let mut records = Vec::new();
        link::write_records(&mut subject.client, &[7; 1000], &mut records).unwrap();
        records[500] ^= 1;
        let mut plain = Vec::new();
        let problem = subject.receive(&mut &records[..], &mut plain, 1000);
        assert!(matches!(problem, Err(Problem::Wrong(_))), "{problem:?}");
        assert!(plain.is_empty());
    }

    #[test]
    fn what_differs_is_told() {
        assert_eq!(compare("sent", b"octets", b"octets"), Ok(()));
        let told = |actual, expected| compare("sent", actual, expected).unwrap_err().to_string();
        let text = told(b"octXts", b"octets");
        assert!(text.contains("from octet 3 on (6 of 6)"), "{text}");
        let text = told(b"oct", b"octets");
        assert!(text.contains("from octet 3 on (3 of 6)"), "{text}");
    }

    #[test]
    fn what_the_kernel_does_not_send_is_not_waited_for_for_ever() {
        let bench = Bench::new().unwrap();
        let mut ends = bench.connect(Protection::ALL[0]).unwrap();
        // Without the kernel's TLS clear text arrives.
        socket::send_now(&ends.link.ours, &[0; 100]).unwrap();
        let mut reader = Reader::new(&ends.link, &mut ends.client);
        let problem = reader.read_until(100).unwrap_err();
        assert!(problem.to_string().contains("decrypting"), "{problem}");
        let mut ends = bench.connect(Protection::ALL[0]).unwrap();
        let mut reader = Reader::new(&ends.link, &mut ends.client);
        let problem = reader.read_to_end().unwrap_err();
        assert!(problem.to_string().contains("close_notify"), "{problem}");
    }
}
