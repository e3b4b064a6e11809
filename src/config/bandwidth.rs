//! Options about how fast transfers may go.

use clap::Args;

use crate::bandwidth::{Limits, Rates};
use crate::{limits, octets};

const RATES: &str = "Rates (octets a second: 65536, 500k, 10M, 10Mi; 0 for no limit)";

/// Rates, each direction by itself.
#[derive(Debug, Args)]
pub struct RateOptions {
    /// Downloads and listings of one session.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub download_rate_per_session: u64,
    /// Uploads of one session.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub upload_rate_per_session: u64,
    /// Downloads and listings of all sessions of a user together; `rate_download` in the users file goes before.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub download_rate_per_user: u64,
    /// Uploads of all sessions of a user together; `rate_upload` in the users file goes before.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub upload_rate_per_user: u64,
    /// Downloads and listings of everybody together.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub download_rate_total: u64,
    /// Uploads of everybody together.
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "0", help_heading = RATES)]
    pub upload_rate_total: u64,
}

impl RateOptions {
    pub(super) fn limits(&self) -> Limits {
        let rates = |download, upload| Rates { download, upload };
        Limits {
            per_session: rates(self.download_rate_per_session, self.upload_rate_per_session),
            per_user: rates(self.download_rate_per_user, self.upload_rate_per_user),
            total: rates(self.download_rate_total, self.upload_rate_total),
        }
    }
}

/// Parses a rate in octets a second.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    let rate =
        octets::parse(text).map_err(|error| format!("{error} a second, or 0 for no limit"))?;
    if (1..limits::RATE_OCTETS_PER_SECOND_MIN).contains(&rate) {
        return Err(format!(
            "the lowest rate is {} octets a second; 0 means no limit",
            limits::RATE_OCTETS_PER_SECOND_MIN
        ));
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units_and_a_lowest_value() {
        let cases = [
            ("0", 0),
            ("1000", 1000),
            ("500k", 500_000),
            ("10Mi", 10 << 20),
        ];
        for (text, rate) in cases {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for text in ["", "999", "1", "10MB", "-5", "1.5M"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
