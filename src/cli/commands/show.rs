//! What the subcommands print for people, and connections one at a time.

use std::io::{self, Write};

use ulvs_control::api::protocol::SCHEMA_VERSION;
use ulvs_control::api::views::{
    ConnectionView, CounterView, DirectorView, NextHopView, Origin, PortView, ServerView, ServiceView, WorkerView,
};

use super::super::table::Table;

/// Text for people.
pub(super) trait Shown {
    fn text(&self) -> String;
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

impl Shown for Vec<ServiceView> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "There are no services.\n".to_owned();
        }
        self.iter().map(service_text).collect::<Vec<_>>().join("\n")
    }
}

fn service_text(service: &ServiceView) -> String {
    let mut scheduler = service.scheduler.clone();
    if !service.scheduler_flags.is_empty() {
        scheduler += &format!(" ({})", service.scheduler_flags.join(","));
    }
    let mut facts = vec![endpoint_text(service), scheduler];
    if let Some(persistence) = &service.persistence {
        facts.push(format!(
            "persistent {} s per /{}",
            persistence.timeout_seconds, persistence.prefix_length
        ));
    }
    if service.one_packet {
        facts.push("one packet".to_owned());
    }
    if service.origin != Origin::File {
        facts.push(format!("from {}", service.origin.name()));
    }
    let totals = &service.totals;
    let mut table = Table::new(&[
        "  SERVER",
        "METHOD",
        "WEIGHT",
        "ACTIVE",
        "INACTIVE",
        "CONNECTIONS",
        "PACKETS IN",
        "PACKETS OUT",
        "BYTES IN",
        "BYTES OUT",
        "ORIGIN",
        "NEXT HOP",
    ]);
    service.servers.iter().for_each(|server| table.row(server_row(server)));
    let servers = if service.servers.is_empty() {
        "  no servers\n".to_owned()
    } else {
        table.text()
    };
    format!(
        "{}: {}\n  {} connections, {} packets ({} bytes) in, {} packets ({} bytes) out\n{servers}",
        service.name,
        facts.join(", "),
        totals.connections,
        totals.packets_in,
        totals.bytes_in,
        totals.packets_out,
        totals.bytes_out,
    )
}

fn endpoint_text(service: &ServiceView) -> String {
    match service.fwmark {
        Some(mark) => format!(
            "firewall mark {mark} ({})",
            if service.address.is_ipv6() { "IPv6" } else { "IPv4" }
        ),
        None => {
            let endpoint = std::net::SocketAddr::new(service.address, service.port);
            format!("{} {endpoint}", service.protocol.name())
        }
    }
}

fn server_row(server: &ServerView) -> Vec<String> {
    let endpoint = std::net::SocketAddr::new(server.address, server.port);
    let totals = &server.totals;
    vec![
        format!("  {endpoint}"),
        server.method.name().to_owned(),
        server.weight.to_string(),
        server.active.to_string(),
        server.inactive.to_string(),
        totals.connections.to_string(),
        totals.packets_in.to_string(),
        totals.packets_out.to_string(),
        totals.bytes_in.to_string(),
        totals.bytes_out.to_string(),
        server.origin.name().to_owned(),
        next_hop_text(server.next_hop.as_ref()) + if server.overloaded { ", overloaded" } else { "" },
    ]
}

fn next_hop_text(next_hop: Option<&NextHopView>) -> String {
    let Some(next_hop) = next_hop else {
        return "unknown".to_owned();
    };
    let mut text = if next_hop.resolved {
        next_hop.mac.clone().unwrap_or_else(|| "resolved".to_owned())
    } else {
        "unresolved".to_owned()
    };
    if let Some(address) = next_hop.address {
        text += &format!(" via {address}");
    }
    if let Some(interface) = &next_hop.interface {
        text += &format!(" on {interface}");
    }
    text
}

impl Shown for Vec<CounterView> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "All counters are zero ('--all' lists them).\n".to_owned();
        }
        let workers = self.iter().map(|counter| counter.values.len()).max().unwrap_or(0);
        let worker_headings: Vec<String> = (0..workers)
            .filter(|_| workers > 1)
            .map(|worker| format!("WORKER {worker}"))
            .collect();
        let mut headings = vec!["COUNTER", "TOTAL"];
        headings.extend(worker_headings.iter().map(String::as_str));
        headings.push("MEANING");
        let mut table = Table::new(&headings);
        for counter in self {
            let mut row = vec![counter.name.clone(), counter.total().to_string()];
            let by_worker = if counter.values.len() < workers {
                &[]
            } else {
                &counter.values[..]
            };
            row.extend((0..worker_headings.len()).map(|worker| or_dash(by_worker.get(worker))));
            row.push(counter.help.clone());
            table.row(row);
        }
        table.text()
    }
}

impl Shown for Vec<WorkerView> {
    fn text(&self) -> String {
        let mut table = Table::new(&[
            "WORKER",
            "CORE",
            "STATE",
            "BUSY",
            "CONNECTIONS",
            "CAPACITY",
            "TABLE FULL",
            "RECEIVED",
            "TRANSMITTED",
            "DROPPED",
            "FREE BUFFERS",
            "BUFFERS",
            "GENERATION",
        ]);
        for worker in self {
            table.row(vec![
                worker.index.to_string(),
                or_dash(worker.core),
                worker.stuck_milliseconds.map_or("ok".to_owned(), |milliseconds| {
                    format!("stuck for {}.{} s", milliseconds / 1000, milliseconds / 100 % 10)
                }),
                format!("{:.1}%", worker.busy_share * 100.0),
                worker.connections.to_string(),
                worker.connection_capacity.to_string(),
                worker.table_full.to_string(),
                worker.packets_received.to_string(),
                worker.packets_transmitted.to_string(),
                worker.packets_dropped.to_string(),
                worker.frames_free.to_string(),
                worker.frames_total.to_string(),
                worker.generation.to_string(),
            ]);
        }
        table.text()
    }
}

impl Shown for DirectorView {
    fn text(&self) -> String {
        let mut ports = Table::new(&["PORT", "MODE", "QUEUES", "MAC"]);
        for port in &self.ports {
            let PortView {
                name,
                mode,
                queues,
                mac,
            } = port;
            ports.row(vec![
                name.clone(),
                mode.clone(),
                queues.to_string(),
                or_dash(mac.clone()),
            ]);
        }
        let given_up = match &self.given_up {
            Some(reason) => format!("The virtual addresses are given up: {reason}; see `ulvs workers` and the log.\n"),
            None => String::new(),
        };
        format!(
            "ulvsd {} (process {}) has been up for {}.\nConfiguration: generation {}. Connection table: {}.\n{given_up}\n{}",
            self.version,
            self.pid,
            duration_text(self.uptime_seconds),
            self.generation,
            self.connection_table_size,
            ports.text(),
        )
    }
}

/// `3d 04:05:06`, `04:05:06`.
fn duration_text(seconds: u64) -> String {
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}d {clock}"),
    }
}

/// Prints connections as they come, so that a table of millions never stands in memory.
pub(super) struct ConnectionPrinter<'a, W> {
    out: &'a mut W,
    json: bool,
    printed: u64,
}

impl<'a, W: Write> ConnectionPrinter<'a, W> {
    pub(super) fn new(json: bool, out: &'a mut W) -> io::Result<Self> {
        if json {
            write!(out, "{{\n  \"schema_version\": {SCHEMA_VERSION},\n  \"connections\": [")?;
        } else {
            line(
                out,
                [
                    "PROTOCOL", "STATE", "EXPIRES", "CLIENT", "VIRTUAL", "LOCAL", "SERVER", "METHOD", "WORKER",
                ],
            )?;
        }
        Ok(ConnectionPrinter { out, json, printed: 0 })
    }

    pub(super) fn print(&mut self, connection: &ConnectionView) -> io::Result<()> {
        self.printed += 1;
        if self.json {
            self.out
                .write_all(if self.printed == 1 { b"\n    " } else { b",\n    " })?;
            return Ok(serde_json::to_writer(&mut *self.out, connection)?);
        }
        let cells = [
            connection.protocol.name().to_owned(),
            connection.state.clone(),
            format!("{}s", connection.expires_in_seconds),
            connection.client.to_string(),
            connection.virtual_address.to_string(),
            or_dash(connection.local),
            connection.server.to_string(),
            connection.method.name().to_owned(),
            connection.worker.to_string(),
        ];
        line(self.out, cells.each_ref().map(String::as_str))
    }

    pub(super) fn finish(self) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let end_of_list: &[u8] = if self.printed == 0 { b"]\n}\n" } else { b"\n  ]\n}\n" };
        self.out.write_all(end_of_list)
    }
}

/// Columns of a fixed width, since the lines to come are not known. An IPv4 endpoint has 21 characters at most.
fn line(out: &mut impl Write, cells: [&str; 9]) -> io::Result<()> {
    let [
        protocol,
        state,
        expires,
        client,
        virtual_address,
        local,
        server,
        method,
        worker,
    ] = cells;
    writeln!(
        out,
        "{protocol:<8}  {state:<11}  {expires:>8}  {client:<21}  {virtual_address:<21}  {local:<21}  {server:<21}  {method:<7}  {worker:>6}"
    )
}
