//! Parameters, files and information.

use super::*;
use crate::proto::listing::FactSet;

#[test]
fn c031_feat_form() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.text("FEAT"),
        "211-Features:\r\n AUTH TLS;SSL;\r\n CLNT\r\n EPRT\r\n EPSV\r\n LANG EN*\r\n MDTM\r\n MFMT\r\n \
         MLST type*;size*;modify*;perm*;unique*;UNIX.mode;\r\n PBSZ\r\n PROT C;P;\r\n REST STREAM\r\n \
         SIZE\r\n TVFS\r\n UTF8\r\n211 End\r\n"
    );
    assert_eq!(wire.tell("FEAT x"), "501");
}

#[test]
fn c049_to_c052() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("ACCT x\r\nSMNT x"), "202 502");
    for (line, expected) in [
        ("TYPE a", "200"),
        ("TYPE A N", "200"),
        ("TYPE A T", "200"),
        ("TYPE I ", "200"),
        ("TYPE L 8", "200"),
        ("TYPE L8", "200"),
        ("TYPE A C", "504"),
        ("TYPE E", "504"),
        ("TYPE L 7", "504"),
        ("TYPE", "501"),
        ("TYPE L", "501"),
        ("TYPE X", "501"),
        ("STRU f", "200"),
        ("STRU R", "504"),
        ("STRU P", "504"),
        ("STRU X", "501"),
        ("MODE S", "200"),
        ("MODE B", "504"),
        ("MODE C", "504"),
        ("MODE Z", "504"),
        ("MODE X", "501"),
        ("ALLO 10", "202"),
        ("ALLO 10 R 5", "202"),
        ("ALLO x", "501"),
        ("ALLO 10 R", "501"),
        ("ALLO 99999999999999999999", "501"),
    ] {
        assert_eq!(wire.tell(line), expected, "{line}");
    }
    wire.file = Err(FileError::VolumeFull);
    assert_eq!(wire.tell("ALLO 10"), "504");
}

#[test]
fn c056_c057_options() {
    let mut wire = Wire::explicit(policy());
    assert_eq!(
        wire.tell("LANG\r\nLANG en-GB\r\nLANG xx\r\nLANG 1!"),
        "200 200 504 501"
    );
    assert_eq!(
        wire.tell("OPTS UTF8 ON\r\nOPTS utf-8\r\nOPTS UTF8 OFF\r\nOPTS FOO\r\nOPTS"),
        "200 200 200 501 501"
    );
}

#[test]
fn c058_opts_mlst() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.text("OPTS MLST type;frogs;"),
        "200 MLST OPTS type;\r\n"
    );
    assert!(wire.text("FEAT").contains("MLST type*;size;modify;"));
    assert_eq!(wire.tell("OPTS MLST type size"), "501");
    assert_eq!(wire.tell("MLST"), "250");
    let Action::File(FileRequest::Facts(_, facts)) = wire.last_action() else {
        panic!("no MLST");
    };
    assert_eq!(*facts, FactSet::TYPE);
    assert_eq!(wire.text("OPTS MLST"), "200 MLST OPTS\r\n");
}

#[test]
fn c110_quoting() {
    let mut wire = Wire::ready();
    assert_eq!(wire.text("MKD a\"b"), "257 \"/a\"\"b\" created.\r\n");
    wire.tell("CWD a\"b");
    assert!(wire.text("PWD").starts_with("257 \"/a\"\"b\" "));
    wire.file = Err(FileError::Exists);
    assert_eq!(wire.tell("MKD a"), "550");
}

#[test]
fn c111_directories() {
    let mut wire = Wire::ready();
    for (line, shown) in [
        ("CWD ..", "/"),
        ("CDUP", "/"),
        ("CWD a/b", "/a/b"),
        ("CWD ./c/../d/", "/a/b/d"),
        ("CDUP", "/a/b"),
        ("CWD ~", "/"),
        ("CWD  x ", "/ x "),
        ("CWD ~/y", "/y"),
        ("CWD /", "/"),
    ] {
        assert_eq!(wire.tell(line), "250", "{line}");
        assert!(
            wire.text("PWD").starts_with(&format!("257 \"{shown}\" ")),
            "{line}"
        );
    }
    wire.file = Err(FileError::NotFound);
    assert_eq!(wire.tell("CWD missing"), "550");
    assert!(wire.text("PWD").starts_with("257 \"/\" "));
    let name = "n".repeat(256);
    assert_eq!(wire.tell(&format!("CWD {name}")), "553");
}

#[test]
fn c112_renames() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("RNTO b"), "503");
    assert_eq!(wire.tell("RNFR a\r\nPWD\r\nRNTO b"), "350 257 503");
    assert_eq!(wire.tell("RNFR a\r\nFOO\r\nRNTO b"), "350 500 503");
    assert_eq!(
        wire.tell("RNFR a\r\nNOOP\r\nRNTO b\r\nRNTO c"),
        "350 200 250 503"
    );
    wire.file = Err(FileError::NotFound);
    assert_eq!(wire.tell("RNFR a\r\nRNTO b"), "550 503");
}

#[test]
fn c108_c114_size_and_times() {
    let mut wire = Wire::ready();
    assert_eq!(wire.text("SIZE f"), "213 5\r\n");
    assert_eq!(wire.text("MDTM f"), "213 19700101000000\r\n");
    assert_eq!(wire.tell("MFMT 20230229000000 f"), "501");
    assert_eq!(wire.tell("MFMT 20230228000000"), "501");
    assert_eq!(
        wire.text("MFMT 20230228010203.5 d/ f"),
        "213 Modify=20230228010203; d/ f\r\n"
    );
    assert_eq!(wire.tell("MDTM 20230228010203 f"), "213");
    let Action::File(FileRequest::ModifyTime(path)) = wire.last_action() else {
        panic!("MDTM sets nothing");
    };
    assert_eq!(path.as_bytes(), b"/20230228010203 f");
    assert_eq!(wire.tell("TYPE A\r\nSIZE f"), "200 213");
    assert!(matches!(
        wire.last_action(),
        Action::File(FileRequest::Size { ascii: true, .. })
    ));
    wire.file = Err(FileError::TooLargeForAscii);
    assert_eq!(wire.tell("SIZE f"), "550");
}

#[test]
fn c120_c123_facts_and_status() {
    let mut wire = Wire::ready();
    assert_eq!(
        wire.text("MLST f"),
        "250-Facts follow\r\n type=file; /f\r\n250 End\r\n"
    );
    assert_eq!(
        wire.text("STAT d"),
        "212-Status follows\r\n-rw-r--r-- a\r\n-rw-r--r-- b\r\n212 End\r\n"
    );
    wire.file = Ok(FileReply::Listing {
        directory: false,
        lines: b"123 f\r\n".to_vec(),
    });
    assert_eq!(
        wire.text("STAT -a f"),
        "213-Status follows\r\n 123 f\r\n213 End\r\n"
    );
    assert!(matches!(
        wire.last_action(),
        Action::File(FileRequest::StatListing { shown, hidden: true, .. }) if shown == b"f"
    ));
    wire.file = Err(FileError::NotFound);
    assert_eq!(wire.tell("STAT missing"), "550");
}

#[test]
fn c136_site() {
    let mut wire = Wire::ready();
    for (line, expected) in [
        ("SITE HELP", "214"),
        ("SITE CHMOD 600 f", "200"),
        ("site chmod 0755 f", "200"),
        ("SITE CHMOD 9 f", "501"),
        ("SITE CHMOD 600", "501"),
        ("SITE CHMOD 4755 f", "550"),
        ("SITE EXEC x", "500"),
        ("SITE FOO", "500"),
        ("SITE", "501"),
        ("SITE UTIME 202301020304 f g", "200"),
        ("SITE UTIME 20230102030405 f", "200"),
        ("SITE UTIME 20231302030405 f", "501"),
        (
            "SITE UTIME f g 20200101000000 20230102030405 20210101000000 UTC",
            "200",
        ),
        ("SITE UTIME f", "501"),
    ] {
        assert_eq!(wire.tell(line), expected, "{line}");
    }
    let Action::File(FileRequest::SetModifyTime(path, time)) = wire.last_action() else {
        panic!("no UTIME");
    };
    assert_eq!((path.as_bytes(), *time), (&b"/f g"[..], 1_672_628_645));
}

#[test]
fn c137_help() {
    let mut wire = Wire::explicit(hosts::policy_with_hosts());
    assert_eq!(wire.tell("HELP\r\nHELP RETR\r\nHELP FOO"), "214 214 502");
    let help = wire.text("HELP");
    for row in crate::proto::command::TABLE {
        assert!(help.contains(&format!(" {}", row.name())), "{}", row.name());
    }
}

#[test]
fn file_errors_have_their_codes() {
    for (error, expected) in [
        (FileError::NotFound, "550"),
        (FileError::Denied, "550"),
        (FileError::NotADirectory, "550"),
        (FileError::IsADirectory, "550"),
        (FileError::NotRegular, "550"),
        (FileError::Exists, "550"),
        (FileError::NotEmpty, "550"),
        (FileError::NameNotAllowed, "553"),
        (FileError::VolumeFull, "452"),
        (FileError::QuotaExceeded, "552"),
        (FileError::Busy, "450"),
        (FileError::Local, "451"),
    ] {
        let mut wire = Wire::ready();
        wire.file = Err(error);
        assert_eq!(wire.tell("DELE f"), expected);
    }
}

#[test]
fn c130_odd_names() {
    let mut wire = Wire::ready();
    assert_eq!(wire.tell("MKD a\r\0"), "501");
    wire.sent.clear();
    assert_eq!(wire.tell_octets(b"MKD \x1B\x80z"), "257");
    assert_eq!(wire.sent, b"257 \"/\x1B\x80z\" created.\r\n");
}
