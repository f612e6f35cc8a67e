//! What the schedulers by load share: the smallest load for its weight.

use crate::service::{Load, Loads, Service};

/// The place of the usable server with the smallest `overhead / weight`; among equals the first in list order.
pub(super) fn least(service: &Service, loads: &Loads, overhead: impl Fn(&Load) -> u64) -> Option<usize> {
    let mut least: Option<(usize, u64, u32)> = None;
    let usable = service.servers.iter().enumerate();
    for (place, server) in usable.filter(|(_, server)| loads.is_usable(server)) {
        let own = overhead(loads.get(server.slot));
        if least.is_none_or(|(_, overhead, weight)| is_less(own, server.weight, overhead, weight)) {
            least = Some((place, own, server.weight));
        }
    }
    least.map(|(place, ..)| place)
}

/// What sed and nq compare: the active connections, the new one counted in.
pub(super) fn expected_delay(load: &Load) -> u64 {
    u64::from(load.active()) + 1
}

/// Whether `overhead / weight` is less than `other / other_weight`, multiplied out so that nothing is rounded.
pub(super) fn is_less(overhead: u64, weight: u32, other: u64, other_weight: u32) -> bool {
    u128::from(overhead) * u128::from(other_weight) < u128::from(other) * u128::from(weight)
}

#[cfg(test)]
mod tests {
    use super::is_less;

    #[test]
    fn the_largest_numbers_compare_without_overflow() {
        assert!(is_less(1, 1, u64::MAX, u32::MAX));
        assert!(!is_less(u64::MAX, u32::MAX, u64::MAX, u32::MAX));
    }
}
