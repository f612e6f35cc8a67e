//! Groups of cases that several tests go through.

use crate::Case;
use crate::config::{
    Family::{self, V4, V6},
    Method::{self, DirectRouting, FullNat, Nat, Tunnel},
};

pub const METHODS: [Method; 4] = [Nat, DirectRouting, Tunnel, FullNat];
pub const FAMILIES: [Family; 2] = [V4, V6];
/// Client and server families for FullNAT.
pub const TRANSLATIONS: [(Family, Family); 4] = [(V4, V4), (V6, V6), (V6, V4), (V4, V6)];

/// Clients and servers on different ports of a director with one worker.
pub fn two_arms(method: Method, client: Family, servers: Family) -> Case {
    Case {
        method,
        client,
        servers,
        arms: 2,
        workers: 1,
    }
}

/// Every method in both families, without translation between them.
pub fn all_cases() -> Vec<Case> {
    METHODS
        .iter()
        .flat_map(|method| FAMILIES.map(|family| two_arms(*method, family, family)))
        .collect()
}

/// [`all_cases`], and those that change between the families, apart: a VIP's port has either servers of its own family or of the other one.
pub fn in_two_configurations() -> [Vec<Case>; 2] {
    let other = [Tunnel, FullNat]
        .iter()
        .flat_map(|method| [two_arms(*method, V6, V4), two_arms(*method, V4, V6)]);
    [all_cases(), other.collect()]
}
