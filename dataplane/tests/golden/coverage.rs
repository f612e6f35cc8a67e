//! Every outcome that has a name is reached by a case, or stands here with the reason why none can.

use std::collections::BTreeSet;

use ulvs_dataplane::counters::Event;
use ulvs_dataplane::verdict::{DropReason, PuntReason, ReplyKind};

/// Outcomes that no case reaches.
const UNREACHED: &[(&str, &str)] = &[
    (
        "drop.no_headroom",
        "every frame comes with more headroom than all headers that one packet can get",
    ),
    (
        "drop.redirect_loop",
        "workers that share their secrets agree on owners; it guards against a worker that does not",
    ),
    ("transmit_failed", "ports in memory take every frame"),
    ("redirect_failed", "needs a ring of 1024 frames to run full"),
    (
        "rss_differs",
        "frames in memory tell no hash of a card; src/dpdk/tests/offloads.rs reaches it",
    ),
    ("events_lost", "needs a mailbox of 256 messages to run full"),
];

#[test]
fn every_named_outcome_is_reached_by_a_case() {
    let mut reached = BTreeSet::new();
    for folder in super::cases() {
        let script = std::fs::read_to_string(folder.join("frames.txt")).expect("frames.txt");
        for line in script.lines().filter_map(|line| line.strip_prefix("    counted ")) {
            reached.extend(
                line.split(", ")
                    .filter_map(|part| part.split(' ').next())
                    .map(str::to_owned),
            );
        }
    }
    let drops = DropReason::ALL.iter().map(|reason| format!("drop.{}", reason.name()));
    let punts = PuntReason::ALL.iter().map(|reason| format!("punt.{}", reason.name()));
    let replies = ReplyKind::ALL.iter().map(|kind| format!("reply.{}", kind.name()));
    let events = Event::ALL.iter().map(|event| event.name().to_owned());
    let missing: Vec<String> = drops
        .chain(punts)
        .chain(replies)
        .chain(events)
        .filter(|name| !reached.contains(name) && !UNREACHED.iter().any(|(own, _)| own == name))
        .collect();
    assert!(missing.is_empty(), "no case leads to {missing:?}");
    let stale: Vec<_> = UNREACHED.iter().filter(|(name, _)| reached.contains(*name)).collect();
    assert!(stale.is_empty(), "reached after all: {stale:?}");
}
