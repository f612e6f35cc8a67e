//! The state of the kernel that the recordings were made of, as views.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ulvs_control::api::views::*;

/// Services in the kernel's order (its hash table's), servers newest first.
pub fn services() -> Vec<ServiceView> {
    let v4 = |text: &str| text.parse::<IpAddr>().unwrap();
    let vip = v4("10.0.1.100");
    let (first, second) = (v4("10.0.1.11"), v4("10.0.1.12"));
    let vip6 = v4("2001:db8:1::100");
    let (first6, second6) = (v4("2001:db8:1::11"), v4("2001:db8:1::12"));
    let persistent = |timeout_seconds, prefix_length| {
        Some(PersistenceView {
            timeout_seconds,
            prefix_length,
        })
    };

    let web6 = ServiceView {
        persistence: persistent(300, 64),
        totals: traffic([3, 12, 12, 888, 900]),
        rates: Some(rates([0, 1, 1, 47, 47])),
        servers: vec![
            ServerView {
                inactive: 3,
                persistent: 1,
                totals: traffic([3, 12, 12, 888, 900]),
                rates: Some(rates([0, 1, 1, 47, 47])),
                ..server(second6, 80, Method::Nat, 2)
            },
            server(first6, 80, Method::Nat, 1),
        ],
        ..service(Protocol::Tcp, vip6, 80, "wlc")
    };
    let https = ServiceView {
        scheduler_flags: vec!["sh-fallback".into(), "sh-port".into()],
        persistence: persistent(600, 24),
        servers: vec![
            ServerView {
                tunnel: tunnel(TunnelKind::Ipip, 0),
                ..server(second, 443, Method::Tun, 0)
            },
            server(first, 443, Method::Dr, 1),
        ],
        ..service(Protocol::Tcp, vip, 443, "sh")
    };
    let maglev = ServiceView {
        scheduler_flags: vec!["mh-fallback".into(), "mh-port".into()],
        servers: vec![
            ServerView {
                tunnel: tunnel(TunnelKind::Gre, 0),
                ..server(second, 8443, Method::Tun, 1)
            },
            ServerView {
                tunnel: tunnel(TunnelKind::Gue, 6080),
                ..server(first, 8443, Method::Tun, 1)
            },
        ],
        ..service(Protocol::Tcp, vip, 8443, "mh")
    };
    let sip = ServiceView {
        persistence: persistent(120, 32),
        persistence_engine: Some("sip".into()),
        servers: vec![server(first, 5060, Method::Nat, 1)],
        ..service(Protocol::Udp, vip, 5060, "rr")
    };
    let ftp = ServiceView {
        persistence: persistent(360, 32),
        ..service(Protocol::Tcp, vip, 21, "rr")
    };
    let sctp = ServiceView {
        servers: vec![server(first, 5000, Method::Nat, 1)],
        ..service(Protocol::Sctp, vip, 5000, "rr")
    };
    let dns = ServiceView {
        one_packet: true,
        totals: traffic([3, 3, 0, 87, 0]),
        rates: Some(rates([0, 0, 0, 3, 0])),
        servers: vec![
            ServerView {
                totals: traffic([2, 2, 0, 58, 0]),
                rates: Some(rates([0, 0, 0, 2, 0])),
                ..server(second, 53, Method::Nat, 1)
            },
            ServerView {
                totals: traffic([1, 1, 0, 29, 0]),
                rates: Some(rates([0, 0, 0, 1, 0])),
                ..server(first, 53, Method::Nat, 1)
            },
        ],
        ..service(Protocol::Udp, vip, 53, "rr")
    };
    let web = ServiceView {
        totals: traffic([26, 104, 104, 5616, 5720]),
        rates: Some(rates([3, 11, 11, 578, 589])),
        servers: vec![
            ServerView {
                inactive: 7,
                upper_threshold: 100,
                lower_threshold: 20,
                totals: traffic([7, 28, 28, 1512, 1540]),
                rates: Some(rates([1, 3, 3, 148, 151])),
                ..server(second, 80, Method::Nat, 1)
            },
            ServerView {
                inactive: 19,
                totals: traffic([19, 76, 76, 4104, 4180]),
                rates: Some(rates([2, 8, 8, 431, 439])),
                ..server(first, 80, Method::Nat, 3)
            },
        ],
        ..service(Protocol::Tcp, vip, 80, "wrr")
    };
    let mark7 = ServiceView {
        fwmark: Some(7),
        persistence: persistent(360, 32),
        servers: vec![server(first, 0, Method::Dr, 1)],
        ..service(Protocol::Ip, Ipv4Addr::UNSPECIFIED.into(), 0, "wlc")
    };
    let mark8 = ServiceView {
        fwmark: Some(8),
        servers: vec![server(first6, 0, Method::Dr, 1)],
        ..service(Protocol::Ip, Ipv6Addr::UNSPECIFIED.into(), 0, "rr")
    };
    vec![web6, https, maglev, sip, ftp, sctp, dns, web, mark7, mark8]
}

/// A third server, by DR, for the web service.
pub fn add_third_server(services: &mut [ServiceView]) {
    services[7]
        .servers
        .insert(0, server([10, 0, 1, 13].into(), 80, Method::Dr, 1));
}

/// `ipvsadm -Z`
pub fn zero(services: &mut [ServiceView]) {
    for service in services {
        service.totals = Traffic::default();
        service
            .servers
            .iter_mut()
            .for_each(|server| server.totals = Traffic::default());
    }
}

fn tunnel(kind: TunnelKind, port: u16) -> Option<TunnelView> {
    Some(TunnelView {
        kind,
        port,
        checksum: TunnelChecksum::None,
    })
}

fn traffic([connections, packets_in, packets_out, bytes_in, bytes_out]: [u64; 5]) -> Traffic {
    Traffic {
        connections,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
    }
}

fn rates([connections, packets_in, packets_out, bytes_in, bytes_out]: [u64; 5]) -> Rates {
    Rates {
        connections,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
    }
}

fn service(protocol: Protocol, address: IpAddr, port: u16, scheduler: &str) -> ServiceView {
    ServiceView {
        name: format!("{protocol} {address}:{port}"),
        protocol,
        address,
        port,
        fwmark: None,
        scheduler: scheduler.to_owned(),
        scheduler_flags: Vec::new(),
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        client_address: ClientAddress::Hidden,
        local_addresses: Vec::new(),
        origin: Origin::File,
        totals: Traffic::default(),
        rates: Some(Rates::default()),
        servers: Vec::new(),
    }
}

fn server(address: IpAddr, port: u16, method: Method, weight: u32) -> ServerView {
    ServerView {
        address,
        port,
        method,
        tunnel: None,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
        overloaded: false,
        active: 0,
        inactive: 0,
        persistent: 0,
        totals: Traffic::default(),
        rates: Some(Rates::default()),
        origin: Origin::File,
        next_hop: None,
    }
}

fn connection(protocol: Protocol, expires_in_seconds: u64, state: &str, endpoints: [&str; 3]) -> ConnectionView {
    let [client, virtual_address, server] = endpoints.map(|text| text.parse::<SocketAddr>().unwrap());
    ConnectionView {
        protocol,
        expires_in_seconds,
        state: state.to_owned(),
        client,
        virtual_address,
        local: None,
        server,
        worker: 0,
        method: Method::Nat,
        persistence_engine: None,
    }
}

/// The template of a firewall-mark service, and a SIP call.
pub fn template_and_call() -> [ConnectionView; 2] {
    let template = connection(Protocol::Ip, 98_765, "NONE", ["10.0.9.2:0", "0.0.0.7:0", "10.0.1.11:0"]);
    let call = connection(
        Protocol::Udp,
        106,
        "UDP",
        ["10.0.9.2:5060", "10.0.1.100:5060", "10.0.1.11:5060"],
    );
    let engine = EngineDataView {
        name: "sip".into(),
        data: "abc def@example.net".into(),
    };
    [
        template,
        ConnectionView {
            persistence_engine: Some(engine),
            ..call
        },
    ]
}

/// The connections that the kernel itself listed at that time (`/proc/net/ip_vs_conn`, or `ip_vs_conn_sync`).
pub fn kernel_connections(recording: &str) -> Vec<ConnectionView> {
    let Some(directory) = super::goldens() else {
        return Vec::new();
    };
    let text = std::fs::read_to_string(directory.join(format!("{recording}.txt"))).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("TCP "));
    lines.map(kernel_connection).collect()
}

fn kernel_connection(line: &str) -> ConnectionView {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let endpoint = |address: &str, port: &str| {
        let port = u16::from_str_radix(port, 16).unwrap();
        let address: IpAddr = match u32::from_str_radix(address, 16) {
            Ok(bits) => Ipv4Addr::from_bits(bits).into(),
            Err(_) => address.parse().unwrap(),
        };
        SocketAddr::new(address, port).to_string()
    };
    let [client, virtual_address, server] = [1, 3, 5].map(|field| endpoint(fields[field], fields[field + 1]));
    connection(
        Protocol::Tcp,
        fields.last().unwrap().parse().unwrap(),
        fields[7],
        [&client, &virtual_address, &server],
    )
}

/// A line of `-Lnc` with its `mm:ss` made alike.
pub fn without_expiry(line: &str) -> String {
    match line.split_once(' ') {
        Some((protocol @ "TCP", rest)) => format!("{protocol} **:**{}", &rest[5..]),
        _ => line.to_owned(),
    }
}
