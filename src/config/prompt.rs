//! Passwords from a terminal, without echo, or from a pipe.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use crate::limits;

/// The character of Ctrl-C.
const INTERRUPT: u8 = 3;

/// Asks twice for a new password on the terminal, or reads one line of standard input.
pub(super) fn new_password(from_stdin: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if from_stdin {
        let password = read_line(&mut io::stdin().lock())?;
        return check(password);
    }
    if !io::stdin().is_terminal() {
        return Err(usage(
            "standard input is no terminal: give the password there with --password-stdin",
        ));
    }
    let first = check(ask("New password: ")?)?;
    if *ask("Again: ")? == *first {
        Ok(first)
    } else {
        Err(usage(
            "the two passwords differ: nothing was changed, try again",
        ))
    }
}

fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let system = |error: io::Error| Failure::new(Exit::System, format!("terminal: {error}"));
    let silence = Silence::begin().map_err(system)?;
    let mut terminal = io::stderr();
    terminal.write_all(prompt.as_bytes()).map_err(system)?;
    let answer = read_line(&mut io::stdin().lock());
    drop(silence);
    terminal.write_all(b"\n").map_err(system)?;
    let answer = answer?;
    if answer.contains(&INTERRUPT) {
        return Err(usage("interrupted: nothing was changed"));
    }
    Ok(answer)
}

/// Reads one line, without its end.
fn read_line(input: &mut impl BufRead) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let octets_max = limits::PASSWORD_OCTETS_MAX + 2;
    // The whole capacity at once: growing would leave copies behind in memory.
    let mut line = Zeroizing::new(Vec::with_capacity(octets_max));
    for octet in input.bytes().take(octets_max) {
        match octet {
            Ok(b'\n') => break,
            Ok(INTERRUPT) => {
                line.push(INTERRUPT);
                break;
            }
            Ok(octet) => line.push(octet),
            Err(error) => {
                let message = format!("standard input: {error}");
                return Err(Failure::new(Exit::NoInput, message));
            }
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn check(password: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if password.is_empty() {
        return Err(usage("the password is empty: give one"));
    }
    if password.len() > limits::PASSWORD_OCTETS_MAX {
        let message = format!(
            "a password has at most {} octets",
            limits::PASSWORD_OCTETS_MAX
        );
        return Err(usage(&message));
    }
    // PASS cannot carry them.
    if password.iter().any(|octet| matches!(octet, 0 | b'\r')) {
        return Err(usage("a password has no NUL and no CR"));
    }
    Ok(password)
}

fn usage(message: &str) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// The terminal without echo, until dropped.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        // Ctrl-C ends the line instead of the process, which would leave the echo off.
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ISIG);
        #[allow(
            clippy::indexing_slicing,
            reason = "the index type has only valid values"
        )]
        {
            silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        }
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_and_its_end_taken_off() {
        let line = |mut input: &[u8]| read_line(&mut input).unwrap().to_vec();
        assert_eq!(line(b" secret \nmore"), b" secret ");
        assert_eq!(line(b"secret\r\n"), b"secret");
        assert_eq!(line(b"secret"), b"secret");
        assert_eq!(line(b""), b"");
        assert_eq!(line(&[b'x'; 5000]).len(), limits::PASSWORD_OCTETS_MAX + 2);
    }

    #[test]
    fn passwords_that_ftp_cannot_carry_are_refused() {
        let accepted = |octets: &[u8]| check(Zeroizing::new(octets.to_vec())).is_ok();
        assert!(accepted("pässwörd".as_bytes()));
        assert!(!accepted(b""));
        assert!(!accepted(b"a\0b"));
        assert!(!accepted(b"a\rb"));
        assert!(!accepted(&[b'x'; 1025]));
    }
}
