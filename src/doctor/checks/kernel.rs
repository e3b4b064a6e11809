//! Kernel version, io_uring, kernel TLS, modules.

use crate::doctor::{Facts, Finding, Group, Severity, tuning};
use crate::sys::host::{self, RingProblem};
use crate::tls::probe::Problem;

/// The oldest kernel that the server is made and tested for: Debian 12's.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// From here on the kernel changes keys of TLS 1.3.
const KERNEL_REKEYS: (u32, u32) = (6, 14);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![version(&facts.kernel), ring(facts.ring_problem.as_ref())];
    findings.extend(kernel_tls(&facts.kernel_tls));
    findings.extend(tuning::modules().into_iter().map(|line| {
        let there = facts.modules.contains(&line.name);
        Finding::new(format!("module:{}", line.name), Group::Kernel)
            .measured(if there { "there" } else { "not loaded" })
            .wanted("loaded or built in")
            .why(line.reason)
            .bad_if(!there, Severity::Advice, format!("modprobe {}", line.name))
    }));
    findings
}

/// A finding for each version and cipher, or one for all where they are alike.
fn kernel_tls(suites: &[(String, Option<Problem>)]) -> Vec<Finding> {
    let Some((_, first)) = suites.first() else {
        return Vec::new();
    };
    let finding = |id: String, problem: Option<&Problem>| {
        let finding = Finding::new(id, Group::Kernel)
            .wanted("the kernel protects data connections")
            .why(
                "then large downloads can go from the page cache to the network without entering this process; \
                 without it everything works, for more CPU time on some kernels",
            );
        let Some(problem) = problem else {
            return finding.measured("works");
        };
        let (what, remedy) = split_remedy(&problem.to_string());
        finding.measured(what).bad(Severity::Advice, remedy)
    };
    if suites.iter().all(|(_, problem)| problem == first) {
        return vec![finding("kernel-tls".to_owned(), first.as_ref())];
    }
    suites
        .iter()
        .map(|(suite, problem)| finding(format!("kernel-tls:{suite}"), problem.as_ref()))
        .collect()
}

/// The version at the front of a release: `6.1.0-25-amd64`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn version(release: &str) -> Finding {
    let version = parse(release);
    let finding = Finding::new("kernel-version", Group::Kernel)
        .measured(release)
        .wanted(format!("{}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1))
        .why(if version.is_some_and(|version| version >= KERNEL_REKEYS) {
            "the server needs operations and flags of io_uring that came up to 6.0, and is tested from 6.1 on; this kernel \
             can also change keys of kernel TLS (6.14)"
        } else {
            "the server needs operations and flags of io_uring that came up to 6.0, and is tested from 6.1 on; before 6.14 the \
             kernel cannot change keys of TLS, so that a client that asks for new ones during a transfer gets 426"
        });
    // Whether it really does not work is io_uring's finding.
    finding.bad_if(
        version.is_none_or(|version| version < KERNEL_MIN),
        Severity::Warning,
        "install a newer kernel, on Debian: apt-get install -t stable-backports linux-image-amd64",
    )
}

fn ring(problem: Option<&RingProblem>) -> Finding {
    let operations: Vec<&str> = host::ring_operations().collect();
    let finding = Finding::new("io_uring", Group::Kernel)
        .wanted(operations.join(", "))
        .why("everything that waits, and every octet that is not moved by sendfile, goes through io_uring");
    let Some(problem) = problem else {
        return finding.measured("every operation that is needed");
    };
    let (what, remedy) = split_remedy(&problem.to_string());
    finding.measured(what).bad(Severity::Error, remedy)
}

/// The sentences of problems name what is wrong first, then the remedy. What is in parentheses may hold anything.
fn split_remedy(sentence: &str) -> (String, String) {
    let after_parenthesis = sentence.find("): ").map(|at| at + 1);
    let at = after_parenthesis.or_else(|| {
        let ends = [sentence.find("; "), sentence.find(": ")];
        ends.into_iter().flatten().min()
    });
    let halves = at.and_then(|at| Some((sentence.get(..at)?, sentence.get(at + 2..)?)));
    let (what, remedy) = halves.unwrap_or((sentence, "see `ringftpd serve`"));
    (what.to_owned(), remedy.to_owned())
}
