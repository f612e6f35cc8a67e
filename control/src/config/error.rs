//! What is wrong with a configuration file, and how an operator is told.

use std::collections::HashSet;
use std::fmt;

use super::source::{Source, Span};

/// Whether a finding fails the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// A place in the file with the line that is shown for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, or the part of it around the column; safe to print.
    pub source_line: String,
    /// Where in `source_line` the mark begins, counted from 1.
    pub mark_column: usize,
    /// Characters to mark.
    pub mark_width: usize,
}

/// One error or warning. `Display` renders it over several lines:
///
/// ```text
/// ulvs.toml:12:1: [[service]] has no key "schedular"
///   12 | schedular = "wlc"
///      | ^^^^^^^^^
///   help: did you mean "scheduler"?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Error or warning.
    pub severity: Severity,
    /// The file's name as it was given.
    pub file: String,
    /// Where; none when the file cannot be read at all.
    pub place: Option<Place>,
    /// What is wrong, as a sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Another place that takes part, and what stands there.
    pub related: Option<(Place, String)>,
}

impl ConfigError {
    /// An error about a file that cannot be read.
    pub fn without_place(file: &str, message: impl Into<String>) -> ConfigError {
        ConfigError {
            severity: Severity::Error,
            file: file.to_string(),
            place: None,
            message: message.into(),
            help: None,
            related: None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if self.severity == Severity::Warning {
            write!(f, " warning:")?;
        }
        write!(f, " {}", self.message)?;
        if let Some(place) = &self.place {
            let number = format!("{:>4}", place.line);
            let gutter = " ".repeat(number.len());
            let indent = " ".repeat(place.mark_column.saturating_sub(1));
            let mark = "^".repeat(place.mark_width);
            let source_line = format!("{number} | {}", place.source_line);
            write!(f, "\n{}\n{gutter} | {indent}{mark}", source_line.trim_end())?;
        }
        if let Some((place, what)) = &self.related {
            write!(f, "\n  note: {}:{}:{}: {what}", self.file, place.line, place.column)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A finding while the file is being checked.
#[derive(Debug)]
pub struct Finding {
    severity: Severity,
    span: Span,
    message: String,
    help: Option<String>,
    related: Option<(Span, String)>,
    is_syntax: bool,
}

impl Finding {
    /// Adds what to do about it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Finding {
        self.help = Some(help.into());
        self
    }

    /// Adds the other place that takes part.
    pub fn see(&mut self, span: &Span, what: impl Into<String>) -> &mut Finding {
        self.related = Some((span.clone(), what.into()));
        self
    }
}

/// All findings about one file.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// Lines that are not valid TOML: what was recovered from them is not worth a second message.
    broken_lines: HashSet<usize>,
}

impl Findings {
    /// Adds an error at a place.
    pub fn error(&mut self, span: &Span, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, span.clone(), message.into())
    }

    /// Adds a warning at a place.
    pub fn warning(&mut self, span: &Span, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, span.clone(), message.into())
    }

    fn add(&mut self, severity: Severity, span: Span, message: String) -> &mut Finding {
        let place = self.list.len();
        self.list.push(Finding {
            severity,
            span,
            message,
            help: None,
            related: None,
            is_syntax: false,
        });
        &mut self.list[place]
    }

    /// How much was found so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether anything found so far fails the load.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Notes that all findings so far are syntax errors.
    pub fn mark_syntax_errors(&mut self, source: &Source) {
        for finding in &mut self.list {
            finding.is_syntax = true;
            self.broken_lines.insert(source.line_of(finding.span.start));
        }
    }

    /// Whether the whole file could be read, so that what was not found is really not there.
    pub fn file_is_whole(&self) -> bool {
        self.broken_lines.is_empty()
    }

    /// Everything found, in the order of the file, each message once per place.
    pub fn finish(mut self, source: &Source) -> Vec<ConfigError> {
        self.list.sort_by_key(|finding| finding.span.start);
        let mut errors: Vec<ConfigError> = Vec::new();
        let mut lines_told = HashSet::new();
        for finding in &self.list {
            let error = resolve(finding, source);
            let line = source.line_of(finding.span.start);
            // A broken line gets its first syntax error only: the parser often stumbles several times over one slip.
            if self.broken_lines.contains(&line) && (!finding.is_syntax || !lines_told.insert(line)) {
                continue;
            }
            if errors.last() != Some(&error) {
                errors.push(error);
            }
        }
        errors
    }
}

fn resolve(finding: &Finding, source: &Source) -> ConfigError {
    ConfigError {
        severity: finding.severity,
        file: source.file_name.to_string(),
        place: Some(source.place_of(&finding.span)),
        message: finding.message.clone(),
        help: finding.help.clone(),
        related: finding
            .related
            .as_ref()
            .map(|(span, what)| (source.place_of(span), what.clone())),
    }
}
