//! Restart and upgrade: the options, where listeners come from, and `ringftpd upgrade`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::cause;
use super::file::{Refusal, Sources};
use super::value::parse_time;
use super::{Checked, EXPLICIT_PORT, Exit, Failure, IMPLICIT_PORT, Privileges};
use crate::server::{
    self, HandOverError, Lifecycle, Listeners, Notifier, Opener, Passed, Predecessor, Program, Role,
};
use crate::sys::activation;

const RESTART: &str = "Restart and upgrade";

/// The options about restart and upgrade.
#[derive(Debug, Clone, Args)]
pub struct RestartOptions {
    /// Take over the listeners of the server that answers in the state directory, if one does; it goes on with the sessions that it has.
    #[arg(long, help_heading = RESTART)]
    pub take_over: bool,
    /// For sessions to end by themselves after another process has taken over; then running transfers have --grace.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "24h", help_heading = RESTART)]
    pub retire_timeout: Duration,
}

/// The options of `ringftpd upgrade`.
#[derive(Debug, Clone, Args)]
pub struct UpgradeOptions {
    /// The configuration file of the running server, for its state directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory of the running server [default: that of --config, or else as that of `serve`].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Where a server's listeners come from, and whom it tells what.
pub(super) struct Origin {
    passed: Vec<Passed>,
    lifecycle: Lifecycle,
}

impl Origin {
    /// Looks into the environment. To be called before any thread is started.
    ///
    /// # Errors
    /// [`Failure`]: what was passed is of no use.
    pub(super) fn new(checked: &Checked) -> Result<Self, Failure> {
        let activated = activation::take().map_err(|problem| Failure::new(Exit::Usage, problem))?;
        let passed = activated.into_iter().map(|socket| role(socket, checked));
        Ok(Self {
            passed: passed.collect::<Result<_, _>>()?,
            lifecycle: Lifecycle {
                notifier: Notifier::from_environment(),
                program: Program::of_this_process().ok(),
                ..Lifecycle::default()
            },
        })
    }

    /// The listeners: passed, taken over, or bound.
    ///
    /// # Errors
    /// [`Failure`] with the remedy; `failed` makes it of an address that cannot be bound.
    pub(super) fn listeners(
        &mut self,
        checked: &Checked,
        privileges: &Privileges,
        failed: impl FnOnce(SocketAddr, std::io::Error) -> Failure,
    ) -> Result<Listeners, Failure> {
        self.lifecycle.state_directory = privileges.state_directory().map(PathBuf::from);
        if checked.take_over {
            self.take_over(privileges)?;
        }
        Listeners::gather(
            &checked.explicit,
            &checked.implicit,
            checked.cores.len(),
            &mut self.passed,
        )
        .map_err(|(address, error)| failed(address, error))
    }

    fn take_over(&mut self, privileges: &Privileges) -> Result<(), Failure> {
        let Some(directory) = privileges.state_directory() else {
            let message = "--take-over needs the state directory: name one with --state-dir DIR";
            return Err(Failure::new(Exit::CannotCreate, message));
        };
        let asked = Predecessor::ask(directory, privileges.account());
        match asked.map_err(|error| refused(&error))? {
            Some((predecessor, passed)) => {
                tracing::info!(process = predecessor.process, "taking over");
                self.passed.extend(passed);
                self.lifecycle.predecessor = Some(predecessor);
            }
            None => tracing::info!("no server runs that could be taken over from"),
        }
        Ok(())
    }

    /// The listener for metrics that was passed or taken over.
    pub(super) fn metrics(&mut self, checked: &Checked) -> Option<(TcpListener, Opener)> {
        let passed = Listeners::take_metrics(checked.metrics, &mut self.passed)?;
        Some((passed.fd.into(), passed.opener))
    }

    /// What is left: sockets without a use are closed.
    pub(super) fn lifecycle(self) -> Lifecycle {
        for passed in &self.passed {
            let (address, role) = (passed.address, passed.role.name());
            match passed.opener {
                Opener::Supervisor => {
                    tracing::warn!(%address, role, "a socket that the supervisor passed has no use");
                }
                Opener::Server => tracing::info!(%address, role, "not served any more"),
            }
        }
        self.lifecycle
    }
}

/// What a socket of the supervisor is for: its name says so, else its port.
fn role(socket: activation::Passed, checked: &Checked) -> Result<Passed, Failure> {
    let port = socket.address.port();
    let among = |addresses: &[SocketAddr], usual| {
        port == usual || addresses.iter().any(|address| address.port() == port)
    };
    let by_port = || {
        let explicit = among(&checked.explicit, EXPLICIT_PORT).then_some(Role::Explicit);
        explicit.or_else(|| among(&checked.implicit, IMPLICIT_PORT).then_some(Role::Implicit))
    };
    let role = Role::named(&socket.name).or_else(by_port);
    let role = role.ok_or_else(|| {
        let message = format!(
            "the supervisor passed a socket on {} by the name `{}`: give it FileDescriptorName=explicit, implicit or metrics",
            socket.address, socket.name
        );
        Failure::new(Exit::Usage, message)
    })?;
    Ok(Passed {
        fd: socket.fd,
        role,
        address: socket.address,
        opener: Opener::Supervisor,
    })
}

fn refused(error: &HandOverError) -> Failure {
    let exit = match error {
        HandOverError::Nobody(_) => Exit::Unavailable,
        HandOverError::Stranger { .. } => Exit::NoPermission,
        HandOverError::Socket { error, .. }
            if error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Exit::NoPermission
        }
        HandOverError::Socket { .. } | HandOverError::Refused(_) => Exit::System,
    };
    Failure::new(exit, error.to_string())
}

/// Has the running server replaced by a new process of its program.
///
/// # Errors
/// Why it was not, or what is wrong with the configuration file; the old process goes on then.
pub fn upgrade(options: UpgradeOptions) -> Result<ExitCode, Refusal> {
    // A file that is wrong would keep the new process from starting: better told here than in its log.
    let configured = match &options.config {
        Some(file) => Sources::only(file)?.options()?.0.host.state_dir,
        None => None,
    };
    let directory = super::state_directory(options.state_dir.or(configured))?;
    let (old, new) = server::upgrade(&directory).map_err(|error| refused(&error))?;
    let words =
        format!("process {new} has taken over from {old}, which goes on with its sessions\n");
    std::io::stdout()
        .lock()
        .write_all(words.as_bytes())
        .map_err(|error| {
            Failure::new(Exit::System, format!("standard output: {}", cause(&error)))
        })?;
    Ok(ExitCode::SUCCESS)
}
