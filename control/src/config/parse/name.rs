//! Names that operators give to ports, pools and services.

use crate::config::error::Findings;
use crate::config::section::{At, Section};

/// Names stand in counters, messages and tables of the command line.
const NAME_LIMIT: usize = 64;

/// The `name` of a section; none when it is missing or cannot be shown as a name.
pub fn parse_name(section: &Section, findings: &mut Findings) -> Option<At<String>> {
    let name = section.text("name")?;
    let length = name.value.chars().count();
    let problem = if name.value.trim().is_empty() {
        "this name is empty".to_string()
    } else if length > NAME_LIMIT {
        format!("a name has at most {NAME_LIMIT} characters; this one has {length}")
    } else if name.value.chars().any(char::is_control) {
        "this name holds a control character".to_string()
    } else {
        return Some(name);
    };
    let help = "names stand in counters and messages: choose a short word";
    findings.error(&name.span, problem).help(help);
    None
}
