//! `ipvsadm -R`: command lines from standard input, one per line.
//!
//! As in the original each line takes effect by itself: a line that the director refuses is reported and the next one read; a line that
//! breaks the rules of the command line ends it, and what stood before holds. Here the report names the line, any refusal makes the exit
//! status one of failure, and lines are sent to the director some thousand at a time. With `--atomic` all lines take effect together, or
//! none does.

use std::io::{BufRead, Write};
use std::path::Path;

use ulvs_control::api::Client;
use ulvs_control::api::changes::Change;

use super::arguments::{self, UsageError};
use super::change::change;
use super::options::{Command, Opt};
use super::{Arguments, Failure, PROGRAM, STATUS_CHANGE_REFUSED, carry_out, refused};

/// Lines that are sent together: each time costs a new configuration for all workers.
const LINES_AT_ONCE: usize = 5000;

/// Reads `input` to its end.
pub(super) fn restore(
    program: &str,
    arguments: &Arguments,
    socket: &Path,
    input: &mut impl BufRead,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), Failure> {
    let mut restore = Restore {
        client: Client::connect(socket, PROGRAM)?,
        atomic: arguments.has(Opt::Atomic),
        lines: Vec::new(),
        changes: Vec::new(),
        has_failed: false,
    };
    let mut bytes = Vec::new();
    for number in 1_u64.. {
        bytes.clear();
        if input.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let words = words(&String::from_utf8_lossy(&bytes));
        if words.is_empty() {
            continue;
        }
        let taken = arguments::parse(program, words).and_then(|line| restore.check(program, line));
        match taken {
            Ok(line) => restore.take(program, number, &line, socket, out, err)?,
            Err(wrong) => return restore.end_at(number, wrong, err),
        }
    }
    restore.send(err)?;
    if restore.has_failed {
        return Err(Failure::Reported(STATUS_CHANGE_REFUSED));
    }
    Ok(())
}

/// The words of a line: without a comment, and without the program's name, which people paste with it.
fn words(line: &str) -> Vec<String> {
    let words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let is_name = |word: &&str| *word == "ipvsadm" || word.ends_with("/ipvsadm");
    let mut words = words.peekable();
    words.next_if(is_name);
    words.map(str::to_owned).collect()
}

struct Restore {
    client: Client,
    atomic: bool,
    /// Line by change.
    lines: Vec<u64>,
    changes: Vec<Change>,
    has_failed: bool,
}

impl Restore {
    /// Refuses what cannot stand in a line.
    fn check(&self, program: &str, line: Arguments) -> Result<Arguments, UsageError> {
        if line.command == Command::Restore {
            return Err(arguments::try_help(program));
        }
        if self.atomic && change(&line).is_none() {
            let message = format!("'{}' changes nothing, and cannot be a part of it", line.command.name());
            return Err(arguments::rules(message));
        }
        Ok(line)
    }

    fn take(
        &mut self,
        program: &str,
        number: u64,
        line: &Arguments,
        socket: &Path,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> Result<(), Failure> {
        if let Some(change) = change(line) {
            self.lines.push(number);
            self.changes.push(change);
            if !self.atomic && self.changes.len() >= LINES_AT_ONCE {
                self.send(err)?;
            }
            return Ok(());
        }
        // It shall see what stands before it.
        self.send(err)?;
        carry_out(program, line, socket, out)
    }

    /// A line that is no command line: the end. What stands before it holds, unless all or nothing was asked for.
    fn end_at(mut self, number: u64, wrong: UsageError, err: &mut impl Write) -> Result<(), Failure> {
        let UsageError { status, message } = wrong;
        if self.atomic {
            return Err(Failure::Said(
                status,
                format!("line {number}: {message}\nnothing was changed"),
            ));
        }
        self.send(err)?;
        Err(Failure::Said(status, format!("line {number}: {message}")))
    }

    fn send(&mut self, err: &mut impl Write) -> Result<(), Failure> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let outcome = self.client.change(&self.changes, self.atomic).map_err(refused)?;
        for failure in &outcome.failures {
            let line = self.lines.get(failure.index as usize).copied().unwrap_or_default();
            writeln!(err, "line {line}: {}", failure.message)?;
            self.has_failed = true;
        }
        if self.atomic && self.has_failed {
            writeln!(err, "nothing was changed")?;
        }
        self.changes.clear();
        self.lines.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_words() {
        for (line, wanted) in [
            ("", &[][..]),
            ("  \t\r\n", &[]),
            ("# a comment", &[]),
            ("ipvsadm", &[]),
            ("-C", &["-C"]),
            ("ipvsadm -C # all of it\n", &["-C"]),
            ("/sbin/ipvsadm -D -t 192.0.2.1:80", &["-D", "-t", "192.0.2.1:80"]),
            ("-A -t ipvsadm:80", &["-A", "-t", "ipvsadm:80"]),
        ] {
            assert_eq!(words(line), wanted, "{line:?}");
        }
    }
}
