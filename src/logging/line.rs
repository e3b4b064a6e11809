//! The layer of `tracing` that makes lines: for people, as JSON, or as entries of the journal.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer;

use super::outlet::Outlet;
use super::session::session;
use super::text::{Escaped, Form, push_json, push_rfc3339};

/// Octets of most lines.
const LINE_OCTETS: usize = 320;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `2026-02-12T08:09:10.123456Z  INFO login session=7 peer=192.0.2.7`.
    Human {
        /// For a terminal.
        colours: bool,
        /// `<6>` in front (sd-daemon(3)).
        prefix: bool,
    },
    /// One object a line.
    Json {
        /// `<6>` in front.
        prefix: bool,
    },
    /// Fields of the journal's native protocol.
    Journal,
}

/// Makes lines of events and hands them to the outlet.
pub(super) struct Lines {
    pub(super) shape: Shape,
    pub(super) outlet: Arc<Outlet>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        let mut line = Vec::with_capacity(LINE_OCTETS);
        self.shape
            .write(&mut line, SystemTime::now(), session(), event);
        self.outlet.send(line);
    }
}

impl Shape {
    fn write(self, line: &mut Vec<u8>, now: SystemTime, session: u64, event: &Event<'_>) {
        let level = *event.metadata().level();
        match self {
            Self::Human { colours, prefix } => {
                push_prefix(line, prefix, level);
                push_head(line, now, level, colours);
                let (message, fields) = human(session, event);
                line.extend_from_slice(&message);
                line.extend_from_slice(&fields);
                line.push(b'\n');
            }
            Self::Json { prefix } => {
                push_prefix(line, prefix, level);
                line.extend_from_slice(b"{\"timestamp\":\"");
                push_rfc3339(line, now);
                let _ = write!(line, "\",\"level\":\"{level}\"");
                if session != 0 {
                    let _ = write!(line, ",\"session\":{session}");
                }
                event.record(&mut Json { line });
                line.extend_from_slice(b",\"target\":");
                push_json(line, event.metadata().target().as_bytes());
                line.extend_from_slice(b"}\n");
            }
            Self::Journal => {
                let (message, fields) = human(session, event);
                line.extend_from_slice(b"MESSAGE=");
                line.extend_from_slice(&message);
                line.extend_from_slice(&fields);
                let target = event.metadata().target();
                let priority = priority(level);
                let _ = write!(
                    line,
                    "\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=ringftpd\nTARGET={target}\n"
                );
                if session != 0 {
                    let _ = writeln!(line, "FTP_SESSION={session}");
                }
                event.record(&mut Journal { line });
            }
        }
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn push_prefix(line: &mut Vec<u8>, wanted: bool, level: Level) {
    if wanted {
        let _ = write!(line, "<{}>", priority(level));
    }
}

/// Time and level.
fn push_head(line: &mut Vec<u8>, now: SystemTime, level: Level, colours: bool) {
    if !colours {
        push_rfc3339(line, now);
        let _ = write!(line, " {:>5} ", level.as_str());
        return;
    }
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    line.extend_from_slice(b"\x1b[2m");
    push_rfc3339(line, now);
    let _ = write!(line, "\x1b[0m \x1b[{colour}m{:>5}\x1b[0m ", level.as_str());
}

/// The message, and what follows it.
fn human(session: u64, event: &Event<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut human = Human {
        message: Vec::new(),
        fields: Vec::with_capacity(LINE_OCTETS),
    };
    if session != 0 {
        let _ = write!(human.fields, " session={session}");
    }
    event.record(&mut human);
    (human.message, human.fields)
}

struct Human {
    message: Vec<u8>,
    fields: Vec<u8>,
}

impl Visit for Human {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let out = if field.name() == "message" {
            &mut self.message
        } else {
            let _ = write!(self.fields, " {}=", field.name());
            &mut self.fields
        };
        let form = Form::Plain;
        let _ = write!(Escaped { out, form }, "{value:?}");
    }
}

struct Json<'a> {
    line: &'a mut Vec<u8>,
}

impl Json<'_> {
    fn push_key(&mut self, field: &Field) {
        let _ = write!(self.line, ",\"{}\":", field.name());
    }

    fn push_bare(&mut self, field: &Field, value: &dyn fmt::Display) {
        self.push_key(field);
        let _ = write!(self.line, "{value}");
    }
}

impl Visit for Json<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.push_bare(field, &value);
        } else {
            self.push_bare(field, &"null");
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_bare(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_bare(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_bare(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_key(field);
        push_json(self.line, value.as_bytes());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_key(field);
        self.line.push(b'"');
        let mut escaped = Escaped {
            out: self.line,
            form: Form::Json,
        };
        let _ = write!(escaped, "{value:?}");
        self.line.push(b'"');
    }
}

/// Each field of the event as one of the journal: `FTP_PEER=`. No value has a line end, since they are escaped.
struct Journal<'a> {
    line: &'a mut Vec<u8>,
}

impl Journal<'_> {
    fn push(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == "message" {
            return;
        }
        self.line.extend_from_slice(b"FTP_");
        // Letters, digits and underscores, as identifiers have them; a dot would be refused.
        let name = field.name().bytes().map(|octet| match octet {
            b'.' => b'_',
            other => other.to_ascii_uppercase(),
        });
        self.line.extend(name);
        self.line.push(b'=');
        let mut escaped = Escaped {
            out: self.line,
            form: Form::Plain,
        };
        let _ = escaped.write_fmt(value);
        self.line.push(b'\n');
    }
}

impl Visit for Journal<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps what a shape makes of events.
    struct Kept(Shape, Arc<Mutex<Vec<Vec<u8>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_770_883_750);
            let mut line = Vec::new();
            self.0.write(&mut line, now, 7, event);
            self.1.lock().unwrap().push(line);
        }
    }

    fn lines(shape: Shape, log: impl FnOnce()) -> Vec<String> {
        let kept = Arc::default();
        let layer = Kept(shape, Arc::clone(&kept));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let lines = kept.lock().unwrap().clone();
        let lines = lines.into_iter().map(String::from_utf8);
        lines.collect::<Result<_, _>>().unwrap()
    }

    const HOSTILE: &str = "x\r\n2026 ERROR forged\x1b[2J\u{9b}\"";

    fn hostile_event() {
        tracing::warn!(number = 3, rate = f64::NAN, name = HOSTILE, shown = %HOSTILE, ok = true, "bad {HOSTILE}");
    }

    #[test]
    fn people_read_one_line_an_event() {
        let shape = Shape::Human {
            colours: false,
            prefix: true,
        };
        let [line] = &lines(shape, || {
            tracing::info!(peer = %"::1", user = "ann", octets = 5_u64, "login");
        })[..] else {
            panic!("one line");
        };
        assert_eq!(
            line,
            "<6>2026-02-12T08:09:10.000000Z  INFO login session=7 peer=::1 user=\"ann\" octets=5\n"
        );
    }

    #[test]
    fn no_shape_lets_a_value_begin_a_line_or_steer_a_terminal() {
        for shape in [
            Shape::Human {
                colours: false,
                prefix: false,
            },
            Shape::Json { prefix: false },
            Shape::Journal,
        ] {
            let [line] = &lines(shape, hostile_event)[..] else {
                panic!("one line");
            };
            let inner = line.strip_suffix('\n').unwrap();
            if shape == Shape::Journal {
                let names: Vec<&str> = inner
                    .lines()
                    .filter_map(|field| Some(field.split_once('=')?.0))
                    .collect();
                assert_eq!(names.len(), inner.lines().count(), "{line}");
                let own = ["FTP_NUMBER", "FTP_RATE", "FTP_NAME", "FTP_SHOWN", "FTP_OK"];
                assert_eq!(
                    names[..4],
                    ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "TARGET"]
                );
                assert_eq!(names[4], "FTP_SESSION");
                assert_eq!(names[5..], own, "{line}");
                assert!(
                    inner
                        .lines()
                        .all(|field| !field.chars().any(super::super::text::is_unsafe))
                );
            } else {
                assert!(!inner.chars().any(super::super::text::is_unsafe), "{line}");
            }
        }
    }

    #[test]
    fn json_is_an_object_with_values_of_their_types() {
        let [line] = &lines(Shape::Json { prefix: false }, hostile_event)[..] else {
            panic!("one line");
        };
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(read["timestamp"], "2026-02-12T08:09:10.000000Z");
        assert_eq!(read["level"], "WARN");
        assert_eq!(read["session"], 7);
        assert_eq!(read["number"], 3);
        assert_eq!(read["rate"], serde_json::Value::Null);
        assert_eq!(read["name"], HOSTILE);
        assert_eq!(read["shown"], HOSTILE);
        assert_eq!(read["ok"], true);
        assert_eq!(read["message"], format!("bad {HOSTILE}"));
        assert!(
            read["target"]
                .as_str()
                .unwrap()
                .starts_with("ringftpd::logging")
        );
    }
}
