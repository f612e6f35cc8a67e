use super::*;
use crate::neighbor::example::{ETH0, ETH1, TUN0, down, ip, neighbour, view};
use crate::neighbor::model::NeighbourState;
use crate::neighbor::view::Change;

fn ours(address: &str, state: NeighbourState) -> Change {
    Change::Neighbour(Neighbour {
        managed: true,
        protocol: NEIGHBOUR_PROTOCOL,
        ..neighbour(ETH0, address, state, 9)
    })
}

fn plan_for(view: &KernelView, wanted: &[(u32, &str)]) -> Vec<Request> {
    let wanted = wanted
        .iter()
        .map(|(ifindex, address)| (*ifindex, ip(address)))
        .collect();
    plan(view, &BTreeSet::from([ETH0, TUN0]), &wanted)
}

fn manage(address: &str) -> Request {
    Request::Manage {
        ifindex: ETH0,
        address: ip(address),
    }
}

#[test]
fn asks_for_what_is_not_managed_and_then_no_more() {
    let mut view = view();
    assert_eq!(plan_for(&view, &[(ETH0, "192.0.2.9")]), [manage("192.0.2.9")]);
    view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Stale,
        9,
    )));
    assert_eq!(
        plan_for(&view, &[(ETH0, "192.0.2.9")]),
        [manage("192.0.2.9")],
        "also if the kernel knows it by chance"
    );
    for state in [
        NeighbourState::Reachable,
        NeighbourState::Incomplete,
        NeighbourState::Failed,
    ] {
        view.apply(ours("192.0.2.9", state));
        assert_eq!(
            plan_for(&view, &[(ETH0, "192.0.2.9")]),
            [],
            "the kernel tries by itself: {state:?}"
        );
    }
}

#[test]
fn releases_what_is_ours_and_unwanted_and_nothing_else() {
    let mut view = view();
    view.apply(ours("192.0.2.9", NeighbourState::Failed));
    let foreign = Neighbour {
        managed: true,
        ..neighbour(ETH0, "192.0.2.10", NeighbourState::Reachable, 10)
    };
    view.apply(Change::Neighbour(foreign));
    let elsewhere = Neighbour {
        protocol: NEIGHBOUR_PROTOCOL,
        ..neighbour(ETH1, "198.51.100.9", NeighbourState::Stale, 9)
    };
    view.apply(Change::Neighbour(elsewhere));
    assert_eq!(
        plan_for(&view, &[]),
        [Request::Release {
            ifindex: ETH0,
            address: ip("192.0.2.9")
        }]
    );
}

#[test]
fn never_asks_where_asking_harms_or_cannot_help() {
    let mut view = view();
    view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Permanent,
        9,
    )));
    view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.10",
        NeighbourState::NoArp,
        9,
    )));
    let foreign = Neighbour {
        managed: true,
        ..neighbour(ETH0, "192.0.2.11", NeighbourState::Reachable, 10)
    };
    view.apply(Change::Neighbour(foreign));
    let wanted = [
        (ETH0, "192.0.2.9"),
        (ETH0, "192.0.2.10"),
        (ETH0, "192.0.2.11"),
        (ETH1, "198.51.100.9"),
        (TUN0, "10.0.0.1"),
        (99, "10.0.0.1"),
    ];
    assert_eq!(plan_for(&view, &wanted), []);
    view.apply(down(ETH0));
    assert_eq!(plan_for(&view, &[(ETH0, "192.0.2.12")]), []);
}
