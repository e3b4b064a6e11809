//! The load generator's command line.

use std::process::ExitCode;

use clap::Parser;
use ringftpd::load::{execute, options::CommandLine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    execute(&CommandLine::parse()).unwrap_or_else(|fatal| {
        eprintln!("ringftpd-load: {fatal}");
        fatal.exit_code()
    })
}
