//! Bounds of one account, in place of what holds for all.

use serde::{Deserialize, Serialize};

use crate::octets;

/// What a users file sets for one account; `None` leaves it to the server's options, 0 means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Downloads of all sessions together, octets a second.
    pub rate_download: Option<u64>,
    /// Uploads of all sessions together, octets a second.
    pub rate_upload: Option<u64>,
    /// Sessions at a time.
    pub sessions_max: Option<u32>,
    /// Octets of the files below the home.
    pub quota: Option<u64>,
}

/// A number of octets in a users file: an integer, or a text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Octets(pub(super) u64);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = toml::Value::deserialize(deserializer)?;
        let octets = match &value {
            toml::Value::Integer(number) => u64::try_from(*number).map_err(|_| octets::NotOctets),
            toml::Value::String(text) => octets::parse(text),
            _ => Err(octets::NotOctets),
        };
        octets.map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&octets::text(self.0))
    }
}
