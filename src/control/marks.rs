//! What is measured of a control connection: moments that wait for their end, and who is told.
//!
//! The clock is read once when octets come and once when replies have left, however many commands
//! there were between; everything else happens seldom.

use std::time::Instant;

use tracing::debug;

use super::Connection;
use super::seat::Stage;
use crate::metrics::{Admitted, Channel, Class, Listener, Refusal, Verdict};
use crate::proto::LoginVerdict;
use crate::proto::command::Verb;
use crate::proto::session::ChannelKind;
use crate::rt;

/// Moments whose matching ones have not come yet.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// It was accepted and not greeted.
    pub(super) accepted: Option<Instant>,
    /// Replies left, and nothing has come since.
    pub(super) answered: Option<Instant>,
    /// Its TLS handshake began.
    pub(super) handshake: Option<Instant>,
    /// PASS came.
    pub(super) password: Option<Instant>,
    /// The transfer command came.
    pub(super) transfer: Option<Instant>,
}

impl Connection {
    /// Records what was answered. To be called when the replies have left, or are queued for a client
    /// that does not read.
    pub(super) fn observe(&mut self) {
        let busy = self.session.running_since().is_some();
        self.seat.busy.set(busy);
        let Some(replies) = self.session.take_replies() else {
            return;
        };
        let now = rt::now();
        self.marks.answered = Some(now);
        self.seat.answered.set(now);
        let metrics = &self.core.metrics;
        metrics.replies(replies);
        if let Some(accepted) = self.marks.accepted.take() {
            let [_, greeted, ..] = replies;
            // A first reply of another kind turns the client away.
            if greeted > 0 {
                let time = now.saturating_duration_since(accepted);
                metrics.greeted(listener(self.session.kind()), time);
                self.seat.stage.set(Stage::Open);
            }
        }
        while let Some(answered) = self.session.take_answered() {
            let time = now.saturating_duration_since(answered.began);
            metrics.command(class(answered.verb), time);
            self.seat.verb.set(answered.verb);
            // Never its argument: that of PASS is one.
            debug!(verb = ?answered.verb, seconds = time.as_secs_f64(), "command");
        }
    }

    /// The handshake on the control connection is complete.
    pub(super) fn handshake_ended(&mut self, resumed: bool) {
        if let Some(began) = self.marks.handshake.take() {
            let time = rt::now().saturating_duration_since(began);
            self.core.metrics.handshake(Channel::Control, resumed, time);
        }
    }

    /// The connection ends: a handshake that was not completed never will be.
    pub(super) fn handshake_given_up(&mut self) {
        if self.marks.handshake.take().is_some() && !self.core.draining.get() {
            self.core.metrics.handshake_failed(Channel::Control);
        }
    }

    /// The password was judged.
    pub(super) fn password_judged(&mut self, verdict: LoginVerdict, now: Instant) {
        let began = self.marks.password.take().unwrap_or(now);
        let verdict = match verdict {
            LoginVerdict::Granted => Verdict::Granted,
            LoginVerdict::Refused => Verdict::Refused,
            LoginVerdict::Unavailable | LoginVerdict::TooManySessions | LoginVerdict::Banned => {
                Verdict::Unavailable
            }
        };
        let time = now.saturating_duration_since(began);
        self.core.metrics.login(verdict, time);
    }
}

impl super::Core {
    /// Counts a connection that was accepted but is not served.
    pub fn turned_away(&self, kind: ChannelKind, reason: Refusal) {
        self.metrics.refused(reason);
        self.metrics.connection(listener(kind), Admitted::Refused);
    }

    pub(super) fn taken(&self, kind: ChannelKind) {
        self.metrics.connection(listener(kind), Admitted::Accepted);
    }
}

fn listener(kind: ChannelKind) -> Listener {
    match kind {
        ChannelKind::Explicit => Listener::Explicit,
        ChannelKind::Implicit => Listener::Implicit,
    }
}

/// The class of a command.
fn class(verb: Option<Verb>) -> Class {
    let Some(verb) = verb else {
        return Class::Unknown;
    };
    match verb {
        Verb::Noop => Class::Noop,
        Verb::User | Verb::Host | Verb::Acct | Verb::Rein | Verb::Quit => Class::Session,
        Verb::Pass => Class::Password,
        Verb::Auth | Verb::Pbsz | Verb::Prot | Verb::Ccc => Class::Protection,
        Verb::Type
        | Verb::Stru
        | Verb::Mode
        | Verb::Rest
        | Verb::Opts
        | Verb::Lang
        | Verb::Clnt => Class::Parameter,
        Verb::Feat | Verb::Help | Verb::Syst | Verb::Stat | Verb::Pwd => Class::Information,
        Verb::Pasv | Verb::Epsv | Verb::Port | Verb::Eprt => Class::Setup,
        Verb::Cwd
        | Verb::Cdup
        | Verb::Mkd
        | Verb::Rmd
        | Verb::Dele
        | Verb::Rnfr
        | Verb::Rnto
        | Verb::Size
        | Verb::Mdtm
        | Verb::Mfmt
        | Verb::Mlst
        | Verb::Allo
        | Verb::Site => Class::File,
        Verb::Retr => Class::Download,
        Verb::Stor | Verb::Stou | Verb::Appe => Class::Upload,
        Verb::List | Verb::Nlst | Verb::Mlsd => Class::Listing,
        Verb::Abor => Class::Abort,
        Verb::Refused => Class::Unknown,
    }
}
