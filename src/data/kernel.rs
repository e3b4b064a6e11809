//! When the kernel protects data connections: what the probe found, what the operator wants, and what
//! happened since.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::warn;

use super::route::{Fallback, KernelTlsOffer, Means};
use crate::limits;
use crate::tls::Protection;
use crate::tls::probe::{Costs, Report, SuiteReport};

/// What the operator wants of kernel TLS in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// Where it works and is not clearly dearer.
    #[default]
    Auto,
    /// Wherever it works.
    On,
    /// Never.
    Off,
}

/// What the operator wants of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Kernel TLS for downloads.
    pub download: Wanted,
    /// Kernel TLS for uploads.
    pub upload: Wanted,
    /// How files go to sockets.
    pub means: Means,
    /// Records that one key protects.
    pub records_max: u64,
    /// Is an upload complete only with close_notify?
    pub strict_eof: bool,
}

impl Wishes {
    /// Whether the kernel has to be asked what it can do.
    #[must_use]
    pub fn asks_kernel(self) -> bool {
        (self.download, self.upload) != (Wanted::Off, Wanted::Off)
    }
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            download: Wanted::Auto,
            upload: Wanted::Auto,
            means: Means::Auto,
            records_max: limits::TLS_RECORDS_PER_KEY_MAX,
            strict_eof: true,
        }
    }
}

/// What a connection needs to know of its kernel once it has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// Can keys be changed (Linux 6.14)?
    pub(super) rekey: bool,
    /// Records after which keys must be changed.
    pub(super) records_max: u64,
}

impl Traits {
    /// Where this process seals.
    pub(super) fn of_process(protection: Protection) -> Self {
        Self {
            rekey: true,
            records_max: match protection.has_record_limit() {
                true => limits::TLS_RECORDS_PER_KEY_MAX,
                false => u64::MAX,
            },
        }
    }
}

/// One version and cipher.
#[derive(Debug)]
struct Suite {
    download: Result<KernelTlsOffer, Fallback>,
    upload: Result<KernelTlsOffer, Fallback>,
    traits: Traits,
    failures: Failures,
}

/// The policy, shared by all cores.
#[derive(Debug)]
pub struct KernelTlsPolicy {
    suites: [Suite; Protection::ALL.len()],
    means: Means,
    began: Instant,
}

impl KernelTlsPolicy {
    /// The policy that follows from what the probe found and the operator wants.
    #[must_use]
    pub fn new(report: &Report, wishes: Wishes, now: Instant) -> Self {
        Self {
            suites: report.suites.each_ref().map(|suite| Suite {
                download: download(suite, wishes),
                upload: upload(suite, wishes),
                traits: Traits {
                    rekey: suite.rekey,
                    records_max: records_max(suite.protection, wishes),
                },
                failures: Failures::default(),
            }),
            means: wishes.means,
            began: now,
        }
    }

    /// By what means files go to sockets.
    #[must_use]
    pub fn means(&self) -> Means {
        self.means
    }

    /// What the kernel offers for a download.
    ///
    /// # Errors
    /// Why it offers nothing.
    pub fn download(
        &self,
        protection: Option<Protection>,
        now: Instant,
    ) -> Result<KernelTlsOffer, Fallback> {
        let suite = self.suite(protection, now)?;
        suite.download
    }

    /// What the kernel offers for an upload.
    ///
    /// # Errors
    /// Why it offers nothing.
    pub fn upload(
        &self,
        protection: Option<Protection>,
        now: Instant,
    ) -> Result<KernelTlsOffer, Fallback> {
        let suite = self.suite(protection, now)?;
        suite.upload
    }

    fn suite(&self, protection: Option<Protection>, now: Instant) -> Result<&Suite, Fallback> {
        let suite = protection.and_then(|protection| self.suites.get(protection.index()));
        let suite = suite.ok_or(Fallback::Unsupported)?;
        if suite.failures.is_suspended(self.milliseconds(now)) {
            return Err(Fallback::Suspended);
        }
        Ok(suite)
    }

    pub(super) fn traits(&self, protection: Protection) -> Traits {
        let none = Traits {
            rekey: false,
            records_max: limits::TLS_RECORDS_PER_KEY_MAX,
        };
        let suite = self.suites.get(protection.index());
        suite.map_or(none, |suite| suite.traits)
    }

    /// The kernel failed a transfer that it had the keys of. After several failures it is left alone
    /// for a while.
    pub(super) fn failed(
        &self,
        protection: Protection,
        now: Instant,
        error: &dyn std::error::Error,
    ) {
        warn!(%protection, %error, "kernel TLS failed a transfer");
        let Some(suite) = self.suites.get(protection.index()) else {
            return;
        };
        if suite.failures.add(self.milliseconds(now)) {
            let seconds = limits::KERNEL_TLS_SUSPENSION.as_secs();
            warn!(
                %protection,
                seconds,
                "kernel TLS failed {} times: not used for this suite for a while",
                limits::KERNEL_TLS_FAILURES_MAX
            );
        }
    }

    /// Since the start; never 0.
    fn milliseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1) + 1
    }
}

/// Failures of late, and until when the suite is left alone.
#[derive(Debug, Default)]
struct Failures {
    count: AtomicU64,
    last: AtomicU64,
    suspended_until: AtomicU64,
}

impl Failures {
    fn is_suspended(&self, now: u64) -> bool {
        now < self.suspended_until.load(Ordering::Relaxed)
    }

    /// Counts a failure; tells whether it was one too many. Failures that lie far apart do not add up.
    fn add(&self, now: u64) -> bool {
        let window = milliseconds(limits::KERNEL_TLS_SUSPENSION);
        let last = self.last.swap(now, Ordering::Relaxed);
        if now.saturating_sub(last) > window {
            self.count.store(0, Ordering::Relaxed);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count < u64::from(limits::KERNEL_TLS_FAILURES_MAX) {
            return false;
        }
        self.count.store(0, Ordering::Relaxed);
        self.suspended_until.store(now + window, Ordering::Relaxed);
        true
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

fn records_max(protection: Protection, wishes: Wishes) -> u64 {
    if protection.has_record_limit() {
        wishes.records_max
    } else {
        u64::MAX
    }
}

fn download(suite: &SuiteReport, wishes: Wishes) -> Result<KernelTlsOffer, Fallback> {
    if wishes.download == Wanted::Off {
        return Err(Fallback::Off);
    }
    if suite.problem.is_some() {
        return Err(Fallback::Unsupported);
    }
    let Costs {
        user_send,
        kernel_read,
        kernel_sendfile,
        ..
    } = suite.costs;
    let free = wishes.download == Wanted::On || wishes.means != Means::Auto;
    let sendfile = free || is_worth_it(kernel_sendfile, user_send);
    let read = free || is_worth_it(kernel_read, user_send);
    if !sendfile && !read {
        return Err(Fallback::Dearer);
    }
    Ok(KernelTlsOffer {
        sendfile,
        read,
        octets_min: octets_min(wishes),
        octets_max: octets_max(suite, wishes),
    })
}

fn upload(suite: &SuiteReport, wishes: Wishes) -> Result<KernelTlsOffer, Fallback> {
    if wishes.upload == Wanted::Off {
        return Err(Fallback::Off);
    }
    if suite.problem.is_some() || suite.receive_problem.is_some() {
        return Err(Fallback::Unsupported);
    }
    // SECURITY: the kernel's receive call goes on as long as records come that bring nothing, so a client
    // that sends empty ones fast enough holds the core; rustls counts them. And the kernel gains little
    // on this side: the octets pass through this process in any case.
    if wishes.upload == Wanted::Auto {
        return Err(Fallback::Unasked);
    }
    // Only rustls can tell whether FIN came between two records.
    if !wishes.strict_eof {
        return Err(Fallback::Lenient);
    }
    Ok(KernelTlsOffer {
        sendfile: false,
        read: true,
        octets_min: octets_min(wishes),
        octets_max: u64::MAX,
    })
}

/// The kernel wins ties and what is a little dearer: a short probe sees neither the memory's
/// bandwidth nor a network card that encrypts, which is where kernel TLS pays. What was not measured
/// is taken to be worth it.
fn is_worth_it(kernel: Option<f64>, user: Option<f64>) -> bool {
    match (kernel, user) {
        (Some(kernel), Some(user)) => kernel <= user * limits::KERNEL_TLS_COST_RATIO_MAX,
        _ => true,
    }
}

/// Who names the means wants to see them.
fn octets_min(wishes: Wishes) -> u64 {
    match wishes.means {
        Means::Auto => limits::KERNEL_TLS_OCTETS_MIN,
        _ => 0,
    }
}

/// What one key may send where it cannot be changed; half of it, since records can be shorter than
/// they might be.
fn octets_max(suite: &SuiteReport, wishes: Wishes) -> u64 {
    if suite.rekey || !suite.protection.has_record_limit() {
        return u64::MAX;
    }
    let record = limits::TLS_RECORD_PLAINTEXT_MAX as u64;
    wishes.records_max.saturating_mul(record) / 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::probe::{Problem, unsupported};

    #[expect(clippy::disallowed_methods, reason = "a test has no runtime to ask")]
    fn now() -> Instant {
        Instant::now()
    }

    /// A kernel that can do everything, at these costs.
    fn able(costs: Costs) -> Report {
        let mut report = unsupported(Problem::NoModule);
        for suite in &mut report.suites {
            suite.problem = None;
            suite.receive_problem = None;
            suite.costs = costs;
        }
        report
    }

    fn costs(user: f64, read: f64, sendfile: f64) -> Costs {
        Costs {
            user_send: Some(user),
            kernel_read: Some(read),
            kernel_sendfile: Some(sendfile),
            user_receive: Some(user),
            kernel_receive: Some(read),
        }
    }

    const GCM: Option<Protection> = Some(Protection::ALL[0]);
    const CHACHA: Option<Protection> = Some(Protection::ALL[2]);

    #[test]
    fn a_kernel_without_tls_offers_nothing() {
        let now = now();
        let report = unsupported(Problem::NoModule);
        let policy = KernelTlsPolicy::new(&report, Wishes::default(), now);
        assert_eq!(policy.download(GCM, now), Err(Fallback::Unsupported));
        assert_eq!(policy.upload(GCM, now), Err(Fallback::Unsupported));
        assert_eq!(policy.download(None, now), Err(Fallback::Unsupported));
    }

    #[test]
    fn the_kernel_wins_ties_and_what_is_little_dearer() {
        let now = now();
        let offer =
            |costs, wishes| KernelTlsPolicy::new(&able(costs), wishes, now).download(GCM, now);
        let auto = Wishes::default();
        let both = offer(costs(1.0, 1.04, 1.0), auto).unwrap();
        assert!(both.read && both.sendfile);
        let one = offer(costs(1.0, 1.06, 1.0), auto).unwrap();
        assert!(!one.read && one.sendfile);
        assert_eq!(offer(costs(1.0, 1.06, 1.06), auto), Err(Fallback::Dearer));
        let on = Wishes {
            download: Wanted::On,
            ..auto
        };
        assert!(offer(costs(1.0, 9.0, 9.0), on).is_ok());
        let off = Wishes {
            download: Wanted::Off,
            ..auto
        };
        assert_eq!(offer(costs(1.0, 0.1, 0.1), off), Err(Fallback::Off));
        assert!(offer(Costs::default(), auto).is_ok(), "not measured");
    }

    #[test]
    fn uploads_go_to_the_kernel_only_when_asked_to() {
        let now = now();
        let report = able(Costs::default());
        let upload = |wishes| KernelTlsPolicy::new(&report, wishes, now).upload(GCM, now);
        let auto = Wishes::default();
        assert_eq!(upload(auto), Err(Fallback::Unasked));
        let on = Wishes {
            upload: Wanted::On,
            ..auto
        };
        assert!(upload(on).is_ok());
        let lenient = Wishes {
            strict_eof: false,
            ..on
        };
        assert_eq!(upload(lenient), Err(Fallback::Lenient));
    }

    #[test]
    fn without_new_keys_a_file_must_not_use_one_up() {
        let now = now();
        let mut report = able(Costs::default());
        let largest = |report: &Report, protection| {
            let policy = KernelTlsPolicy::new(report, Wishes::default(), now);
            policy.download(protection, now).unwrap().octets_max
        };
        assert_eq!(largest(&report, GCM), 128 << 30);
        assert_eq!(largest(&report, CHACHA), u64::MAX);
        report.suites[0].rekey = true;
        assert_eq!(largest(&report, GCM), u64::MAX);
    }

    #[test]
    fn repeated_failures_suspend_a_suite_for_a_while() {
        let start = now();
        let policy = KernelTlsPolicy::new(&able(Costs::default()), Wishes::default(), start);
        let error = std::io::Error::other("told to");
        let fail = |now| policy.failed(Protection::ALL[0], now, &error);
        for _ in 1..limits::KERNEL_TLS_FAILURES_MAX {
            fail(start);
            assert!(policy.download(GCM, start).is_ok());
        }
        fail(start);
        assert_eq!(policy.download(GCM, start), Err(Fallback::Suspended));
        assert_eq!(policy.upload(GCM, start), Err(Fallback::Suspended));
        assert!(policy.download(CHACHA, start).is_ok(), "the others go on");
        let later = start + limits::KERNEL_TLS_SUSPENSION + Duration::from_millis(1);
        assert!(policy.download(GCM, later).is_ok());
        for hour in 1..100 {
            fail(later + Duration::from_secs(3600 * hour));
        }
        let end = later + Duration::from_secs(3600 * 100);
        assert!(
            policy.download(GCM, end).is_ok(),
            "rare failures do not add up"
        );
    }
}
