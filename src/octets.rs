//! Numbers of octets as people write them: `500k`, `10M`, `2Gi`.

/// Units, the largest first: powers of 1000 (SI), and of 1024 with an `i` (IEC 80000-13).
const UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("k", 1_000),
];

/// What a number of octets may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "give octets as 65536, 500k, 10M, 2G, 1T (powers of 1000) or 64Ki, 10Mi, 2Gi, 1Ti (powers of 1024)"
)]
pub struct NotOctets;

/// Parses a whole number of octets with or without a unit; `K` is taken for `k`.
///
/// # Errors
/// [`NotOctets`]: no number, another unit, or 2^63 octets and more.
pub fn parse(text: &str) -> Result<u64, NotOctets> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or(NotOctets)?;
    let each = if unit.is_empty() {
        1
    } else {
        UNITS
            .into_iter()
            .find(|(name, _)| *name == unit || (*name == "k" && unit == "K"))
            .map(|(_, each)| each)
            .ok_or(NotOctets)?
    };
    let number = number.parse::<u64>().map_err(|_| NotOctets)?;
    number
        .checked_mul(each)
        .filter(|octets| *octets < 1 << 63)
        .ok_or(NotOctets)
}

/// The shortest text that [`parse`] reads as this number.
#[must_use]
pub fn text(octets: u64) -> String {
    UNITS
        .into_iter()
        .find(|(_, each)| octets > 0 && octets.is_multiple_of(*each))
        .map_or_else(
            || octets.to_string(),
            |(unit, each)| format!("{}{unit}", octets / each),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1000_and_1024() {
        let cases = [
            ("0", 0),
            ("1000", 1000),
            ("1k", 1000),
            ("1K", 1000),
            ("1Ki", 1024),
            ("10M", 10_000_000),
            ("10Mi", 10 << 20),
            ("3G", 3_000_000_000),
            ("2Gi", 2 << 30),
            ("1T", 1_000_000_000_000),
            ("1Ti", 1 << 40),
        ];
        for (text, octets) in cases {
            assert_eq!(parse(text), Ok(octets), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1.5M",
            "1 M",
            "1m",
            "1MB",
            "1P",
            "+1",
            "9999999999999T",
            "0x10",
            "18446744073709551615",
        ] {
            assert_eq!(parse(text), Err(NotOctets), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for octets in [
            0,
            1,
            999,
            1000,
            1024,
            1536,
            10_000_000,
            10 << 20,
            5 << 40,
            (1 << 63) - 1,
        ] {
            assert_eq!(parse(&text(octets)), Ok(octets), "{}", text(octets));
        }
        assert_eq!(text(10_000_000), "10M");
        assert_eq!(text(10 << 20), "10Mi");
    }
}
