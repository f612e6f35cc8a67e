//! The order of services and servers in a listing.
//!
//! ipvsadm compares IPv4 addresses and marks by the sign of their 32-bit difference, so that 192.168.1.1 comes before 10.0.0.1 (they are
//! more than 2^31 apart). That is not an order in the mathematical sense, and what comes out for three or more such addresses depends on the
//! algorithm: glibc's merge sort. Scripts see that order, so it is kept here, with the same merge sort.

use std::net::IpAddr;

use ulvs_control::api::views::{ServerView, ServiceView};

/// Sorts services as ipvsadm does: mark, family, protocol, address, port.
pub fn sort_services(services: &mut [ServiceView]) {
    merge_sort(services, &|a, b| {
        first_difference([
            wrapped(a.fwmark.unwrap_or(0), b.fwmark.unwrap_or(0)),
            i32::from(a.address.is_ipv6()) - i32::from(b.address.is_ipv6()),
            i32::from(a.protocol.number()) - i32::from(b.protocol.number()),
            address(a.address, b.address),
            i32::from(a.port) - i32::from(b.port),
        ])
    });
}

/// Sorts the servers of a service as ipvsadm does: address, port.
pub fn sort_servers(servers: &mut [ServerView]) {
    merge_sort(servers, &|a, b| {
        first_difference([address(a.address, b.address), i32::from(a.port) - i32::from(b.port)])
    });
}

fn first_difference<const N: usize>(differences: [i32; N]) -> i32 {
    differences.into_iter().find(|difference| *difference != 0).unwrap_or(0)
}

fn wrapped(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

fn address(a: IpAddr, b: IpAddr) -> i32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => wrapped(a.to_bits(), b.to_bits()),
        _ => a.cmp(&b) as i32,
    }
}

/// Splits in the middle (the smaller half first), sorts both halves, and takes from the second only what is smaller.
fn merge_sort<T: Clone>(items: &mut [T], compare: &impl Fn(&T, &T) -> i32) {
    if items.len() < 2 {
        return;
    }
    let (first, second) = items.split_at_mut(items.len() / 2);
    merge_sort(first, compare);
    merge_sort(second, compare);
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut left, mut right) = (first.iter().peekable(), second.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let smaller = if compare(a, b) <= 0 { left.next() } else { right.next() };
        merged.extend(smaller.cloned());
    }
    merged.extend(left.cloned());
    merged.extend(right.cloned());
    items.clone_from_slice(&merged);
}
