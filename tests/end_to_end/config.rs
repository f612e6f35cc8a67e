//! Configuration files for the tests, written as an operator would.

use crate::lab::{Lab, Shape, address};

/// How packets get to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Nat,
    DirectRouting,
    Tunnel,
    FullNat,
}

impl Method {
    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Method::Nat => "nat",
            Method::DirectRouting => "dr",
            Method::Tunnel => "tun",
            Method::FullNat => "fullnat",
        }
    }

    /// The VIP that the lab has for it. Servers own those of DR and TUN too.
    pub fn vip(self, family: Family) -> &'static str {
        let name = match self {
            Method::Nat => "VIP_NAT",
            Method::DirectRouting => "VIP_DR",
            Method::Tunnel => "VIP_TUN",
            Method::FullNat => "VIP_FULLNAT",
        };
        address(&format!("{name}{}", family.digit()))
    }
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// How names in the address table end.
    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }

    /// The address of this family whose name in the table begins with `name`.
    pub fn address(self, name: &str) -> &'static str {
        address(&format!("{name}{}", self.digit()))
    }

    /// The address of server 1, 2 or 3.
    pub fn server(self, number: u8) -> &'static str {
        address(&format!("SERVER{number}_{}", self.digit()))
    }

    /// Length of the IP header without options, in bytes.
    pub fn header_bytes(self) -> u16 {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// One virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    pub protocol: &'static str,
    pub vip: &'static str,
    pub port: u16,
    pub method: Method,
    /// Server address and, if it is not the service's, its own method.
    pub servers: Vec<(&'static str, Option<Method>)>,
    pub client_address: Option<&'static str>,
}

impl Service {
    /// A service of a method on its VIP, with all three servers.
    pub fn new(protocol: &'static str, port: u16, method: Method, client: Family, servers: Family) -> Service {
        let servers = (1..=3).map(|number| (servers.server(number), None)).collect();
        Service {
            protocol,
            vip: method.vip(client),
            port,
            method,
            servers,
            client_address: None,
        }
    }
}

/// What moves the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The ports are the kernel's interfaces.
    AfXdp,
    /// A driver of DPDK's takes the cables away from the kernel, as after [`Lab::take_ports_from_kernel`].
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code))]
    Dpdk,
}

/// The whole file.
pub struct Config {
    pub backend: Backend,
    pub shape: Shape,
    pub workers: u8,
    /// How the XDP program is attached, for all ports.
    pub mode: &'static str,
    pub control_socket: String,
    pub services: Vec<Service>,
}

impl Config {
    /// One worker per queue of the lab.
    pub fn usual(lab: &Lab, services: Vec<Service>) -> Config {
        Config {
            backend: Backend::AfXdp,
            shape: lab.shape,
            workers: lab.shape.queues,
            mode: "auto",
            control_socket: lab.directory().join("ulvs.sock").display().to_string(),
            services,
        }
    }

    fn port(&self, name: &str, number: u8) -> String {
        let port = format!("\n[[port]]\nname = \"{name}\"\ninterface = \"{name}\"\n");
        match self.backend {
            Backend::AfXdp => port + &format!("mode = \"{}\"\n", self.mode),
            Backend::Dpdk => {
                let (cable, queues) = (Lab::cable_of(name), self.shape.queues);
                let device = match queues {
                    1 => format!("net_af_xdp{number},iface={cable}"),
                    // The driver over AF_XDP counts a veth's queues as one.
                    _ => format!("net_af_packet{number},iface={cable},qpairs={queues}"),
                };
                port + &format!("device = \"{device}\"\nmtu = {}\n", self.shape.mtu)
            }
        }
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "[director]\nbackend = \"{}\"\nworkers = {}\nworker_timeout_ms = 5000\nconnections = 65536\ncontrol_socket = \"{}\"\n\n",
            match self.backend {
                Backend::AfXdp => "af_xdp",
                Backend::Dpdk => "dpdk",
            },
            self.workers,
            self.control_socket
        );
        text += &self.port("outside", 0);
        if let Some(id) = self.shape.vlan {
            text += &format!("untagged = false\nvlans = [{{ id = {id} }}]\n");
        }
        if self.shape.arms == 2 {
            text += &self.port("inside", 1);
        }
        let pool = [address("POOL4"), address("POOL6")];
        text += &format!("\n[[local_pool]]\nname = \"pool\"\naddresses = {pool:?}\n");
        for service in &self.services {
            text += &service.to_toml();
        }
        text
    }
}

impl Service {
    fn to_toml(&self) -> String {
        let Service {
            protocol, vip, port, ..
        } = self;
        let mut text = format!(
            "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{}\"\n",
            with_port(vip, *port)
        );
        text += &format!("scheduler = \"rr\"\nmethod = \"{}\"\n", self.method.word());
        let methods = self.servers.iter().map(|(_, method)| method.unwrap_or(self.method));
        if methods.chain([self.method]).any(|method| method == Method::FullNat) {
            text += "local_pool = \"pool\"\n";
        }
        if let Some(client_address) = self.client_address {
            text += &format!("client_address = \"{client_address}\"\n");
        }
        for (server, method) in &self.servers {
            text += &format!("  [[service.server]]\n  address = \"{}\"\n", with_port(server, *port));
            if let Some(method) = method {
                text += &format!("  method = \"{}\"\n", method.word());
            }
        }
        text
    }
}

/// `address:port`, with brackets around an IPv6 address.
pub fn with_port(address: &str, port: u16) -> String {
    format!("{}:{port}", bracket(address))
}

/// The address as it stands in a URL.
pub fn bracket(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_string()
    }
}
