//! The whole report, and its JSON form.

use serde::Serialize;

use super::{Finding, Severity};

/// The version of the JSON form. Fields may be added within a version; a change of meaning raises it.
pub(super) const SCHEMA: u32 = 1;

/// What the doctor says. As JSON it is one object with these fields; README.md describes them.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this form.
    pub schema: u32,
    /// This program's version.
    pub version: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// No finding is an error.
    pub can_serve: bool,
    /// How many findings there are of each severity.
    pub counts: Counts,
    /// What was looked at.
    pub findings: Vec<Finding>,
    /// Kernel TLS, absent when it is switched off or could not be tried.
    pub kernel_tls: Option<KernelTls>,
}

/// Findings of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As they should be.
    pub ok: usize,
    /// Advice.
    pub advice: usize,
    /// Warnings.
    pub warning: usize,
    /// Errors.
    pub error: usize,
}

/// What the probe of kernel TLS found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelTls {
    /// How long it took.
    pub milliseconds: f64,
    /// A row for each version and cipher.
    pub suites: Vec<SuiteRow>,
}

/// A version and cipher of TLS. Costs are nanoseconds of CPU time an octet, absent where not measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteRow {
    /// Version and cipher.
    pub suite: String,
    /// Which way downloads go.
    pub downloads: &'static str,
    /// Which way uploads go.
    pub uploads: &'static str,
    /// Whether the kernel protects it.
    pub works: bool,
    /// Whether the kernel can change keys.
    pub rekey: bool,
    /// Why the kernel does not protect it, or not both ways.
    pub problems: Vec<String>,
    /// Read, sealed in this process, sent.
    pub user_send: Option<f64>,
    /// Read, sent through the kernel.
    pub kernel_read: Option<f64>,
    /// sendfile through the kernel.
    pub kernel_sendfile: Option<f64>,
    /// Received and opened in this process.
    pub user_receive: Option<f64>,
    /// Received through the kernel.
    pub kernel_receive: Option<f64>,
}

impl Report {
    /// The report of these findings.
    #[must_use]
    pub fn new(
        kernel: String,
        cores: usize,
        findings: Vec<Finding>,
        kernel_tls: Option<KernelTls>,
    ) -> Self {
        let mut counts = Counts::default();
        for finding in &findings {
            *match finding.severity {
                Severity::Ok => &mut counts.ok,
                Severity::Advice => &mut counts.advice,
                Severity::Warning => &mut counts.warning,
                Severity::Error => &mut counts.error,
            } += 1;
        }
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            kernel,
            cores,
            can_serve: counts.error == 0,
            counts,
            findings,
            kernel_tls,
        }
    }

    /// The JSON form, with a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists only: that cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
