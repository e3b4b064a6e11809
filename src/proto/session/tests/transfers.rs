//! Set-up, transfer commands, ABOR and STAT.

use super::*;
use crate::proto::event::{ListFormat, Transfer, TransferKind};

const TRANSFERS: [&str; 7] = ["RETR f", "STOR f", "APPE f", "STOU", "LIST", "NLST", "MLSD"];

fn opened(wire: &Wire) -> &Transfer {
    wire.actions
        .iter()
        .rev()
        .find_map(|action| match action {
            Action::OpenTransfer(transfer) => Some(transfer),
            _ => None,
        })
        .expect("a transfer")
}

/// A transfer under way.
fn running() -> Wire {
    let mut wire = Wire::ready();
    wire.end = None;
    assert_eq!(wire.tell("PASV\r\nRETR f"), "227 150");
    wire.actions.clear();
    wire
}

#[test]
fn c062_c063_passive() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.text("PASV"),
        "227 Entering Passive Mode (10,0,0,1,156,65)\r\n"
    );
    assert_eq!(
        wire.text("EPSV"),
        "229 Entering Extended Passive Mode (|||40001|)\r\n"
    );
    wire.passive = Ok("1.2.3.4:40001".parse().unwrap());
    assert!(wire.text("PASV").contains("(1,2,3,4,156,65)"));
    wire.passive = Err(SetupError::NoPort);
    assert_eq!(wire.tell("PASV\r\nEPSV\r\nLIST"), "425 425 425");
    let mut mapped = Wire::with(
        policy(),
        ChannelKind::Explicit,
        "[::ffff:10.0.0.1]:21",
        "[::ffff:10.0.0.9]:5000",
    );
    assert_eq!(mapped.codes(), "220");
    mapped.prepare();
    assert!(mapped.text("PASV").contains("(10,0,0,1,156,65)"));
    assert_eq!(mapped.tell("PORT 10,0,0,9,8,0"), "200");
}

#[test]
fn c064_families() {
    let mut four = Wire::ready();
    assert_eq!(four.tell("EPSV 1\r\nEPSV x"), "229 501");
    for line in ["EPSV 2", "EPSV 9", "EPRT |2|::1|2000|"] {
        let text = four.text(line);
        assert!(text.starts_with("522 ") && text.contains("(1)"), "{text}");
    }
    let mut six = Wire::with(policy(), ChannelKind::Explicit, "[::1]:21", "[::2]:5000");
    assert_eq!(six.codes(), "220");
    six.prepare();
    assert_eq!(six.tell("PASV\r\nEPSV 2\r\nEPSV"), "425 229 229");
    assert_eq!(
        six.tell("EPRT |2|::2|2000|\r\nPORT 10,0,0,9,8,0"),
        "200 504"
    );
    for line in ["EPSV 1", "EPSV 9", "EPRT |1|10.0.0.9|2000|"] {
        let text = six.text(line);
        assert!(text.starts_with("522 ") && text.contains("(2)"), "{text}");
    }
}

#[test]
fn c065_epsv_all() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.tell("EPSV ALL\r\nPORT 10,0,0,9,8,0\r\nPASV\r\nEPRT |1|10.0.0.9|2000|\r\nEPSV"),
        "200 503 503 503 229"
    );
    assert_eq!(wire.tell("PORT 1,2,3\r\nEPRT |2|::1|2000|"), "501 503");
}

#[test]
fn c066_to_c068_one_setup_one_transfer() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("RETR f"), "425");
    assert_eq!(wire.tell("PASV\r\nRETR f\r\nRETR f"), "227 150 226 425");
    assert!(!wire.actions.contains(&Action::DropSetup));
    wire.ready = Err(FileError::NotFound);
    assert_eq!(wire.tell("PASV\r\nRETR f"), "227 550");
    assert_eq!(wire.last_action(), &Action::DropSetup);
    wire.ready = Ok(TransferReady::default());
    assert_eq!(wire.tell("RETR f"), "425");
    assert_eq!(wire.tell("PASV\r\nRETR\r\nRETR f"), "227 501 425");
    assert_eq!(wire.tell("PORT 10,0,0,9,8,0\r\nRETR f"), "200 150 226");
}

#[test]
fn c070_active_addresses() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.tell("PORT 10,0,0,8,8,0\r\nPORT 10,0,0,9,0,80"),
        "504 504"
    );
    assert_eq!(wire.tell("LIST"), "425");
    assert_eq!(wire.tell("EPRT !1!10.0.0.9!2000!"), "200");
    let expected = Action::SetupActive("10.0.0.9:2000".parse().unwrap());
    assert_eq!(wire.last_action(), &expected);
}

#[test]
fn active_mode_may_be_off() {
    let mut wire = Wire::ready_with(Settings {
        active: false,
        ..policy()
    });
    let lines = "PORT 10,0,0,9,8,0\r\nEPRT |1|10.0.0.9|2000|\r\nPASV\r\nLIST";
    assert_eq!(wire.tell(lines), "502 502 227 150 226");
    assert!(!wire.text("FEAT").contains("EPRT"));
}

#[test]
fn c080_protection_too_low() {
    for line in TRANSFERS {
        let mut wire = Wire::explicit(Settings::default());
        wire.tell("AUTH TLS");
        wire.tell("USER a\r\nPASS b");
        assert_eq!(
            wire.tell(&format!("PASV\r\n{line}\r\n{line}")),
            "227 522 522"
        );
        assert_eq!(wire.last_action(), &Action::DropSetup);
        let then = format!("PBSZ 0\r\nPROT P\r\n{line}");
        assert_eq!(wire.tell(&then), "200 200 425");
    }
}

#[test]
fn c081_level_at_the_transfer() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("PASV\r\nPROT C\r\nLIST"), "227 200 150 226");
    assert!(!opened(&wire).protected);
}

#[test]
fn ends_have_their_codes() {
    for (end, expected) in [
        (TransferEnd::Complete, "226"),
        (TransferEnd::NotConnected, "425"),
        (TransferEnd::TlsFailed, "522"),
        (TransferEnd::NotResumed, "522"),
        (TransferEnd::ConnectionLost, "426"),
        (TransferEnd::Truncated, "426"),
        (TransferEnd::Stalled, "426"),
        (TransferEnd::File(FileError::VolumeFull), "452"),
        (TransferEnd::File(FileError::QuotaExceeded), "552"),
        (TransferEnd::File(FileError::Local), "451"),
    ] {
        for line in TRANSFERS {
            let mut wire = Wire::ready();
            wire.end = Some(end);
            let lines = format!("PASV\r\n{line}\r\nNOOP\r\nLIST");
            assert_eq!(wire.tell(&lines), format!("227 150 {expected} 200 425"));
        }
    }
}

#[test]
fn errors_that_depend_on_the_command() {
    for (line, error, expected) in [
        ("STOR d", FileError::IsADirectory, "553"),
        ("APPE d", FileError::IsADirectory, "553"),
        ("RETR d", FileError::IsADirectory, "550"),
        ("MLSD f", FileError::NotADirectory, "501"),
        ("LIST f", FileError::NotADirectory, "550"),
        ("RETR f", FileError::BadRestart, "554"),
    ] {
        let mut wire = Wire::ready();
        wire.ready = Err(error);
        assert_eq!(
            wire.tell(&format!("PASV\r\n{line}")),
            format!("227 {expected}")
        );
    }
}

#[test]
fn c093_to_c095_abor() {
    let mut wire = running();
    assert_eq!(wire.tell("ABOR"), "426 226");
    assert_eq!(wire.actions, [Action::AbortTransfer]);
    let mut wire = running();
    let synch = b"\xFF\xF4\xFF\xF2ABOR";
    assert_eq!(wire.tell_octets(synch), "426 226");
    let mut wire = running();
    assert_eq!(wire.tell_octets(b"\xF2abor"), "426 226");
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("ABOR\r\nPASV\r\nABOR"), "226 227 226");
    assert_eq!(wire.last_action(), &Action::DropSetup);
}

#[test]
fn abor_that_comes_too_late() {
    let mut wire = running();
    wire.session.handle_octets(b"ABOR\r\n", wire.now);
    assert_eq!(wire.session.poll_action(), Some(Action::AbortTransfer));
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 226"
    );
}

#[test]
fn what_breaks_off_says_whether_anything_was_stored() {
    let local = TransferEnd::File(FileError::Local);
    for (atomic, end, expected) in [
        (
            true,
            TransferEnd::Aborted,
            "426 Transfer aborted. Nothing of it was stored.\r\n",
        ),
        (
            true,
            local,
            "451 Local error. Nothing of it was stored.\r\n",
        ),
        (false, local, "451 Local error.\r\n"),
        (
            true,
            TransferEnd::Unsynced,
            "451 Stored under its name, but a power cut may undo that: the disk failed.\r\n",
        ),
    ] {
        let mut wire = Wire::ready();
        wire.ready = Ok(TransferReady {
            unique_name: None,
            octets: None,
            atomic,
        });
        wire.end = Some(end);
        wire.tell("PASV");
        let text = wire.text("STOR f");
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn c096_stat_in_a_transfer() {
    let mut wire = running();
    let text = wire.text("STAT");
    assert!(
        text.starts_with("211-") && text.contains("Sending, 1234 octets"),
        "{text}"
    );
    assert_eq!(
        wire.tell("NOOP\r\nSTAT\r\nNOOP x\r\nPWD\r\nNOOP"),
        "200 211 200"
    );
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 257 200"
    );
    let mut wire = running();
    assert_eq!(wire.tell("STAT d"), "");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 212"
    );
}

#[test]
fn stat_that_meets_the_end() {
    let mut wire = running();
    wire.session.handle_octets(b"STAT\r\n", wire.now);
    assert_eq!(wire.session.poll_action(), Some(Action::AskProgress));
    wire.session.handle_octets(b"NOOP\r\n", wire.now);
    assert_eq!(wire.session.poll_action(), None, "behind STAT");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "211 226 200"
    );
    assert_eq!(wire.event(Event::Progress(5)), "");
}

#[test]
fn c097_c098_the_queue_waits() {
    let mut wire = running();
    assert_eq!(wire.tell("NOOP\r\nPWD\r\nQUIT"), "200");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 257 221"
    );
    assert!(wire.is_closed());
    let mut wire = running();
    assert_eq!(wire.tell("NOOP\r\nABOR\r\nNOOP"), "200 426 226 200");
    let mut wire = running();
    assert_eq!(wire.tell("REIN"), "");
    assert_eq!(
        wire.event(Event::TransferEnded(TransferEnd::Complete)),
        "226 220"
    );
}

#[test]
fn c100_to_c103_restart() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.tell("REST 7\r\nPASV\r\nNOOP\r\nTYPE I\r\nRETR f"),
        "350 227 200 200 150 226"
    );
    assert_eq!(opened(&wire).offset, 7);
    assert_eq!(wire.tell("PASV\r\nRETR f"), "227 150 226");
    assert_eq!(opened(&wire).offset, 0);
    assert_eq!(
        wire.tell("REST 7\r\nRETR f\r\nPASV\r\nSTOR f"),
        "350 425 227 150 226"
    );
    assert_eq!(opened(&wire).offset, 0);
    assert_eq!(
        wire.tell("REST 7\r\nLIST x\0\r\nPASV\r\nSTOR f"),
        "350 501 227 150 226"
    );
    assert_eq!(opened(&wire).offset, 0);
    assert_eq!(
        wire.tell("REST 7\r\nREST 0\r\nPASV\r\nAPPE f"),
        "350 350 227 150 226"
    );
    assert_eq!(opened(&wire).offset, 0);
    assert_eq!(wire.tell("REST 7\r\nPASV\r\nSTOU"), "350 227 150 226");
    assert_eq!(opened(&wire).offset, 0);
    assert_eq!(
        wire.tell("REST x\r\nREST -1\r\nREST 9223372036854775808"),
        "501 501 501"
    );
    assert_eq!(wire.tell("REST 9223372036854775807"), "350");
}

#[test]
fn c109_no_restart_in_ascii() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.tell("TYPE A\r\nREST 5\r\nPASV\r\nRETR f"),
        "200 350 227 554"
    );
    assert_eq!(wire.last_action(), &Action::DropSetup);
    assert_eq!(wire.tell("PASV\r\nRETR f"), "227 150 226");
    assert!(opened(&wire).ascii);
    assert_eq!(wire.tell("REST 5\r\nPASV\r\nLIST"), "350 227 150 226");
    assert!(!opened(&wire).ascii);
}

#[test]
fn opening_texts() {
    let mut wire = Wire::ready();
    wire.ready = Ok(TransferReady {
        octets: Some(12),
        ..TransferReady::default()
    });
    wire.tell("PASV");
    let text = wire.text("RETR f");
    assert!(text.starts_with("150 Opening BINARY mode data connection (12 bytes)\r\n"));
    wire.ready = Ok(TransferReady {
        unique_name: Some(b"up.1".to_vec()),
        ..TransferReady::default()
    });
    wire.tell("PASV");
    assert!(wire.text("STOU up.").starts_with("150 FILE: up.1\r\n"));
    assert!(matches!(&opened(&wire).kind, TransferKind::StoreUnique(prefix) if prefix == b"up."));
    assert_eq!(wire.tell("PASV\r\nSTOU a/b"), "227 553");
}

#[test]
fn c116_list_options() {
    for (line, expected_path, expected_hidden) in [
        ("LIST", "/", false),
        ("LIST -la", "/", true),
        ("LIST -la d", "/d", true),
        ("LIST -l -A d e", "/d e", true),
        ("LIST -L -R -1 -t d", "/d", false),
        ("LIST ./-x", "/-x", false),
        ("LIST -", "/-", false),
        ("LIST a -l", "/a -l", false),
        ("NLST -a d", "/d", true),
        ("MLSD -a", "/-a", true),
        ("MLSD", "/", true),
    ] {
        let mut wire = Wire::ready();
        assert_eq!(
            wire.tell(&format!("PASV\r\n{line}")),
            "227 150 226",
            "{line}"
        );
        let transfer = opened(&wire);
        assert_eq!(transfer.path.as_bytes(), expected_path.as_bytes(), "{line}");
        let TransferKind::List { format, hidden, .. } = &transfer.kind else {
            panic!("no listing");
        };
        assert_eq!(*hidden, expected_hidden, "{line}");
        assert_eq!(
            matches!(format, ListFormat::Machine(_)),
            line.starts_with("MLSD")
        );
    }
}
