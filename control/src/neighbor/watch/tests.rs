use super::*;
use crate::neighbor::example::{ETH0, ip, link, neighbour};
use crate::neighbor::model::NeighbourState;

#[test]
fn only_the_last_news_of_a_neighbour_are_kept() {
    let stale = Change::Neighbour(neighbour(ETH0, "192.0.2.9", NeighbourState::Stale, 9));
    let fresh = Change::Neighbour(neighbour(ETH0, "192.0.2.9", NeighbourState::Reachable, 9));
    let other = Change::Neighbour(neighbour(ETH0, "192.0.2.10", NeighbourState::Reachable, 10));
    let gone = Change::NeighbourGone {
        ifindex: ETH0,
        address: ip("192.0.2.9"),
    };
    let kept = coalesce(vec![stale.clone(), other.clone(), gone.clone(), fresh.clone()]);
    assert_eq!(kept, [other.clone(), fresh.clone()]);
    assert_eq!(
        coalesce(vec![fresh.clone(), other.clone(), gone.clone()]),
        [other, gone]
    );
    let up = Change::Link(link(ETH0));
    let removed = Change::LinkGone { ifindex: ETH0 };
    let across = vec![stale, removed, up, fresh];
    assert_eq!(coalesce(across.clone()), across);
}

#[test]
fn news_that_remove_routes_silently_are_known() {
    let link_news = |flags, change_mask| {
        let mut message = LinkMessage::default();
        message.header.flags = flags;
        message.header.change_mask = change_mask;
        removes_routes_silently(&RouteNetlinkMessage::NewLink(message))
    };
    assert!(link_news(LinkFlags::empty(), LinkFlags::empty()));
    assert!(link_news(LinkFlags::Up | LinkFlags::Running, LinkFlags::Up));
    assert!(!link_news(LinkFlags::Up | LinkFlags::Running, LinkFlags::empty()));
    assert!(removes_routes_silently(&RouteNetlinkMessage::DelAddress(
        AddressMessage::default()
    )));
    assert!(!removes_routes_silently(&RouteNetlinkMessage::NewAddress(
        AddressMessage::default()
    )));
}
