//! A director for tests: a few services, and a table of connections that changes each time somebody looks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::api::changes::{Change, ChangesOutcome};
use crate::api::protocol::{ConnectionFilter, ConnectionsPage, Cursor, ErrorCode, ServiceSelector};
use crate::api::views::*;
use crate::api::{Answer, Backend, Refusal};

/// Connections by bucket, as in a worker's table.
pub type Buckets = BTreeMap<u64, Vec<ConnectionView>>;

#[derive(Default)]
pub struct Fake {
    pub services: Vec<ServiceView>,
    pub buckets: RefCell<Buckets>,
    /// Done to the connections after each page.
    pub change: Option<fn(&mut Buckets)>,
    /// Transactions that were made: how many changes, and whether all or nothing.
    pub changes: Arc<Mutex<Vec<(usize, bool)>>>,
}

pub fn service(number: u16, servers: u32) -> ServiceView {
    ServiceView {
        name: format!("service-{number}"),
        protocol: Protocol::Tcp,
        address: IpAddr::from([192, 0, 2, 1]),
        port: number,
        fwmark: None,
        scheduler: "wlc".into(),
        scheduler_flags: Vec::new(),
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        client_address: ClientAddress::Hidden,
        local_addresses: Vec::new(),
        origin: Origin::File,
        totals: Traffic {
            connections: u64::MAX,
            ..Traffic::default()
        },
        rates: None,
        servers: (0..servers).map(server).collect(),
    }
}

fn server(number: u32) -> ServerView {
    ServerView {
        address: Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        port: 80,
        method: Method::Fullnat,
        tunnel: None,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        overloaded: false,
        active: number,
        inactive: 0,
        persistent: 0,
        totals: Traffic::default(),
        rates: None,
        origin: Origin::File,
        next_hop: Some(NextHopView {
            resolved: true,
            mac: Some("02:00:00:00:00:01".into()),
            ..NextHopView::default()
        }),
    }
}

pub fn connection(number: u32) -> ConnectionView {
    let client = SocketAddr::new(
        Ipv4Addr::from_bits(0xc633_6400 + number / 1000).into(),
        (1000 + number % 1000) as u16,
    );
    ConnectionView {
        protocol: Protocol::Tcp,
        expires_in_seconds: 900,
        state: "ESTABLISHED".into(),
        client,
        virtual_address: "192.0.2.1:80".parse().unwrap(),
        local: Some("198.18.0.1:1025".parse().unwrap()),
        server: "10.0.0.1:80".parse().unwrap(),
        worker: 0,
        method: Method::Fullnat,
        persistence_engine: None,
    }
}

impl Backend for Fake {
    async fn director(&self) -> Answer<DirectorView> {
        Ok(DirectorView {
            version: "0.0.0".into(),
            pid: 1,
            generation: 7,
            uptime_seconds: 1,
            connection_table_size: 4096,
            given_up: None,
            ports: Vec::new(),
        })
    }

    async fn services(&self, selector: Option<&ServiceSelector>) -> Answer<Vec<ServiceView>> {
        let wanted = |service: &&ServiceView| selector.is_none_or(|selector| selector.matches(service));
        Ok(self.services.iter().filter(wanted).cloned().collect())
    }

    /// Whole buckets at a time, from the one that the cursor names.
    async fn connections(
        &self,
        filter: &ConnectionFilter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Answer<ConnectionsPage> {
        let mut page = ConnectionsPage::default();
        let start = cursor.map_or(0, |cursor| cursor.position);
        for (bucket, connections) in self.buckets.borrow().range(start..) {
            if page.connections.len() + connections.len() > limit as usize {
                page.next = Some(Cursor {
                    part: 0,
                    position: *bucket,
                });
                break;
            }
            page.connections.extend(
                connections
                    .iter()
                    .filter(|connection| filter.matches(connection))
                    .cloned(),
            );
        }
        if let Some(change) = self.change {
            change(&mut self.buckets.borrow_mut());
        }
        Ok(page)
    }

    async fn counters(&self) -> Answer<Vec<CounterView>> {
        Ok(vec![CounterView {
            name: "rx".into(),
            help: "Packets received.".into(),
            values: vec![1, 2],
        }])
    }

    /// Too much for a frame.
    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        let worker = WorkerView {
            index: 0,
            core: None,
            connections: 0,
            connection_capacity: 0,
            packets_received: 0,
            packets_transmitted: 0,
            packets_dropped: 0,
            busy_share: 0.5,
            generation: 7,
            frames_free: 0,
            frames_total: 0,
            table_full: 0,
            stuck_milliseconds: None,
        };
        Ok(vec![worker; 10_000])
    }

    async fn timeouts(&self) -> Answer<TimeoutsView> {
        Err(Refusal::new(ErrorCode::Unavailable, "worker 1 does not answer"))
    }

    async fn totals(&self) -> Answer<TotalsView> {
        Ok(TotalsView::default())
    }

    /// Longer than a frame, and with characters of several bytes.
    async fn configuration(&self) -> Answer<String> {
        Ok("# é\n".repeat(500_000))
    }

    async fn change(&self, changes: Vec<Change>, atomic: bool) -> Answer<ChangesOutcome> {
        self.changes.lock().unwrap().push((changes.len(), atomic));
        Ok(ChangesOutcome::default())
    }
}
