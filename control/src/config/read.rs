//! Walks the TOML tree along the table of keys: unknown keys, missing keys, wrong types and values out of range are found here,
//! and defaults are filled in. What comes out is typed as the table says.

use std::collections::{HashMap, HashSet};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::Findings;
use super::names::Words;
use super::schema::{Default, KEYS_OF_FILE, Key, Kind, Table};
use super::source::{Source, Span};
use super::suggest;

/// A value and where it stands. A default stands where its table begins.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place in the file.
    pub span: Span,
    /// Whether it is written in the file (and not a default).
    pub given: bool,
}

impl<T> At<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            span: self.span,
            given: self.given,
        }
    }
}

/// A value of the type that the table of keys asks for.
#[derive(Clone, Debug)]
pub enum Value {
    /// [`Kind::Flag`]
    Flag(bool),
    /// [`Kind::Integer`]
    Integer(u64),
    /// [`Kind::Integers`]
    Integers(Vec<At<u64>>),
    /// [`Kind::Text`], [`Kind::Choice`]
    Text(String),
    /// [`Kind::Texts`], [`Kind::TextOrTexts`], [`Kind::Choices`]
    Texts(Vec<At<String>>),
    /// [`Kind::Table`], [`Kind::Tables`]
    Sections(Vec<Section>),
}

/// One table of the file, checked against its table of keys.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its header.
    pub span: Span,
    /// False when something in it could not be read, so that it holds less than the operator wrote.
    pub complete: bool,
    values: HashMap<&'static str, At<Value>>,
    unreadable: HashSet<&'static str>,
}

impl Section {
    /// A section without any key.
    pub fn empty() -> Section {
        Section {
            span: 0..0,
            complete: false,
            values: HashMap::new(),
            unreadable: HashSet::new(),
        }
    }

    /// Where the value of a key stands.
    pub fn place(&self, key: &str) -> Option<At<()>> {
        self.values.get(key).map(|at| At {
            value: (),
            span: at.span.clone(),
            given: at.given,
        })
    }

    /// False when the key is there but something in its value is wrong.
    pub fn is_readable(&self, key: &str) -> bool {
        !self.unreadable.contains(key)
    }

    /// The value of a [`Kind::Flag`].
    pub fn flag(&self, key: &str) -> bool {
        matches!(
            self.values.get(key),
            Some(At {
                value: Value::Flag(true),
                ..
            })
        )
    }

    /// The value of a [`Kind::Integer`]; none when it has no default and is missing or wrong.
    pub fn find_integer(&self, key: &str) -> Option<At<u32>> {
        match self.values.get(key)? {
            At {
                value: Value::Integer(number),
                span,
                given,
            } => {
                let value = u32::try_from(*number).unwrap_or(u32::MAX);
                Some(At {
                    value,
                    span: span.clone(),
                    given: *given,
                })
            }
            _ => None,
        }
    }

    /// The value of a [`Kind::Integer`] that has a default.
    pub fn integer(&self, key: &str) -> At<u32> {
        self.find_integer(key).unwrap_or(At {
            value: 0,
            span: self.span.clone(),
            given: false,
        })
    }

    /// The values of a [`Kind::Integers`].
    pub fn integers(&self, key: &str) -> &[At<u64>] {
        match self.values.get(key) {
            Some(At {
                value: Value::Integers(numbers),
                ..
            }) => numbers,
            _ => &[],
        }
    }

    /// The value of a [`Kind::Text`]; none when it has no default and is missing or wrong.
    pub fn text(&self, key: &str) -> Option<At<String>> {
        match self.values.get(key)? {
            At {
                value: Value::Text(text),
                span,
                given,
            } => Some(At {
                value: text.clone(),
                span: span.clone(),
                given: *given,
            }),
            _ => None,
        }
    }

    /// The values of a [`Kind::Texts`], [`Kind::TextOrTexts`] or [`Kind::Choices`].
    pub fn texts(&self, key: &str) -> &[At<String>] {
        match self.values.get(key) {
            Some(At {
                value: Value::Texts(texts),
                ..
            }) => texts,
            _ => &[],
        }
    }

    /// What the word of a [`Kind::Choice`] stands for; none when it has no default and is missing or wrong.
    pub fn find_choice<T: Copy, const N: usize>(&self, key: &str, words: &Words<T, N>) -> Option<At<T>> {
        let text = self.text(key)?;
        let (_, value) = words.iter().find(|(word, _)| *word == text.value)?;
        Some(text.map(|_| *value))
    }

    /// What the word of a [`Kind::Choice`] with a default stands for.
    pub fn choice<T: Copy, const N: usize>(&self, key: &str, words: &Words<T, N>) -> At<T> {
        self.find_choice(key, words).unwrap_or(At {
            value: words[0].1,
            span: self.span.clone(),
            given: false,
        })
    }

    /// The sections of a [`Kind::Table`] or [`Kind::Tables`].
    pub fn sections(&self, key: &str) -> &[Section] {
        match self.values.get(key) {
            Some(At {
                value: Value::Sections(sections),
                ..
            }) => sections,
            _ => &[],
        }
    }
}

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
        let mut section = Section {
            span: span.clone(),
            complete: true,
            values: HashMap::new(),
            unreadable: HashSet::new(),
        };
        for (name, value) in table.iter() {
            let Some(key) = schema.keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                let message = format!("{} has no key \"{}\"", schema.name, name.get_ref().escape_debug());
                self.findings
                    .error(&name.span(), message)
                    .help(suggest::help_for_key(name.get_ref(), schema));
                continue;
            };
            let found_before_value = self.findings.len();
            if let Some(read) = self.value(value, key, schema) {
                section.values.insert(
                    key.name,
                    At {
                        value: read,
                        span: value.span(),
                        given: true,
                    },
                );
            }
            if self.findings.len() > found_before_value {
                section.unreadable.insert(key.name);
            }
        }
        for key in schema.keys {
            if section.values.contains_key(key.name) {
                continue;
            }
            if key.default == Default::Required && !table.contains_key(key.name) && self.findings.file_is_whole() {
                let message = format!("{} has no {}, which it needs", schema.name, key.name);
                self.findings
                    .error(span, message)
                    .help(format!("for example: {} = {}", key.name, key.example));
            }
            if let Some(value) = self.default(key) {
                section.values.insert(
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
            (Default::Flag(flag), _) => Value::Flag(flag),
            (Default::Integer(number), _) => Value::Integer(number),
            (Default::Text(text), _) => Value::Text(text.to_string()),
            // A table that is left out has all the defaults of its keys.
            (Default::Empty, Kind::Table(schema)) => {
                Value::Sections(vec![self.table(&DeTable::new(), &(0..0), schema)])
            }
            (Default::Empty, Kind::Tables(_)) => Value::Sections(Vec::new()),
            (Default::Empty, Kind::Integers { .. }) => Value::Integers(Vec::new()),
            (Default::Empty, _) => Value::Texts(Vec::new()),
            (Default::Required | Default::None(_), _) => return None,
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
            (Kind::Table(inner), DeValue::Table(table)) => {
                Some(Value::Sections(vec![self.table(table, &value.span(), inner)]))
            }
            (Kind::Tables(inner), DeValue::Array(items)) => {
                let mut sections = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => sections.push(self.table(table, &item.span(), inner)),
                        other => self.mismatch(&item.span(), key, schema, other),
                    }
                }
                Some(Value::Sections(sections))
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
        let message = format!("{} is {}; it must be from {min} to {max}", key.name, self.quote(span));
        self.findings
            .error(span, message)
            .help(format!("{}: {}", key.name, key.doc));
        None
    }

    fn word(&mut self, text: &str, span: &Span, key: &Key, words: &[&'static str]) -> Option<String> {
        if words.contains(&text) {
            return Some(text.to_string());
        }
        let message = format!(
            "{} cannot be {}; it is one of {}",
            key.name,
            self.quote(span),
            words.join(", ")
        );
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
            (Kind::Tables(inner), DeValue::Table(_)) => {
                format!("write {} with double brackets: there can be several", inner.name)
            }
            (Kind::Table(inner), _) => format!("write {} with single brackets, once", inner.name),
            (Kind::Integer { .. }, DeValue::String(_)) => "write the number without quotes".to_string(),
            (Kind::Flag, _) => "write true or false without quotes".to_string(),
            _ => format!("for example, in {}: {} = {}", schema.name, key.name, key.example),
        };
        self.findings.error(span, message).help(help);
    }

    /// The value as it stands in the file, shortened.
    fn quote(&self, span: &Span) -> String {
        let text = self.source.text_of(span);
        let short: String = text
            .chars()
            .take(40)
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        if text.chars().count() > 40 {
            format!("{short}...")
        } else {
            short
        }
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
