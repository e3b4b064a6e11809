//! What somebody may have meant who wrote a name that is none.

/// The candidate that is most like `name`, if any is.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = normal(name);
    let distance = |candidate| strsim::damerau_levenshtein(&name, candidate);
    let by_distance = candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .min_by_key(|(distance, _)| *distance);
    let (distance, candidate) = by_distance?;
    let alike = distance <= (candidate.len() / 3).max(1);
    let begins = name.len() >= 4 && candidate.starts_with(&name);
    (alike || begins).then_some(candidate)
}

/// The name as keys are written.
pub(super) fn normal(name: &str) -> String {
    // Nobody means a key of this length, and comparing takes the product of both.
    let name: String = name.chars().take(64).collect();
    name.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_strangers_are_not() {
        let keys = ["idle-timeout", "login-timeout", "users", "cert", "key"];
        let cases = [
            ("idle_timeout", Some("idle-timeout")),
            ("Idle-Timeout", Some("idle-timeout")),
            ("idel-timeout", Some("idle-timeout")),
            ("idletimeout", Some("idle-timeout")),
            ("logn-timout", Some("login-timeout")),
            ("user", Some("users")),
            ("certs", Some("cert")),
            ("kee", Some("key")),
            ("hostname", None),
            ("", None),
            ("x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, keys), expected, "{name}");
        }
        assert_eq!(nearest("anything", []), None);
    }
}
