//! `[[local_pool]]`

use ulvs_dataplane::address::Address;

use super::endpoint::{parse_address, parse_port_range};
use super::name::parse_name;
use crate::config::error::Findings;
use crate::config::model::LocalPool;
use crate::config::section::{At, Section};
use crate::config::source::{Source, Span};
use crate::config::validate::each_repeat;

/// A `[[local_pool]]`, as far as it could be read.
#[derive(Debug)]
pub struct LocalPoolEntry {
    pub span: Span,
    /// False when something in it could not be read.
    pub complete: bool,
    pub name: Option<At<String>>,
    pub addresses: Vec<At<Address>>,
    pub ports: Option<(u16, u16)>,
}

pub fn parse(section: &Section, findings: &mut Findings) -> LocalPoolEntry {
    let found_before = findings.len();
    let name = parse_name(section, findings);
    let texts = section.texts("addresses");
    let addresses: Vec<_> = texts
        .iter()
        .filter_map(|text| parse_address(text, "a local address", findings))
        .collect();
    each_repeat(
        &addresses,
        |address| Some(address.value),
        |again, first| {
            let message = format!("{} is in this pool twice", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "it is listed here first");
        },
    );
    if let Some(list) = section
        .place("addresses")
        .filter(|list| list.given && section.complete && texts.is_empty())
    {
        findings
            .error(&list.span, "this pool has no address")
            .help("list at least one address of the director");
    }
    let ports = section.text("ports").and_then(|text| parse_port_range(&text, findings));
    let complete = section.complete && findings.len() == found_before;
    LocalPoolEntry {
        span: section.span.clone(),
        complete,
        name,
        addresses,
        ports,
    }
}

impl LocalPoolEntry {
    /// The pool, when all of it could be read.
    pub fn build(&self, source: &Source) -> Option<LocalPool> {
        Some(LocalPool {
            name: self.name.as_ref()?.value.clone(),
            addresses: self.addresses.iter().map(|address| address.value).collect(),
            ports: self.ports?,
            line: source.line_of(self.span.start),
        })
    }
}
