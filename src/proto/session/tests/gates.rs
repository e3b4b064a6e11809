//! Every command's gates: policy, login, argument.

use super::*;
use crate::proto::command::{Argument, Gate, TABLE, Verb};

/// A good argument for each verb; `None` for no argument.
fn good_argument(name: &str) -> Option<&'static str> {
    Some(match name {
        "ALLO" | "REST" | "PBSZ" => "0",
        "AUTH" => "FOO",
        "EPRT" => "|1|10.0.0.9|2000|",
        "PORT" => "10,0,0,9,8,0",
        "MFMT" => "20200101000000 x",
        "MODE" => "S",
        "OPTS" => "UTF8 ON",
        "PROT" => "P",
        "STRU" => "F",
        "SITE" => "HELP",
        "TYPE" => "I",
        "ACCT" | "CLNT" | "USER" | "PASS" | "APPE" | "CWD" | "DELE" | "MDTM" | "MKD" | "RETR"
        | "RMD" | "RNFR" | "RNTO" | "SIZE" | "STOR" => "x",
        _ => return None,
    })
}

fn line(name: &str) -> String {
    good_argument(name).map_or_else(|| name.to_owned(), |argument| format!("{name} {argument}"))
}

#[test]
fn c002_policy_wants_tls() {
    for row in TABLE {
        let mut wire = Wire::explicit(policy());
        let got = wire.tell(&line(row.name()));
        if row.gate == Gate::Anyone {
            assert!(!got.starts_with("534"), "{}: {got}", row.name());
        } else {
            assert_eq!(got, "534", "{}", row.name());
            assert_eq!(wire.tell("NOOP"), "200");
        }
    }
}

#[test]
fn c048_login_is_needed() {
    for row in TABLE {
        let mut wire = Wire::explicit(policy());
        wire.tell("AUTH TLS");
        let got = wire.tell(&line(row.name()));
        if row.gate == Gate::Login {
            assert_eq!(got, "530", "{}", row.name());
        } else {
            assert!(!got.starts_with("530"), "{}: {got}", row.name());
        }
    }
}

#[test]
fn arguments_missing_extra_or_malformed() {
    for row in TABLE {
        let name = row.name();
        let mut wire = Wire::ready_with(hosts::policy_with_hosts());
        match row.argument {
            Argument::None => assert_eq!(wire.tell(&format!("{name} x")), "501", "{name}"),
            Argument::Words | Argument::Path => {
                assert_eq!(wire.tell(name), "501", "{name}");
                assert_eq!(wire.tell(&format!("{name} ")), "501", "{name}");
            }
            _ => {}
        }
        if row.argument != Argument::Ignored {
            assert_eq!(wire.tell(&format!("{name} a\0b")), "501", "{name}");
            assert_eq!(wire.tell(&format!("{name} a\rb")), "501", "{name}");
        }
    }
}

/// Each verb, logged in with a set-up, with a good argument: its codes.
#[test]
fn every_command_has_its_codes() {
    for row in TABLE {
        for name in row.names {
            let mut wire = Wire::ready();
            wire.tell("PASV");
            let expected = match row.name() {
                "ABOR" => "226",
                "ACCT" | "ALLO" => "202",
                "ADAT" | "RNTO" | "PASS" => "503",
                "ALGS" | "CONF" | "ENC" | "ESTA" | "ESTP" | "LPRT" | "LPSV" | "MFCT" | "MIC"
                | "PRET" | "RMDA" | "SMNT" | "THMB" => "502",
                "APPE" | "LIST" | "NLST" | "MLSD" | "RETR" | "STOR" | "STOU" => "150 226",
                "AUTH" | "CCC" => "534",
                "CDUP" | "CWD" | "DELE" | "RMD" | "MLST" => "250",
                "EPSV" => "229",
                "PASV" => "227",
                "FEAT" | "STAT" => "211",
                "HELP" | "SITE" => "214",
                // Without virtual hosts.
                "HOST" => "500",
                "MDTM" | "MFMT" | "SIZE" => "213",
                "MKD" | "PWD" => "257",
                "QUIT" => "221",
                "REIN" => "220",
                "REST" | "RNFR" => "350",
                "SYST" => "215",
                "USER" => "331",
                _ => "200",
            };
            let sent = line(row.name()).replacen(row.name(), name, 1);
            assert_eq!(wire.tell(&sent), expected, "{sent}");
            assert_eq!(row.verb == Verb::Quit, wire.is_closed());
        }
    }
}

#[test]
fn c061_unknown_and_refused() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("FOO\r\nMIC x\r\nADAT x"), "500 502 503");
    assert_eq!(wire.tell("HOST x\r\nRANG 1 2\r\nMFF a b"), "500 500 500");
}

#[test]
fn c003_before_tls() {
    let mut wire = Wire::explicit(policy());
    assert_eq!(wire.tell("FEAT\r\nSYST\r\nNOOP\r\nHELP"), "211 215 200 214");
}

#[test]
fn c126_empty_lines_and_spaces() {
    let mut wire = Wire::ready();
    wire.session.handle_octets(b"NOOP\n", wire.now);
    assert_eq!(wire.codes(), "200");
    assert_eq!(wire.tell(""), "");
    assert_eq!(wire.tell(" NOOP"), "500");
    assert_eq!(wire.tell("CWD a\0"), "501");
    assert_eq!(wire.tell("noop\r\r"), "200");
}

#[test]
fn c128_other_protocols_are_cut_off() {
    for line in ["GET / HTTP/1.1", "POST /", "Host: x", "SSH-2.0-x", "EHLO x"] {
        let mut wire = Wire::explicit(policy());
        assert_eq!(wire.tell(line), "", "{line}");
        assert!(wire.is_closed());
        let mut wire = Wire::implicit(policy());
        assert_eq!(wire.tell(line), "", "{line}");
        assert!(wire.is_closed());
        let mut wire = Wire::ready();
        assert_eq!(wire.tell(line), "500");
    }
}

#[test]
fn tls_on_the_explicit_port_is_cut_off() {
    let mut wire = Wire::explicit(policy());
    assert_eq!(wire.tell_octets(&[0x16, 3, 1, 0, 5]), "");
    assert!(wire.is_closed());
}

#[test]
fn c124_overlong_lines() {
    let mut wire = Wire::ready();
    let long = "x".repeat(9000);
    for part in long.as_bytes().chunks(4096) {
        wire.session.handle_octets(part, wire.now);
    }
    assert_eq!(wire.tell(""), "500");
    assert_eq!(wire.tell("NOOP"), "200");
    assert_eq!(wire.tell(&format!("NOOP {}", "x".repeat(8187))), "200");
    assert_eq!(wire.tell(&long), "500");
    assert_eq!(wire.tell(&long), "421");
    assert!(wire.is_closed());
}

#[test]
fn c125_cut_and_joined() {
    let mut wire = Wire::ready();
    for octet in b"NOOP\r\nSYST\r\nPWD\r\n" {
        wire.session.handle_octets(&[*octet], wire.now);
    }
    assert_eq!(wire.codes(), "200 215 257");
    let many = ["NOOP"; 20].join("\r\n");
    assert_eq!(wire.tell(&many), ["200"; 20].join(" "));
}

#[test]
fn c127_telnet() {
    let mut wire = Wire::ready();
    for (asked, answered) in [(0xFD, 0xFC), (0xFB, 0xFE)] {
        wire.session.handle_octets(&[0xFF, asked, 1], wire.now);
        let answer = Action::Send(vec![0xFF, answered, 1]);
        assert_eq!(wire.session.poll_action(), Some(answer));
        assert_eq!(wire.session.poll_action(), None);
    }
    wire.sent.clear();
    wire.tell_octets(b"MKD a\xFF\xFFb");
    assert_eq!(wire.sent, b"257 \"/a\xFF\xFFb\" created.\r\n");
    let Action::File(FileRequest::MakeDirectory(path)) = wire.last_action() else {
        panic!("no MKD");
    };
    assert_eq!(path.as_bytes(), b"/a\xFFb");
}

#[test]
fn twenty_failures_before_login() {
    let mut wire = Wire::explicit(policy());
    for _ in 0..19 {
        assert_eq!(wire.tell("FOO"), "500");
    }
    assert_eq!(wire.tell("FOO"), "421");
    assert!(wire.is_closed());
    let mut wire = Wire::ready();
    for _ in 0..50 {
        assert_eq!(wire.tell("FOO"), "500");
    }
}

#[test]
fn c129_pipelining_pauses_reading() {
    let mut wire = Wire::ready();
    wire.end = None;
    wire.tell("PASV");
    assert_eq!(wire.tell("RETR x"), "150");
    let mut accepted = 0;
    while wire.session.wants_octets() {
        assert_eq!(wire.tell("PWD"), "");
        accepted += 1;
    }
    assert_eq!(accepted, crate::limits::COMMAND_QUEUE_LINES_MAX);
    let rest = "PWD\r\n".repeat(680);
    wire.session.handle_octets(rest.as_bytes(), wire.now);
    let codes = wire.event(Event::TransferEnded(TransferEnd::Complete));
    assert_eq!(codes, format!("226{}", " 257".repeat(680 + 32)));
}
