//! The configuration file: TOML with a key for every option of `ringftpd serve`.
//!
//! ```text
//! table: keys from clap ──> parse: text to entries, problems ──> sources: with the command line, by clap ──> Checked
//!                      └──> example                                                └──> reload at SIGHUP
//! ```

mod blame;
mod check;
mod example;
mod hosts;
mod manual;
mod nearest;
mod parse;
mod problem;
mod reload;
mod sections;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use blame::Origins;
pub use check::check_config;
pub use example::{ConfigCommand, run_config_command};
pub use manual::{ManualKey, ManualSection, manual, structures};
pub use problem::{Place, Problem, Problems};
pub(super) use reload::Reloader;
pub use sections::{Complaints, Section, Structures};
pub use sources::{Loaded, Refusal, Sources};
pub use table::{Change, command};
