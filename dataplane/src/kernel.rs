//! What is the kernel's of the traffic that arrives, for workers that get every frame of their ports. Where a filter in front of them has kept
//! it back already, nobody asks here. The rules are the filter's (`src/af_xdp/filter.bpf.c`), so that a packet is the same one's on every
//! backend.

use hashbrown::HashSet;

use crate::address::Address;
use crate::service::{ForwardingMethod, Service};
use crate::snapshot::ServiceKey;

/// The kernel's addresses, and which packets to or through them are the director's all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSide {
    addresses: HashSet<Address>,
    endpoints: HashSet<ServiceKey>,
    /// Address and protocol of an endpoint: what a later fragment shows of it.
    without_port: HashSet<(Address, u8)>,
}

impl KernelSide {
    /// From the addresses that the kernel holds, virtual and local ones among them, and the services.
    pub fn new<'a>(
        addresses: impl IntoIterator<Item = Address>,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> KernelSide {
        let addresses: HashSet<Address> = addresses.into_iter().collect();
        let mut endpoints = HashSet::new();
        for service in services {
            endpoints.extend(claimed_endpoints(service, |address| addresses.contains(address)));
        }
        KernelSide {
            addresses,
            without_port: endpoints.iter().map(|key| (key.address, key.protocol)).collect(),
            endpoints,
        }
    }

    /// Whether the kernel has this address, perhaps beside the director ("shared").
    #[inline]
    pub fn holds(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    /// Port 0 stands for all. Whether a service, or a server whose replies come through the director, sits there.
    pub fn is_claimed(&self, protocol: u8, address: &Address, port: u16) -> bool {
        let is_claimed = |port| {
            self.endpoints.contains(&ServiceKey {
                protocol,
                address: *address,
                port,
            })
        };
        is_claimed(port) || is_claimed(0)
    }

    /// Whether one could, as far as a fragment without ports tells.
    pub fn may_be_claimed(&self, protocol: u8, address: &Address) -> bool {
        self.without_port.contains(&(*address, protocol))
    }
}

/// What a service claims of the traffic at addresses that are not the director's alone: its own address and port, and those of servers whose
/// replies come through the director. `is_kernels`: whether the kernel holds the address too.
pub fn claimed_endpoints(service: &Service, is_kernels: impl Fn(&Address) -> bool) -> Vec<ServiceKey> {
    let protocol = service.protocol;
    let itself = ServiceKey {
        protocol,
        address: service.address,
        port: service.port,
    };
    let replies_come_here = |method, is_v4| match method {
        ForwardingMethod::Nat => true,
        // Its server answers a local address, which says enough unless the kernel holds that too.
        ForwardingMethod::FullNat => {
            let pool = if is_v4 { &service.local_v4 } else { &service.local_v6 };
            pool.iter().any(&is_kernels)
        }
        // Their servers answer the client directly.
        ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel => false,
    };
    let servers = service.servers.iter();
    let claimed = servers.filter(|server| replies_come_here(server.method, server.address.is_v4()));
    let endpoints = claimed.map(|server| ServiceKey {
        protocol,
        address: server.address,
        port: server.port,
    });
    std::iter::once(itself).chain(endpoints).collect()
}
