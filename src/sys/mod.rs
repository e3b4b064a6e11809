//! Everything that talks to the kernel directly, one feature a file. All unsafe code of the
//! project is in this module, each block with the reason why it is sound.

pub mod access;
pub mod activation;
pub mod clock;
pub mod fs;
pub mod host;
pub mod identity;
pub mod inotify;
pub mod keeper;
pub mod ktls;
pub mod pam;
pub mod pass_fds;
pub mod pipe;
pub mod ring;
pub mod sendfile;
pub mod signals;
pub mod socket;
pub mod successor;
pub mod unnamed;
