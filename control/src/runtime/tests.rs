//! What a snapshot says of the kernel's traffic, as the kernel's addresses change.

use ulvs_dataplane::service::protocol;

use super::*;
use crate::capture::BackendCounter;
use crate::forwarding::LayerThree;
use crate::neighbor::Change;
use crate::neighbor::example::{self, ETH0, ip};

struct Backend {
    is_left_to_workers: bool,
}

impl Capture for Backend {
    fn update(&mut self, _rules: &CaptureRules) -> Result<(), String> {
        Ok(())
    }

    fn is_left_to_workers(&self) -> bool {
        self.is_left_to_workers
    }

    fn counters(&self) -> Vec<BackendCounter> {
        Vec::new()
    }
}

/// One port and a NAT service on an address that no interface has, with the example's view of the kernel.
fn runtime(is_left_to_workers: bool) -> Runtime {
    let text = r#"
        [[port]]
        interface = "eth0"
        [[service]]
        protocol = "tcp"
        address = "192.0.2.10:80"
        method = "nat"
        [[service.server]]
        address = "192.0.2.21:8080"
    "#;
    let config = crate::config::parse(text, "test").unwrap();
    let port = OpenPort {
        name: "eth0".to_owned(),
        interface: "eth0".to_owned(),
        ifindex: ETH0,
        mac: example::mac(2),
        queues: 1,
        mode: "test".to_owned(),
        has_partial_checksums: false,
        interfaces: vec![LayerThree {
            vlan: None,
            interface: "eth0".to_owned(),
        }],
    };
    let parts = Parts {
        loads: Arc::new(Loads::new(config.director.server_limit)),
        config,
        ports: vec![port],
        workers: Vec::new(),
        capture: Some(Box::new(Backend { is_left_to_workers })),
        health: tokio::sync::watch::Sender::new(Health::default()),
        reload: Reload {
            wanted: Rc::new(Notify::new()),
            load: Box::new(|| Err(Vec::new())),
        },
    };
    let (mut runtime, _) = Runtime::new(parts).unwrap();
    runtime.view = example::view();
    runtime.kernel_changed().unwrap();
    runtime
}

#[test]
fn workers_that_get_all_frames_know_what_is_the_kernels() {
    let mut runtime = runtime(true);
    let virtual_address = ip("192.0.2.10");
    let kernel = runtime.snapshot.kernel.clone().unwrap();
    assert!(kernel.holds(&ip("192.0.2.1")) && kernel.holds(&ip("2001:db8:2::1")));
    assert!(!kernel.holds(&virtual_address) && runtime.snapshot.answers_for(&virtual_address));
    assert!(kernel.is_claimed(protocol::TCP, &ip("192.0.2.21"), 8080));
    assert!(!kernel.is_claimed(protocol::TCP, &ip("192.0.2.21"), 22));
    assert!(!kernel.is_claimed(protocol::UDP, &virtual_address, 80));

    // Nothing is new: no new generation.
    let generation = runtime.snapshot.generation;
    runtime.kernel_changed().unwrap();
    assert_eq!(runtime.snapshot.generation, generation);

    // The operator puts the virtual address on an interface that no port has, too, and takes it away again.
    let address = example::address(example::TUN0, "192.0.2.10/32");
    runtime.view.apply(Change::Address(address));
    runtime.kernel_changed().unwrap();
    assert_eq!(runtime.snapshot.generation, generation + 1);
    assert!(!runtime.snapshot.answers_for(&virtual_address), "the kernel does now");
    runtime.view.apply(Change::AddressGone {
        ifindex: example::TUN0,
        address: virtual_address,
        prefix_length: 32,
    });
    runtime.kernel_changed().unwrap();
    assert!(runtime.snapshot.answers_for(&virtual_address));
}

#[test]
fn workers_behind_a_filter_need_not_know() {
    let mut runtime = runtime(false);
    assert_eq!(runtime.snapshot.kernel, None);
    let generation = runtime.snapshot.generation;
    let address = example::address(example::TUN0, "192.0.2.10/32");
    runtime.view.apply(Change::Address(address));
    runtime.kernel_changed().unwrap();
    assert_eq!(runtime.snapshot.generation, generation);
}
