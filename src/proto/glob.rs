//! Patterns in the last component of a LIST or NLST argument: `*`, `?` and `[…]`, octet by octet.

/// Whether there is anything in it that a pattern could mean.
#[must_use]
pub fn is_pattern(octets: &[u8]) -> bool {
    octets
        .iter()
        .any(|octet| matches!(octet, b'*' | b'?' | b'['))
}

/// Whether the whole name fits the pattern. Takes time proportional to the product of the lengths
/// at worst: only the last `*` is ever tried again.
#[must_use]
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern.split_first(), name.split_first()) {
            (None, None) => return true,
            (Some((b'*', rest)), _) => {
                last_star = Some((rest, name));
                pattern = rest;
                continue;
            }
            // More name for the star would only leave less here.
            (Some(_), None) => return false,
            (None, Some(_)) => None,
            (Some(_), Some((octet, name_rest))) => {
                match_one(pattern, *octet).map(|pattern_rest| (pattern_rest, name_rest))
            }
        };
        let next = step.or_else(|| {
            let (after_star, tried) = last_star?;
            let (_, shorter) = tried.split_first()?;
            last_star = Some((after_star, shorter));
            Some((after_star, shorter))
        });
        match next {
            Some(next) => (pattern, name) = next,
            None => return false,
        }
    }
}

/// Matches one octet; gives the rest of the pattern.
fn match_one(pattern: &[u8], octet: u8) -> Option<&[u8]> {
    let (first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'[' => match match_class(rest, octet) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            // A bracket that is never closed stands for itself.
            None => (octet == b'[').then_some(rest),
        },
        literal => (*literal == octet).then_some(rest),
    }
}

/// Matches a class from behind its `[`; `None` when it does not end.
fn match_class(class: &[u8], octet: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match class.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    let mut first = true;
    loop {
        let (low, after) = rest.split_first()?;
        if *low == b']' && !first {
            return Some((found != negated, after));
        }
        first = false;
        match after {
            [b'-', high, after_range @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&octet);
                rest = after_range;
            }
            _ => {
                found |= *low == octet;
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("*.txt", "a.txt", true),
            ("*.txt", ".txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**a", "bba", true),
            ("?", "a", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("[abc]x", "bx", true),
            ("[abc]x", "dx", false),
            ("[!abc]x", "dx", true),
            ("[^abc]x", "ax", false),
            ("[a-f0-9]", "7", true),
            ("[a-f0-9]", "g", false),
            ("[]]", "]", true),
            ("[!]]", "a", true),
            ("[a-]", "-", true),
            ("[z-a]", "m", false),
            ("[abc", "[abc", true),
            ("[abc", "a", false),
            ("a[", "a[", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                *expected,
                "{pattern} against {name}"
            );
        }
    }

    #[test]
    fn hostile_pattern_ends_soon() {
        let pattern = b"*a".repeat(100);
        let mut name = b"a".repeat(255);
        name.push(b'b');
        assert!(!matches(&pattern, &name));
    }

    #[test]
    fn what_is_a_pattern() {
        assert!(is_pattern(b"*.c") && is_pattern(b"a?") && is_pattern(b"[x"));
        assert!(!is_pattern(b"plain]-name"));
    }
}
