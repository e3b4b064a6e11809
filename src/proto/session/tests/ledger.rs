//! What is told of commands and replies.

use std::time::Duration;

use super::*;
use crate::proto::command::Verb;

/// The commands answered since the last call, sorted, with the time since they began.
fn answered(wire: &mut Wire) -> Vec<(String, Duration)> {
    let mut all = Vec::new();
    while let Some(answered) = wire.session.take_answered() {
        let time = wire.now.duration_since(answered.began);
        all.push((format!("{:?}", answered.verb), time));
    }
    all.sort();
    all
}

fn name(verb: Verb) -> String {
    format!("{:?}", Some(verb))
}

#[test]
fn every_command_is_told_once_with_its_beginning() {
    let mut wire = Wire::ready();
    let before = answered(&mut wire);
    assert_eq!(
        before.len(),
        6,
        "AUTH, USER, PASS, PBSZ, PROT, TYPE: {before:?}"
    );
    // The greeting is a reply too.
    assert_eq!(wire.session.take_replies(), Some([0, 6, 1, 0, 0]));
    assert_eq!(wire.session.take_replies(), None);
    let lines = "NOOP\r\nNOOP\r\nFROB\r\nPWD";
    wire.now += Duration::from_secs(1);
    assert_eq!(wire.tell(lines), "200 200 500 257");
    wire.now += Duration::from_millis(7);
    let time = Duration::from_millis(7);
    let mut expected = [Some(Verb::Noop), Some(Verb::Noop), None, Some(Verb::Pwd)]
        .map(|verb| (format!("{verb:?}"), time));
    expected.sort();
    assert_eq!(answered(&mut wire), expected);
    assert_eq!(wire.session.take_replies(), Some([0, 3, 0, 0, 1]));
    assert_eq!(
        wire.session.ledger.capacity(),
        0,
        "an idle session is small"
    );
}

#[test]
fn a_transfer_is_answered_by_its_150() {
    let mut wire = Wire::ready();
    wire.end = None;
    wire.tell("PASV");
    answered(&mut wire);
    wire.session.take_replies();
    assert_eq!(wire.tell("RETR x"), "150");
    assert_eq!(answered(&mut wire), [(name(Verb::Retr), Duration::ZERO)]);
    assert_eq!(wire.session.running_since(), None);
    // STAT overtakes the transfer; ABOR waits for its end, from which its time counts.
    assert_eq!(wire.tell("STAT"), "211");
    assert_eq!(answered(&mut wire), [(name(Verb::Stat), Duration::ZERO)]);
    assert_eq!(wire.tell("ABOR"), "426 226");
    assert_eq!(answered(&mut wire), [(name(Verb::Abor), Duration::ZERO)]);
    assert_eq!(wire.session.take_replies(), Some([1, 2, 0, 1, 0]));
}

#[test]
fn a_command_that_waits_is_told_with_its_answer() {
    let mut wire = Wire::ready();
    answered(&mut wire);
    wire.session.take_replies();
    wire.session.handle_octets(b"CWD x\r\n", wire.now);
    assert!(matches!(wire.session.poll_action(), Some(Action::File(_))));
    assert_eq!(wire.session.running_since(), Some(wire.now));
    assert_eq!(wire.session.take_replies(), None);
    assert_eq!(answered(&mut wire), []);
    wire.now += Duration::from_secs(3);
    assert_eq!(wire.event(Event::FileDone(Ok(FileReply::Done))), "250");
    assert_eq!(
        answered(&mut wire),
        [(name(Verb::Cwd), Duration::from_secs(3))]
    );
}

#[test]
fn a_refused_password_is_told_after_its_delay() {
    let mut wire = Wire::explicit(policy());
    wire.verdict = LoginVerdict::Refused;
    assert_eq!(wire.tell("AUTH TLS"), "234");
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331");
    let delay = Settings::default().bad_login_delay;
    assert_eq!(wire.wait(delay), "530");
    assert!(answered(&mut wire).contains(&(name(Verb::Pass), delay)));
}
