//! Logins by TLS client certificate (RFC 4217 §14).

use std::io;
use std::rc::Rc;
use std::time::Instant;

use tracing::info;

use super::actions::Login;
use super::{Connection, Letter};
use crate::auth::{Account, Presented};
use crate::logging::in_this_session;
use crate::proto::{Event, LoginVerdict};
use crate::rt::{self, Duty};
use crate::tls::{ControlTls, TlsError};

/// Whether a right password opens the account beside what the client has shown on this TLS session.
pub(super) fn permits_password(account: &Account, control: Option<&ControlTls>) -> bool {
    let permitted = account
        .personal
        .certificates
        .permits_password(control.and_then(presented).as_ref());
    if !permitted {
        info!(
            user = account.name,
            "the password was right, but the users file asks for a certificate that the client has not shown, or for nothing else"
        );
    }
    permitted
}

fn presented(control: &ControlTls) -> Option<Presented<'_>> {
    let certificate = control.certificate()?;
    Some(Presented {
        sha256: &certificate.sha256,
        subject: &certificate.subject,
    })
}

impl Connection {
    /// The handshake is complete: takes note of the client's certificate.
    ///
    /// # Errors
    /// The session was resumed, and its certificate has expired or was revoked since.
    pub(super) fn take_certificate(&mut self) -> io::Result<()> {
        let Some(clients) = self.settings.tls.clients() else {
            return Ok(());
        };
        let shown = self.channel.client_certificate(clients);
        let shown = shown.map_err(|error| {
            // The client should try a full handshake next, with what it has now.
            if let Some(control) = self.channel.control_tls() {
                control.forget_all();
            }
            self.channel.close();
            io::Error::other(error)
        })?;
        if let (Some(certificate), Some(control)) = (shown, self.channel.control_tls()) {
            control.set_certificate(certificate);
            self.session.certificate_shown();
        }
        Ok(())
    }

    /// The TLS session, while it protects the control connection.
    pub(super) fn protected_by(&self) -> Option<Rc<ControlTls>> {
        self.channel.protected_by().cloned()
    }

    /// Tells the operator why a client does not get in, and what can be done.
    pub(super) fn log_refused_certificate(&self, error: &io::Error) {
        let error = error.get_ref().and_then(|e| e.downcast_ref::<TlsError>());
        if let Some((error, remedy)) = error.and_then(|e| Some((e, e.certificate_remedy()?))) {
            let peer = self.peer.ip().to_canonical();
            info!(%peer, %error, remedy, "client certificate refused");
        }
    }

    /// USER of a client that has shown a certificate.
    pub(super) fn check_certificate(&mut self, user: &[u8]) {
        let now = rt::now();
        let control = self.protected_by();
        let certificate = control.as_deref().and_then(presented);
        let account =
            certificate.and_then(|certificate| self.authenticator().certified(user, &certificate));
        let Some(account) = account else {
            self.session
                .handle_event(Event::CertificateChecked(None), now);
            return;
        };
        self.marks.password = self.session.running_since().or(Some(now));
        if self.is_banned(now) {
            return self.certified(Err(LoginVerdict::Banned), now);
        }
        let (core, realm) = (Rc::clone(&self.core), self.realm());
        let unavailable = Letter::Certified(Err(LoginVerdict::Unavailable));
        let duty = Duty::new(&self.mailbox, unavailable);
        rt::spawn(in_this_session(async move {
            duty.done(Letter::Certified(core.admit(account, realm).await));
        }));
    }

    pub(super) fn certified(&mut self, login: Result<Login, LoginVerdict>, now: Instant) {
        let verdict = self.enter(login, now);
        self.session
            .handle_event(Event::CertificateChecked(Some(verdict)), now);
    }
}
