//! Aligned columns for people.

/// Rows under headings. A column of numbers is aligned right, any other left.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Table {
        Table {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The rows as text, without trailing blanks.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let layout: Vec<(usize, bool)> = (0..columns).map(|column| self.layout(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&layout).map(|(cell, &(width, is_number))| {
                if is_number {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }

    /// The width of a column, and whether all its cells are numbers.
    fn layout(&self, column: usize) -> (usize, bool) {
        let cells = || self.rows.iter().filter_map(move |row| row.get(column));
        let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0);
        let below_heading = || cells().skip(1);
        let is_number = below_heading().next().is_some() && below_heading().all(|cell| is_number(cell));
        (width, is_number)
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-"
        || (cell.starts_with(|first: char| first.is_ascii_digit()) && cell.trim_end_matches('%').parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut table = Table::new(&["NAME", "COUNT", "BUSY"]);
        table.row(vec!["a".into(), "1".into(), "5.0%".into()]);
        table.row(vec!["longer".into(), "1234567".into(), "-".into()]);
        assert_eq!(
            table.text(),
            "NAME      COUNT  BUSY\na             1  5.0%\nlonger  1234567     -\n"
        );
    }

    #[test]
    fn no_rows_leave_the_headings() {
        assert_eq!(Table::new(&["A", "B"]).text(), "A  B\n");
    }
}
