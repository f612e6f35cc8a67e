//! Bad files and what an operator is told about them: `control/tests/config/NAME/{input.toml,expected.txt}`.
//! After a change of wording, `ULVS_UPDATE=1 cargo test -p ulvs-control config` rewrites the expected texts: read the diff.

use std::fs;
use std::path::Path;

use super::render;
use crate::config;

#[test]
fn every_case_is_told_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let update = std::env::var_os("ULVS_UPDATE").is_some();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in fs::read_dir(&folder).expect("tests/config") {
        let case = entry.expect("an entry").path();
        let input = fs::read(case.join("input.toml")).expect("input.toml");
        let told = match config::parse_bytes(&input, "input.toml") {
            Ok(config) => format!("The file loads.\n\n{}", render(&config.warnings)),
            Err(errors) => {
                assert!(!errors.is_empty(), "{}: refused without a reason", case.display());
                render(&errors)
            }
        };
        cases += 1;
        if update {
            fs::write(case.join("expected.txt"), &told).expect("expected.txt");
        }
        let expected = fs::read_to_string(case.join("expected.txt")).unwrap_or_default();
        if told != expected {
            wrong.push(format!(
                "== {}\n-- expected:\n{expected}-- told:\n{told}",
                case.display()
            ));
        }
    }
    assert!(cases >= 25, "only {cases} cases found in {}", folder.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
