//! Quotas: SITE QUOTA, and refusals that say how much is left.

use super::Session;
use super::files::FilePurpose;
use crate::proto::event::{FileError, FileRequest, QuotaUsage, TransferEnd};
use crate::proto::reply::{self, Code, FileContext};

impl Session {
    /// SITE QUOTA, without an argument.
    pub(super) fn ask_quota(&mut self, argument: &[u8]) {
        let request = if argument.trim_ascii().is_empty() {
            Ok((FileRequest::Quota, FilePurpose::Show))
        } else {
            Err((Code::BadArgument, "SITE QUOTA takes no argument."))
        };
        self.request(request);
    }

    pub(super) fn show_quota(&mut self, usage: QuotaUsage) {
        let QuotaUsage {
            used,
            quota,
            counted,
        } = usage;
        let Some(quota) = quota else {
            return self.reply(Code::Okay, "No quota.");
        };
        let left = quota.saturating_sub(used);
        let rest = if counted { "" } else { "; still counting" };
        let text = format!("Used {used} of {quota} octets, {left} left{rest}.");
        self.reply(Code::Okay, &text);
    }

    /// The reply to what failed on files.
    pub(super) fn refuse_file(&mut self, error: FileError, context: FileContext) {
        match error {
            FileError::OverQuota { left, quota } => {
                let text = format!("Quota exceeded: {left} of {quota} octets left.");
                self.reply(Code::QuotaExceeded, &text);
            }
            _ => self.refuse(reply::for_file_error(error, context)),
        }
    }

    /// The final reply of a transfer.
    pub(super) fn reply_end(&mut self, end: TransferEnd, context: FileContext) {
        match end {
            TransferEnd::File(error) => self.refuse_file(error, context),
            _ => self.refuse(reply::for_transfer_end(end, context)),
        }
    }
}
