//! What the doctor says, and how it is printed.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;
use ulvs_control::api::protocol::SCHEMA_VERSION;

/// How it stands with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// Works, but is slower or less safe than it could be; or is missing for a backend that nobody asked for.
    Note,
    /// The director would not start, or would lose packets.
    Wrong,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Wrong => "WRONG",
        }
    }

    /// The terminal's code for green, yellow and red.
    fn colour(self) -> u8 {
        match self {
            Status::Ok => 32,
            Status::Note => 33,
            Status::Wrong => 31,
        }
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub status: Status,
    /// What it is about: one of a few words that never change.
    pub area: &'static str,
    pub sentence: String,
    /// What to run against it.
    pub command: Option<String>,
}

/// The findings of one area, in the order of their making.
pub(super) struct Findings {
    area: &'static str,
    list: Vec<Finding>,
}

impl Findings {
    pub fn about(area: &'static str) -> Findings {
        Findings { area, list: Vec::new() }
    }

    pub fn ok(&mut self, sentence: impl Into<String>) {
        self.add(Status::Ok, sentence, None);
    }

    /// A note on which there is nothing to run.
    pub fn remark(&mut self, sentence: impl Into<String>) {
        self.add(Status::Note, sentence, None);
    }

    pub fn note(&mut self, sentence: impl Into<String>, command: impl Into<String>) {
        self.add(Status::Note, sentence, Some(command.into()));
    }

    pub fn wrong(&mut self, sentence: impl Into<String>, command: impl Into<String>) {
        self.add(Status::Wrong, sentence, Some(command.into()));
    }

    pub fn add(&mut self, status: Status, sentence: impl Into<String>, command: Option<String>) {
        self.list.push(Finding {
            status,
            area: self.area,
            sentence: sentence.into(),
            command,
        });
    }

    /// Puts others behind these.
    pub fn extend(&mut self, others: Findings) {
        self.list.extend(others.list);
    }

    pub fn list(self) -> Vec<Finding> {
        self.list
    }
}

/// How many are wrong.
pub(super) fn count_wrong(findings: &[Finding]) -> usize {
    findings
        .iter()
        .filter(|finding| finding.status == Status::Wrong)
        .count()
}

/// A line for each finding, the command in a line below it, and a closing line.
pub(super) fn print(findings: &[Finding], colour: bool, out: &mut impl Write) -> io::Result<()> {
    for finding in findings {
        let word = format!("{:<5}", finding.status.word());
        let word = if colour {
            format!("\x1b[{}m{word}\x1b[0m", finding.status.colour())
        } else {
            word
        };
        writeln!(out, "{word}  {:<10}  {}", finding.area, finding.sentence)?;
        if let Some(command) = &finding.command {
            writeln!(out, "{:19}run: {command}", "")?;
        }
    }
    match count_wrong(findings) {
        0 => writeln!(out, "\nNothing is wrong."),
        1 => writeln!(out, "\n1 thing is wrong."),
        count => writeln!(out, "\n{count} things are wrong."),
    }
}

/// The same for programs.
pub(super) fn print_json(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let whole = json!({
        "schema_version": SCHEMA_VERSION,
        "wrong": count_wrong(findings),
        "findings": findings,
    });
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    writeln!(out)
}
