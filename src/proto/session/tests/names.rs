//! Names in other character sets than UTF-8: decoded in every command, encoded in every reply.

use super::*;
use crate::proto::Charset;
use crate::proto::event::{Transfer, TransferKind};

/// `文件` in GBK and in UTF-8.
const GBK: &[u8] = b"\xCE\xC4\xBC\xFE";
const UTF8: &[u8] = "文件".as_bytes();

fn settings(label: &str) -> Settings {
    Settings {
        charset: label.parse().unwrap(),
        ..policy()
    }
}

/// Sends a line and returns what comes back.
fn octets(wire: &mut Wire, line: &[u8]) -> Vec<u8> {
    let before = wire.sent.len();
    wire.tell_octets(line);
    wire.sent[before..].to_vec()
}

#[track_caller]
fn assert_reply(wire: &mut Wire, line: &[u8], expected: &[u8]) {
    let reply = octets(wire, line);
    let (reply, expected) = (reply.escape_ascii(), expected.escape_ascii());
    assert_eq!(reply.to_string(), expected.to_string());
}

fn with(start: &[u8], name: &[u8], end: &[u8]) -> Vec<u8> {
    [start, name, end].concat()
}

fn last_path(wire: &Wire) -> &[u8] {
    match wire.last_action() {
        Action::File(
            FileRequest::CheckDirectory(path)
            | FileRequest::MakeDirectory(path)
            | FileRequest::RemoveDirectory(path)
            | FileRequest::DeleteFile(path)
            | FileRequest::CheckRename(path)
            | FileRequest::Rename { to: path, .. }
            | FileRequest::Size { path, .. }
            | FileRequest::ModifyTime(path)
            | FileRequest::SetModifyTime(path, _)
            | FileRequest::ChangeMode(path, _)
            | FileRequest::Facts(path, _)
            | FileRequest::StatListing { path, .. },
        ) => path.as_bytes(),
        action => panic!("no path: {action:?}"),
    }
}

#[test]
fn every_command_with_a_path_is_decoded() {
    let mut wire = Wire::ready_with(settings("GBK"));
    for start in [
        "CWD /",
        "MKD /",
        "RMD /",
        "DELE /",
        "RNFR /",
        "RNTO /",
        "SIZE /",
        "MDTM /",
        "MLST /",
        "STAT /",
        "STAT -la /",
        "MFMT 20200101000000 /",
        "SITE CHMOD 644 /",
        "SITE UTIME 202001010000 /",
    ] {
        octets(&mut wire, &with(start.as_bytes(), GBK, b""));
        assert_eq!(last_path(&wire), with(b"/", UTF8, b""), "{start}");
    }
    let verbs = ["RETR", "STOR", "APPE", "LIST", "NLST", "MLSD", "LIST -la"];
    for verb in verbs {
        wire.tell("CWD /\r\nPASV");
        octets(
            &mut wire,
            &with(verb.as_bytes(), &with(b" ", GBK, b""), b""),
        );
        let transfer = opened(&wire);
        assert_eq!(transfer.path.as_bytes(), with(b"/", UTF8, b""), "{verb}");
        if let TransferKind::List { shown, charset, .. } = transfer.kind {
            assert_eq!((shown.as_slice(), charset.name()), (UTF8, "GBK"));
        }
    }
    wire.ready = Ok(TransferReady {
        unique_name: Some(with(UTF8, b".1", b"")),
        octets: None,
        atomic: false,
    });
    wire.tell("PASV");
    let reply = octets(&mut wire, &with(b"STOU ", GBK, b""));
    assert!(reply.starts_with(&with(b"150 FILE: ", GBK, b".1\r\n")));
    assert_eq!(opened(&wire).kind, TransferKind::StoreUnique(UTF8.to_vec()));
}

fn opened(wire: &Wire) -> Transfer {
    let transfer = wire.actions.iter().rev().find_map(|action| match action {
        Action::OpenTransfer(transfer) => Some(transfer.clone()),
        _ => None,
    });
    transfer.expect("a transfer")
}

#[test]
fn every_reply_with_a_name_is_encoded() {
    let mut wire = Wire::ready_with(settings("GBK"));
    assert_reply(
        &mut wire,
        &with(b"MKD ", GBK, b""),
        &with(b"257 \"/", GBK, b"\" created.\r\n"),
    );
    octets(&mut wire, &with(b"CWD ", GBK, b"\""));
    let shown = with(b"257 \"/", GBK, b"\"\"\" is the current directory.\r\n");
    assert_reply(&mut wire, b"PWD", &shown);
    let facts = with(
        b"250-Facts follow\r\n type=file; /",
        GBK,
        b"\"/x\r\n250 End\r\n",
    );
    assert_reply(&mut wire, b"MLST x", &facts);
    let modified = with(b"213 Modify=20200101000000; ", GBK, b"\r\n");
    assert_reply(
        &mut wire,
        &with(b"MFMT 20200101000000 ", GBK, b""),
        &modified,
    );
    wire.file = Ok(FileReply::Listing {
        directory: false,
        lines: with(b"-rw- ", UTF8, b"\r\n-rw- \xFF\xE6\r\n"),
    });
    let listing = with(
        b"213-Status follows\r\n-rw- ",
        GBK,
        b"\r\n-rw- (0xFF)(0xE6)\r\n213 End\r\n",
    );
    assert_reply(&mut wire, b"STAT x", &listing);
    let status = octets(&mut wire, b"STAT");
    assert!(String::from_utf8_lossy(&status).contains("\r\n Names are in GBK\r\n"));
}

#[test]
fn a_slash_is_one_only_after_decoding() {
    // The second octets of these are `\`, `|`, and `@`; none is `/`, and what is half a character is no name.
    let mut wire = Wire::ready_with(settings("Shift_JIS"));
    octets(&mut wire, b"CWD \x95\x5C/../\x83\x7C/\x83\x40");
    assert_eq!(last_path(&wire), "/ポ/ァ".as_bytes());
    assert_eq!(wire.tell_octets(b"CWD \x95/x"), "501");
    assert_eq!(wire.tell_octets(b"DELE \x95"), "501");
}

#[test]
fn what_cannot_be_decoded_uses_up_the_transfer() {
    let mut wire = Wire::ready_with(settings("GBK"));
    let actions = wire.actions.len();
    let reply = octets(&mut wire, b"DELE \xFF\xFF");
    assert!(reply.starts_with(b"501 No name in the character set"));
    assert_eq!(wire.actions.len(), actions, "nothing was asked for");
    assert_eq!(wire.tell("PASV"), "227");
    assert_eq!(wire.tell_octets(b"STOR \xCE"), "501");
    assert_eq!(wire.tell("STOR x"), "425");
    wire.tell("RNFR x");
    assert_eq!(wire.tell_octets(b"RNTO \xCE"), "501");
}

#[test]
fn opts_utf8_switches_the_session() {
    let mut wire = Wire::ready_with(settings("GBK"));
    octets(&mut wire, &with(b"CWD ", GBK, b""));
    for on in ["OPTS UTF8 ON", "opts utf-8 on", "OPTS UTF8", "OPTS UTF-8"] {
        assert_eq!(wire.tell(on), "200");
        assert_reply(
            &mut wire,
            b"PWD",
            &with(b"257 \"/", UTF8, b"\" is the current directory.\r\n"),
        );
        octets(&mut wire, &with(b"CWD /", UTF8, b""));
        assert_eq!(last_path(&wire), with(b"/", UTF8, b""));
        assert_reply(&mut wire, b"OPTS UTF8 OFF", b"200 Names are in GBK.\r\n");
        assert_reply(
            &mut wire,
            b"PWD",
            &with(b"257 \"/", GBK, b"\" is the current directory.\r\n"),
        );
    }
    assert_eq!(wire.tell("OPTS UTF8 MAYBE"), "501");
    assert!(wire.text("FEAT").contains("\r\n UTF8\r\n"));
}

#[test]
fn opts_utf8_before_the_login_holds_after_it() {
    let mut wire = Wire::explicit(settings("GBK"));
    wire.tell("AUTH TLS");
    assert_eq!(wire.tell("OPTS UTF8 ON\r\nUSER a\r\nPASS b"), "200 331 230");
    octets(&mut wire, &with(b"CWD ", UTF8, b""));
    assert_eq!(last_path(&wire), with(b"/", UTF8, b""));
    assert_eq!(wire.tell("USER b\r\nPASS b"), "331 230");
    octets(&mut wire, &with(b"CWD ", UTF8, b""));
    assert_eq!(last_path(&wire), with(b"/", UTF8, b""));
    // REIN forgets it.
    assert_eq!(wire.tell("REIN"), "220");
    assert_eq!(wire.tell("AUTH TLS"), "234");
    assert_eq!(wire.tell("USER a\r\nPASS b"), "331 230");
    octets(&mut wire, &with(b"CWD ", GBK, b""));
    assert_eq!(last_path(&wire), with(b"/", UTF8, b""));
}

#[test]
fn opts_utf8_off_before_the_login_undoes_on() {
    for label in ["GBK", "UTF-8"] {
        let mut wire = Wire::explicit(settings(label));
        wire.tell("AUTH TLS");
        assert_eq!(wire.tell("OPTS UTF8 ON\r\nOPTS UTF8 MAYBE"), "200 501");
        let told = b"200 Names will be as the account has them.\r\n";
        assert_reply(&mut wire, b"OPTS UTF8 OFF", told);
        assert_eq!(wire.tell("USER a\r\nPASS b"), "331 230");
        let name = if label == "GBK" { GBK } else { UTF8 };
        octets(&mut wire, &with(b"CWD ", name, b""));
        assert_eq!(last_path(&wire), with(b"/", UTF8, b""), "{label}");
    }
    let mut wire = Wire::ready_with(settings("UTF-8"));
    let told = b"501 Names are always UTF-8.\r\n";
    assert_reply(&mut wire, b"OPTS UTF8 OFF", told);
}

#[test]
fn a_user_goes_before_the_server() {
    let mut wire = Wire::explicit(settings("GBK"));
    wire.tell("AUTH TLS");
    for (own, name, wire_name) in [
        (Some("latin1"), "ÿ".as_bytes(), &b"\xFF"[..]),
        (Some("UTF-8"), UTF8, UTF8),
        (None, UTF8, GBK),
    ] {
        let charset = own.map(|label| label.parse::<Charset>().unwrap());
        wire.session.names_in(charset);
        assert_eq!(wire.tell("USER a\r\nPASS b"), "331 230", "{own:?}");
        octets(&mut wire, &with(b"CWD /", wire_name, b""));
        assert_eq!(last_path(&wire), with(b"/", name, b""), "{own:?}");
        assert_reply(
            &mut wire,
            b"PWD",
            &with(b"257 \"/", wire_name, b"\" is the current directory.\r\n"),
        );
    }
}

#[test]
fn a_letter_that_is_telnets_needs_no_doubling() {
    let mut wire = Wire::ready_with(settings("windows-1251"));
    let month = b"\xFF\xED\xE2\xE0\xF0\xFC";
    let last = b"\xEF\xEE\xF1\xEB\xE5\xE4\xED\xFF\xFF.doc";
    octets(&mut wire, &with(b"DELE /", last, b""));
    assert_eq!(last_path(&wire), "/последняя.doc".as_bytes());
    octets(&mut wire, &with(b"CWD /", month, b""));
    assert_eq!(last_path(&wire), "/январь".as_bytes());
    octets(&mut wire, &with(b"CWD ", last, b""));
    let shown = [
        &b"257 \"/"[..],
        month,
        b"/",
        last,
        b"\" is the current directory.\r\n",
    ]
    .concat();
    assert_reply(&mut wire, b"PWD", &shown);
    let facts = [
        &b"250-Facts follow\r\n type=file; /"[..],
        month,
        b"/",
        last,
        b"/\xFF\xFF\r\n250 End\r\n",
    ]
    .concat();
    assert_reply(&mut wire, b"MLST \xFF\xFF", &facts);
    assert_eq!(wire.tell_octets(b"\xFF\xF4\xFF\xF2ABOR"), "226");
    // Telnet again: 0xFF and NOP, and doubling.
    wire.tell("OPTS UTF8 ON");
    octets(&mut wire, b"CWD /a\xFF\xF1b");
    assert_eq!(last_path(&wire), b"/ab");
    let made = octets(&mut wire, b"MKD /\xFF\xFF");
    assert_eq!(made, b"257 \"/\xFF\xFF\" created.\r\n");
}

#[test]
fn users_and_passwords_are_left_alone() {
    let mut wire = Wire::ready_with(settings("GBK"));
    octets(&mut wire, &with(b"USER ", b"\xCE\xC4\xBC", b""));
    octets(&mut wire, b"PASS \xBC");
    let Some(Action::CheckLogin { user, password }) = wire.actions.last() else {
        panic!("no login: {:?}", wire.actions);
    };
    assert_eq!(
        (user.as_slice(), &**password),
        (&b"\xCE\xC4\xBC"[..], &b"\xBC"[..])
    );
}

#[test]
fn a_welcome_is_encoded() {
    let mut wire = Wire::explicit(settings("latin1"));
    wire.tell("AUTH TLS");
    wire.tell("USER a");
    wire.session.welcome("Grüße\nаб".into());
    let expected = b"230-Gr\xFC\xDFe\r\n(U+0430)(U+0431)\r\n230 Logged in.\r\n";
    assert_reply(&mut wire, b"PASS b", expected);
}
