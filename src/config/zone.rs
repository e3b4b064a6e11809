//! `--list-zone`: a time zone by its name, by its offset, or that of the machine.

use jiff::tz::TimeZone;

use crate::proto::zone::Zone;

/// Parses `UTC`, `local`, `+HH:MM`, or a name of the IANA database.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_zone(text: &str) -> Result<Zone, String> {
    if text.starts_with(['+', '-']) {
        return offset(text).ok_or_else(|| "give an offset from UTC as +02:00 or -0330".into());
    }
    if text.eq_ignore_ascii_case("UTC") {
        return Ok(Zone::default());
    }
    if text == "local" {
        return TimeZone::try_system().map(Zone::new).map_err(|_| {
            "the time zone of this machine is not set: `timedatectl set-timezone`; or give another"
                .into()
        });
    }
    TimeZone::get(text).map(Zone::new).map_err(|_| {
        format!(
            "there is no time zone `{}` in this machine's database; give `UTC`, `local`, an offset as +02:00, or a name as \
             Europe/Berlin with the package tzdata installed",
            text.escape_default()
        )
    })
}

/// `+HH`, `+HHMM` or `+HH:MM`.
fn offset(text: &str) -> Option<Zone> {
    let (sign, digits) = text.split_at_checked(1)?;
    let digits = digits.replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Zone::fixed(if sign == "-" { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_named_in_four_ways() {
        for utc in ["UTC", "utc", "+00:00", "-00"] {
            assert_eq!(parse_zone(utc), Ok(Zone::default()), "{utc}");
        }
        for (text, seconds) in [
            ("+02", 7200),
            ("+02:00", 7200),
            ("-0330", -12_600),
            ("+14:00", 50_400),
        ] {
            assert_eq!(
                Ok(Zone::fixed(seconds).unwrap()),
                parse_zone(text),
                "{text}"
            );
        }
        for bad in [
            "",
            "+",
            "+2",
            "+15:00",
            "+02:60",
            "+0a",
            "+-200",
            "Mars/Phobos",
            "../etc/passwd",
            "+02:00:00",
        ] {
            let told = parse_zone(bad).unwrap_err();
            assert!(told.contains("+02:00"), "{bad}: {told}");
        }
        // Whatever the machine has.
        if let Ok(zone) = parse_zone("Asia/Kolkata") {
            assert_eq!(zone.local(1_700_000_000), 1_700_019_800);
        }
    }
}
