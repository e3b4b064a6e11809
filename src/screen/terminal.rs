//! The live screen: draws what a thread asks for, obeys keys, and leaves the terminal as it was, however it ends.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::ask::{Answer, Answers, AskError, ask};
use super::report::Report;
use super::text;
use super::view::{Sort, whole};
use crate::status::Request;

/// How often it is looked whether there is anything to do.
const TURN: Duration = Duration::from_millis(100);
/// What ends the screen as `q` does.
const SIGNALS: [i32; 4] = [
    signal_hook::consts::SIGHUP,
    signal_hook::consts::SIGINT,
    signal_hook::consts::SIGQUIT,
    signal_hook::consts::SIGTERM,
];

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// There was no answer to the first question.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The terminal's.
    #[error("the terminal: {0}; `--once` needs none")]
    Terminal(#[from] io::Error),
}

/// Undoes what was done to the terminal.
struct Restored;

impl Restored {
    fn prepare() -> io::Result<Self> {
        enable_raw_mode()?;
        let restored = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Else its words would go with the other screen.
            restore();
            usual(panic);
        }));
        Ok(restored)
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // A terminal that is gone needs nothing.
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

type Looked = Result<Answers, AskError>;

/// Asks again and again on a thread of its own: a server that does not answer must not hold the keys.
fn look_on(
    directory: PathBuf,
    request: Request,
    interval: Duration,
) -> io::Result<(Receiver<Looked>, Sender<()>)> {
    let (looks, receiver) = mpsc::channel();
    let (wake, woken) = mpsc::channel();
    thread::Builder::new()
        .name("look".to_owned())
        .spawn(move || {
            while !matches!(
                woken.recv_timeout(interval),
                Err(RecvTimeoutError::Disconnected)
            ) {
                if looks.send(ask(&directory, &request)).is_err() {
                    return;
                }
            }
        })?;
    Ok((receiver, wake))
}

/// What one line says of processes that do not answer.
fn trouble(failed: &[AskError]) -> Option<String> {
    let words: Vec<String> = failed.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// What is on the screen.
struct Screen {
    now: Vec<Answer>,
    report: Report,
    /// Since the server, or a process of it, does not answer.
    trouble: Option<String>,
    sort: Sort,
    from: usize,
    plain: bool,
    /// The terminal's size when it was drawn last.
    drawn: (u16, u16),
}

impl Screen {
    fn look(&mut self, looked: Looked) {
        match looked {
            Ok(Answers { answers, failed }) => {
                self.report = Report::new(&answers, Some(&self.now));
                self.now = answers;
                self.trouble = trouble(&failed);
                self.from = self.from.min(self.report.sessions.len().saturating_sub(1));
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = terminal::size()?;
        let mut out = Vec::new();
        if size != self.drawn {
            queue!(out, Clear(ClearType::All))?;
            self.drawn = size;
        }
        let (width, height) = size;
        let (width, height) = (usize::from(width), usize::from(height));
        let (mut lines, mut titles) = whole(
            &self.report,
            self.sort,
            Some(width),
            Some(height.saturating_sub(1)),
            self.from,
        );
        if let Some(trouble) = &self.trouble {
            let words = text::clean(trouble);
            lines.insert(0, text::begin(&words, width).into_owned());
            lines.truncate(height.saturating_sub(1));
            titles.iter_mut().for_each(|title| *title += 1);
        }
        let foot = format!(
            "q quit  s sort: {}  space look now  arrows scroll",
            self.sort.name()
        );
        for (row, line) in lines.iter().enumerate() {
            let Ok(row_number) = u16::try_from(row) else {
                break;
            };
            queue!(out, MoveTo(0, row_number))?;
            if titles.contains(&row) && !self.plain {
                let blank = " ".repeat(width.saturating_sub(text::width(line)));
                write!(out, "\x1b[7m{line}{blank}\x1b[0m")?;
            } else {
                write!(out, "{line}")?;
                // Behind a full line the cursor stands on its last character.
                if text::width(line) < width {
                    queue!(out, Clear(ClearType::UntilNewLine))?;
                }
            }
        }
        let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        queue!(out, MoveTo(0, rows), Clear(ClearType::FromCursorDown))?;
        let last = u16::try_from(height.saturating_sub(1)).unwrap_or(0);
        queue!(out, MoveTo(0, last))?;
        write!(out, "{}", text::begin(&foot, width.saturating_sub(1)))?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        stdout.flush()
    }

    /// What a key does; `false`: the end.
    fn press(&mut self, key: KeyEvent, wake: &Sender<()>) -> bool {
        let last = self.report.sessions.len().saturating_sub(1);
        let page = terminal::size().map_or(10, |(_, height)| usize::from(height) / 2);
        match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => return false,
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return false;
            }
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char(' ') => drop(wake.send(())),
            KeyCode::Up => self.from = self.from.saturating_sub(1),
            KeyCode::Down => self.from += 1,
            KeyCode::PageUp => self.from = self.from.saturating_sub(page),
            KeyCode::PageDown => self.from += page,
            KeyCode::Home => self.from = 0,
            KeyCode::End => self.from = last,
            _ => {}
        }
        self.from = self.from.min(last);
        true
    }
}

/// Waits a turn for a key or a change of size; tells whether the terminal is still there. crossterm would read its end
/// again and again.
fn wait() -> io::Result<bool> {
    let (input, output) = (io::stdin(), io::stdout());
    let mut watched = vec![PollFd::new(&output, PollFlags::empty())];
    // Else keys come from /dev/tty, and wait for the next turn.
    if input.is_terminal() {
        watched.push(PollFd::new(&input, PollFlags::IN));
    }
    let turn = Timespec::try_from(TURN).map_err(io::Error::other)?;
    match poll(&mut watched, Some(&turn)) {
        // A signal: that of a change of size, or of the end.
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(!watched.iter().any(|fd| fd.revents().intersects(gone)))
}

/// Shows what happens until a key or a signal ends it. `plain`: nothing but text (`NO_COLOR`).
///
/// # Errors
/// [`ScreenError`]; a server that goes away later is told on the screen, and asked again.
pub fn run(
    directory: &Path,
    request: &Request,
    interval: Duration,
    sort: Sort,
    plain: bool,
) -> Result<(), ScreenError> {
    let Answers {
        answers: now,
        failed,
    } = ask(directory, request)?;
    let mut screen = Screen {
        report: Report::new(&now, None),
        now,
        trouble: trouble(&failed),
        sort,
        from: 0,
        plain,
        drawn: (0, 0),
    };
    let end = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::clone(&end))?;
    }
    let (looks, wake) = look_on(directory.to_owned(), request.clone(), interval)?;
    let _restored = Restored::prepare()?;
    let mut due = true;
    while !end.load(Ordering::Relaxed) {
        match looks.try_recv() {
            Ok(looked) => {
                screen.look(looked);
                due = true;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the thread that asks has ended").into());
            }
        }
        if due {
            screen.draw()?;
            due = false;
        }
        if !wait()? {
            return Err(io::Error::other("it is gone").into());
        }
        if !event::poll(Duration::ZERO)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if !screen.press(key, &wake) {
                    break;
                }
                due = true;
            }
            Event::Resize(..) => due = true,
            _ => {}
        }
    }
    Ok(())
}
