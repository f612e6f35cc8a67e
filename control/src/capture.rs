//! Which traffic the director takes and which it leaves to the kernel: what a backend that shares its ports with the kernel needs to know.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ulvs_dataplane::address::Address;
use ulvs_dataplane::service::{ForwardingMethod, SharedService};
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

/// What the runtime asks of a backend that shares its ports with the kernel.
pub trait Capture {
    /// Replaces the rules. What stays is never absent for a moment.
    ///
    /// # Errors
    /// A sentence; the rules before stay in force.
    fn update(&mut self, rules: &CaptureRules) -> Result<(), String>;
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
        let protocol = service.protocol;
        rules.endpoints.insert(Endpoint {
            address: service.address,
            port: service.port,
            protocol,
        });
        for server in &service.servers {
            // DR and TUN servers answer the client directly; a FullNAT server answers a local address, which the addresses above already claim
            // unless the kernel holds it too.
            let claims = match server.method {
                ForwardingMethod::Nat => true,
                ForwardingMethod::FullNat => {
                    let pool = if server.address.is_v4() {
                        &service.local_v4
                    } else {
                        &service.local_v6
                    };
                    pool.iter()
                        .any(|local| rules.addresses.get(local) == Some(&AddressClass::Shared))
                }
                ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel => false,
            };
            if claims {
                rules.endpoints.insert(Endpoint {
                    address: server.address,
                    port: server.port,
                    protocol,
                });
            }
        }
    }
    rules
}
