//! AUTH, PBSZ, PROT, CCC, REIN.

use super::*;

#[test]
fn c004_to_c008_mechanisms() {
    for (line, expected) in [
        ("AUTH TLS", "234"),
        ("auth ssl", "234"),
        ("AUTH TLS-C", "234"),
        ("AUTH TLS-P", "504"),
        ("AUTH GSSAPI", "504"),
        ("AUTH", "501"),
    ] {
        let mut wire = Wire::explicit(policy());
        assert_eq!(wire.tell(line), expected, "{line}");
        let accepted = expected == "234";
        assert_eq!(wire.actions.contains(&Action::StartTls), accepted);
        let then = if accepted { "503" } else { "504" };
        assert_eq!(wire.tell(if accepted { "PROT P" } else { "AUTH X" }), then);
    }
    let mut wire = Wire::explicit(Settings {
        tls_available: false,
        tls_control: Requirement::Optional,
        ..policy()
    });
    assert_eq!(wire.tell("AUTH TLS"), "502");
    let features = wire.text("FEAT");
    assert!(!features.contains("AUTH") && !features.contains("PBSZ"));
}

#[test]
fn c009_second_auth() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("AUTH TLS\r\nPWD"), "534 257");
}

#[test]
fn c010_injection() {
    for injected in ["USER x", "", "\r", "\u{1}"] {
        let mut wire = Wire::explicit(policy());
        assert_eq!(wire.tell(&format!("AUTH TLS\r\n{injected}")), "421");
        assert_eq!(wire.actions, [Action::Close], "{injected:?}");
    }
    let mut wire = Wire::explicit(policy());
    wire.session.handle_octets(b"AUTH TLS\r\nU", wire.now);
    assert_eq!(wire.codes(), "421");
    let mut wire = Wire::explicit(policy());
    wire.tls = false;
    assert_eq!(wire.tell("AUTH TLS"), "234");
    assert!(!wire.session.wants_octets());
    assert_eq!(wire.tell("USER x"), "");
    assert_eq!(wire.actions, [Action::StartTls, Action::Close]);
}

#[test]
fn c012_auth_resets() {
    let mut wire = Wire::explicit(Settings {
        tls_control: Requirement::Optional,
        ..policy()
    });
    let lines = "USER a\r\nPASS b\r\nTYPE I\r\nCWD d\r\nREST 5\r\nEPSV ALL\r\nEPSV\r\nAUTH TLS";
    assert_eq!(wire.tell(lines), "331 230 200 250 350 200 229 234");
    let tail = [Action::DropSetup, Action::Logout, Action::StartTls];
    assert!(wire.actions.ends_with(&tail));
    assert_eq!(wire.tell("PWD"), "530");
    assert_eq!(wire.tell("USER a\r\nPASS b\r\nPASV"), "331 230 227");
    assert!(wire.text("PWD").contains("\"/\""));
    assert!(wire.text("STAT").contains("TYPE: ASCII"));
}

#[test]
fn c014_c015_implicit_greets_after_tls() {
    let mut wire = Wire::fresh(policy(), ChannelKind::Implicit);
    wire.tls = false;
    assert_eq!(wire.codes(), "");
    assert_eq!(wire.actions, [Action::StartTls]);
    assert!(!wire.session.wants_octets());
    assert_eq!(wire.event(Event::TlsUp), "220");
    assert!(wire.session.wants_octets());
}

#[test]
fn c018_to_c022_implicit() {
    let mut wire = Wire::implicit(Settings {
        ccc: true,
        ..policy()
    });
    assert_eq!(wire.tell("AUTH TLS\r\nAUTH SSL"), "534 534");
    assert_eq!(wire.tell("USER a\r\nPASS b\r\nCCC"), "331 230 534");
    assert_eq!(wire.tell("PASV\r\nLIST"), "227 150 226");
    assert!(opened(&wire));
    assert_eq!(wire.tell("PROT C\r\nPASV\r\nLIST"), "200 227 150 226");
    assert!(!opened(&wire));
    assert_eq!(wire.tell("PBSZ 0\r\nPROT P"), "200 200");
    let features = wire.text("FEAT");
    assert!(features.contains("\r\n AUTH TLS;SSL;\r\n") && !features.contains("CCC"));
}

/// Whether the last transfer was protected.
fn opened(wire: &Wire) -> bool {
    wire.actions
        .iter()
        .rev()
        .find_map(|action| match action {
            Action::OpenTransfer(transfer) => Some(transfer.protected),
            _ => None,
        })
        .expect("a transfer")
}

#[test]
fn c023_c024_implicit_rein() {
    let mut wire = Wire::implicit(policy());
    wire.tell("USER a\r\nPASS b\r\nPROT C\r\nTYPE I");
    wire.actions.clear();
    assert_eq!(wire.tell("REIN"), "220 220");
    let expected = [Action::Logout, Action::EndTls, Action::StartTls];
    assert_eq!(wire.actions, expected);
    assert_eq!(wire.tell("PWD"), "530");
    assert_eq!(
        wire.tell("USER a\r\nPASS b\r\nPASV\r\nLIST"),
        "331 230 227 150 226"
    );
    assert!(opened(&wire));
}

#[test]
fn c027_explicit_rein() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("REIN"), "220");
    assert_eq!(wire.actions, [Action::Logout, Action::EndTls]);
    assert_eq!(wire.tell("NOOP\r\nPROT P\r\nUSER a"), "200 503 534");
    wire.prepare();
}

#[test]
fn c029_rein_resets() {
    let mut wire = Wire::ready();
    let lines = "REST 5\r\nEPSV ALL\r\nOPTS MLST size;\r\nCWD d";
    assert_eq!(wire.tell(lines), "350 200 200 250");
    assert_eq!(wire.tell("REIN"), "220");
    assert_eq!(wire.tell("AUTH TLS"), "234");
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331 230");
    assert!(wire.text("FEAT").contains("MLST type*;size*;"));
    assert!(wire.text("PWD").contains("\"/\""));
    assert_eq!(wire.tell("PASV\r\nRETR x"), "227 150 226");
    assert!(wire.actions.iter().any(
        |action| matches!(action, Action::OpenTransfer(t) if t.offset == 0 && t.ascii && !t.protected)
    ));
}

#[test]
fn clear_rein_goes_on() {
    let mut wire = Wire::explicit(Settings {
        tls_control: Requirement::Optional,
        ..policy()
    });
    assert_eq!(
        wire.tell("USER a\r\nPASS b\r\nREIN\r\nPWD\r\nNOOP"),
        "331 230 220 530 200"
    );
    assert!(!wire.actions.contains(&Action::EndTls));
}

#[test]
fn c132_nothing_behind_rein_or_ccc() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("REIN\r\nNOOP"), "220 421");
    assert!(wire.is_closed());
    let mut wire = Wire::ready_with(Settings {
        ccc: true,
        ..policy()
    });
    assert_eq!(wire.tell("CCC\r\nNOOP"), "421");
    assert!(wire.is_closed());
    let mut wire = Wire::ready();
    wire.tls = false;
    assert_eq!(wire.tell("REIN"), "220");
    assert!(!wire.session.wants_octets());
    assert_eq!(wire.tell("NOOP"), "421");
    assert!(wire.is_closed());
}

#[test]
fn c034_to_c038_levels() {
    let mut wire = Wire::explicit(policy());
    assert_eq!(wire.tell("PBSZ 0\r\nPROT P"), "503 503");
    wire.tell("AUTH TLS");
    assert_eq!(wire.tell("PROT P"), "503");
    assert_eq!(wire.text("PBSZ 4096"), "200 PBSZ=0\r\n");
    assert_eq!(
        wire.tell("PBSZ 0\r\nPBSZ x\r\nPBSZ 4294967295\r\nPBSZ 4294967296"),
        "200 501 200 501"
    );
    assert_eq!(wire.tell("PROT S\r\nPROT E\r\nPROT Q"), "536 536 504");
    assert_eq!(wire.tell("PROT c\r\nprot p"), "200 200");
    assert!(wire.text("FEAT").contains("\r\n PROT C;P;\r\n"));
    let mut wire = Wire::ready_with(Settings::default());
    assert_eq!(wire.tell("PROT C"), "534");
    assert!(wire.text("FEAT").contains("\r\n PROT P;\r\n"));
}

#[test]
fn c039_c040_ccc() {
    let mut wire = Wire::explicit(policy());
    assert_eq!(wire.tell("CCC"), "533");
    wire.prepare();
    assert_eq!(wire.tell("CCC"), "534");
    let mut wire = Wire::explicit(Settings {
        ccc: true,
        ..policy()
    });
    wire.tell("AUTH TLS");
    assert_eq!(wire.tell("CCC"), "534", "not logged in");
    let mut wire = Wire::ready_with(Settings {
        ccc: true,
        ..policy()
    });
    assert!(wire.text("FEAT").contains("\r\n CCC\r\n"));
    assert_eq!(wire.tell("CCC"), "200");
    assert_eq!(wire.actions, [Action::EndTls]);
    assert_eq!(
        wire.tell("NOOP\r\nPROT C\r\nPBSZ 0\r\nAUTH TLS\r\nCCC"),
        "200 503 503 534 533"
    );
    assert_eq!(wire.tell("PASV\r\nLIST"), "227 150 226");
    assert!(opened(&wire));
    assert_eq!(wire.tell("REIN"), "220");
    assert_eq!(wire.tell("USER a"), "534");
    wire.prepare();
}
