//! Logins that fail too often: what is counted, logged, and told to the session.

use std::net::IpAddr;
use std::time::Instant;

use tracing::warn;

use super::Connection;
use super::host::distinct_octets;
use crate::admission::Failed;
use crate::metrics::{Banned, Refusal};
use crate::proto::LoginVerdict;

impl Connection {
    /// What becomes of a verdict by what came before it from there.
    pub(super) fn weigh(
        &mut self,
        verdict: LoginVerdict,
        peer: IpAddr,
        now: Instant,
    ) -> LoginVerdict {
        // SECURITY: whoever has an account on one host must not undo with it the failures of another host's user.
        let realm = self.realm();
        let user = self.session.user().unwrap_or_default();
        let user = &*distinct_octets(user, realm.as_deref());
        let guard = self.core.admission.guard();
        let metrics = &self.core.metrics;
        match verdict {
            LoginVerdict::Granted => guard.succeeded(peer, user, now),
            LoginVerdict::Refused => {
                let Failed { delay_ratio, bans } = guard.failed(peer, user, now);
                for ban in bans.iter().flatten() {
                    metrics.banned(match ban.neighbourhood {
                        true => Banned::Network,
                        false => Banned::Address,
                    });
                    warn!(
                        network = %ban.network,
                        failures = ban.failures,
                        seconds = ban.time.as_secs_f64(),
                        "banned: too many failed logins"
                    );
                }
                if bans.iter().any(Option::is_some) {
                    return LoginVerdict::Banned;
                }
                self.session.slow_refusal(delay_ratio);
            }
            LoginVerdict::TooManySessions => metrics.refused(Refusal::Sessions),
            LoginVerdict::Banned => metrics.refused(Refusal::Banned),
            LoginVerdict::Unavailable => {}
        }
        verdict
    }

    /// Connections that were there before a ban have no further try either.
    pub(super) fn is_banned(&self, now: Instant) -> bool {
        let guard = self.core.admission.guard();
        guard.banned(self.peer.ip(), now).is_some()
    }
}
