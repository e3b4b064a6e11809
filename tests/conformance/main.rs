//! The conformance suite: every check drives the real binary over loopback, on both ports where
//! that makes sense. Each check is a function `cNNN`; [`checks!`] makes its tests and its row in
//! the table that [`every_required_check_exists`] compares with [`required::REQUIRED`].
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests panic when they fail, and have a clock"
)]

#[path = "../common/mod.rs"]
mod common;

/// Makes the tests of a module's checks and the table of their numbers.
macro_rules! checks {
    ($($name:ident: $ports:ident,)*) => {
        pub(crate) const CHECKS: &[(&str, $crate::required::Ports)] =
            &[$((stringify!($name), $crate::required::Ports::$ports)),*];
        $(checks!(@tests $name $ports);)*
    };
    (@tests $name:ident Both) => {
        mod $name {
            #[test]
            fn explicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Explicit, super::$name);
            }
            #[test]
            fn implicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Implicit, super::$name);
            }
        }
    };
    (@tests $name:ident Explicit) => {
        mod $name {
            #[test]
            fn explicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Explicit, super::$name);
            }
        }
    };
    (@tests $name:ident Implicit) => {
        mod $name {
            #[test]
            fn implicit() {
                $crate::fixture::run(stringify!($name), $crate::common::Port::Implicit, super::$name);
            }
        }
    };
}

mod atomic;
mod certificates;
mod channel;
mod charset;
mod clients;
mod data;
mod file_rules;
mod files;
mod fixture;
mod hostile;
mod hosts;
mod listings;
mod login;
mod passive_names;
mod proxy;
mod reinitialize;
mod required;
mod resumption;
mod transfer;

use std::collections::BTreeMap;

use required::{EXTENSIONS, LAST, Ports, REQUIRED};

#[test]
fn every_required_check_exists() {
    let modules = [
        channel::CHECKS,
        data::CHECKS,
        files::CHECKS,
        hostile::CHECKS,
        listings::CHECKS,
        login::CHECKS,
        reinitialize::CHECKS,
        resumption::CHECKS,
        transfer::CHECKS,
    ];
    let mut present: BTreeMap<u16, Ports> = BTreeMap::new();
    for (name, ports) in modules.concat() {
        let number = name
            .strip_prefix('c')
            .and_then(|digits| digits.parse().ok());
        let number = number.unwrap_or_else(|| panic!("{name} is not the name of a check"));
        let twice = present.insert(number, ports).is_some();
        assert!(!twice, "two checks have the number {number}");
    }
    let required: BTreeMap<u16, Ports> = REQUIRED.iter().copied().collect();
    assert_eq!(present, required, "checks in the modules, checks required");
}

#[test]
fn every_number_is_required_or_has_a_reason() {
    let mut numbers: Vec<u16> = REQUIRED.iter().map(|(number, _)| *number).collect();
    numbers.extend(EXTENSIONS.iter().map(|(number, _)| number));
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=LAST).collect::<Vec<_>>());
}
