//! Logins by TLS client certificate (RFC 4217 §14).

use super::*;

/// Under TLS, with a certificate shown.
fn shown(kind: ChannelKind) -> Wire {
    let settings = Settings {
        tls_control: Requirement::Optional,
        ccc: true,
        ..policy()
    };
    let mut wire = Wire::fresh(settings, kind);
    wire.tls = false;
    if kind == ChannelKind::Explicit {
        assert_eq!(wire.tell("AUTH TLS"), "220 234");
    } else {
        wire.codes();
    }
    wire.session.certificate_shown();
    wire.event(Event::TlsUp);
    wire.certified = Some(LoginVerdict::Granted);
    wire
}

fn asked(wire: &Wire) -> usize {
    let asks = |action: &&Action| matches!(action, Action::CheckCertificate(_));
    wire.actions.iter().filter(asks).count()
}

#[test]
fn user_alone_logs_in() {
    for kind in [ChannelKind::Explicit, ChannelKind::Implicit] {
        let mut wire = shown(kind);
        assert_eq!(wire.text("USER a"), "232 Logged in by certificate.\r\n");
        assert!(wire.session.is_logged_in());
        assert_eq!(*wire.last_action(), Action::CheckCertificate(b"a".to_vec()));
        // Of a client that sends it in any case.
        assert_eq!(wire.tell("PASS x\r\nPWD"), "202 257");
        assert_eq!(wire.tell("USER b\r\nPASS x"), "232 202");
        wire.certified = None;
        assert_eq!(wire.tell("USER c\r\nPASS x\r\nPASS x"), "331 230 503");
    }
}

#[test]
fn commands_wait_for_the_verdict() {
    let mut wire = shown(ChannelKind::Explicit);
    wire.session.welcome("Hello".into());
    let text = wire.text("USER a\r\nPWD");
    let expected = "232-Hello\r\n232 Logged in by certificate.\r\n257 \"/\"";
    assert!(text.starts_with(expected), "{text}");
    let mut wire = shown(ChannelKind::Explicit);
    wire.certified = Some(LoginVerdict::TooManySessions);
    assert_eq!(wire.tell("USER a"), "421");
    assert!(wire.is_closed());
}

#[test]
fn without_tls_a_certificate_is_none() {
    let mut wire = shown(ChannelKind::Explicit);
    assert_eq!(wire.tell("USER a\r\nCCC"), "232 200");
    wire.event(Event::TlsDown);
    assert_eq!(wire.tell("USER a"), "331");
    let mut wire = shown(ChannelKind::Explicit);
    assert_eq!(wire.tell("REIN"), "220");
    wire.event(Event::TlsDown);
    assert_eq!(wire.tell("USER a\r\nPASS x"), "331 230");
    // Nor is that of the TLS session before.
    assert_eq!(wire.tell("AUTH TLS"), "234");
    wire.event(Event::TlsUp);
    assert_eq!(wire.tell("USER a"), "331");
    assert_eq!(asked(&wire), 0);
}
