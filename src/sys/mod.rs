//! Every unsafe line of the package, one kernel feature a file, behind safe signatures.

pub mod host;
pub mod identity;
pub mod keeper;
