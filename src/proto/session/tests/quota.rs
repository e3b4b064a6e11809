//! SITE QUOTA and refusals for a quota.

use super::Wire;
use crate::proto::event::{FileError, FileReply, QuotaUsage, TransferEnd};

const OVER: FileError = FileError::OverQuota {
    left: 12,
    quota: 1000,
};
const REFUSAL: &str = "552 Quota exceeded: 12 of 1000 octets left.\r\n";

#[test]
fn refusals_say_how_much_is_left() {
    let mut wire = Wire::ready();
    wire.file = Err(OVER);
    assert_eq!(wire.text("ALLO 13"), REFUSAL);
    for line in ["STOR f", "APPE f", "STOU"] {
        let mut wire = Wire::ready();
        wire.ready = Err(OVER);
        wire.tell("PASV");
        assert_eq!(wire.text(line), REFUSAL);
        assert_eq!(wire.tell("LIST"), "425", "the set-up is used up");

        let mut wire = Wire::ready();
        wire.end = Some(TransferEnd::File(OVER));
        wire.tell("PASV");
        let replies = wire.text(line);
        assert!(replies.starts_with("150 "), "{replies}");
        assert!(replies.ends_with(REFUSAL), "{replies}");
    }
}

#[test]
fn site_quota_tells_what_is_used() {
    let mut wire = Wire::ready();
    let mut usage = QuotaUsage {
        used: 988,
        quota: Some(1000),
        counted: true,
    };
    let mut said = |usage| {
        wire.file = Ok(FileReply::Quota(usage));
        wire.text("SITE QUOTA")
    };
    assert_eq!(said(usage), "200 Used 988 of 1000 octets, 12 left.\r\n");
    // A quota may have become smaller than what is there.
    usage.used = 1001;
    assert_eq!(said(usage), "200 Used 1001 of 1000 octets, 0 left.\r\n");
    usage.counted = false;
    let counting = "200 Used 1001 of 1000 octets, 0 left; still counting.\r\n";
    assert_eq!(said(usage), counting);
    usage.quota = None;
    assert_eq!(said(usage), "200 No quota.\r\n");
    assert_eq!(wire.tell("SITE QUOTA x"), "501");
    assert_eq!(wire.tell("site quota"), "200");
}
