//! Options about who may connect, and when somebody is shut out.

use std::time::Duration;

use clap::Args;

use super::value::parse_time_above_zero;
use crate::admission::{AccessList, BanPolicy};
use crate::proto::network::Network;

const ACCESS: &str = "Who may connect";

/// Networks and failed logins.
#[derive(Debug, Args)]
pub struct AccessOptions {
    /// Network that may connect, as 192.0.2.0/24 or 2001:db8::/32; repeatable. With one, all others may not.
    #[arg(long, value_name = "CIDR", help_heading = ACCESS)]
    pub allow: Vec<Network>,
    /// Network that may not connect, likewise; repeatable. The most specific network decides.
    #[arg(long, value_name = "CIDR", help_heading = ACCESS)]
    pub deny: Vec<Network>,
    /// Failed logins from one address (IPv6: a /64) within --login-failure-window for which it is banned; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 300, help_heading = ACCESS)]
    pub login_failures_max: u32,
    /// The same from one network (IPv4 /24, IPv6 /48).
    #[arg(long, value_name = "N", default_value_t = 3000, help_heading = ACCESS)]
    pub login_failures_per_network_max: u32,
    /// Failed logins count together for so long.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "10m", help_heading = ACCESS)]
    pub login_failure_window: Duration,
    /// How long a ban lasts.
    #[arg(long, value_name = "TIME", value_parser = parse_time_above_zero, default_value = "10m", help_heading = ACCESS)]
    pub ban_time: Duration,
}

/// The same, as [`crate::admission`] takes it.
#[derive(Debug, Clone)]
pub struct Access {
    /// Networks.
    pub list: AccessList,
    /// Bans.
    pub bans: BanPolicy,
}

impl AccessOptions {
    pub(super) fn access(&self) -> Access {
        Access {
            list: AccessList::new(&self.allow, &self.deny),
            bans: BanPolicy {
                address_failures_max: self.login_failures_max,
                network_failures_max: self.login_failures_per_network_max,
                window: self.login_failure_window,
                time: self.ban_time,
            },
        }
    }
}
