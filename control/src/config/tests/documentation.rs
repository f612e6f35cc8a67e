//! `config/ulvs.toml` documents every key truly, and the examples load.

use std::fs;

use super::{config_folder, example_files, render};
use crate::config;
use crate::config::schema::{DIRECTOR, DefaultValue, IPVS, KEYS_OF_FILE, Key, Kind, TIMEOUTS, Table};

#[test]
fn the_examples_load_without_warnings() {
    let files = example_files();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let config = config::load(&file).unwrap_or_else(|errors| panic!("{}", render(&errors)));
        assert!(config.warnings.is_empty(), "{}", render(&config.warnings));
        assert!(!config.services.is_empty(), "{}", file.display());
    }
}

#[test]
fn ulvs_toml_loads_without_warnings() {
    let config =
        config::load(&config_folder().join("ulvs.toml")).unwrap_or_else(|errors| panic!("{}", render(&errors)));
    assert!(config.warnings.is_empty(), "{}", render(&config.warnings));
}

#[test]
fn ulvs_toml_sets_director_timeouts_and_ipvs_to_their_defaults() {
    let text = fs::read_to_string(config_folder().join("ulvs.toml")).expect("ulvs.toml");
    let documented = config::parse(&text, "ulvs.toml").expect("it loads");
    let defaults = config::parse("[[port]]\ninterface = \"eth0\"", "f").expect("it loads");
    assert_eq!(documented.director, defaults.director);
    assert_eq!(documented.timeouts, defaults.timeouts);
    assert_eq!(documented.ipvs, defaults.ipvs);
    for (table, header) in [(DIRECTOR, "director"), (TIMEOUTS, "timeouts"), (IPVS, "ipvs")] {
        let tree: toml::Table = text.parse().expect("TOML");
        for key in table.keys {
            assert!(
                tree[header].get(key.name).is_some(),
                "{header}.{} is not set in ulvs.toml",
                key.name
            );
        }
    }
}

#[test]
fn ulvs_toml_documents_every_key() {
    let text = fs::read_to_string(config_folder().join("ulvs.toml")).expect("ulvs.toml");
    let mut missing = Vec::new();
    for Key { kind, .. } in KEYS_OF_FILE.keys {
        if let Kind::Section(table) | Kind::Sections(table) = kind {
            check_table(
                table,
                &part_below(&text, table.name),
                Written::Below,
                &text,
                &mut missing,
            );
        }
    }
    assert!(missing.is_empty(), "config/ulvs.toml:\n{}", missing.join("\n"));
}

/// The lines from the first such header to the next other one.
fn part_below<'t>(text: &'t str, header: &str) -> Vec<&'t str> {
    let from_header = text.lines().skip_while(|line| *line != header).skip(1);
    from_header.take_while(|line| !line.starts_with('[')).collect()
}

/// Where the keys of a table are documented.
#[derive(Clone, Copy, PartialEq)]
enum Written {
    /// Each on a line of its own below the header, with a comment above.
    Below,
    /// The table is written inline: in a list in the comment of the key that holds it.
    Inline,
}

fn check_table(table: &Table, part: &[&str], written: Written, text: &str, missing: &mut Vec<String>) {
    if part.is_empty() {
        missing.push(format!("there is no {}", table.name));
    }
    for key in table.keys {
        if let Kind::Sections(inner) = key.kind {
            let own_part = part_below(text, inner.name);
            if !own_part.is_empty() {
                check_table(inner, &own_part, Written::Below, text, missing);
                continue;
            }
            check_table(inner, part, Written::Inline, text, missing);
        }
        let comment = comment_of(key, part, written);
        let default = format!("Default: {}", key.default);
        let unit = format!("Unit: {}", key.unit);
        if !comment.contains(&default) || (!key.unit.is_empty() && !comment.contains(&unit)) {
            missing.push(format!(
                "{} {}: a comment with \"{default}\" and the unit \"{}\"",
                table.name, key.name, key.unit
            ));
        }
    }
}

/// The comment about a key. The `key = value` below it may itself be a comment.
fn comment_of(key: &Key, part: &[&str], written: Written) -> String {
    if written == Written::Inline {
        let listed = |line: &&&str| line.starts_with(&format!("#   {} ", key.name));
        return part
            .iter()
            .find(listed)
            .map(|line| line.to_string())
            .unwrap_or_default();
    }
    let set = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name));
    let Some(at) = part.iter().position(set) else {
        return String::new();
    };
    let above = part[..at].iter().rev().take_while(|line| line.starts_with('#'));
    let lines: Vec<_> = above.map(|line| line.trim_start_matches('#').trim()).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" ")
}

/// Every default must be a value that the key itself would take.
#[test]
fn defaults_fit_their_own_type() {
    fn check(table: &Table) {
        for key in table.keys {
            let fits = match (key.default, key.kind) {
                (DefaultValue::Flag(_), Kind::Flag) | (DefaultValue::Text(_), Kind::Text) => true,
                (DefaultValue::Integer(number), Kind::Integer { min, max }) => (min..=max).contains(&number),
                (DefaultValue::Text(word), Kind::Choice(words)) => words.contains(&word),
                (DefaultValue::Empty, Kind::Integers { .. } | Kind::Texts | Kind::Choices(_)) => true,
                (DefaultValue::Empty, Kind::Section(inner) | Kind::Sections(inner)) => {
                    check(inner);
                    true
                }
                (DefaultValue::Required, _)
                | (DefaultValue::None(_), Kind::Text | Kind::Choice(_) | Kind::Integer { .. }) => true,
                _ => false,
            };
            assert!(fits, "{} {}", table.name, key.name);
            assert!(
                !key.doc.is_empty() && !key.example.is_empty(),
                "{} {}",
                table.name,
                key.name
            );
        }
    }
    check(KEYS_OF_FILE);
}
