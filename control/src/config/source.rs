//! The text of the file: from byte offsets to lines and columns, and the excerpt that a message shows.

use std::ops::Range;

use super::error::Place;

/// A range of bytes in the file.
pub type Span = Range<usize>;

/// Excerpts longer than this many characters are cut around the place they show.
const EXCERPT_WIDTH: usize = 100;

/// The file's name and text, with the offset of every line.
pub struct Source<'a> {
    /// Name for messages.
    pub file_name: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Indexes the lines of `text`.
    pub fn new(file_name: &'a str, text: &'a str) -> Source<'a> {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Source {
            file_name,
            text,
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// The text of a span; what is outside the file is left out.
    pub fn text_of(&self, span: &Span) -> &'a str {
        let (start, end) = (self.boundary(span.start), self.boundary(span.end));
        &self.text[start..end.max(start)]
    }

    /// The line of an offset, counted from 1.
    pub fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// Where a span begins, with the line around it.
    pub fn place_of(&self, span: &Span) -> Place {
        let start = self.boundary(span.start);
        let line = self.line_of(start);
        let line_start = self.line_starts[line - 1];
        let before = &self.text[line_start..start];
        let column = before.chars().count();

        // Long lines are shown from a little before the place.
        let cut = if column < EXCERPT_WIDTH * 3 / 4 {
            0
        } else {
            column - EXCERPT_WIDTH / 2
        };
        let kept_before = before
            .char_indices()
            .rev()
            .take(column - cut)
            .last()
            .map_or(start, |(at, _)| line_start + at);
        let room = EXCERPT_WIDTH - (column - cut);
        let inside = self
            .text_of(&(start..span.end))
            .chars()
            .take_while(|c| !matches!(c, '\r' | '\n'))
            .take(room)
            .count();
        Place {
            line,
            column: column + 1,
            source_line: excerpt(&self.text[kept_before..]),
            mark_column: column - cut + 1,
            mark_width: inside.max(1),
        }
    }

    /// The nearest offset at or before `offset` where a character begins.
    fn boundary(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        (0..=offset)
            .rev()
            .find(|at| self.text.is_char_boundary(*at))
            .unwrap_or(0)
    }
}

/// What is shown of a line. Tabs become single spaces so that the mark below stays aligned, and control characters never reach
/// the terminal.
fn excerpt(text: &str) -> String {
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let line = text.chars().take_while(|c| *c != '\n').take(EXCERPT_WIDTH);
    let shown: String = line.collect();
    shown.trim_end_matches('\r').chars().map(visible).collect()
}

/// Text from the file for use inside a sentence: shortened, and with control characters escaped.
pub fn printable(text: &str) -> String {
    const LIMIT: usize = 60;
    let escape = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    let shown: String = text.chars().take(LIMIT).map(escape).collect();
    match text.chars().nth(LIMIT) {
        Some(_) => format!("{shown}..."),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns() {
        let source = Source::new("f", "a = 1\r\nbé = 2\n");
        let place = source.place_of(&(7..10));
        assert_eq!((place.line, place.column, place.mark_width), (2, 1, 2));
        assert_eq!(
            source.place_of(&(12..13)).column,
            5,
            "columns count characters, not bytes"
        );
        assert_eq!(source.place_of(&(0..1)).source_line, "a = 1");
        // Beyond the end, and inside a character.
        assert_eq!(source.place_of(&(900..1000)).line, 3);
        assert_eq!(source.place_of(&(9..10)).column, 2);
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line = format!("key = \"{}\" \u{1b}[31m", "x".repeat(400));
        let source = Source::new("f", &line);
        let place = source.place_of(&(409..410));
        assert_eq!(place.column, 410);
        assert!(place.source_line.chars().count() <= EXCERPT_WIDTH);
        assert!(place.mark_column + place.mark_width <= EXCERPT_WIDTH + 1);
        assert!(!place.source_line.contains('\u{1b}'));
    }
}
