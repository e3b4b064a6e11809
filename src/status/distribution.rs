//! How often which time was measured: the buckets of a histogram that are not empty.

use serde::{Deserialize, Serialize};

/// Microseconds and how often they were measured, ascending; a bucket is known by its highest value, which is at most
/// one per cent above the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distribution(pub Vec<(u64, u64)>);

impl Distribution {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// The value that this part of all, from 0 to 1, does not exceed; `None` without any value.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let count = self.count();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss
        )]
        let wanted = ((count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0_u64;
        self.0
            .iter()
            .find(|(_, count)| {
                seen = seen.saturating_add(*count);
                seen >= wanted
            })
            .or_else(|| self.0.last())
            .map(|(value, _)| *value)
    }

    /// What has come since an earlier look. A look that knows more than this one is of another process: then all of it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut before = earlier.0.iter().copied().peekable();
        let mut rest = Vec::new();
        for (value, count) in &self.0 {
            let had = match before.peek() {
                Some((earlier, had)) if earlier == value => *had,
                Some((earlier, _)) if earlier < value => return self.clone(),
                _ => 0,
            };
            if had > 0 {
                before.next();
            }
            match count.checked_sub(had) {
                Some(0) => {}
                Some(more) => rest.push((*value, more)),
                None => return self.clone(),
            }
        }
        if before.next().is_some() {
            return self.clone();
        }
        Self(rest)
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut sum = std::collections::BTreeMap::new();
        for (value, count) in self.0.iter().chain(&other.0) {
            let all: &mut u64 = sum.entry(*value).or_default();
            *all = all.saturating_add(*count);
        }
        Self(sum.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(buckets: &[(u64, u64)]) -> Distribution {
        Distribution(buckets.to_vec())
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let distribution = of(&[(10, 50), (20, 49), (1000, 1)]);
        let at = |part| distribution.quantile(part).unwrap();
        assert_eq!(
            (at(0.0), at(0.5), at(0.51), at(0.99), at(1.0)),
            (10, 10, 20, 20, 1000)
        );
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(distribution.count(), 100);
    }

    #[test]
    fn what_came_since_is_a_difference() {
        let earlier = of(&[(10, 5), (30, 1)]);
        let later = of(&[(5, 1), (10, 5), (20, 2), (30, 4)]);
        assert_eq!(later.since(&earlier), of(&[(5, 1), (20, 2), (30, 3)]));
        assert_eq!(later.since(&later), of(&[]));
        assert_eq!(later.since(&of(&[])), later);
        // Another process: counts that fell, or buckets that went.
        for other in [of(&[(10, 6)]), of(&[(11, 1)]), of(&[(40, 1)])] {
            assert_eq!(later.since(&other), later);
        }
        assert_eq!(
            earlier.and(&of(&[(10, 1), (20, 1)])),
            of(&[(10, 6), (20, 1), (30, 1)])
        );
    }
}
