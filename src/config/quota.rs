//! Options about how much accounts may store.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::hosts::AllAccounts;
use super::options::BOUNDS;
use crate::octets;
use crate::quota::Quotas;

/// Quotas.
#[derive(Debug, Args)]
pub struct QuotaOptions {
    /// Octets of the files below an account's home (500M, 10Gi); `quota` in the users file goes before.
    #[arg(long, value_name = "OCTETS", value_parser = parse_quota, default_value = "0", help_heading = BOUNDS)]
    pub quota_per_user: u64,
}

/// Parses a number of octets.
///
/// # Errors
/// A sentence with examples.
pub(super) fn parse_quota(text: &str) -> Result<u64, String> {
    octets::parse(text).map_err(|error| format!("{error}, or 0 for no quota"))
}

/// The counts of a server, kept in its state directory if there is one.
pub(super) fn quotas(
    state_directory: Option<&Path>,
    accounts: &AllAccounts,
    per_user: u64,
) -> Arc<Quotas> {
    let quotas = Quotas::new(state_directory);
    follow(&quotas, accounts, per_user);
    quotas
}

/// The quotas of these accounts hold for sessions that begin from now on.
pub(super) fn follow(quotas: &Quotas, accounts: &AllAccounts, per_user: u64) {
    let homes = accounts
        .accounts()
        .map(|account| (account.home.as_path(), account.bounds.quota));
    quotas.set_policy(per_user, homes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_have_units_and_no_lowest_value() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("500M", 500_000_000),
            ("10Gi", 10 << 30),
        ];
        for (text, octets) in cases {
            assert_eq!(parse_quota(text), Ok(octets), "{text}");
        }
        for text in ["", "-1", "10MB", "1.5G", "none"] {
            assert!(parse_quota(text).is_err(), "{text}");
        }
    }
}
