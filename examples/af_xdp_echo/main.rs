//! The smallest program on AF_XDP ports, to try a NIC or driver with: takes one IPv4 address on an interface for itself and echoes
//! UDP that is sent to it, until it is ended.
//!
//! `cargo run --example af_xdp_echo -- eth1 192.0.2.10`, then from elsewhere `nc -u 192.0.2.10 7`.

mod echo;

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use ulvs::af_xdp::{AddressClass, DeviceSettings, Settings, open};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::Io;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: af_xdp_echo INTERFACE IPV4_ADDRESS";
    let device = arguments.next().context(usage)?;
    let address: Ipv4Addr = arguments.next().context(usage)?.parse().context(usage)?;

    let mut opened = open(&Settings::new(vec![DeviceSettings::new(device)]))?;
    opened
        .filter
        .set_addresses(&HashMap::from([(Address::v4(address.octets()), AddressClass::Owned)]))?;
    for device in &opened.devices {
        println!("{device:?}");
        device.warnings.iter().for_each(|warning| eprintln!("{warning}"));
    }
    let macs: Vec<_> = opened.devices.iter().map(|device| device.mac).collect();
    let mut io = opened.workers.remove(0);
    loop {
        if echo::turn(&mut io, &macs, address) == 0 {
            io.wait(1000);
        }
    }
}
