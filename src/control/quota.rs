//! Uploads that a quota refuses or ends: counted, and told in the log.

use tracing::info;

use super::Connection;
use crate::metrics::Refusal;
use crate::proto::{FileError, TransferKind};

impl Connection {
    /// An upload has failed for this reason.
    pub(super) fn note_quota(&self, kind: &TransferKind, error: FileError) {
        if !kind.is_upload() {
            return;
        }
        let (left, quota) = match error {
            FileError::OverQuota { left, quota } => (Some(left), Some(quota)),
            // Of the file system.
            FileError::QuotaExceeded => (None, None),
            _ => return,
        };
        self.core.metrics.refused(Refusal::Quota);
        let account = self.login.as_ref().map(|login| &login.account);
        info!(
            peer = %self.peer.ip().to_canonical(),
            user = account.map_or("-", |account| &account.name),
            left,
            quota,
            "upload refused: quota exceeded"
        );
    }
}
