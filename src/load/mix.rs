//! Proportions of different operations.

use std::str::FromStr;

/// Operations that `mixed` consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A large file.
    Get,
    /// An upload.
    Put,
    /// A listing.
    List,
    /// A small file.
    Small,
}

/// How many of each in a hundred, or in whatever they add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Part, i64)>);

impl Default for Mix {
    /// What a distribution server sees: mostly small files, some large ones, a listing now and then.
    fn default() -> Self {
        Self(vec![
            (Part::Get, 20),
            (Part::Put, 10),
            (Part::List, 10),
            (Part::Small, 60),
        ])
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give proportions as get=20,put=10,list=10,small=60".to_owned();
        let mut mix = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or_else(wrong)?;
            let part = match name.trim() {
                "get" => Part::Get,
                "put" => Part::Put,
                "list" => Part::List,
                "small" => Part::Small,
                _ => return Err(wrong()),
            };
            let weight: u16 = weight.trim().parse().map_err(|_| wrong())?;
            if mix.iter().any(|(other, _)| *other == part) {
                return Err(wrong());
            }
            mix.push((part, i64::from(weight)));
        }
        match mix.iter().any(|(_, weight)| *weight > 0) {
            true => Ok(Self(mix)),
            false => Err(wrong()),
        }
    }
}

impl Mix {
    /// Whether this kind of operation occurs.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.0
            .iter()
            .any(|(other, weight)| *other == part && *weight > 0)
    }

    /// An endless sequence with these proportions, as even as can be: nothing is left to chance, so two
    /// runs do the same. Each of several `number`s starts at another place.
    #[must_use]
    pub fn sequence(&self, number: usize) -> Sequence {
        let total = self.0.iter().map(|(_, weight)| *weight).sum::<i64>().max(1);
        let mut sequence = Sequence {
            parts: self
                .0
                .iter()
                .map(|(part, weight)| (*part, *weight, 0))
                .collect(),
            total,
        };
        let period = usize::try_from(total).unwrap_or(1);
        for _ in 0..number % period {
            sequence.next();
        }
        sequence
    }
}

/// Smooth weighted round-robin: each part earns its weight at every step, the richest has its turn and
/// pays the total.
#[derive(Debug, Clone)]
pub struct Sequence {
    parts: Vec<(Part, i64, i64)>,
    total: i64,
}

impl Iterator for Sequence {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        for (_, weight, account) in &mut self.parts {
            *account += *weight;
        }
        let (part, _, account) = self
            .parts
            .iter_mut()
            .max_by_key(|(_, _, account)| *account)?;
        *account -= self.total;
        Some(*part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proportions_are_kept_exactly_and_evenly() {
        let mix = Mix::default();
        for number in [0, 1, 7, 1000] {
            let seen: Vec<Part> = mix.sequence(number).take(1000).collect();
            let count = |part| seen.iter().filter(|other| **other == part).count();
            let counts = [Part::Get, Part::Put, Part::List, Part::Small].map(count);
            assert_eq!(counts, [200, 100, 100, 600], "{number}");
            let longest = seen
                .chunk_by(|a, b| a == b)
                .map(<[Part]>::len)
                .max()
                .unwrap();
            assert!(longest <= 3, "{longest} of the same in a row");
        }
        let first: Vec<Part> = mix.sequence(0).take(10).collect();
        let other: Vec<Part> = mix.sequence(3).take(10).collect();
        assert_ne!(first, other);
    }

    #[test]
    fn proportions_are_read() {
        let mix: Mix = "get=1, small=0".parse().unwrap();
        assert!(mix.has(Part::Get) && !mix.has(Part::Small) && !mix.has(Part::Put));
        assert!(mix.sequence(5).take(9).all(|part| part == Part::Get));
        for text in [
            "",
            "get",
            "get=0",
            "get=1,get=2",
            "got=1",
            "get=-1",
            "get=x",
        ] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
