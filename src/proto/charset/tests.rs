//! Names there and back: every character of every set, every short sequence of octets, and hostile names.

use super::*;

fn sets() -> impl Iterator<Item = Charset> {
    NAMES.into_iter().map(set)
}

fn set(label: &str) -> Charset {
    label.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn assert_there_and_back(charset: Charset, name: &[u8]) -> Vec<u8> {
    let wire = charset.encode(name).into_owned();
    let back = charset.decode(&wire);
    assert_eq!(
        back.as_deref(),
        Some(name),
        "{charset}: {} as {}",
        name.escape_ascii(),
        wire.escape_ascii()
    );
    wire
}

#[test]
fn every_character_comes_back() {
    for charset in sets() {
        // Planes beyond the first have nothing but what gb18030 and Big5 take from the second.
        let all = if charset.name() == "gb18030" {
            char::MAX
        } else {
            '\u{2FFFF}'
        };
        for character in '\0'..=all {
            let mut buffer = [0; 4];
            assert_there_and_back(charset, character.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

#[test]
fn two_names_never_have_one_form() {
    // Each of these may be taken for another one of them somewhere.
    let parts = [
        "¥",
        "\\",
        "‾",
        "~",
        "−",
        "－",
        "?",
        "漢",
        "ä",
        "Ê\u{304}",
        "Ê",
        "\u{304}",
        "(",
        ")",
        "(U+",
        "(U+00E4)",
        "(U+6F22)",
        "(U+0028)",
        "(0x",
        "(0xE4)",
        "U+6F22)",
    ];
    for charset in sets() {
        let mut forms = std::collections::HashMap::new();
        for one in parts {
            for two in parts {
                for three in parts {
                    let name = [one, two, three].concat();
                    let wire = assert_there_and_back(charset, name.as_bytes());
                    let known = forms.insert(wire, name.clone());
                    assert!(
                        known.is_none_or(|known| known == name),
                        "{charset}: {name:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn whatever_the_client_sends_means_one_name_or_none() {
    for charset in sets().filter(|charset| !charset.is_utf8()) {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                for wire in [&[first][..], &[first, second], &[b'a', first, second, b'a']] {
                    let Some(name) = charset.decode(wire) else {
                        continue;
                    };
                    // Nothing that the set has just said is lacking.
                    let back = assert_there_and_back(charset, &name);
                    let escaped = back.contains(&b'(') && !wire.contains(&b'(');
                    assert!(!escaped, "{charset}: {}", wire.escape_ascii());
                    // What is looked for in the octets of the wire is what is in the name.
                    for special in *b"\0\r\n/ " {
                        let count =
                            |octets: &[u8]| octets.iter().filter(|o| **o == special).count();
                        assert_eq!(
                            count(wire),
                            count(&name),
                            "{charset}: {}",
                            wire.escape_ascii()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn hostile_names_come_back() {
    let mut random = fastrand::Rng::with_seed(20);
    let pieces: [&[u8]; 12] = [
        b"(U+",
        b"(0x",
        b"6F22)",
        b"E4)",
        b"0028)",
        b"(",
        b")",
        b"a",
        b"\xE6\xBC\xA2",
        b"\xE4",
        b"\xE6\xBC",
        b"\xFF",
    ];
    for charset in sets() {
        for _ in 0..3000 {
            let mut name = Vec::new();
            for _ in 0..random.usize(1..8) {
                match random.u8(..8) {
                    0 => name.push(random.u8(..)),
                    1 => name.extend(random.char(..).encode_utf8(&mut [0; 4]).bytes()),
                    _ => name.extend_from_slice(random.choice(pieces).unwrap_or_default()),
                }
            }
            let wire = assert_there_and_back(charset, &name);
            let lines = [&name[..], b"\r\n", &name, b"\r\n"].concat();
            let expected = [b"x", &wire[..], b"\r\n", &wire, b"\r\n"].concat();
            let mut encoded = b"x".to_vec();
            charset.encode_into(&lines, &mut encoded);
            assert_eq!(encoded, expected);
        }
        for _ in 0..20_000 {
            let wire: Vec<u8> = (0..random.usize(..12)).map(|_| random.u8(..)).collect();
            if let Some(name) = charset.decode(&wire) {
                assert_there_and_back(charset, &name);
            }
        }
    }
}

#[test]
fn names_as_their_clients_write_them() {
    for (label, name, wire) in [
        ("GBK", "文件.txt", &b"\xCE\xC4\xBC\xFE.txt"[..]),
        ("GBK", "€", b"\x80"),
        ("gb18030", "😀", b"\x94\x39\xFC\x36"),
        ("Big5", "許功蓋", b"\xB3\x5C\xA5\x5C\xBB\x5C"),
        ("Shift_JIS", "表ソ能", b"\x95\x5C\x83\x5C\x94\x5C"),
        ("EUC-JP", "漢字", b"\xB4\xC1\xBB\xFA"),
        ("EUC-KR", "한글", b"\xC7\xD1\xB1\xDB"),
        ("latin1", "Grüße ÿ", b"Gr\xFC\xDFe \xFF"),
        ("windows-1251", "файл", b"\xF4\xE0\xE9\xEB"),
        ("koi8-r", "файл", b"\xC6\xC1\xCA\xCC"),
        ("Shift_JIS", "a¥b", b"a(U+00A5)b"),
        ("latin1", "漢.txt", b"(U+6F22).txt"),
        ("latin1", "😀", b"(U+1F600)"),
        ("latin1", "(U+6F22)", b"(U+0028)U+6F22)"),
        ("latin1", "(U+00E4)", b"(U+00E4)"),
        ("latin1", "(x)", b"(x)"),
        ("latin1", "(0xE4)", b"(U+0028)0xE4)"),
        ("latin1", "(0x41)", b"(0x41)"),
    ] {
        let charset = set(label);
        assert_eq!(
            assert_there_and_back(charset, name.as_bytes()),
            wire,
            "{label}: {name}"
        );
        assert_eq!(
            charset.decode(wire).as_deref(),
            Some(name.as_bytes()),
            "{label}"
        );
    }
    assert_eq!(assert_there_and_back(set("latin1"), b"a\xE4"), b"a(0xE4)");
}

#[test]
fn what_the_standards_encoders_lack_comes_back() {
    for (label, name, wire) in [
        ("EUC-JP", "丂", &b"\x8F\xB0\xA1"[..]),
        ("EUC-JP", "¡ž", b"\x8F\xA2\xC2\x8F\xAB\xF6"),
        ("Big5", "䏰", b"\x87\x40"),
        ("Big5", "Ê\u{304}Ê\u{30C}ê", b"\x88\x62\x88\x64\x88\xA7"),
        ("Shift_JIS", "\u{E000}", b"\xF0\x40"),
        ("gb18030", "ä한", b"\x81\x30\x8A\x31\x83\x36\x84\x33"),
    ] {
        let charset = set(label);
        let written = assert_there_and_back(charset, name.as_bytes());
        assert_eq!(
            written.escape_ascii().to_string(),
            wire.escape_ascii().to_string(),
            "{label}: {name}"
        );
    }
    let eucjp = set("EUC-JP");
    for first in 0xA1..=0xFE {
        for second in 0xA1..=0xFE {
            let wire = [0x8F, first, second];
            if let Some(name) = eucjp.decode(&wire) {
                let back = assert_there_and_back(eucjp, &name);
                assert!(!back.contains(&b'('), "{}", wire.escape_ascii());
            }
        }
    }
    // The way around is closed then: one file has one form.
    for (label, written) in [("EUC-JP", "(U+4E02)"), ("Big5", "(U+43F0)")] {
        let name = set(label).decode(written.as_bytes());
        assert_eq!(name.as_deref(), Some(written.as_bytes()));
    }
    // Code page 936 cannot read the four octets of gb18030, so the letter is written so that it can.
    assert_eq!(
        assert_there_and_back(set("GBK"), "ä".as_bytes()),
        b"(U+00E4)"
    );
}

#[test]
fn a_client_cannot_write_around_the_set() {
    // Neither `/` nor a line end nor NUL, nor what the set can say itself, nor other ways to write the same.
    for written in [
        "(U+002F)",
        "(U+000A)",
        "(U+0000)",
        "(0x2F)",
        "(0x0A)",
        "(U+00E4)",
        "(U+6f22)",
        "(U+06F22)",
        "(U+6F22",
        "(U+D800)",
        "(U+110000)",
        "(U+FFFFFFFFF)",
        "(0xe4)",
        "(u+6F22)",
        "(U+)",
        "(0x)",
        "(U++F22)",
    ] {
        let name = set("latin1").decode(written.as_bytes());
        assert_eq!(name.as_deref(), Some(written.as_bytes()));
    }
}

#[test]
fn what_is_no_text_is_refused() {
    for (label, wire) in [
        ("GBK", &b"a\xCE"[..]),
        ("GBK", b"\xCE/"),
        ("GBK", b"\xFF"),
        ("GBK", b"a\x81\x30\x8A\x30"),
        ("GBK", b"\x94\x39\xFC\x36"),
        ("Shift_JIS", b"\x95"),
        ("Shift_JIS", b"\x81/"),
        ("Shift_JIS", b"\xA0\xFD"),
        ("EUC-KR", b"\xC7 "),
        ("windows-1253", b"\xAA"),
    ] {
        assert_eq!(
            set(label).decode(wire),
            None,
            "{label} {}",
            wire.escape_ascii()
        );
    }
}

#[test]
fn plain_names_and_utf8_are_not_copied() {
    let borrowed = |name: Cow<'_, [u8]>| matches!(name, Cow::Borrowed(_));
    for charset in sets() {
        assert!(borrowed(charset.encode(b"plain (1).txt")));
        assert!(charset.decode(b"plain (1).txt").is_some_and(borrowed));
    }
    for name in ["漢".as_bytes(), b"\xFF", b"(U+6F22)"] {
        assert!(borrowed(Charset::UTF_8.encode(name)));
        assert!(Charset::UTF_8.decode(name).is_some_and(borrowed));
    }
}

#[test]
fn octet_255() {
    for (label, has) in [
        ("windows-1251", true),
        ("latin1", true),
        ("koi8-r", true),
        ("GBK", false),
        ("Shift_JIS", false),
        ("UTF-8", false),
    ] {
        assert_eq!(set(label).has_iac(), has, "{label}");
    }
}

#[test]
fn labels() {
    for (label, name) in [
        ("gb2312", "GBK"),
        ("CP936", "GBK"),
        ("cp932", "Shift_JIS"),
        ("sjis", "Shift_JIS"),
        ("ISO-8859-1", "windows-1252"),
        ("utf8", "UTF-8"),
        (" Latin1 ", "windows-1252"),
        ("cp950", "Big5"),
        ("cp949", "EUC-KR"),
    ] {
        assert_eq!(set(label).name(), name);
    }
    for (page, name) in CODE_PAGES {
        assert_eq!(set(page).name(), name);
    }
    for (label, words) in [
        (
            "gkb",
            "there is no character set `gkb`; did you mean `GBK`? Or give a label",
        ),
        ("Shift-JSI", "did you mean `Shift_JIS`?"),
        ("windows-1259", "`windows-125"),
        ("cp437", "there is no character set `cp437`; "),
        ("", "there is no character set ``; give a label"),
        ("replacement", "no character set `replacement`; give"),
        ("x-user-defined", "no character set `x-user-defined`; give"),
        ("\u{1b}[2J", "`\\u{1b}[2J`"),
        ("utf-16le", "names cannot be in UTF-16LE"),
        ("iso-2022-jp", "names cannot be in ISO-2022-JP"),
    ] {
        let told = label.parse::<Charset>().map_err(|error| error.to_string());
        assert!(
            told.as_ref().is_err_and(|told| told.contains(words)),
            "{label}: {told:?}"
        );
    }
    let long = "x".repeat(100_000).parse::<Charset>();
    assert!(long.is_err_and(|error| error.to_string().len() < 300));
}
