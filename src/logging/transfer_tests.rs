use std::net::Ipv6Addr;

use super::*;

fn record() -> Record<'static> {
    Record {
        ended: SystemTime::UNIX_EPOCH + Duration::from_micros(1_770_883_750_123_456),
        session: 42,
        host: None,
        user: "alice",
        anonymous: false,
        address: IpAddr::from([192, 0, 2, 7]),
        operation: Operation::Download,
        command: "RETR",
        path: b"/pub/file.iso",
        target: None,
        moved: Some(Moved {
            octets: 1_048_576,
            time: Duration::from_millis(2600),
            restart: 0,
            ascii: false,
            private: true,
            route: Some("user-tls"),
            tls: Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256", true)),
        }),
        success: Success::Complete,
        reason: None,
    }
}

fn xferlog(record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    push_xferlog(&mut line, record);
    line
}

fn text(record: &Record<'_>) -> String {
    String::from_utf8(xferlog(record)).unwrap()
}

fn object(record: &Record<'_>) -> serde_json::Value {
    let mut line = Vec::new();
    push_object(&mut line, record);
    let line = String::from_utf8(line).unwrap();
    let inner = line.strip_suffix('\n').unwrap();
    assert!(!inner.chars().any(is_unsafe), "{line}");
    serde_json::from_str(inner).unwrap()
}

#[test]
fn every_field_of_an_xferlog_is_in_its_place() {
    assert_eq!(
        text(&record()),
        "Thu Feb 12 08:09:10 2026 3 192.0.2.7 1048576 /pub/file.iso b _ o r alice ftp 0 * c\n"
    );
    let early = Record {
        ended: SystemTime::UNIX_EPOCH,
        operation: Operation::Upload,
        anonymous: true,
        user: "anonymous",
        address: IpAddr::from(Ipv6Addr::LOCALHOST),
        success: Success::Incomplete,
        moved: Some(Moved {
            octets: 0,
            time: Duration::from_millis(3),
            ascii: true,
            ..record().moved.unwrap()
        }),
        ..record()
    };
    assert_eq!(
        text(&early),
        "Thu Jan  1 00:00:00 1970 1 ::1 0 /pub/file.iso a _ i a anonymous ftp 0 * i\n"
    );
    let deleted = Record {
        operation: Operation::Delete,
        moved: None,
        ..record()
    };
    assert_eq!(
        text(&deleted),
        "Thu Feb 12 08:09:10 2026 1 192.0.2.7 0 /pub/file.iso b _ d r alice ftp 0 * c\n"
    );
    let refused = Record {
        success: Success::Refused,
        ..record()
    };
    assert!(text(&refused).ends_with(" ftp 0 * i\n"));
}

#[test]
fn what_is_no_transfer_is_not_in_an_xferlog() {
    for operation in [
        Operation::List,
        Operation::Rename,
        Operation::MakeDirectory,
        Operation::RemoveDirectory,
    ] {
        let record = Record {
            operation,
            ..record()
        };
        assert!(xferlog(&record).is_empty(), "{operation:?}");
    }
}

#[test]
fn no_name_adds_a_field_or_a_line() {
    let hostile: &[&[u8]] = &[
        b"/a b",
        b"/a\r\nThu Feb 12 08:09:10 2026 1 h 1 /forged b _ o r root ftp 0 * c",
        b"/\x1b[31m\x07\x7f\t\x0b",
        "/\u{9b}2J\u{2028}\u{a0}\u{3000}\u{202e}x".as_bytes(),
        b"/latin\xe4\xf6 \x9b\x85",
        b"",
    ];
    for path in hostile {
        for user in ["alice", "a b\n", "\u{85}"] {
            let line = xferlog(&Record {
                path,
                user,
                ..record()
            });
            let inner = line.strip_suffix(b"\n").unwrap();
            let fields = inner.split(|octet| *octet == b' ').count();
            assert_eq!(fields, 18, "{}", inner.escape_ascii());
            assert!(!inner.iter().any(u8::is_ascii_control));
            let shown = String::from_utf8_lossy(inner);
            assert!(!shown.chars().any(is_unsafe), "{shown}");
        }
    }
    let line = xferlog(&Record {
        path: b"/a b\xe4\x85/\xc3\xa4",
        ..record()
    });
    let wanted = b" /a_b\xe4_/\xc3\xa4 b ";
    assert!(
        line.windows(wanted.len()).any(|part| part == wanted),
        "{}",
        line.escape_ascii()
    );
}

#[test]
fn json_has_every_value() {
    let read = object(&record());
    let wanted = serde_json::json!({
        "time": "2026-02-12T08:09:10.123456Z", "session": 42, "user": "alice", "anonymous": false,
        "address": "192.0.2.7", "operation": "download", "command": "RETR", "path": "/pub/file.iso",
        "octets": 1_048_576, "seconds": 2.6, "rate": 403_298, "restart": 0, "type": "image",
        "protection": "private", "route": "user-tls", "tls": "TLSv1.3",
        "suite": "TLS_AES_128_GCM_SHA256", "resumed": true, "result": "complete", "reason": null,
    });
    assert_eq!(read, wanted);
}

#[test]
fn json_tells_every_result() {
    for (success, result) in [
        (Success::Complete, "complete"),
        (Success::Incomplete, "incomplete"),
        (Success::Refused, "refused"),
    ] {
        let reason = Some("a \"reason\"\n");
        let read = object(&Record {
            success,
            reason,
            moved: Some(Moved {
                time: Duration::ZERO,
                restart: u64::MAX,
                ascii: true,
                private: false,
                route: None,
                tls: None,
                ..record().moved.unwrap()
            }),
            ..record()
        });
        assert_eq!(read["result"], result);
        assert_eq!(read["reason"], "a \"reason\"\n");
        assert_eq!(read["rate"], 0);
        assert_eq!(read["restart"], u64::MAX);
        assert_eq!(read["type"], "ascii");
        assert_eq!(read["protection"], "clear");
        assert_eq!(read["route"], serde_json::Value::Null);
        assert_eq!(read["resumed"], serde_json::Value::Null);
    }
}

#[test]
fn names_that_are_no_text_can_be_restored() {
    let path = b"/a\n\"\\\x1b\xff\xe4b";
    let read = object(&Record {
        path,
        target: Some("/\u{e4}\u{9b}".as_bytes()),
        operation: Operation::Rename,
        moved: None,
        ..record()
    });
    assert_eq!(read["path"], "/a\n\"\\\u{1b}\u{fffd}\u{fffd}b");
    assert_eq!(read["path_hex"], "2f610a225c1bffe462");
    assert_eq!(read["target"], "/\u{e4}\u{9b}");
    let members = read.as_object().unwrap();
    assert!(!members.contains_key("target_hex") && !members.contains_key("octets"));
}
