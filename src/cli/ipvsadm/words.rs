//! Cuts a command line into options and plain words, in the order and by the rules of the popt library, which ipvsadm uses: short options
//! may be combined (`-Lnc`), the last of them may carry its value (`-t10.0.0.1:80`), plain words may stand anywhere, `--` ends options.

use super::options::{Command, FULLNAT, Meaning, Value, WORDS, Word};

/// One option with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it means.
    pub meaning: Meaning,
    /// Its long name.
    pub long: &'static str,
    /// Its value.
    pub value: Option<String>,
    /// The last word of it (its value, if that is a word of its own), which popt names in messages.
    pub word: String,
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The word.
    pub word: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A reader of a command line (without the program's name).
#[derive(Debug)]
pub struct Reader {
    arguments: std::vec::IntoIter<String>,
    /// The word whose short options are being read, and those still to come.
    short: Option<(String, String)>,
    only_plain: bool,
    /// Whether the command is about a server, for which `-b` is another option.
    concerns_server: bool,
    /// Plain words met so far.
    pub plain: Vec<String>,
}

impl Reader {
    /// A reader of `arguments`.
    pub fn new(arguments: Vec<String>) -> Reader {
        Reader {
            arguments: arguments.into_iter(),
            short: None,
            only_plain: false,
            concerns_server: false,
            plain: Vec::new(),
        }
    }

    /// The next option; `None` when all words are read.
    pub fn next_option(&mut self) -> Result<Option<Found>, Wrong> {
        loop {
            if let Some((word, rest)) = self.short.take() {
                return self.short_option(word, &rest).map(Some);
            }
            let Some(word) = self.arguments.next() else {
                return Ok(None);
            };
            if self.only_plain || word == "-" || !word.starts_with('-') {
                self.plain.push(word);
            } else if word == "--" {
                self.only_plain = true;
            } else if let Some(long) = word.strip_prefix("--") {
                return self.long_option(&word, long).map(Some);
            } else {
                self.short = Some((word.clone(), word[1..].to_owned()));
            }
        }
    }

    fn long_option(&mut self, word: &str, text: &str) -> Result<Found, Wrong> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        let known = WORDS.iter().find(|known| known.long == name);
        let known = known.ok_or_else(|| wrong(word, "unknown option"))?;
        if attached.is_some() && known.value == Value::None {
            return Err(wrong(word, "option does not take an argument"));
        }
        self.finish(known, word, attached)
    }

    fn short_option(&mut self, word: String, rest: &str) -> Result<Found, Wrong> {
        let mut letters = rest.chars();
        let letter = letters.next();
        let known = if self.concerns_server && letter == Some('b') {
            &FULLNAT
        } else {
            let mut words = WORDS.iter();
            let known = words.find(|known| known.short.is_some() && known.short == letter);
            known.ok_or_else(|| wrong(&word, "unknown option"))?
        };
        let rest = letters.as_str();
        if rest.is_empty() {
            return self.finish(known, &word, None);
        }
        if known.value == Value::None {
            if rest.starts_with('=') {
                return Err(wrong(&word, "option does not take an argument"));
            }
            self.short = Some((word.clone(), rest.to_owned()));
            return self.finish(known, &word, None);
        }
        let value = rest.strip_prefix('=').unwrap_or(rest).to_owned();
        self.finish(known, &word, Some(value))
    }

    fn finish(&mut self, known: &'static Word, word: &str, attached: Option<String>) -> Result<Found, Wrong> {
        let took_next = attached.is_none();
        let value = match (known.value, attached) {
            (Value::None, _) => None,
            (_, Some(attached)) => Some(attached),
            (Value::Required, None) => Some(self.arguments.next().ok_or_else(|| wrong(word, "missing argument"))?),
            (Value::Optional, None) => self.next_plain(),
        };
        if let Meaning::Command(Command::AddServer | Command::EditServer) = known.meaning {
            self.concerns_server = true;
        }
        let last = if took_next { value.as_deref() } else { None };
        let word = last.unwrap_or(word).to_owned();
        Ok(Found {
            meaning: known.meaning,
            long: known.long,
            value,
            word,
        })
    }

    /// The next word if it is not an option.
    fn next_plain(&mut self) -> Option<String> {
        let is_plain = self
            .arguments
            .as_slice()
            .first()
            .is_some_and(|next| !next.starts_with('-'));
        if is_plain { self.arguments.next() } else { None }
    }
}

fn wrong(word: &str, why: &'static str) -> Wrong {
    Wrong {
        word: word.to_owned(),
        why,
    }
}
