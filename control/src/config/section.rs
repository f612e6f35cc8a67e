//! A table of the file after it was checked against the table of keys: typed values, each with its place.

use std::collections::{HashMap, HashSet};

use super::names::Words;
use super::source::Span;

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
    /// [`Kind::Section`], [`Kind::Sections`]
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
    pub fn new(span: Span) -> Section {
        Section {
            span,
            complete: true,
            values: HashMap::new(),
            unreadable: HashSet::new(),
        }
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: &'static str, value: At<Value>) {
        self.values.insert(key, value);
    }

    /// Notes that something in the value of a key is wrong.
    pub fn mark_unreadable(&mut self, key: &'static str) {
        self.unreadable.insert(key);
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

    /// The sections of a [`Kind::Section`] or [`Kind::Sections`].
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
