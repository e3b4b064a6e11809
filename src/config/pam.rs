//! Options about accounts of PAM.

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::failure::{Exit, Failure, cause};
use super::options::ACCOUNTS;
use crate::auth::{DirectoryTemplate, Pam, PamAccounts, Permissions};
use crate::rt;
use crate::sys::pam::{self, Helpers, Terms};

/// Where services are looked for, as libpam does.
const SERVICE_DIRECTORIES: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/share/pam.d"];

/// Accounts of PAM.
#[derive(Debug, Clone, Args)]
pub struct PamOptions {
    /// Ask PAM about users that are not in the users file, as this service: the name of a file in /etc/pam.d.
    #[arg(long, value_name = "SERVICE", value_parser = parse_service, help_heading = ACCOUNTS)]
    pub pam: Option<String>,
    /// What such an account sees as `/`: %u stands for the user's name, %h for the home directory [default: the home directory].
    #[arg(long, value_name = "TEMPLATE", requires = "pam", help_heading = ACCOUNTS)]
    pub pam_directory: Option<DirectoryTemplate>,
    /// What such accounts may do, as `read,list`; names as in `ringftpd user add --permissions`.
    #[arg(long, value_name = "LIST", default_value = "all", help_heading = ACCOUNTS)]
    pub pam_permissions: Permissions,
    /// Accounts of the system with lower user ids are refused, and root always.
    #[arg(long, value_name = "ID", default_value_t = 1000, help_heading = ACCOUNTS)]
    pub pam_uid_min: u32,
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PamSettings {
    /// For the helper processes.
    pub terms: Terms,
    /// For the accounts.
    pub accounts: PamAccounts,
}

/// SECURITY: a service is a file name, which must lead nowhere else.
fn parse_service(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let usable = text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    usable
        .then(|| text.to_owned())
        .ok_or("give the name of a file in /etc/pam.d, as ringftpd")
}

impl PamOptions {
    pub(super) fn settings(self) -> Option<PamSettings> {
        // The parser lets no NUL pass.
        let service = CString::new(self.pam?).ok()?;
        Some(PamSettings {
            terms: Terms {
                service,
                user_id_min: self.pam_uid_min,
            },
            accounts: PamAccounts {
                directory: self.pam_directory,
                permissions: self.pam_permissions,
            },
        })
    }
}

/// Whether PAM can be asked here at all.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn demand(settings: &PamSettings) -> Result<(), Failure> {
    if !pam::AVAILABLE {
        let message = "--pam: this ringftpd was built without PAM; take the Debian package, or build it with `cargo build --release --features pam`";
        return Err(Failure::new(Exit::Usage, message));
    }
    // SECURITY: libpam takes the service `other` for one that has no file, which may let everybody in.
    let service = settings.terms.service.to_string_lossy();
    let mut places = SERVICE_DIRECTORIES.iter().map(Path::new);
    if places.any(|place| place.join(&*service).is_file()) {
        return Ok(());
    }
    let message = format!(
        "--pam {service}: there is no /etc/pam.d/{service}; copy tuning/ringftpd.pam there, or name another service"
    );
    Err(Failure::new(Exit::NoInput, message))
}

/// Forks what starts the helper processes, or takes over what the process before had.
///
/// # Errors
/// [`Failure`] with the remedy.
pub(super) fn prepare(settings: Option<&PamSettings>) -> Result<Option<Helpers>, Failure> {
    let inherited = Helpers::inherited(settings.map(|settings| &settings.terms));
    let Some(settings) = settings else {
        return Ok(None);
    };
    demand(settings)?;
    let helpers = match inherited {
        Some(helpers) => helpers,
        None => Helpers::fork(&settings.terms).map_err(|error| {
            let message = format!("cannot start a process for PAM: {}", cause(&error));
            Failure::new(Exit::System, message)
        })?,
    };
    if !helpers.are_root() {
        tracing::warn!(
            "PAM is asked without root: pam_unix and others that read /etc/shadow will refuse everybody but this account; start the server as root, which it gives away"
        );
    }
    Ok(Some(helpers))
}

/// Starts the threads that ask.
///
/// # Errors
/// [`Failure`].
pub(super) fn start(helpers: Helpers) -> Result<Arc<Pam>, Failure> {
    Pam::start(helpers, rt::now()).map_err(|error| {
        let message = format!("cannot start a thread for PAM: {}", cause(&error));
        Failure::new(Exit::System, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_plain_file_name() {
        for service in ["ringftpd", "ring-ftpd_2", "x.y", "7"] {
            assert_eq!(parse_service(service).as_deref(), Ok(service));
        }
        for service in [
            "",
            ".",
            "..",
            "../shadow",
            "/etc/pam.d/ftp",
            "a b",
            "-x",
            "a\0",
        ] {
            assert!(parse_service(service).is_err(), "{service:?}");
        }
    }

    #[test]
    fn a_service_without_a_file_is_refused_with_the_remedy() {
        let settings = PamSettings {
            terms: Terms {
                service: c"no-such-service-of-ringftpd".to_owned(),
                user_id_min: 1000,
            },
            accounts: PamAccounts {
                directory: None,
                permissions: Permissions::ALL,
            },
        };
        let failure = demand(&settings).unwrap_err();
        let (exit, word) = if pam::AVAILABLE {
            (Exit::NoInput, "/etc/pam.d/no-such-service-of-ringftpd")
        } else {
            (Exit::Usage, "--features pam")
        };
        assert_eq!(failure.exit, exit);
        assert!(failure.message.contains(word), "{failure}");
    }
}
