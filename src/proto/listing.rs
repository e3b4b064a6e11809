//! LIST, NLST and MLSD/MLST lines from plain entries.
//!
//! The writers append to an output buffer and allocate nothing else.

use time::Date;

use super::timestamp::{DAY_SECONDS, FileTime, TIME_MAX, TIME_MIN, date_of_day};
use super::zone::Zone;

/// Which facts MLSD and MLST show (RFC 3659 §7.5), as a small bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactSet(u8);

impl FactSet {
    /// `type`.
    pub const TYPE: Self = Self(1);
    /// `size`, files only.
    pub const SIZE: Self = Self(2);
    /// `modify`.
    pub const MODIFY: Self = Self(4);
    /// `perm`.
    pub const PERM: Self = Self(8);
    /// `unique`.
    pub const UNIQUE: Self = Self(16);
    /// `UNIX.mode`.
    pub const UNIX_MODE: Self = Self(32);
    /// Every fact.
    pub const ALL: Self = Self(63);
    /// The set in force after login: what every client understands.
    pub const DEFAULT: Self = Self(31);
    /// No fact: names only.
    pub const NONE: Self = Self(0);

    /// Whether all facts of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What may be done with an object, as letters of the `perm` fact (RFC 3659 §7.5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Perm(u16);

impl Perm {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `r`: a file may be retrieved.
    pub const READ: Self = Self(1);
    /// `a`: a file may be appended to.
    pub const APPEND: Self = Self(2);
    /// `w`: a file may be stored over.
    pub const WRITE: Self = Self(4);
    /// `e`: a directory may be entered.
    pub const ENTER: Self = Self(8);
    /// `l`: a directory may be listed.
    pub const LIST: Self = Self(16);
    /// `c`: files may be made in a directory.
    pub const CREATE: Self = Self(32);
    /// `m`: directories may be made in a directory.
    pub const MAKE_DIRECTORY: Self = Self(64);
    /// `p`: what is in a directory may be deleted.
    pub const PURGE: Self = Self(128);
    /// `f`: the object may be renamed.
    pub const RENAME: Self = Self(256);
    /// `d`: the object may be deleted.
    pub const DELETE: Self = Self(512);

    const LETTERS: [(Self, u8); 10] = [
        (Self::READ, b'r'),
        (Self::APPEND, b'a'),
        (Self::WRITE, b'w'),
        (Self::ENTER, b'e'),
        (Self::LIST, b'l'),
        (Self::CREATE, b'c'),
        (Self::MAKE_DIRECTORY, b'm'),
        (Self::PURGE, b'p'),
        (Self::RENAME, b'f'),
        (Self::DELETE, b'd'),
    ];

    /// Whether all letters of `other` are in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set, and `other` if so.
    #[must_use]
    pub const fn with_if(self, other: Self, so: bool) -> Self {
        if so { Self(self.0 | other.0) } else { self }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its text. MLSD and MLST show what a link leads to instead; a link in
    /// them leads nowhere.
    Link(&'a [u8]),
    /// A device, FIFO or socket, by its letter in the first column of LIST.
    Other(u8),
}

/// One object of a listing.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// What stands before the name, its `/` included; often empty.
    pub prefix: &'a [u8],
    /// The name, of [`is_printable`] octets.
    pub name: &'a [u8],
    /// What it is.
    pub kind: EntryKind<'a>,
    /// Octets.
    pub size: u64,
    /// When its content changed last.
    pub modified: FileTime,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Hard links.
    pub links: u32,
    /// What the user may do with it.
    pub perm: Perm,
    /// The same number for the same object, whatever its name.
    pub unique: u64,
}

/// Whether a name can stand in a line: one with CR, LF or NUL would break it.
#[must_use]
pub fn is_printable(name: &[u8]) -> bool {
    !name.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'))
}

/// Seconds within which LIST shows the time of day instead of the year.
const RECENT_SECONDS: i64 = 180 * DAY_SECONDS;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Writes the lines of one listing. Remembers the day that it converted last: the files of a
/// directory are often of one day.
#[derive(Debug, Clone)]
pub struct LineWriter {
    now: FileTime,
    zone: Zone,
    day: i64,
    date: Date,
}

impl LineWriter {
    /// `now` decides which dates are recent.
    #[must_use]
    pub fn new(now: FileTime) -> Self {
        Self {
            now,
            zone: Zone::default(),
            day: 0,
            date: date_of_day(0),
        }
    }

    /// With the dates of LIST in this zone.
    #[must_use]
    pub fn in_zone(self, zone: &Zone) -> Self {
        let zone = zone.clone();
        Self { zone, ..self }
    }

    /// A line of LIST: what `ls -l` prints, the owner being nobody's business.
    pub fn long(&mut self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        out.extend_from_slice(&mode_letters(entry.kind, entry.mode));
        out.push(b' ');
        push_number(out, u64::from(entry.links), 4);
        out.extend_from_slice(b" ftp      ftp      ");
        push_number(out, entry.size, 8);
        out.push(b' ');
        self.push_list_date(out, entry.modified);
        out.push(b' ');
        out.extend_from_slice(entry.prefix);
        out.extend_from_slice(entry.name);
        if let EntryKind::Link(text) = entry.kind
            && is_printable(text)
        {
            out.extend_from_slice(b" -> ");
            out.extend_from_slice(text);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// A line of MLSD (RFC 3659 §7.2).
    pub fn machine(&mut self, out: &mut Vec<u8>, facts: FactSet, entry: &Entry<'_>) {
        self.facts(out, facts, entry);
        out.push(b' ');
        out.extend_from_slice(entry.name);
        out.extend_from_slice(b"\r\n");
    }

    /// The facts of MLSD and MLST, without the space and the name behind them.
    pub fn facts(&mut self, out: &mut Vec<u8>, facts: FactSet, entry: &Entry<'_>) {
        if facts.contains(FactSet::TYPE) {
            out.extend_from_slice(match entry.kind {
                EntryKind::Directory => b"type=dir;".as_slice(),
                EntryKind::Link(_) => b"type=OS.unix=slink;",
                EntryKind::File | EntryKind::Other(_) => b"type=file;",
            });
        }
        if facts.contains(FactSet::SIZE) && entry.kind == EntryKind::File {
            out.extend_from_slice(b"size=");
            push_number(out, entry.size, 0);
            out.push(b';');
        }
        if facts.contains(FactSet::MODIFY) {
            out.extend_from_slice(b"modify=");
            self.push_fact_time(out, entry.modified);
            out.push(b';');
        }
        if facts.contains(FactSet::PERM) {
            out.extend_from_slice(b"perm=");
            let letters = Perm::LETTERS.iter();
            let letters = letters.filter(|(perm, _)| entry.perm.contains(*perm));
            out.extend(letters.map(|(_, letter)| letter));
            out.push(b';');
        }
        if facts.contains(FactSet::UNIQUE) {
            out.extend_from_slice(b"unique=");
            push_hexadecimal(out, entry.unique);
            out.push(b';');
        }
        if facts.contains(FactSet::UNIX_MODE) {
            out.extend_from_slice(b"UNIX.mode=");
            out.extend([9, 6, 3, 0].map(|shift| b'0' + ((entry.mode >> shift) & 7) as u8));
            out.push(b';');
        }
    }

    /// `Mon dd hh:mm` for the last 180 days and the next one, else `Mon dd  yyyy`.
    fn push_list_date(&mut self, out: &mut Vec<u8>, time: FileTime) {
        let (date, second) = self.date_of(self.zone.local(time));
        let month = MONTHS.get(usize::from(u8::from(date.month()) - 1));
        out.extend_from_slice(month.copied().unwrap_or(b"Jan"));
        out.push(b' ');
        out.extend_from_slice(&two_digits(date.day()));
        let age = self.now.saturating_sub(time);
        if (-DAY_SECONDS..=RECENT_SECONDS).contains(&age) {
            out.push(b' ');
            out.extend_from_slice(&two_digits((second / 3600) as u8));
            out.push(b':');
            out.extend_from_slice(&two_digits((second / 60 % 60) as u8));
        } else {
            out.extend_from_slice(b"  ");
            out.extend_from_slice(&two_digits((date.year() / 100) as u8));
            out.extend_from_slice(&two_digits((date.year() % 100) as u8));
        }
    }

    /// `yyyymmddhhmmss` in UTC (RFC 3659 §2.3).
    fn push_fact_time(&mut self, out: &mut Vec<u8>, time: FileTime) {
        let (date, second) = self.date_of(time);
        out.extend_from_slice(&two_digits((date.year() / 100) as u8));
        out.extend_from_slice(&two_digits((date.year() % 100) as u8));
        out.extend_from_slice(&two_digits(u8::from(date.month())));
        out.extend_from_slice(&two_digits(date.day()));
        out.extend_from_slice(&two_digits((second / 3600) as u8));
        out.extend_from_slice(&two_digits((second / 60 % 60) as u8));
        out.extend_from_slice(&two_digits((second % 60) as u8));
    }

    /// The date, and the second of the day.
    fn date_of(&mut self, time: FileTime) -> (Date, u32) {
        let time = time.clamp(TIME_MIN, TIME_MAX);
        let day = time.div_euclid(DAY_SECONDS);
        if day != self.day {
            self.day = day;
            self.date = date_of_day(day);
        }
        (self.date, time.rem_euclid(DAY_SECONDS) as u32)
    }
}

/// `07`, for numbers below 100.
fn two_digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10 % 10, b'0' + number % 10]
}

/// A line of NLST.
pub fn name_line(out: &mut Vec<u8>, prefix: &[u8], name: &[u8]) {
    out.extend_from_slice(prefix);
    out.extend_from_slice(name);
    out.extend_from_slice(b"\r\n");
}

fn mode_letters(kind: EntryKind<'_>, mode: u32) -> [u8; 10] {
    let bit = |mask: u32, letter: u8| if mode & mask == 0 { b'-' } else { letter };
    let execute = |mask: u32, special: u32, both: u8| match (mode & special, mode & mask) {
        (0, 0) => b'-',
        (0, _) => b'x',
        (_, 0) => both.to_ascii_uppercase(),
        (_, _) => both,
    };
    [
        match kind {
            EntryKind::File => b'-',
            EntryKind::Directory => b'd',
            EntryKind::Link(_) => b'l',
            EntryKind::Other(letter) => letter,
        },
        bit(0o400, b'r'),
        bit(0o200, b'w'),
        execute(0o100, 0o4000, b's'),
        bit(0o040, b'r'),
        bit(0o020, b'w'),
        execute(0o010, 0o2000, b's'),
        bit(0o004, b'r'),
        bit(0o002, b'w'),
        execute(0o001, 0o1000, b't'),
    ]
}

/// Decimal, with spaces on the left to be at least `width` wide.
fn push_number(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b' '; 20];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    let shown = digits.len() - count.max(width).min(digits.len());
    out.extend_from_slice(digits.get(shown..).unwrap_or_default());
}

/// Sixteen hexadecimal digits.
fn push_hexadecimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 16];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let value = (rest & 15) as u8;
        *digit = if value < 10 {
            b'0' + value
        } else {
            b'a' + value - 10
        };
        rest >>= 4;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01T12:00:00.
    const NOW: FileTime = 1_772_366_400;

    fn entry<'a>(name: &'a [u8], kind: EntryKind<'a>) -> Entry<'a> {
        Entry {
            prefix: b"",
            name,
            kind,
            size: 12345,
            modified: NOW - 3600,
            mode: 0o644,
            links: 1,
            perm: Perm::READ.with_if(Perm::DELETE, true),
            unique: 0x0123_4567_89ab_cdef,
        }
    }

    fn long(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        LineWriter::new(NOW).long(&mut out, entry);
        String::from_utf8(out).unwrap()
    }

    fn machine(facts: FactSet, entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        LineWriter::new(NOW).machine(&mut out, facts, entry);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_lines() {
        let file = entry(b"a b.txt", EntryKind::File);
        assert_eq!(
            long(&file),
            "-rw-r--r--    1 ftp      ftp         12345 Mar 01 11:00 a b.txt\r\n"
        );
        let directory = Entry {
            size: 4096,
            mode: 0o755,
            links: 2,
            modified: 1_732_924_800,
            ..entry(b"dir", EntryKind::Directory)
        };
        assert_eq!(
            long(&directory),
            "drwxr-xr-x    2 ftp      ftp          4096 Nov 30  2024 dir\r\n"
        );
        let link = Entry {
            size: 5,
            mode: 0o777,
            prefix: b"d/",
            ..entry(b"l", EntryKind::Link(b"a.txt"))
        };
        assert_eq!(
            long(&link),
            "lrwxrwxrwx    1 ftp      ftp             5 Mar 01 11:00 d/l -> a.txt\r\n"
        );
        let huge = Entry {
            size: u64::MAX,
            links: 100_000,
            mode: 0o7700,
            ..entry(b"p", EntryKind::Other(b'p'))
        };
        assert_eq!(
            long(&huge),
            "prws--S--T 100000 ftp      ftp      18446744073709551615 Mar 01 11:00 p\r\n"
        );
    }

    #[test]
    fn link_text_that_would_break_the_line_is_left_out() {
        let line = long(&entry(b"l", EntryKind::Link(b"a\r\nb")));
        assert!(line.ends_with(" l\r\n") && line.len() > 20, "{line:?}");
    }

    #[test]
    fn recent_and_other_dates() {
        let shown = |modified| {
            let line = long(&Entry {
                modified,
                ..entry(b"n", EntryKind::File)
            });
            line.get(43..55).unwrap().to_owned()
        };
        assert_eq!(shown(NOW), "Mar 01 12:00");
        assert_eq!(shown(NOW - RECENT_SECONDS), "Sep 02 12:00");
        assert_eq!(shown(NOW - RECENT_SECONDS - 1), "Sep 02  2025");
        assert_eq!(shown(NOW + DAY_SECONDS), "Mar 02 12:00");
        assert_eq!(shown(NOW + DAY_SECONDS + 1), "Mar 02  2026");
        assert_eq!(shown(0), "Jan 01  1970");
        assert_eq!(shown(-1), "Dec 31  1969");
        assert_eq!(shown(i64::MAX), "Dec 31  9999");
        assert_eq!(shown(i64::MIN), "Jan 01  0000");
    }

    #[test]
    fn machine_lines() {
        let all = "type=file;size=12345;modify=20260301110000;perm=rd;\
                   unique=0123456789abcdef;UNIX.mode=0644; x\r\n";
        let file = entry(b"x", EntryKind::File);
        assert_eq!(machine(FactSet::ALL, &file), all);
        assert_eq!(machine(FactSet::NONE, &file), " x\r\n");
        let some = FactSet::TYPE.with(FactSet::SIZE);
        let directory = entry(b"d", EntryKind::Directory);
        assert_eq!(machine(some, &directory), "type=dir; d\r\n");
        let link = entry(b"l", EntryKind::Link(b"gone"));
        assert_eq!(machine(some, &link), "type=OS.unix=slink; l\r\n");
        let nothing = Entry {
            perm: Perm::NONE,
            ..directory
        };
        assert_eq!(machine(FactSet::PERM, &nothing), "perm=; d\r\n");
    }

    #[test]
    fn names_are_raw_octets() {
        let mut out = Vec::new();
        name_line(&mut out, b"d/", b" \xff\x1b ");
        assert_eq!(out, b"d/ \xff\x1b \r\n");
        assert!(is_printable(b" \xff\x1b "));
        for broken in [b"a\rb", b"a\nb", b"a\0b"] {
            assert!(!is_printable(broken));
        }
    }
}
