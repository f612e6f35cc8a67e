//! The table of keys: every key of the file with its type, range, default and unit. Reading, messages and the check of
//! `config/ulvs.toml` are driven by it. Here are the types; the table itself is in `schema/keys.rs`.

mod keys;

use std::fmt;

pub use keys::{DIRECTOR, IPVS, KEYS_OF_FILE, MOST_WEIGHT, TIMEOUTS};

/// A table of the file and its keys.
#[derive(Debug)]
pub struct Table {
    /// As its header is written.
    pub name: &'static str,
    /// Its keys, in the order in which they are documented.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it is when it is left out.
    pub default: DefaultValue,
    /// The unit of its value; empty when it has none.
    pub unit: &'static str,
    /// What it means, in a few words.
    pub doc: &'static str,
    /// A value in TOML, for messages.
    pub example: &'static str,
}

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number in a range, ends included.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A list of whole numbers in a range, ends included.
    Integers {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A string, or a list of strings.
    TextOrTexts,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// `[table]`
    Section(&'static Table),
    /// `[[table]]`, several times
    Sections(&'static Table),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Flag => write!(f, "true or false"),
            Kind::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Kind::Integers { min, max } => write!(f, "a list of integers from {min} to {max}"),
            Kind::Text => write!(f, "a string"),
            Kind::Texts => write!(f, "a list of strings"),
            Kind::TextOrTexts => write!(f, "a string or a list of strings"),
            Kind::Choice(words) => write!(f, "one of the strings {}", words.join(", ")),
            Kind::Choices(words) => write!(f, "a list of the strings {}", words.join(", ")),
            Kind::Section(table) => write!(f, "the table {}", table.name),
            Kind::Sections(table) => write!(f, "a list of tables, each headed {}", table.name),
        }
    }
}

/// What a key is when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// It must not be left out.
    Required,
    /// This flag.
    Flag(bool),
    /// This number.
    Integer(u64),
    /// This string.
    Text(&'static str),
    /// Nothing: an empty list, or a table of defaults.
    Empty,
    /// Taken from elsewhere, as the words say.
    None(&'static str),
}

impl fmt::Display for DefaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefaultValue::Required => write!(f, "required"),
            DefaultValue::Flag(flag) => write!(f, "{flag}"),
            DefaultValue::Integer(number) => write!(f, "{number}"),
            DefaultValue::Text(text) => write!(f, "\"{text}\""),
            DefaultValue::Empty => write!(f, "[]"),
            DefaultValue::None(from) => write!(f, "{from}"),
        }
    }
}
