//! A table that fits into a width: less important columns go first, then texts are cut.

use super::text;

/// Between two columns, and in narrow terminals.
const GAP: usize = 2;
const GAP_NARROW: usize = 1;
const NARROW: usize = 60;
/// What a text that takes the rest of the line has at least.
const REST_MIN: usize = 12;

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// How early it goes when there is no room: the highest first, 0 never.
    pub spare: u8,
    /// Columns of the terminal that it takes at most; 0: a path, which takes the rest of the line.
    pub widest: usize,
}

/// The lines of a table, the titles first; `None` for any width. Cells are escaped already.
#[must_use]
pub fn lay_out(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let natural = |place: usize, column: &Column| {
        let cells = rows.iter().filter_map(|row| row.get(place));
        let widest = cells.map(|cell| text::width(cell)).max().unwrap_or(0);
        let widest = widest.max(text::width(column.title));
        match (column.widest, width) {
            (0, _) | (_, None) => widest,
            (most, Some(_)) => widest.min(most),
        }
    };
    let mut shown: Vec<(usize, usize)> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| (place, natural(place, column)))
        .collect();
    if let Some(width) = width {
        fit(columns, &mut shown, width);
    }
    let titles: Vec<String> = columns.iter().map(|one| one.title.to_owned()).collect();
    std::iter::once(&titles)
        .chain(rows)
        .map(|row| line(columns, &shown, row, gap(width)))
        .collect()
}

fn gap(width: Option<usize>) -> usize {
    match width {
        Some(..NARROW) => GAP_NARROW,
        _ => GAP,
    }
}

/// Drops columns and shrinks what is left.
fn fit(columns: &[Column], shown: &mut Vec<(usize, usize)>, width: usize) {
    let is_rest = |place: usize| columns.get(place).is_some_and(|one| one.widest == 0);
    let needed = |shown: &[(usize, usize)]| {
        let widths = shown.iter().map(|&(place, natural)| match is_rest(place) {
            true => natural.min(REST_MIN),
            false => natural,
        });
        widths.sum::<usize>() + gap(Some(width)) * shown.len().saturating_sub(1)
    };
    while needed(shown) > width {
        let spare = |&(_, &(place, _)): &(usize, &(usize, usize))| {
            columns.get(place).map_or(0, |one| one.spare)
        };
        let first = shown.iter().enumerate().max_by_key(spare);
        match first.filter(|one| spare(one) > 0).map(|(at, _)| at) {
            Some(at) => drop(shown.remove(at)),
            None => break,
        }
    }
    // Texts give way evenly, the longest first; then numbers.
    while needed(shown) > width {
        let is_text = |place: usize| columns.get(place).is_some_and(|one| !one.right);
        let widest = shown
            .iter_mut()
            .filter(|(_, natural)| *natural > 1)
            .max_by_key(|(place, natural)| (is_text(*place) && *natural > 4, *natural));
        match widest {
            Some((_, natural)) => *natural -= 1,
            None => return,
        }
    }
    let room = width - needed(shown);
    if let Some((_, natural)) = shown.iter_mut().find(|(place, _)| is_rest(*place)) {
        *natural = (*natural).min(REST_MIN.min(*natural) + room);
    }
}

fn line(columns: &[Column], shown: &[(usize, usize)], row: &[String], gap: usize) -> String {
    let mut line = String::new();
    for (at, &(place, width)) in shown.iter().enumerate() {
        let (Some(column), Some(cell)) = (columns.get(place), row.get(place)) else {
            continue;
        };
        let cell = match column.widest {
            0 => text::end(cell, width),
            _ => text::begin(cell, width),
        };
        let blank = " ".repeat(width.saturating_sub(text::width(&cell)));
        if at > 0 {
            line.push_str(&" ".repeat(gap));
        }
        if column.right {
            line.push_str(&blank);
            line.push_str(&cell);
        } else {
            line.push_str(&cell);
            line.push_str(&blank);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column {
            title: "ID",
            right: true,
            spare: 0,
            widest: 8,
        },
        Column {
            title: "USER",
            right: false,
            spare: 0,
            widest: 10,
        },
        Column {
            title: "RATE",
            right: true,
            spare: 2,
            widest: 9,
        },
        Column {
            title: "PATH",
            right: false,
            spare: 1,
            widest: 0,
        },
    ];

    fn table(width: Option<usize>) -> String {
        let rows = [
            ["7", "alice", "1.00 MB/s", "/pub/a/long/way/down/file.bin"],
            ["12345", "文件文件文件文件", "", ""],
        ];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
            .collect();
        lay_out(&COLUMNS, &rows, width).join("\n")
    }

    #[test]
    fn tables_fit_into_their_width() {
        assert_eq!(
            table(None),
            "   ID  USER                   RATE  PATH
    7  alice             1.00 MB/s  /pub/a/long/way/down/file.bin
12345  文件文件文件文件"
        );
        assert_eq!(
            table(Some(50)),
            "   ID USER            RATE PATH
    7 alice      1.00 MB/s …long/way/down/file.bin
12345 文件文件…"
        );
        assert_eq!(
            table(Some(35)),
            "   ID USER       PATH
    7 alice      …way/down/file.bin
12345 文件文件…"
        );
        assert_eq!(table(Some(12)), "   ID USER\n    7 alice\n12345 文件…");
        for width in 0..80 {
            for line in table(Some(width)).lines() {
                assert!(text::width(line) <= width.max(4), "{width}: {line}");
            }
        }
    }
}
