//! Walks the TOML tree along the table of keys: unknown keys, missing keys, wrong types and values out of range are found here,
//! and defaults are filled in. What comes out is typed as the table says.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::Findings;
use super::schema::{DefaultValue, KEYS_OF_FILE, Key, Kind, Table};
use super::section::{At, Section, Value};
use super::source::{Source, Span, printable};
use super::suggest;

/// Reads the whole file.
pub fn read_file(tree: &DeTable, source: &Source, findings: &mut Findings) -> Section {
    Reader { source, findings }.table(tree, &(0..0), KEYS_OF_FILE)
}

struct Reader<'a> {
    source: &'a Source<'a>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable, span: &Span, schema: &'static Table) -> Section {
        let found_before = self.findings.len();
        let mut section = Section::new(span.clone());
        for (name, value) in table.iter() {
            let Some(key) = schema.keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                let message = format!("{} has no key \"{}\"", schema.name, printable(name.get_ref()));
                self.findings
                    .error(&name.span(), message)
                    .help(suggest::help_for_key(name.get_ref(), schema));
                continue;
            };
            let found_before_value = self.findings.len();
            if let Some(read) = self.value(value, key, schema) {
                section.insert(
                    key.name,
                    At {
                        value: read,
                        span: value.span(),
                        given: true,
                    },
                );
            }
            if self.findings.len() > found_before_value {
                section.mark_unreadable(key.name);
            }
        }
        for key in schema.keys {
            if section.place(key.name).is_some() {
                continue;
            }
            if key.default == DefaultValue::Required && !table.contains_key(key.name) && self.findings.file_is_whole() {
                let message = format!("{} has no {}, which it needs", schema.name, key.name);
                self.findings
                    .error(span, message)
                    .help(format!("for example: {} = {}", key.name, key.example));
            }
            if let Some(value) = self.default(key) {
                section.insert(
                    key.name,
                    At {
                        value,
                        span: span.clone(),
                        given: false,
                    },
                );
            }
        }
        section.complete = self.findings.len() == found_before;
        section
    }

    fn default(&mut self, key: &Key) -> Option<Value> {
        Some(match (key.default, key.kind) {
            (DefaultValue::Flag(flag), _) => Value::Flag(flag),
            (DefaultValue::Integer(number), _) => Value::Integer(number),
            (DefaultValue::Text(text), _) => Value::Text(text.to_string()),
            // A table that is left out has all the defaults of its keys.
            (DefaultValue::Empty, Kind::Section(schema)) => {
                Value::Sections(vec![self.table(&DeTable::new(), &(0..0), schema)])
            }
            (DefaultValue::Empty, Kind::Sections(_)) => Value::Sections(Vec::new()),
            (DefaultValue::Empty, Kind::Integers { .. }) => Value::Integers(Vec::new()),
            (DefaultValue::Empty, _) => Value::Texts(Vec::new()),
            (DefaultValue::Required | DefaultValue::None(_), _) => return None,
        })
    }

    fn value(&mut self, value: &Spanned<DeValue>, key: &Key, schema: &Table) -> Option<Value> {
        match (key.kind, value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::Integer { min, max }, DeValue::Integer(number)) => {
                self.integer(number, &value.span(), key, (min, max)).map(Value::Integer)
            }
            (Kind::Integers { min, max }, DeValue::Array(items)) => {
                let read = |reader: &mut Self, item: &Spanned<DeValue>| match item.get_ref() {
                    DeValue::Integer(number) => reader.integer(number, &item.span(), key, (min, max)),
                    other => reader.wrong_type(&item.span(), key, "integers", other),
                };
                Some(Value::Integers(self.list(items.iter(), read)))
            }
            (Kind::Text, DeValue::String(text)) => Some(Value::Text(text.to_string())),
            (Kind::Choice(words), DeValue::String(text)) => self.word(text, &value.span(), key, words).map(Value::Text),
            (Kind::TextOrTexts, DeValue::String(text)) => Some(Value::Texts(vec![At {
                value: text.to_string(),
                span: value.span(),
                given: true,
            }])),
            (Kind::TextOrTexts | Kind::Texts, DeValue::Array(items)) => {
                let read = |reader: &mut Self, item: &Spanned<DeValue>| match item.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    other => reader.wrong_type(&item.span(), key, "strings", other),
                };
                Some(Value::Texts(self.list(items.iter(), read)))
            }
            (Kind::Choices(words), DeValue::Array(items)) => {
                let read = |reader: &mut Self, item: &Spanned<DeValue>| match item.get_ref() {
                    DeValue::String(text) => reader.word(text, &item.span(), key, words),
                    other => reader.wrong_type(&item.span(), key, "strings", other),
                };
                Some(Value::Texts(self.list(items.iter(), read)))
            }
            (Kind::Section(inner), DeValue::Table(table)) => {
                Some(Value::Sections(vec![self.table(table, &value.span(), inner)]))
            }
            (Kind::Sections(inner), DeValue::Array(items)) => {
                let mut sections = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => sections.push(self.table(table, &item.span(), inner)),
                        other => self.mismatch(&item.span(), key, schema, other),
                    }
                }
                Some(Value::Sections(sections))
            }
            // The wrong kind of brackets: told, and what is inside is read all the same.
            (Kind::Sections(inner), DeValue::Table(table)) => {
                self.mismatch(&value.span(), key, schema, value.get_ref());
                Some(Value::Sections(vec![self.table(table, &value.span(), inner)]))
            }
            (Kind::Section(inner), DeValue::Array(items)) => {
                self.mismatch(&value.span(), key, schema, value.get_ref());
                let tables = items
                    .iter()
                    .filter_map(|item| Some((item.get_ref().as_table()?, item.span())));
                Some(Value::Sections(
                    tables.map(|(table, span)| self.table(table, &span, inner)).collect(),
                ))
            }
            (_, other) => {
                self.mismatch(&value.span(), key, schema, other);
                None
            }
        }
    }

    /// Reads all items and keeps the right ones.
    fn list<'v, 'i: 'v, T>(
        &mut self,
        items: impl Iterator<Item = &'v Spanned<DeValue<'i>>>,
        mut read: impl FnMut(&mut Self, &Spanned<DeValue<'i>>) -> Option<T>,
    ) -> Vec<At<T>> {
        items
            .filter_map(|item| {
                Some(At {
                    value: read(self, item)?,
                    span: item.span(),
                    given: true,
                })
            })
            .collect()
    }

    fn integer(&mut self, number: &DeInteger, span: &Span, key: &Key, (min, max): (u64, u64)) -> Option<u64> {
        let read = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
        if (i128::from(min)..=i128::from(max)).contains(&read) {
            return u64::try_from(read).ok();
        }
        let range = format!("from {min} to {max} {}", key.unit);
        let written = printable(self.source.text_of(span));
        let message = format!("{} is {written}; it must be {}", key.name, range.trim_end());
        self.findings
            .error(span, message)
            .help(format!("{}: {}", key.name, key.doc));
        None
    }

    fn word(&mut self, text: &str, span: &Span, key: &Key, words: &[&'static str]) -> Option<String> {
        if words.contains(&text) {
            return Some(text.to_string());
        }
        let valid = words.join(", ");
        let message = format!("{} cannot be \"{}\"; valid here: {valid}", key.name, printable(text));
        let finding = self.findings.error(span, message);
        if let Some(word) = suggest::nearest(text, words.iter().copied()) {
            finding.help(format!("did you mean \"{word}\"?"));
        }
        None
    }

    /// Tells of an item of the wrong type.
    fn wrong_type<T>(&mut self, span: &Span, key: &Key, wanted: &str, found: &DeValue) -> Option<T> {
        let message = format!("{} is a list of {wanted}; this is {}", key.name, type_name(found));
        self.findings
            .error(span, message)
            .help(format!("for example: {} = {}", key.name, key.example));
        None
    }

    /// Tells of a value of the wrong type.
    fn mismatch(&mut self, span: &Span, key: &Key, schema: &Table, found: &DeValue) {
        let message = format!("{} must be {}; this is {}", key.name, key.kind, type_name(found));
        let help = match (key.kind, found) {
            (Kind::Sections(inner), DeValue::Table(_)) => {
                format!("write {} with double brackets: there can be several", inner.name)
            }
            (Kind::Section(inner), _) => format!("write {} with single brackets, once", inner.name),
            (Kind::Integer { .. }, DeValue::String(_)) => "write the number without quotes".to_string(),
            (Kind::Flag, _) => "write true or false without quotes".to_string(),
            _ => format!("for example, in {}: {} = {}", schema.name, key.name, key.example),
        };
        self.findings.error(span, message).help(help);
    }
}

/// The type of a value in an operator's words.
fn type_name(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
