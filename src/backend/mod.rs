//! Opens the ports with the backend that the configuration names, and shows it to control without its types.

#[cfg(feature = "af_xdp")]
pub mod af_xdp;
#[cfg(feature = "dpdk")]
pub mod dpdk;

use ulvs_control::capture::Capture;
use ulvs_control::config::Port;
use ulvs_control::forwarding::{LayerThree, OpenPort};
use ulvs_dataplane::worker::Wake;

/// What a backend gives: `I` is its [`Io`](ulvs_dataplane::io::Io), one for each worker.
pub struct Opened<I> {
    /// For the workers, in order.
    pub workers: Vec<(I, Wake)>,
    /// The ports, in the order of the configuration.
    pub ports: Vec<OpenPort>,
    /// Its filter, where it shares the ports with the kernel, and its counters.
    pub capture: Option<Box<dyn Capture>>,
    /// Closes the ports; to be called when all workers have ended and nothing above is left.
    pub close: Box<dyn FnOnce()>,
}

/// The layer-3 interfaces of a port.
#[cfg_attr(not(any(feature = "af_xdp", feature = "dpdk")), expect(dead_code))]
fn layers_three(port: &Port) -> Vec<LayerThree> {
    let untagged = port.untagged.then(|| LayerThree {
        vlan: None,
        interface: port.interface.clone(),
    });
    let tagged = port.vlans.iter().map(|vlan| LayerThree {
        vlan: Some(vlan.id),
        interface: vlan.interface.clone(),
    });
    untagged.into_iter().chain(tagged).collect()
}
