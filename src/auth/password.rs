//! How passwords are stored and compared: argon2id in PHC strings (RFC 9106).

use std::collections::HashMap;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use aws_lc_rs::{constant_time, digest, rand};
use zeroize::Zeroizing;

use crate::limits;

/// No memory for a hash, or no random octets for its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password hash could not be computed: no memory, or no random numbers")]
pub struct HashError;

/// Letters and digits that are not taken for one another: 32 of them, 5 bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a random password: 100 bits.
const RANDOM_PASSWORD_CHARACTERS: usize = 20;

/// How an account's password is kept.
pub(super) enum StoredPassword {
    /// Chosen by a person: argon2id.
    Hash(StoredHash),
    /// Random: SHA-256 is beyond guessing.
    Random([u8; 32]),
}

impl StoredPassword {
    pub(super) fn random(password: &[u8]) -> Self {
        Self::Random(sha256(password))
    }

    /// Whether the password matches; `None` when only the slow hash can tell.
    pub(super) fn matches_at_once(&self, password: &[u8]) -> Option<bool> {
        match self {
            Self::Hash(_) => None,
            Self::Random(stored) => {
                let given = sha256(password);
                Some(constant_time::verify_slices_are_equal(stored, &given).is_ok())
            }
        }
    }
}

fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    for (to, from) in sum
        .iter_mut()
        .zip(digest::digest(&digest::SHA256, octets).as_ref())
    {
        *to = *from;
    }
    sum
}

/// An argon2id hash whose parameters are within bounds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoredHash(Box<PasswordHash>);

impl StoredHash {
    /// Parses a PHC string; `None` when it is none, is not argon2id, or asks for too much.
    pub(super) fn parse(phc: &str) -> Option<Self> {
        let hash = PasswordHash::new(phc).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let usable = hash.algorithm.as_str() == "argon2id"
            && hash.salt.is_some()
            && hash.hash.is_some()
            && params.m_cost() <= limits::PASSWORD_HASH_MEMORY_KIB_MAX
            && params.t_cost() <= limits::PASSWORD_HASH_PASSES_MAX;
        usable.then(|| Self(Box::new(hash)))
    }

    /// A hash that no password matches, with the parameters that most of `hashes` have; `None`
    /// when there are none.
    pub(super) fn decoy<'a>(
        hashes: impl Iterator<Item = &'a Self>,
    ) -> Result<Option<Self>, HashError> {
        let mut counts: HashMap<String, (usize, &Self)> = HashMap::new();
        for hash in hashes {
            let count = counts.entry(hash.0.params.to_string()).or_insert((0, hash));
            count.0 += 1;
        }
        let Some((_, model)) = counts.into_values().max_by_key(|(count, _)| *count) else {
            return Ok(None);
        };
        let (mut salt, mut output) = ([0; 16], [0; 32]);
        rand::fill(&mut salt).map_err(|_| HashError)?;
        rand::fill(&mut output).map_err(|_| HashError)?;
        let decoy = PasswordHash {
            salt: Some(Salt::new(&salt).map_err(|_| HashError)?),
            hash: Some(Output::new(&output).map_err(|_| HashError)?),
            ..(*model.0).clone()
        };
        Ok(Some(Self(Box::new(decoy))))
    }

    /// Whether the password is the one that was hashed. Takes tens of milliseconds and the memory
    /// that the parameters name; the comparison takes constant time.
    pub(super) fn verify(&self, password: &[u8]) -> Result<bool, HashError> {
        match Argon2::default().verify_password(password, &*self.0) {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(_) => Err(HashError),
        }
    }
}

/// The PHC string of a password: argon2id, 19 MiB, two passes, one lane.
///
/// # Errors
/// [`HashError`] without memory or random octets.
pub fn hash_password(password: &[u8]) -> Result<String, HashError> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| HashError)?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map_err(|_| HashError)?;
    Ok(hash.to_string())
}

/// A random password of 100 bits, in letters and digits that are easily told apart.
///
/// # Errors
/// [`HashError`] without random octets.
pub fn random_password() -> Result<Zeroizing<String>, HashError> {
    let mut octets = Zeroizing::new([0; RANDOM_PASSWORD_CHARACTERS]);
    rand::fill(octets.as_mut_slice()).map_err(|_| HashError)?;
    let characters = octets.iter().filter_map(|octet| {
        let character = ALPHABET.get(usize::from(octet % 32))?;
        Some(char::from(*character))
    });
    Ok(Zeroizing::new(characters.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_passwords_differ_and_are_long() {
        let (one, two) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(one.len(), RANDOM_PASSWORD_CHARACTERS);
        assert_ne!(*one, *two);
        let mut sorted = ALPHABET.to_vec();
        sorted.dedup();
        assert_eq!(sorted.len(), 32);
    }

    #[test]
    fn a_hash_matches_its_password_only() {
        let phc = hash_password(b" open sesame ").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let hash = StoredHash::parse(&phc).unwrap();
        assert_eq!(hash.verify(b" open sesame "), Ok(true));
        assert_eq!(hash.verify(b"open sesame"), Ok(false));
        assert_eq!(hash.verify(b""), Ok(false));
        let decoy = StoredHash::decoy([&hash].into_iter()).unwrap().unwrap();
        assert_eq!(decoy.verify(b" open sesame "), Ok(false));
        assert_eq!(decoy.0.params, hash.0.params);
    }

    #[test]
    fn hashes_that_ask_for_too_much_are_refused() {
        let tail = "$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let phc = |head: &str| StoredHash::parse(&format!("{head}{tail}")).is_some();
        assert!(phc("$argon2id$v=19$m=19456,t=2,p=1"));
        assert!(!phc("$argon2i$v=19$m=19456,t=2,p=1"));
        assert!(!phc("$argon2id$v=19$m=4000000,t=2,p=1"));
        assert!(!phc("$argon2id$v=19$m=19456,t=1000,p=1"));
        assert!(StoredHash::parse("secret").is_none());
        assert!(StoredHash::parse("$argon2id$v=19$m=19456,t=2,p=1").is_none());
    }
}
