//! Quotas: SITE QUOTA, and refusals that say how much is left.

use std::borrow::Cow;

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
        let (code, text) = file_refusal(error, context);
        self.reply(code, &text);
    }

    /// The final reply of a transfer. After an `atomic` upload that broke off it says that nothing has come of it.
    pub(super) fn reply_end(&mut self, end: TransferEnd, context: FileContext, atomic: bool) {
        let (code, text) = match end {
            TransferEnd::File(error) => file_refusal(error, context),
            _ => {
                let (code, text) = reply::for_transfer_end(end, context);
                (code, text.into())
            }
        };
        if atomic && code.is_failure() && end != TransferEnd::Unsynced {
            self.reply(code, &format!("{text} Nothing of it was stored."));
        } else {
            self.reply(code, &text);
        }
    }
}

fn file_refusal(error: FileError, context: FileContext) -> (Code, Cow<'static, str>) {
    match error {
        FileError::OverQuota { left, quota } => {
            let text = format!("Quota exceeded: {left} of {quota} octets left.");
            (Code::QuotaExceeded, text.into())
        }
        _ => {
            let (code, text) = reply::for_file_error(error, context);
            (code, text.into())
        }
    }
}
