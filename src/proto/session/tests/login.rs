//! USER, PASS, and the clocks around them.

use super::*;
use crate::limits;

fn secured() -> Wire {
    let mut wire = Wire::explicit(policy());
    assert_eq!(wire.tell("AUTH TLS"), "234");
    wire
}

#[test]
fn c044_pass_needs_user() {
    let mut wire = secured();
    assert_eq!(wire.tell("PASS x"), "503");
    assert_eq!(wire.tell("USER a\r\nPASS b\r\nPASS b"), "331 230 503");
}

#[test]
fn c045_three_wrong_passwords() {
    let mut wire = secured();
    wire.verdict = LoginVerdict::Refused;
    for expected in ["530", "530", "421"] {
        assert_eq!(wire.tell("USER a"), "331");
        assert_eq!(wire.tell("PASS b"), "", "the answer is delayed");
        let due = wire.session.poll_deadline().unwrap();
        assert_eq!(due, wire.now + Duration::from_secs(1));
        assert_eq!(wire.wait(Duration::from_millis(999)), "");
        assert_eq!(wire.wait(Duration::from_millis(1)), expected);
    }
    assert!(wire.is_closed());
}

#[test]
fn commands_wait_behind_a_wrong_password() {
    let mut wire = secured();
    wire.verdict = LoginVerdict::Refused;
    assert_eq!(wire.tell("USER a\r\nPASS b\r\nNOOP"), "331");
    assert_eq!(wire.wait(Duration::from_secs(1)), "530 200");
    assert_eq!(wire.tell("PASS b"), "503", "USER is needed again");
}

#[test]
fn a_wrong_password_without_delay() {
    let mut wire = Wire::explicit(Settings {
        bad_login_delay: Duration::ZERO,
        ..policy()
    });
    wire.tell("AUTH TLS");
    wire.verdict = LoginVerdict::Refused;
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331 530");
    wire.verdict = LoginVerdict::Unavailable;
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331 421");
    assert!(wire.is_closed());
}

#[test]
fn c046_password_octets_are_exact() {
    let mut wire = secured();
    wire.tell("USER  joe ");
    assert_eq!(wire.tell_octets(b"PASS   p\xC3\xA4ss  "), "230");
    let Some(Action::CheckLogin { user, password }) = wire
        .actions
        .iter()
        .find(|action| matches!(action, Action::CheckLogin { .. }))
    else {
        panic!("not asked");
    };
    assert_eq!(user, b"joe");
    assert_eq!(**password, *b"  p\xC3\xA4ss  ");
    assert_eq!(wire.session.user(), Some(&b"joe"[..]));
    assert!(wire.session.is_logged_in());
}

#[test]
fn c047_user_again() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.tell("CWD d\r\nPASV\r\nUSER b\r\nPWD"),
        "250 227 331 530"
    );
    assert!(wire.actions.ends_with(&[Action::DropSetup, Action::Logout]));
    assert_eq!(wire.tell("PASS b"), "230");
    assert!(wire.text("PWD").starts_with("257 \"/\" "));
    assert!(wire.text("STAT").contains("TYPE: Image"));
    assert_eq!(wire.tell("LIST"), "425");
}

#[test]
fn login_deadline() {
    let mut wire = secured();
    assert_eq!(wire.wait(Duration::from_secs(119)), "");
    assert_eq!(wire.wait(Duration::from_secs(1)), "421");
    assert!(wire.is_closed());
    let mut wire = Wire::fresh(policy(), ChannelKind::Implicit);
    wire.tls = false;
    wire.codes();
    assert_eq!(wire.wait(Duration::from_secs(120)), "");
    assert!(wire.is_closed());
}

#[test]
fn c060_idle() {
    let mut wire = Wire::ready();
    assert_eq!(wire.wait(Duration::from_secs(299)), "");
    assert_eq!(wire.tell("NOOP"), "200");
    assert_eq!(wire.wait(Duration::from_secs(299)), "");
    assert_eq!(
        wire.session.poll_deadline(),
        Some(wire.now + Duration::from_secs(1))
    );
    assert_eq!(wire.wait(Duration::from_secs(1)), "421");
    assert!(wire.is_closed());
    assert_eq!(wire.session.poll_deadline(), None);
}

#[test]
fn c060_not_during_a_transfer() {
    let mut wire = Wire::ready();
    wire.end = None;
    assert_eq!(wire.tell("PASV\r\nRETR x"), "227 150");
    assert_eq!(wire.session.poll_deadline(), None);
    assert_eq!(wire.wait(Duration::from_secs(4000)), "");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226"
    );
    assert_eq!(wire.wait(Duration::from_secs(299)), "");
    assert_eq!(wire.wait(Duration::from_secs(1)), "421");
}

/// A driver that is late meets two deadlines at once: the last word is said once.
#[test]
fn the_last_refusal_and_the_login_time_meet() {
    let mut wire = Wire::explicit(policy());
    wire.tell("AUTH TLS");
    wire.verdict = LoginVerdict::Refused;
    for _ in 1..limits::PASSWORDS_REJECTED_MAX {
        wire.tell("USER a\r\nPASS b");
        assert_eq!(wire.wait(Duration::from_secs(1)), "530");
    }
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331");
    assert_eq!(wire.wait(Duration::from_secs(1000)), "421");
    assert!(wire.is_closed());
}
