//! The schedulers against recordings of a real kernel: same servers, same connections, same changes; same picks and counts.

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::state::{ConnectionState, Direction, PacketEvent};
use ulvs_dataplane::conn::tcp_state::TcpEvent;
use ulvs_dataplane::scheduler::{Client, SchedulerKind, SchedulerState, SchedulerTable, compile_table, pick};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Loads, Ownership, Persistence, SchedulerFlags, Server, ServerSlot, Service,
    ServiceSlot, TunnelType, protocol,
};
use ulvs_dataplane::time::Time;

#[derive(Deserialize)]
struct Recording {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    scheduler: String,
    sched_flags: Vec<String>,
    fwd: String,
    /// What `ipvsadm -A` was given: `-t 10.0.1.100:1002`, `-f 1`.
    service: String,
    svc_args: String,
    servers: Vec<RecordedServer>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct RecordedServer {
    addr: IpAddr,
    port: u16,
    weight: u32,
    #[serde(default)]
    u_threshold: u32,
    #[serde(default)]
    l_threshold: u32,
}

#[derive(Deserialize)]
struct Event {
    #[serde(flatten)]
    step: Step,
    /// Active and inactive connections of each server after the step.
    counts: Option<HashMap<IpAddr, (u32, u32)>>,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Step {
    Open {
        src: SocketAddr,
        dst: Option<SocketAddr>,
        chosen: Option<IpAddr>,
    },
    Syn {
        src: SocketAddr,
        dst: Option<SocketAddr>,
        chosen: Option<IpAddr>,
    },
    Udp {
        src: SocketAddr,
        chosen: Option<IpAddr>,
    },
    Close {
        src: SocketAddr,
        how: Close,
    },
    SetWeight {
        server: IpAddr,
        weight: u32,
    },
    Del {
        server: IpAddr,
    },
    Add {
        server: IpAddr,
        weight: u32,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Close {
    Fin,
    Rst,
}

/// Client, and the address it called when the service is a firewall mark.
type Flow = (SocketAddr, Option<SocketAddr>);

struct Connection {
    server: ServerSlot,
    state: ConnectionState,
    no_output: bool,
}

/// As much of a director as the recordings need: one service, its connections, nothing that expires (no recording is long enough).
struct Director {
    service: Service,
    state: SchedulerState,
    loads: Loads,
    connections: HashMap<Flow, Connection>,
    /// A server that comes back while connections still name it gets its slot, and so its counts, back.
    slots: HashMap<IpAddr, ServerSlot>,
    /// How many of a server's connections gave way to a new one of the same client. The kernel counts them until its next timer
    /// tick, which may be after the recorder looked.
    gave_way: HashMap<IpAddr, u32>,
    /// Which server a client stays with.
    templates: HashMap<Address, ServerSlot>,
    method: ForwardingMethod,
    server_port: u16,
    /// The kernel's choice in the step that is played, when it makes one.
    follows: Option<Option<IpAddr>>,
}

impl Director {
    fn new(case: &Case, scheduler: SchedulerKind) -> Director {
        let has_flag = |name: &str| case.sched_flags.iter().any(|flag| flag.ends_with(name));
        let called: Option<SocketAddr> = case.service[3..].parse().ok();
        let method = match case.fwd.as_str() {
            "nat" => ForwardingMethod::Nat,
            "dr" => ForwardingMethod::DirectRouting,
            other => panic!("{}: forwarding {other}", case.name),
        };
        let service = Service {
            slot: ServiceSlot(0),
            revision: 0,
            protocol: if case.service.starts_with("-u") {
                protocol::UDP
            } else {
                protocol::TCP
            },
            address: called.map_or(Address::UNSPECIFIED, |called| called.ip().into()),
            port: called.map_or(0, |called| called.port()),
            scheduler,
            scheduler_flags: SchedulerFlags {
                fallback: has_flag("-fallback"),
                port: has_flag("-port"),
            },
            scheduler_table: SchedulerTable::None,
            servers: Vec::new(),
            client_address: ClientAddress::Hidden,
            local_v4: Vec::new(),
            local_v6: Vec::new(),
            local_ports: (1024, 65535),
            persistence: persistence(&case.svc_args),
            one_packet: case.svc_args.split_whitespace().any(|option| option == "-o"),
            ownership: Ownership::default(),
        };
        let server_port = match method {
            ForwardingMethod::Nat => case.servers[0].port,
            _ => service.port,
        };
        let mut director = Director {
            state: SchedulerState::new(&service),
            service,
            loads: Loads::new(64),
            connections: HashMap::new(),
            slots: HashMap::new(),
            gave_way: HashMap::new(),
            templates: HashMap::new(),
            method,
            server_port,
            follows: None,
        };
        case.servers.iter().for_each(|server| director.add(server));
        director
    }

    /// One step of configuration: a new revision of the service, to which the scheduler's state is carried over.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Server>)) {
        let mut new = self.service.clone();
        change(&mut new.servers);
        new.revision += 1;
        new.scheduler_table = compile_table(new.scheduler, &new.servers).expect("recorded services are small");
        self.state.update(&self.service, &new);
        self.service = new;
    }

    fn add(&mut self, server: &RecordedServer) {
        let next = ServerSlot(self.slots.len() as u32);
        let added = Server {
            slot: *self.slots.entry(server.addr).or_insert(next),
            address: server.addr.into(),
            port: self.server_port,
            weight: server.weight,
            last_weight: server.weight,
            method: self.method,
            upper_threshold: server.u_threshold,
            lower_threshold: server.l_threshold,
            tunnel: TunnelType::Ipip,
        };
        self.change(|servers| servers.insert(0, added));
    }

    fn set_weight(&mut self, address: IpAddr, weight: u32) {
        self.change(|servers| {
            let server = servers
                .iter_mut()
                .find(|server| server.address == address.into())
                .expect("a recorded server");
            server.weight = weight;
            if weight != 0 {
                server.last_weight = weight;
            }
        });
    }

    fn delete(&mut self, address: IpAddr) {
        self.change(|servers| servers.retain(|server| server.address != address.into()));
    }

    fn configured(&self, slot: ServerSlot) -> Option<&Server> {
        self.service.servers.iter().find(|server| server.slot == slot)
    }

    /// A packet from the client; the server that it goes to.
    fn packet_in(&mut self, flow: Flow, event: PacketEvent) -> Option<IpAddr> {
        let opens = matches!(event, PacketEvent::Udp | PacketEvent::Tcp(TcpEvent::Syn));
        let over = |connection: &Connection| connection.state.gives_way_to_syn(1, connection.no_output);
        let reopened = opens && self.connections.get(&flow).is_some_and(over);
        if !self.connections.contains_key(&flow) || reopened {
            if !opens {
                return None;
            }
            let old = self.connections.remove(&flow);
            let opened = self.open(flow);
            old.into_iter().for_each(|old| self.give_way(&old));
            opened?;
        }
        self.follow(flow, event, true)
    }

    fn open(&mut self, flow: Flow) -> Option<()> {
        let client = Client {
            address: flow.0.ip().into(),
            port: flow.0.port(),
            called: flow.1.map_or(self.service.address, |called| called.ip().into()),
            now: Time::from_secs(1),
        };
        let stays = self
            .service
            .persistence
            .map(|own| client.address.masked(own.prefix_length));
        let known = stays.and_then(|client| self.templates.get(&client)).copied();
        let known = known.and_then(|slot| self.service.servers.iter().position(|server| server.slot == slot));
        let place = match self.follows {
            _ if known.is_some() => known?,
            Some(chosen) if self.service.scheduler == SchedulerKind::Twos => self.drawable(&client, chosen)?,
            _ => pick(&mut self.state, &self.service, &self.loads, &client)?,
        };
        let server = &self.service.servers[place];
        self.templates.extend(stays.map(|client| (client, server.slot)));
        let state = ConnectionState::before_first_packet(self.service.protocol)?;
        self.loads.get(server.slot).open(server, state.is_active());
        let no_output = self.method != ForwardingMethod::Nat;
        self.connections.insert(
            flow,
            Connection {
                server: server.slot,
                state,
                no_output,
            },
        );
        Some(())
    }

    /// twos draws at random. What the kernel drew must be among what we draw, and everything goes on from there; how often each is
    /// drawn is measured beside the scheduler.
    fn drawable(&mut self, client: &Client, chosen: Option<IpAddr>) -> Option<usize> {
        const DRAWS: usize = 2000;
        let mut drawn: Vec<Option<usize>> = (0..DRAWS)
            .map(|_| pick(&mut self.state, &self.service, &self.loads, client))
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        let address_of = |place: usize| IpAddr::from(self.service.servers[place].address);
        let same = drawn.iter().find(|place| place.map(address_of) == chosen);
        *same.unwrap_or(&drawn[0])
    }

    /// The connection lives for its packet only.
    fn forget(&mut self, flow: Flow) {
        if let Some(connection) = self.connections.remove(&flow) {
            self.loads
                .get(connection.server)
                .close(0, 0, connection.state.is_active());
        }
    }

    fn give_way(&mut self, old: &Connection) {
        let Some(server) = self.configured(old.server).cloned() else {
            return;
        };
        self.loads
            .get(old.server)
            .close(server.upper_threshold, server.lower_threshold, old.state.is_active());
        *self.gave_way.entry(server.address.into()).or_default() += 1;
    }

    fn follow(&mut self, flow: Flow, event: PacketEvent, from_client: bool) -> Option<IpAddr> {
        let connection = self.connections.get_mut(&flow)?;
        let slot = connection.server;
        let server = self.service.servers.iter().find(|server| server.slot == slot)?;
        let direction = Direction::of_packet(from_client, &mut connection.no_output);
        let next = connection.state.next(event, direction, false);
        if next.is_active() != connection.state.is_active() {
            self.loads.get(slot).set_active(next.is_active());
        }
        connection.state = next;
        Some(server.address.into())
    }

    fn tcp_in(&mut self, flow: Flow, event: TcpEvent) -> Option<IpAddr> {
        self.packet_in(flow, PacketEvent::Tcp(event))
    }

    /// A packet from the server, which only a NAT director sees.
    fn tcp_out(&mut self, flow: Flow, event: TcpEvent) {
        if self.method == ForwardingMethod::Nat {
            self.follow(flow, PacketEvent::Tcp(event), false);
        }
    }

    /// Plays one recorded step; what went differently, in words.
    fn play(&mut self, step: &Step) -> Result<(), String> {
        self.follows = match *step {
            Step::Open { chosen, .. } | Step::Syn { chosen, .. } | Step::Udp { chosen, .. } => Some(chosen),
            _ => None,
        };
        let (expected, got) = match *step {
            Step::Open { src, dst, chosen } => {
                let got = self.tcp_in((src, dst), TcpEvent::Syn);
                self.tcp_out((src, dst), TcpEvent::Syn);
                self.tcp_in((src, dst), TcpEvent::Ack);
                (chosen, got)
            }
            Step::Syn { src, dst, chosen } => (chosen, self.tcp_in((src, dst), TcpEvent::Syn)),
            Step::Udp { src, chosen } => {
                let got = self.packet_in((src, None), PacketEvent::Udp);
                if self.service.one_packet {
                    self.forget((src, None));
                }
                (chosen, got)
            }
            Step::Close { src, how: Close::Rst } => (None, self.tcp_in((src, None), TcpEvent::Rst).and(None)),
            Step::Close { src, how: Close::Fin } => {
                self.tcp_in((src, None), TcpEvent::Fin);
                self.tcp_out((src, None), TcpEvent::Fin);
                self.tcp_in((src, None), TcpEvent::Ack);
                (None, None)
            }
            Step::SetWeight { server, weight } => (None, {
                self.set_weight(server, weight);
                None
            }),
            Step::Del { server } => (None, {
                self.delete(server);
                None
            }),
            Step::Add { server, weight } => {
                self.add(&RecordedServer {
                    addr: server,
                    port: 0,
                    weight,
                    u_threshold: 0,
                    l_threshold: 0,
                });
                (None, None)
            }
        };
        if expected == got {
            Ok(())
        } else {
            Err(format!("the kernel picked {expected:?}, we {got:?}"))
        }
    }

    fn compare_counts(&self, expected: &HashMap<IpAddr, (u32, u32)>) -> Result<(), String> {
        for server in &self.service.servers {
            let address = IpAddr::from(server.address);
            let (active, inactive) = *expected.get(&address).ok_or(format!("the kernel has no {address}"))?;
            let load = self.loads.get(server.slot);
            let still_counted = inactive.checked_sub(load.inactive());
            let gave_way = self.gave_way.get(&address).copied().unwrap_or(0);
            if load.active() != active || still_counted.is_none_or(|count| count > gave_way) {
                let ours = (load.active(), load.inactive());
                return Err(format!(
                    "{address}: the kernel counted {:?}, we {ours:?}",
                    (active, inactive)
                ));
            }
        }
        if expected.len() == self.service.servers.len() {
            Ok(())
        } else {
            Err("the kernel has more servers".into())
        }
    }
}

/// `-p 300 -M 255.255.255.0`, `-p 300 -M 64`
fn persistence(arguments: &str) -> Option<Persistence> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let after = |option| words.iter().position(|word| *word == option).map(|at| words[at + 1]);
    let prefix_length = |mask: &str| match mask.parse::<std::net::Ipv4Addr>() {
        Ok(mask) => u32::from(mask).leading_ones() as u8,
        Err(_) => mask.parse().expect("a recorded mask"),
    };
    Some(Persistence {
        timeout_s: after("-p")?.parse().expect("a recorded timeout"),
        prefix_length: after("-M").map_or(128, prefix_length),
        keeps_quiesced: true,
    })
}

fn replay(case: &Case, scheduler: SchedulerKind) -> Result<(), String> {
    let mut director = Director::new(case, scheduler);
    for (number, event) in case.events.iter().enumerate() {
        let outcome = director.play(&event.step);
        let outcome = outcome.and_then(|()| {
            event
                .counts
                .as_ref()
                .map_or(Ok(()), |counts| director.compare_counts(counts))
        });
        outcome.map_err(|difference| format!("{}: event {number}: {difference}", case.name))?;
    }
    Ok(())
}

#[test]
fn the_kernels_picks_are_ours() {
    let Some(recording) = common::recording::<Recording>("schedulers.json") else {
        return;
    };
    let mut compared = 0;
    let mut differences = Vec::new();
    for case in &recording.cases {
        if let Ok(scheduler) = case.scheduler.parse() {
            compared += 1;
            differences.extend(replay(case, scheduler).err());
        }
    }
    println!("{} of {compared} cases equal", compared - differences.len());
    let unknown = recording
        .cases
        .iter()
        .find(|case| case.scheduler.parse::<SchedulerKind>().is_err());
    assert!(unknown.is_none(), "every recorded scheduler is one of ours");
    assert!(compared > 0, "the recording holds no case of our schedulers");
    assert!(differences.is_empty(), "{differences:#?}");
}
