//! The one place that chooses which way the octets of a transfer go. Pure.

use crate::rt::Residency;

/// A way from file to socket or back. Files beside this one have one function for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Read into a buffer, send it, or the reverse: clear text.
    Clear,
    /// As `Clear`, with line ends converted.
    ClearAscii,
    /// From the page cache to the socket by the kernel: files in clear text.
    ClearSendfile,
    /// As `ClearSendfile`, through a pipe by a thread of the kernel.
    ClearSplice,
    /// Sealed or opened by rustls in this process.
    UserTls,
    /// As `UserTls`, with line ends converted.
    UserTlsAscii,
    /// Read into a buffer and sent; the kernel encrypts.
    KernelTlsRead,
    /// From the page cache; the kernel encrypts.
    KernelTlsSendfile,
    /// As `KernelTlsSendfile`, through a pipe by a thread of the kernel.
    KernelTlsSplice,
    /// The kernel decrypts into a buffer, which is written.
    KernelTlsReceive,
}

impl Route {
    /// Every route, in the order of its numbers.
    pub const ALL: [Self; 10] = [
        Self::Clear,
        Self::ClearAscii,
        Self::ClearSendfile,
        Self::ClearSplice,
        Self::UserTls,
        Self::UserTlsAscii,
        Self::KernelTlsRead,
        Self::KernelTlsSendfile,
        Self::KernelTlsSplice,
        Self::KernelTlsReceive,
    ];

    /// Does the kernel protect a download that goes this way from its first octet?
    #[must_use]
    pub(super) fn is_kernel_tls(self) -> bool {
        matches!(
            self,
            Self::KernelTlsRead | Self::KernelTlsSendfile | Self::KernelTlsSplice
        )
    }

    /// Do the octets of a download stay out of this process?
    #[must_use]
    pub(super) fn is_direct(self) -> bool {
        matches!(
            self,
            Self::ClearSendfile
                | Self::ClearSplice
                | Self::KernelTlsSendfile
                | Self::KernelTlsSplice
        )
    }

    /// The name in logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::ClearAscii => "clear-ascii",
            Self::ClearSendfile => "clear-sendfile",
            Self::ClearSplice => "clear-splice",
            Self::UserTls => "user-tls",
            Self::UserTlsAscii => "user-tls-ascii",
            Self::KernelTlsRead => "ktls-read",
            Self::KernelTlsSendfile => "ktls-sendfile",
            Self::KernelTlsSplice => "ktls-splice",
            Self::KernelTlsReceive => "ktls-receive",
        }
    }
}

/// Why the kernel does not protect a transfer that it could protect as far as its kind goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The operator switched it off.
    Off,
    /// The kernel lacks it, for this version and cipher at least.
    Unsupported,
    /// The probe found this process to be cheaper.
    Dearer,
    /// Too short to be worth the system calls.
    Short,
    /// Longer than one key may protect, and the kernel cannot change keys.
    Long,
    /// The kernel failed too often of late.
    Suspended,
    /// The client had ended, or said something that only rustls understands, before the kernel could
    /// take over.
    Late,
    /// The socket did not take kernel TLS.
    Refused,
    /// Uploads stay in this process unless the operator wants them in the kernel.
    Unasked,
    /// An upload may end without close_notify, and only rustls knows whether a record was cut.
    Lenient,
}

impl Fallback {
    /// Every reason, in the order of its numbers.
    pub const ALL: [Self; 10] = [
        Self::Off,
        Self::Unsupported,
        Self::Dearer,
        Self::Short,
        Self::Long,
        Self::Suspended,
        Self::Late,
        Self::Refused,
        Self::Unasked,
        Self::Lenient,
    ];

    /// The name in logs and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unsupported => "unsupported",
            Self::Dearer => "dearer",
            Self::Short => "short",
            Self::Long => "long",
            Self::Suspended => "suspended",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::Unasked => "unasked",
            Self::Lenient => "lenient",
        }
    }
}

/// By what means files go to sockets, if the operator does not leave it to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Means {
    /// What is best for the file.
    #[default]
    Auto,
    /// Read into a buffer, then sent.
    Read,
    /// sendfile(2).
    Sendfile,
    /// splice(2) through the ring.
    Splice,
}

/// What the kernel could do for a protected transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelTlsOffer {
    /// Is sendfile no dearer than sealing in this process? Never for an upload.
    pub sendfile: bool,
    /// Are read and send, or receive and write, no dearer?
    pub read: bool,
    /// Fewer octets are not worth it.
    pub octets_min: u64,
    /// More than these cannot be sent with one key.
    pub octets_max: u64,
}

/// How a transfer is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected {
    /// PROT C.
    No,
    /// PROT P, and what the kernel offers, or why it does not.
    Yes(Result<KernelTlsOffer, Fallback>),
}

/// What is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A file to the client.
    Download {
        /// Its octets.
        octets: u64,
        /// Where they are.
        residency: Residency,
    },
    /// A directory's listing, whose line ends are right already.
    Listing,
    /// A file from the client. It begins in this process, and may go over to the kernel later: it
    /// tells its length only at its end.
    Upload,
}

/// A route, and why it is not one of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The route.
    pub route: Route,
    /// Set where the kernel might have protected the transfer.
    pub fallback: Option<Fallback>,
}

impl From<Route> for Choice {
    fn from(route: Route) -> Self {
        Self {
            route,
            fallback: None,
        }
    }
}

/// Chooses the route of a transfer. `ascii`: TYPE A.
#[must_use]
pub fn choose(protected: Protected, ascii: bool, means: Means, subject: Subject) -> Choice {
    let Subject::Download { octets, residency } = subject else {
        let convert = ascii && subject == Subject::Upload;
        return match (protected, convert) {
            (Protected::No, false) => Route::Clear.into(),
            (Protected::No, true) => Route::ClearAscii.into(),
            (Protected::Yes(_), true) => Route::UserTlsAscii.into(),
            (Protected::Yes(offer), false) => Choice {
                route: Route::UserTls,
                fallback: match subject {
                    Subject::Upload => offer.err(),
                    _ => None,
                },
            },
        };
    };
    match protected {
        Protected::No if ascii => Route::ClearAscii.into(),
        Protected::Yes(_) if ascii => Route::UserTlsAscii.into(),
        Protected::No => clear(means, residency).into(),
        Protected::Yes(offer) => {
            let chosen = offer.and_then(|offer| kernel_tls(offer, means, octets, residency));
            match chosen {
                Ok(route) => route.into(),
                Err(fallback) => Choice {
                    route: Route::UserTls,
                    fallback: Some(fallback),
                },
            }
        }
    }
}

/// sendfile waits for the disk, with the whole core; so the file system must tell what is in memory.
fn clear(means: Means, residency: Residency) -> Route {
    match means {
        Means::Auto if residency == Residency::Unknown => Route::Clear,
        Means::Read => Route::Clear,
        Means::Auto | Means::Sendfile => Route::ClearSendfile,
        Means::Splice => Route::ClearSplice,
    }
}

fn kernel_tls(
    offer: KernelTlsOffer,
    means: Means,
    octets: u64,
    residency: Residency,
) -> Result<Route, Fallback> {
    if octets < offer.octets_min {
        return Err(Fallback::Short);
    }
    if octets > offer.octets_max {
        return Err(Fallback::Long);
    }
    match means {
        Means::Read => Ok(Route::KernelTlsRead),
        Means::Sendfile => Ok(Route::KernelTlsSendfile),
        Means::Splice => Ok(Route::KernelTlsSplice),
        Means::Auto if offer.sendfile && residency != Residency::Unknown => {
            Ok(Route::KernelTlsSendfile)
        }
        Means::Auto if offer.read => Ok(Route::KernelTlsRead),
        Means::Auto => Err(Fallback::Dearer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: KernelTlsOffer = KernelTlsOffer {
        sendfile: true,
        read: true,
        octets_min: 1000,
        octets_max: 1_000_000,
    };

    fn file(octets: u64, residency: Residency) -> Subject {
        Subject::Download { octets, residency }
    }

    fn download(offer: KernelTlsOffer, octets: u64, residency: Residency) -> Choice {
        let protected = Protected::Yes(Ok(offer));
        choose(protected, false, Means::Auto, file(octets, residency))
    }

    #[test]
    fn every_name_is_its_own() {
        let mut names: Vec<_> = Route::ALL.map(Route::name).to_vec();
        names.extend(Fallback::ALL.map(Fallback::name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Route::ALL.len() + Fallback::ALL.len());
    }

    #[test]
    fn the_kernel_protects_files_of_its_size() {
        use Residency::{Cached, Cold, Unknown};
        let cases = [
            (OFFER, 999, Cached, Err(Fallback::Short)),
            (OFFER, 1000, Cached, Ok(Route::KernelTlsSendfile)),
            (OFFER, 1000, Cold, Ok(Route::KernelTlsSendfile)),
            (OFFER, 1000, Unknown, Ok(Route::KernelTlsRead)),
            (OFFER, 1_000_001, Cached, Err(Fallback::Long)),
        ];
        for (offer, octets, residency, expected) in cases {
            let choice = download(offer, octets, residency);
            let got = choice.fallback.map_or(Ok(choice.route), Err);
            assert_eq!(got, expected, "{octets} {residency:?}");
        }
    }

    #[test]
    fn a_dearer_means_is_left_out() {
        let choice = |sendfile, read, residency| {
            let offer = KernelTlsOffer {
                sendfile,
                read,
                ..OFFER
            };
            download(offer, 5000, residency)
        };
        let cached = Residency::Cached;
        assert_eq!(choice(false, true, cached).route, Route::KernelTlsRead);
        let neither = choice(false, false, cached);
        assert_eq!(neither.route, Route::UserTls);
        assert_eq!(neither.fallback, Some(Fallback::Dearer));
        let unknown = choice(true, false, Residency::Unknown);
        assert_eq!(unknown.fallback, Some(Fallback::Dearer));
    }

    #[test]
    fn the_operator_names_the_means() {
        let cases = [
            (Means::Read, Route::Clear, Route::KernelTlsRead),
            (
                Means::Sendfile,
                Route::ClearSendfile,
                Route::KernelTlsSendfile,
            ),
            (Means::Splice, Route::ClearSplice, Route::KernelTlsSplice),
        ];
        let subject = file(5000, Residency::Unknown);
        for (means, clear, protected) in cases {
            assert_eq!(choose(Protected::No, false, means, subject).route, clear);
            let yes = Protected::Yes(Ok(OFFER));
            assert_eq!(choose(yes, false, means, subject).route, protected);
            let off = Protected::Yes(Err(Fallback::Off));
            let choice = choose(off, false, means, subject);
            assert_eq!(choice.route, Route::UserTls);
            assert_eq!(choice.fallback, Some(Fallback::Off));
        }
    }

    #[test]
    fn text_and_listings_stay_in_this_process() {
        let yes = Protected::Yes(Ok(OFFER));
        let cases = [
            (
                yes,
                true,
                file(5000, Residency::Cached),
                Route::UserTlsAscii,
            ),
            (yes, true, Subject::Upload, Route::UserTlsAscii),
            (yes, true, Subject::Listing, Route::UserTls),
            (yes, false, Subject::Listing, Route::UserTls),
            (yes, false, Subject::Upload, Route::UserTls),
            (Protected::No, true, Subject::Upload, Route::ClearAscii),
            (Protected::No, true, Subject::Listing, Route::Clear),
            (
                Protected::No,
                true,
                file(5000, Residency::Cached),
                Route::ClearAscii,
            ),
        ];
        for (protected, ascii, subject, expected) in cases {
            let choice = choose(protected, ascii, Means::Auto, subject);
            assert_eq!(choice, expected.into(), "{protected:?} {subject:?}");
        }
        let off = Protected::Yes(Err(Fallback::Off));
        let choice = choose(off, false, Means::Auto, Subject::Upload);
        assert_eq!(choice.fallback, Some(Fallback::Off));
    }
}
