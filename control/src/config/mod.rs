//! The configuration file: read, checked and turned into one plain [`Config`].
//!
//! ```text
//! text ── toml ──► tree with spans ── read + schema ──► sections ── parse ──► entries ── validate ──► Config
//!          │                              │                           │                     │
//!          └ syntax                       └ keys, types, ranges       └ forms of values     └ what the parts mean together
//!                                   every finding of every step goes into one list
//! ```
//!
//! No step stops at its first finding, so one run of `ulvsd --check` reports all that is wrong with a file. The only checks left
//! out are those that would guess: after a syntax error nothing is called missing, because it may stand in the part that could
//! not be read.
//!
//! [`schema`] is the table of keys: names, types, ranges, defaults and units stand there and nowhere else.

mod error;
mod model;
mod names;
mod parse;
mod read;
pub mod schema;
mod section;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;
mod write;

use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

pub use error::{ConfigError, Place, Severity};
pub use model::{
    Backend, Config, Director, Dpdk, HugePages, Idle, LocalPool, Port, PortMode, Protocol, RealServer, Timeouts,
    VirtualService, Vlan, ZeroCopy,
};
pub use names::{client_address_name, method_name, scheduler_flag, scheduler_flag_names, scheduler_name};
pub use parse::{made_name, usable_address};
pub use schema::MOST_WEIGHT;
pub use validate::MH_TABLE_SIZE;
pub use write::to_toml;

use error::Findings;
use source::Source;

/// The largest file that is read, in bytes. A file with 65536 servers takes about a third of it.
pub const FILE_LIMIT_BYTES: u64 = 16 << 20;

/// Reads and checks the configuration file at `path`.
///
/// # Errors
/// Every error of the file, in the order of the lines; one error without a line when the file cannot be read at all.
/// Warnings do not fail the load: they are in [`Config::warnings`].
pub fn load(path: &Path) -> Result<Config, Vec<ConfigError>> {
    let file_name = path.display().to_string();
    let unreadable = |why: String| vec![ConfigError::without_place(&file_name, why)];

    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("the configuration file cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(unreadable(format!(
            "the configuration file is larger than {FILE_LIMIT_BYTES} bytes"
        )));
    }
    parse_bytes(&bytes, &file_name)
}

/// [`parse`] for bytes that may not be UTF-8, as TOML requires.
///
/// # Errors
/// As [`parse`]; bytes that are not UTF-8 are one error that names the first of them.
pub fn parse_bytes(bytes: &[u8], file_name: &str) -> Result<Config, Vec<ConfigError>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text, file_name),
        Err(error) => {
            let readable = String::from_utf8_lossy(bytes);
            let source = Source::new(file_name, &readable);
            let mut findings = Findings::default();
            let at = error.valid_up_to();
            findings
                .error(&(at..at + 1), "the file is not UTF-8 from here on")
                .help("save the file as UTF-8 text");
            Err(findings.finish(&source))
        }
    }
}

/// Checks a configuration given as text. `file_name` is only used in messages.
///
/// # Errors
/// Every error of the text, in the order of the lines.
pub fn parse(text: &str, file_name: &str) -> Result<Config, Vec<ConfigError>> {
    let source = Source::new(file_name, text);
    let mut findings = Findings::default();

    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let span = error.span().unwrap_or(0..0);
        let finding = findings.error(&span, format!("this is not valid TOML: {}", error.message()));
        if error.message().starts_with("duplicate key") {
            finding.help(
                "a key is written once in its table, a [header] once in the file, a [[header]] as often as needed",
            );
        }
    }
    findings.mark_syntax_errors(&source);

    let root = read::read_file(tree.get_ref(), &source, &mut findings);
    let entries = parse::parse(&root, &mut findings);
    validate::validate(&entries, &mut findings);

    if findings.has_errors() {
        return Err(findings
            .finish(&source)
            .into_iter()
            .filter(|f| f.severity == Severity::Error)
            .collect());
    }
    let mut config = entries.into_config(&source);
    config.warnings = findings.finish(&source);
    Ok(config)
}
