//! Which traffic the director takes and which it leaves to the kernel: what a backend that shares its ports with the kernel needs to know.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::kernel::claimed_endpoints;
use ulvs_dataplane::service::SharedService;
use ulvs_dataplane::snapshot::OwnedAddress;

use crate::neighbor::KernelView;

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// The kernel's: all of its traffic stays there.
    Kernel,
    /// The director's: all of its traffic, ARP and neighbour discovery come to the director.
    Owned,
    /// Both hold it: only what a service or connection claims comes to the director.
    Shared,
}

/// Protocol, address and port of a service or real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub address: Address,
    /// Port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureRules {
    /// Addresses and whose they are.
    pub addresses: HashMap<Address, AddressClass>,
    /// Services, and servers whose replies come through the director.
    pub endpoints: BTreeSet<Endpoint>,
}

impl CaptureRules {
    /// These rules, and besides them whatever `others` give to the director.
    pub fn together_with(mut self, others: &CaptureRules) -> CaptureRules {
        for (address, theirs) in &others.addresses {
            let class = self.addresses.entry(*address).or_insert(*theirs);
            if *class == AddressClass::Kernel {
                *class = *theirs;
            }
        }
        self.endpoints.extend(&others.endpoints);
        self
    }
}

/// What a backend counts besides the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendCounter {
    /// Its name.
    pub name: &'static str,
    /// One sentence on what it counts.
    pub help: &'static str,
    /// The port that it belongs to; none: to all of them.
    pub port: Option<PortIndex>,
    /// By worker where it can be told apart, else one value.
    pub values: Vec<u64>,
}

/// What the runtime asks of a backend: to keep to the rules for what is the kernel's, and to show what it counts.
pub trait Capture {
    /// Replaces the rules. What stays is never absent for a moment.
    ///
    /// # Errors
    /// A sentence; the rules before stay in force.
    fn update(&mut self, rules: &CaptureRules) -> Result<(), String>;

    /// Whether all frames come to the workers, so that these follow the rules themselves and hand the kernel what is its
    /// ([`Snapshot::kernel`](ulvs_dataplane::snapshot::Snapshot::kernel)); if not, a filter in front of them follows them.
    fn is_left_to_workers(&self) -> bool {
        false
    }

    /// What became of frames before a worker saw them, or after it let them go. A counter that cannot be read is left out.
    fn counters(&self) -> Vec<BackendCounter>;

    /// Looks at what changes by itself, such as a link that goes down, and logs it. Called about once a second.
    fn watch(&mut self) {}
}

/// The rules for these services on a host with these addresses.
pub fn rules(services: &[SharedService], owned: &BTreeMap<Address, OwnedAddress>, view: &KernelView) -> CaptureRules {
    let mut rules = CaptureRules::default();
    for own in view.addresses() {
        rules.addresses.insert(own.address, AddressClass::Kernel);
    }
    for address in owned.keys() {
        let class = rules.addresses.entry(*address).or_insert(AddressClass::Owned);
        if *class == AddressClass::Kernel {
            *class = AddressClass::Shared;
        }
    }
    for service in services {
        // Asked for local addresses, which are never the kernel's alone.
        let is_kernels = |local: &Address| rules.addresses.get(local) == Some(&AddressClass::Shared);
        let claimed = claimed_endpoints(service, is_kernels).into_iter();
        rules.endpoints.extend(claimed.map(|key| Endpoint {
            address: key.address,
            port: key.port,
            protocol: key.protocol,
        }));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_nothing_of_the_director_is_missing() {
        let address = |last| Address::v4([192, 0, 2, last]);
        let endpoint = |last| Endpoint {
            address: address(last),
            port: 80,
            protocol: 6,
        };
        let rules = |classes: &[(u8, AddressClass)], endpoints: &[u8]| CaptureRules {
            addresses: classes.iter().map(|(last, class)| (address(*last), *class)).collect(),
            endpoints: endpoints.iter().copied().map(endpoint).collect(),
        };
        use AddressClass::{Kernel, Owned, Shared};
        let new = rules(&[(1, Kernel), (2, Shared), (3, Owned), (4, Kernel)], &[2, 3]);
        let old = rules(&[(1, Shared), (2, Kernel), (4, Kernel), (5, Owned)], &[1, 5]);
        let both = rules(
            &[(1, Shared), (2, Shared), (3, Owned), (4, Kernel), (5, Owned)],
            &[1, 2, 3, 5],
        );
        assert_eq!(new.together_with(&old), both);
    }
}
