//! The configuration that README.md shows is one that `ulvsd --check` takes.

use std::fs;
use std::path::Path;

use ulvs_control::config;

/// The text between the first "```toml" and the next "```".
fn configuration() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&file).expect("README.md can be read");
    let (_, after) = text.split_once("```toml\n").expect("README.md has a block of TOML");
    let (block, _) = after.split_once("```").expect("the block ends");
    block.to_owned()
}

#[test]
fn the_first_configuration_passes_the_check() {
    let block = configuration();
    let config = config::parse(&block, "README.md").unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert!(config.warnings.is_empty(), "{:#?}", config.warnings);
    let service = &config.services[0];
    assert_eq!((config.services.len(), service.servers.len()), (1, 2));
    assert_eq!(config::scheduler_name(service.scheduler), "wlc", "the text says -s wlc");
}
