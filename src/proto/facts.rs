//! Names of the MLST facts: the FEAT line and OPTS MLST (RFC 3659 §7.8, §7.9).

use super::listing::FactSet;

/// The facts in the order in which FEAT lists them.
pub const FACTS: [(&str, FactSet); 6] = [
    ("type", FactSet::TYPE),
    ("size", FactSet::SIZE),
    ("modify", FactSet::MODIFY),
    ("perm", FactSet::PERM),
    ("unique", FactSet::UNIQUE),
    ("UNIX.mode", FactSet::UNIX_MODE),
];

/// The FEAT line: every fact, those in force with a star.
#[must_use]
pub fn feature(in_force: FactSet) -> String {
    let mut line = String::from("MLST ");
    for (name, fact) in FACTS {
        line.push_str(name);
        line.push_str(if in_force.contains(fact) { "*;" } else { ";" });
    }
    line
}

/// The selection after `OPTS MLST`: names in any case, each before a semicolon; unknown ones are
/// dropped, none at all selects names only.
///
/// Returns `None` when it holds a space.
#[must_use]
pub fn parse_selection(selection: &[u8]) -> Option<FactSet> {
    if selection.contains(&b' ') {
        return None;
    }
    let chosen = selection
        .split(|octet| *octet == b';')
        .flat_map(|name| {
            FACTS
                .iter()
                .find(move |(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        })
        .fold(FactSet::NONE, |set, (_, fact)| set.with(*fact));
    Some(chosen)
}

/// The text of the 200 reply: `MLST OPTS type;size;`.
#[must_use]
pub fn selection_text(in_force: FactSet) -> String {
    let mut text = String::from("MLST OPTS");
    let mut separator = " ";
    for (name, fact) in FACTS {
        if in_force.contains(fact) {
            text.push_str(separator);
            text.push_str(name);
            text.push(';');
            separator = "";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c058_selection() {
        let set = parse_selection(b"Type;frogs;unix.MODE").unwrap();
        assert_eq!(set, FactSet::TYPE.with(FactSet::UNIX_MODE));
        assert_eq!(selection_text(set), "MLST OPTS type;UNIX.mode;");
        assert_eq!(
            feature(set),
            "MLST type*;size;modify;perm;unique;UNIX.mode*;"
        );
        assert_eq!(parse_selection(b"type size"), None);
        assert_eq!(parse_selection(b""), Some(FactSet::NONE));
        assert_eq!(selection_text(FactSet::NONE), "MLST OPTS");
    }

    #[test]
    fn everything_is_in_force_at_first() {
        assert_eq!(
            feature(FactSet::ALL),
            "MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;"
        );
    }
}
