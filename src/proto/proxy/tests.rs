use super::*;

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [BINARY_SIGNATURE, &[command, family][..], &length[..], body].concat()
}

const FOUR: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 0, 21];

fn six() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [
        &source.octets()[..],
        &destination.octets(),
        &[0xc0, 0x01, 0, 21],
    ]
    .concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// A header with a checksum, wrong by so much.
fn summed(wrong: u32) -> Vec<u8> {
    let fields = [
        field(0x01, b"ftp"),
        field(TLV_CRC32C, &[0; 4]),
        field(0x05, b"id"),
    ];
    let mut header = binary(0x21, 0x11, &[FOUR, &fields.concat()].concat());
    let sum = crc32c([&header, &[], &[]]).wrapping_add(wrong);
    let at = BINARY_FIXED_OCTETS + FOUR.len() + 6 + 3;
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

fn said(source: &str, destination: &str) -> Header {
    Header::Client {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// Headers that are right, and what they say.
fn right() -> Vec<(Vec<u8>, Header)> {
    let four = said("192.0.2.7:49153", "198.51.100.1:21");
    let both = said("[2001:db8::7]:49153", "[2001:db8::1]:21");
    let text = |line: &str| line.as_bytes().to_vec();
    let fields = [
        field(0x01, b"ftp"),
        field(0xea, b""),
        field(0x20, &[0; 300]),
        field(0x04, &[0; 7]),
    ]
    .concat();
    let mut unknown = text("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    unknown.resize(TEXT_OCTETS_MAX - 2, b' ');
    unknown.extend_from_slice(b"\r\n");
    let largest = vec![0; OCTETS_MAX - BINARY_FIXED_OCTETS];
    vec![
        (text("PROXY TCP4 192.0.2.7 198.51.100.1 49153 21\r\n"), four),
        (
            text("PROXY TCP6 2001:db8::7 2001:db8::1 49153 21\r\n"),
            both,
        ),
        (
            text("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 0 65535\r\n"),
            said("[::ffff:192.0.2.7]:0", "[::ffff:198.51.100.1]:65535"),
        ),
        (text("PROXY UNKNOWN\r\n"), Header::Local),
        (unknown, Header::Local),
        (binary(0x21, 0x11, FOUR), four),
        (binary(0x21, 0x21, &six()), both),
        (binary(0x21, 0x11, &[FOUR, &fields].concat()), four),
        (binary(0x21, 0x21, &[six(), fields].concat()), both),
        (summed(0), four),
        (binary(0x20, 0x00, &[]), Header::Local),
        // Whatever a LOCAL header says of addresses does not hold, be it nonsense.
        (binary(0x20, 0xff, &[1, 2, 3]), Header::Local),
        (binary(0x20, 0x11, &largest), Header::Local),
        (binary(0x21, 0x00, &[]), Header::Local),
    ]
}

#[test]
fn headers_are_read_however_they_are_split() {
    for (header, says) in right() {
        assert!(begins_header(&header));
        let behind = b"\x16\x03\x01 what the client sent";
        let whole = [&header[..], behind].concat();
        for split in 0..=header.len() {
            let mut parser = Parser::default();
            let first = parser.push(&whole[..split]).unwrap();
            assert_eq!(first.taken, split, "all of it belongs to the header");
            assert_eq!(parser.is_untouched(), split == 0);
            if split == header.len() {
                assert_eq!(first.header, Some(says));
                continue;
            }
            assert_eq!(first.header, None);
            let second = parser.push(&whole[split..]).unwrap();
            assert_eq!(second.taken, header.len() - split, "and nothing behind it");
            assert_eq!(second.header, Some(says));
        }
        let mut parser = Parser::default();
        let mut last = None;
        for octet in &header {
            assert_eq!(last, None);
            let progress = parser.push(&[*octet]).unwrap();
            assert_eq!(progress.taken, 1);
            last = progress.header;
        }
        assert_eq!(last, Some(says));
    }
}

fn refusal(octets: &[u8]) -> HeaderError {
    let mut parser = Parser::default();
    match parser.push(octets) {
        Err(error) => error,
        other => panic!("{}: {other:?}", octets.escape_ascii()),
    }
}

#[test]
fn what_is_no_header_is_missing() {
    for octets in [
        &b"USER x\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"PROXX TCP4",
        b"PRoXY TCP4",
        b" PROXY TCP4",
        b"\r\nPROXY TCP4",
        b"\r\n\r\n\0\r\nQUIT\rxxxx",
        b"\r\n\r\nGET",
        b"\0",
    ] {
        assert_eq!(refusal(octets), Missing, "{}", octets.escape_ascii());
        assert!(!begins_header(octets));
    }
}

#[test]
fn lines_that_break_a_rule_are_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 -2\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        "PROXY TCP4 ::1 198.51.100.1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
        "PROXY TCP6 ::1%1 ::1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 0.0.0.0 198.51.100.1 1 2\r\n",
        "PROXY TCP6 :: ::1 1 2\r\n",
        "PROXY TCP6 ::ffff:0.0.0.0 ::1 1 2\r\n",
        "PROXY TCP4 224.0.0.1 198.51.100.1 1 2\r\n",
    ] {
        assert!(matches!(refusal(line.as_bytes()), Malformed(_)), "{line:?}");
    }
    let mut endless = b"PROXY UNKNOWN".to_vec();
    endless.resize(TEXT_OCTETS_MAX - 1, b'x');
    let mut parser = Parser::default();
    assert_eq!(parser.push(&endless).unwrap().header, None);
    assert_eq!(parser.push(b"\r\n"), Err(TOO_LONG));
}

#[test]
fn binary_headers_that_break_a_rule_are_refused() {
    let with = |fields: &[u8]| binary(0x21, 0x11, &[FOUR, fields].concat());
    for header in [
        binary(0x11, 0x11, FOUR),
        binary(0x31, 0x11, FOUR),
        binary(0x22, 0x11, FOUR),
        binary(0x2f, 0x11, FOUR),
        binary(0x21, 0x12, FOUR),
        binary(0x21, 0x31, &[0; 216]),
        binary(0x21, 0x41, &[0; 216]),
        binary(0x21, 0x10, FOUR),
        binary(0x21, 0x13, FOUR),
        binary(0x21, 0x11, &FOUR[..11]),
        binary(0x21, 0x21, &six()[..35]),
        binary(0x21, 0x21, FOUR),
        binary(0x21, 0x11, &[0; 12]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 1]),
        with(&[1, 0xff, 0xff, 1]),
        with(&[1, 0, 0, 2]),
        with(&field(TLV_CRC32C, &[0; 3])),
        with(&field(TLV_CRC32C, &[0; 5])),
        summed(1),
    ] {
        assert!(
            matches!(refusal(&header), Malformed(_)),
            "{}",
            header.escape_ascii()
        );
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_kept() {
    for length in [OCTETS_MAX - BINARY_FIXED_OCTETS + 1, 65_535] {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        let fixed = [&BINARY_SIGNATURE[..], &[0x21, 0x11], &length].concat();
        assert_eq!(refusal(&fixed), TOO_LONG);
    }
}

#[test]
fn the_checksum_is_that_of_rfc_3720() {
    let check = crc32c([b"1234", b"", b"56789"]);
    assert_eq!(check, 0xe306_9283);
    assert_eq!(crc32c([&[0; 32], &[], &[]]), 0x8a91_36aa);
}

/// Random octets, and right headers with some octets changed, in random portions: no panic, no octet
/// taken that was not given, progress until there is a verdict, and bounded memory.
#[test]
fn hostile_octets_come_to_a_verdict() {
    let mut random = fastrand::Rng::with_seed(11);
    let right = right();
    let mut complete = 0;
    for _ in 0..20_000 {
        let mut octets = match random.u8(..8) {
            0 => (0..random.usize(..200)).map(|_| random.u8(..)).collect(),
            _ => random.choice(&right).unwrap().0.clone(),
        };
        for _ in 0..random.usize(..4) {
            if let Some(octet) = random.choice(octets.iter_mut().collect::<Vec<_>>()) {
                *octet = random.u8(..);
            }
        }
        octets.extend((0..random.usize(..40)).map(|_| random.u8(..)));
        let mut parser = Parser::default();
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            let portion = &rest[..random.usize(1..=rest.len())];
            match parser.push(portion) {
                Err(_) => break,
                Ok(Progress { taken, header }) => {
                    assert!(taken <= portion.len());
                    assert!(parser.held.len() <= OCTETS_MAX);
                    rest = &rest[taken..];
                    if header.is_some() {
                        complete += 1;
                        break;
                    }
                    assert_eq!(taken, portion.len(), "it wants more and leaves some");
                }
            }
        }
    }
    assert!(complete > 1000, "{complete}: the mutants are all dead");
}
