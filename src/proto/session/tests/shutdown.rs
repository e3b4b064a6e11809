//! The ends: the client's and the server's.

use super::*;

fn running() -> Wire {
    let mut wire = Wire::ready();
    wire.end = None;
    assert_eq!(wire.tell("PASV\r\nRETR f"), "227 150");
    wire.actions.clear();
    wire
}

#[test]
fn idle_sessions_end_at_once() {
    for mut wire in [
        Wire::ready(),
        Wire::explicit(policy()),
        Wire::implicit(policy()),
    ] {
        wire.session.handle_shutdown(false, wire.now);
        assert_eq!(wire.codes(), "421");
        assert!(wire.is_closed());
        assert!(!wire.session.wants_octets());
        assert_eq!(wire.tell("NOOP"), "");
    }
}

#[test]
fn handshakes_end_without_a_word() {
    for kind in [ChannelKind::Explicit, ChannelKind::Implicit] {
        let mut wire = Wire::fresh(policy(), kind);
        wire.tls = false;
        wire.codes();
        wire.tell("AUTH TLS");
        wire.session.handle_shutdown(false, wire.now);
        assert_eq!(wire.codes(), "");
        assert!(wire.is_closed());
    }
}

#[test]
fn transfers_may_end() {
    let mut wire = running();
    wire.session.handle_shutdown(false, wire.now);
    assert_eq!(wire.codes(), "");
    assert_eq!(wire.tell("NOOP\r\nPWD"), "200");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 421"
    );
    assert!(wire.is_closed());
}

#[test]
fn transfers_are_forced_to_end() {
    let mut wire = running();
    wire.session.handle_shutdown(false, wire.now);
    wire.session.handle_shutdown(true, wire.now);
    assert_eq!(wire.codes(), "426 421");
    assert_eq!(wire.actions, [Action::AbortTransfer, Action::Close]);
}

#[test]
fn answers_on_files_are_awaited_unless_forced() {
    for (force, now, later) in [(false, "", "250 421"), (true, "421", "")] {
        let mut wire = Wire::ready();
        wire.session.handle_octets(b"CWD d\r\nNOOP\r\n", wire.now);
        assert!(matches!(wire.session.poll_action(), Some(Action::File(_))));
        wire.session.handle_shutdown(force, wire.now);
        assert_eq!(wire.codes(), now);
        assert_eq!(wire.is_closed(), force);
        assert_eq!(wire.event(Event::FileDone(Ok(FileReply::Done))), later);
        assert!(wire.is_closed());
    }
}

#[test]
fn an_opening_transfer_is_not_begun_when_forced() {
    for (force, now, later) in [(true, "421", ""), (false, "", "150 226 421")] {
        let mut wire = Wire::ready();
        wire.tell("PASV");
        wire.session.handle_octets(b"RETR f\r\n", wire.now);
        assert!(matches!(
            wire.session.poll_action(),
            Some(Action::OpenTransfer(_))
        ));
        wire.session.handle_shutdown(force, wire.now);
        assert_eq!(wire.codes(), now);
        let ready = Event::TransferReady(Ok(TransferReady::default()));
        assert_eq!(wire.event(ready), later);
        assert!(wire.is_closed());
    }
}

#[test]
fn what_is_awaited_without_force_is_not_when_forced_later() {
    let mut wire = Wire::ready();
    wire.session.handle_octets(b"DELE f\r\n", wire.now);
    assert!(matches!(wire.session.poll_action(), Some(Action::File(_))));
    wire.session.handle_shutdown(false, wire.now);
    assert_eq!(wire.codes(), "");
    wire.session.handle_kill(wire.now);
    assert_eq!(wire.codes(), "421");
    assert!(wire.is_closed());
}

#[test]
fn a_delayed_answer_is_not_awaited() {
    let mut wire = Wire::explicit(policy());
    wire.verdict = LoginVerdict::Refused;
    wire.tell("AUTH TLS");
    wire.tell("USER a\r\nPASS b");
    wire.session.handle_shutdown(false, wire.now);
    assert_eq!(wire.codes(), "421");
}

#[test]
fn c099_the_client_goes() {
    let mut wire = running();
    wire.tell("NOOP");
    wire.session.handle_closed();
    assert!(!wire.session.wants_octets());
    assert_eq!(wire.session.poll_action(), Some(Action::AbortTransfer));
    assert_eq!(wire.session.poll_action(), None);
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Aborted)),
        "",
        "nobody listens"
    );
    assert_eq!(wire.actions, [Action::Close]);
    let mut wire = Wire::ready();
    wire.session.handle_closed();
    assert_eq!(wire.codes(), "");
    assert!(wire.is_closed());
}

#[test]
fn what_was_sent_before_the_end_is_carried_out() {
    let mut wire = Wire::ready();
    wire.session
        .handle_octets(b"DELE f\r\nNOOP\r\nNO", wire.now);
    wire.session.handle_closed();
    assert!(!wire.session.wants_octets());
    assert_eq!(wire.codes(), "250 200");
    assert!(wire.is_closed());
    let mut wire = Wire::ready();
    wire.tell("PASV");
    wire.session
        .handle_octets(b"NOOP\r\nSTOR f\r\nNOOP\r\n", wire.now);
    wire.session.handle_closed();
    assert_eq!(wire.codes(), "200");
    assert_eq!(wire.actions, [Action::SetupPassive, Action::Close]);
}

/// The end of the stream stays readable: a session that wanted it would keep its driver busy.
#[test]
fn a_client_that_goes_during_the_drain_is_not_read() {
    for drains_first in [true, false] {
        let mut wire = Wire::ready();
        wire.session.handle_octets(b"CWD d\r\n", wire.now);
        assert!(matches!(wire.session.poll_action(), Some(Action::File(_))));
        if drains_first {
            wire.session.handle_shutdown(false, wire.now);
            wire.session.handle_closed();
        } else {
            wire.session.handle_closed();
            wire.session.handle_shutdown(false, wire.now);
        }
        assert!(!wire.session.wants_octets());
        assert_eq!(wire.event(Event::FileDone(Ok(FileReply::Done))), "250 421");
        assert!(wire.is_closed());
    }
}

#[test]
fn logins_are_not_awaited() {
    for (force, verdict) in [
        (false, LoginVerdict::Refused),
        (false, LoginVerdict::Granted),
        (true, LoginVerdict::Granted),
    ] {
        let mut wire = Wire::explicit(policy());
        wire.tell("AUTH TLS");
        wire.session
            .handle_octets(b"USER a\r\nPASS b\r\n", wire.now);
        assert!(matches!(wire.session.poll_action(), Some(Action::Send(_))));
        assert!(matches!(
            wire.session.poll_action(),
            Some(Action::CheckLogin { .. })
        ));
        wire.session.handle_shutdown(force, wire.now);
        assert_eq!(wire.codes(), "421");
        assert!(wire.is_closed());
        assert_eq!(wire.event(Event::LoginChecked(verdict)), "");
        assert!(!wire.session.is_logged_in());
    }
    let mut wire = Wire::explicit(policy());
    wire.tell("AUTH TLS");
    wire.session.certificate_shown();
    wire.session.handle_octets(b"USER a\r\n", wire.now);
    assert!(matches!(
        wire.session.poll_action(),
        Some(Action::CheckCertificate(_))
    ));
    wire.session.handle_shutdown(false, wire.now);
    assert_eq!(wire.codes(), "421");
    assert!(wire.is_closed());
}

/// Nothing but what is due is asked for while a client does not read.
#[test]
fn a_client_that_does_not_read_is_ended_by_force_for_good() {
    for forced in [false, true] {
        let mut wire = running();
        if forced {
            wire.session.handle_shutdown(true, wire.now);
            assert_eq!(wire.session.poll_due_action(), Some(Action::AbortTransfer));
        }
        // Force is not taken back.
        wire.session.handle_shutdown(false, wire.now);
        let aborted = Event::TransferEnded(TransferEnd::Aborted);
        wire.session.handle_event(aborted, wire.now);
        let mut replies = Vec::new();
        let mut closed = false;
        while let Some(action) = wire.session.poll_due_action() {
            match action {
                Action::Send(octets) => replies.extend(octets),
                action => closed |= action == Action::Close,
            }
        }
        let expected = if forced { "426 421" } else { "426" };
        assert_eq!((codes_of(&replies).as_str(), closed), (expected, forced));
    }
}

#[test]
fn the_operator_ends_a_session_with_or_without_a_transfer() {
    let farewell = b"421 Ended by the operator.\r\n";
    let mut idle = Wire::ready();
    idle.session.handle_kill(idle.now);
    let said = std::iter::from_fn(|| idle.session.poll_action()).find_map(|action| match action {
        Action::Send(octets) => Some(octets),
        _ => None,
    });
    assert_eq!(said.as_deref(), Some(&farewell[..]));
    let mut wire = running();
    wire.session.handle_kill(wire.now);
    assert_eq!(wire.codes(), "426 421");
    assert_eq!(wire.actions, [Action::AbortTransfer, Action::Close]);
}
