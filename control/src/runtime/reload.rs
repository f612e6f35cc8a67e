//! Another configuration for a running director: all of it or nothing.
//!
//! ```text
//! load ─▶ compare ─▶ prepare services ─▶ filter: old and new ─▶ Snapshot ─▶ all workers have adopted it ─▶ filter: new only
//!  └────────┴──────── an error: nothing has changed ─┘                                                    └▶ new addresses are announced
//! ```
//!
//! So the filter hands over whatever the workers may still or already know, and what is in both configurations is never absent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::service::{ServerSlot, Service, SharedService};
use ulvs_dataplane::snapshot::{OwnedAddress, Services, Snapshot};

use super::Runtime;
use crate::capture;
use crate::change::merge::merge;
use crate::compile;
use crate::config::{Config, ConfigError, Director, Port};

/// Reads the configuration file again.
pub type Load = Box<dyn Fn() -> Result<Config, Vec<ConfigError>>>;

/// What waits until all workers work by a new configuration.
pub(super) struct Settling {
    generation: u64,
    new_addresses: BTreeMap<Address, OwnedAddress>,
    /// For the log.
    cause: Cause,
    changes: String,
}

impl Settling {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}

/// What a change comes from, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The configuration file.
    Reload,
    /// So many commands.
    CommandLine(usize),
}

impl Runtime {
    /// Loads the configuration file and puts it to use. Whatever is wrong is logged, and then nothing has changed.
    pub(super) fn reload(&mut self, load: &Load) {
        let config = match load() {
            Ok(config) => config,
            Err(errors) => {
                errors.iter().for_each(|finding| error!("{finding}"));
                error!(
                    "reload refused: the configuration file has {} error(s); nothing has changed",
                    errors.len()
                );
                return;
            }
        };
        config.warnings.iter().for_each(|finding| warn!("{finding}"));
        if let Err(reason) = self.reload_to(config) {
            error!("reload refused: {reason}; nothing has changed");
        }
    }

    /// Puts a new file to use, with what stays of the command line's changes.
    fn reload_to(&mut self, file: Config) -> Result<(), String> {
        if let Some(reason) = needs_restart(&self.config, &file) {
            return Err(reason);
        }
        let merged = merge(&self.file, &self.config, file.clone())
            .map_err(|error| format!("together with what was changed on the command line: {error}"))?;
        self.change_to(merged, Cause::Reload)?;
        self.file = file;
        Ok(())
    }

    /// Puts another configuration in force, or says why not; then nothing has changed.
    pub(super) fn change_to(&mut self, config: Config, cause: Cause) -> Result<(), String> {
        let health = self.health.borrow().clone();
        if !health.holds_addresses() {
            return Err(format!("{health}, and a change is made by all workers or none"));
        }
        let compiled = self.compiler.prepare(&config).map_err(|error| error.to_string())?;
        let services = compiled.services();
        let owned = compile::owned_addresses(services.iter());
        if let Err(reason) = self.widen_capture(&services, &owned) {
            self.compiler.discard();
            return Err(reason);
        }
        // Nothing can fail from here on.
        self.compiler.commit(compiled);
        let changes = Changes::between((&self.services, &self.config), (&services, &config));
        self.start_counting(&services);
        let mut new_addresses = owned.clone();
        new_addresses.retain(|address, _| !self.owned.contains_key(address));
        self.services = services;
        self.owned = owned;
        self.config = config;
        let (interfaces, routes) = self.compile_forwarding(self.find_facts(), true);
        self.announcements.forget_others(&self.owned);
        self.publish(Snapshot {
            services: Arc::new(Services::new(self.services.iter().cloned())),
            interfaces,
            routes,
            timeouts: compile::timeouts(&self.config.timeouts),
            tunables: self.config.ipvs,
            ..(*self.snapshot).clone()
        });
        let mut changes = changes.to_string();
        let mut cause = cause;
        // A reload just before may not have come to its end.
        if let Some(earlier) = self.settling.take() {
            new_addresses.extend(earlier.new_addresses);
            new_addresses.retain(|address, _| self.owned.contains_key(address));
            changes = format!("{}; then {changes}", earlier.changes);
            // A reload is what somebody waits for in the log.
            if earlier.cause == Cause::Reload {
                cause = Cause::Reload;
            }
        }
        self.settling = Some(Settling {
            generation: self.snapshot.generation,
            new_addresses,
            cause,
            changes,
        });
        Ok(())
    }

    /// Has the filter hand over what these services need too.
    fn widen_capture(
        &mut self,
        services: &[SharedService],
        owned: &BTreeMap<Address, OwnedAddress>,
    ) -> Result<(), String> {
        let Some(filter) = self.capture.as_mut() else {
            return Ok(());
        };
        let rules = capture::rules(services, owned, &self.view).together_with(&self.rules);
        filter.update(&rules)?;
        self.rules = rules;
        Ok(())
    }

    /// Once all workers work by the configuration of the last reload: what it removed goes, what it added is announced.
    pub(super) fn finish_reload(&mut self) {
        let is_adopted = |settling: &mut Settling| self.workers.all_adopted(settling.generation);
        let Some(settling) = self.settling.take_if(is_adopted) else {
            return;
        };
        if let Err(error) = self.update_capture() {
            warn!("{error}");
        }
        // What is given up is announced, all of it, when it is taken back.
        if self.health.borrow().holds_addresses() {
            let interfaces = self.snapshot.interfaces.all();
            self.announcements
                .begin(Instant::now(), &settling.new_addresses, interfaces);
        }
        let (generation, changes) = (settling.generation, settling.changes);
        match settling.cause {
            Cause::Reload => info!("reloaded, generation {generation}: {changes}"),
            Cause::CommandLine(commands) => {
                info!("changed by {commands} command(s), generation {generation}: {changes}");
            }
        }
    }

    /// A new server may get the place of one that is gone, whose counters go on: remembers where they stood.
    fn start_counting(&mut self, services: &[SharedService]) {
        let slots = |services: &[SharedService]| -> BTreeSet<ServerSlot> {
            let servers = services.iter().flat_map(|service| &service.servers);
            servers.map(|server| server.slot).collect()
        };
        // A server that stays keeps its slot, and a slot is given to another server only after it stood empty for a configuration.
        let old = slots(&self.services);
        for slot in slots(services).difference(&old) {
            self.begin_counting(*slot);
        }
    }

    /// A server's counters and rates are shown from here on.
    pub(super) fn begin_counting(&mut self, slot: ServerSlot) {
        let counted = self.counted(slot);
        self.counted_before.insert(slot, counted);
        self.estimators.begin(slot, counted);
    }
}

/// Why the running director cannot change to this configuration.
fn needs_restart(old: &Config, new: &Config) -> Option<String> {
    let mut keys = director_differences(&old.director, &new.director);
    if new.dpdk != old.dpdk {
        keys.push("[dpdk]".to_owned());
    }
    let without_line = |port: &Port| Port {
        line: 0,
        ..port.clone()
    };
    let ports = |config: &Config| config.ports.iter().map(without_line).collect::<Vec<_>>();
    let (old_ports, new_ports) = (ports(old), ports(new));
    let mut differing: Vec<&str> = Vec::new();
    let only_in = |these: &[Port], those: &[Port]| -> Vec<String> {
        let missing = these.iter().filter(|port| !those.contains(port));
        missing.map(|port| port.name.clone()).collect()
    };
    let names = [only_in(&old_ports, &new_ports), only_in(&new_ports, &old_ports)].concat();
    for name in &names {
        if !differing.contains(&name.as_str()) {
            differing.push(name);
        }
    }
    keys.extend(differing.iter().map(|name| format!("port \"{name}\"")));
    if differing.is_empty() && old_ports != new_ports {
        keys.push("the order of the ports".to_owned());
    }
    (!keys.is_empty()).then(|| {
        format!(
            "the file differs in what only a restart can change ({}); restart ulvsd, or undo that part and reload again",
            keys.join(", ")
        )
    })
}

/// The keys of `[director]` that differ.
fn director_differences(old: &Director, new: &Director) -> Vec<String> {
    // Taken apart, so that a new key cannot be forgotten here.
    let Director {
        backend,
        cores,
        workers,
        connections,
        service_limit,
        server_limit,
        frames,
        idle,
        worker_timeout,
        control_socket,
        control_group,
        slow_path_pps,
        slow_path_neighbour_pps,
        slow_path_routing_pps,
    } = new;
    let differences = [
        ("backend", *backend != old.backend),
        ("cores", *cores != old.cores),
        ("workers", *workers != old.workers),
        ("connections", *connections != old.connections),
        ("service_limit", *service_limit != old.service_limit),
        ("server_limit", *server_limit != old.server_limit),
        ("frames", *frames != old.frames),
        ("idle", *idle != old.idle),
        ("worker_timeout_ms", *worker_timeout != old.worker_timeout),
        ("control_socket", *control_socket != old.control_socket),
        ("control_group", *control_group != old.control_group),
        ("slow_path_pps", *slow_path_pps != old.slow_path_pps),
        (
            "slow_path_neighbour_pps",
            *slow_path_neighbour_pps != old.slow_path_neighbour_pps,
        ),
        (
            "slow_path_routing_pps",
            *slow_path_routing_pps != old.slow_path_routing_pps,
        ),
    ];
    let differing = differences.iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| format!("{key} in [director]")).collect()
}

/// What a reload did, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    services: Count,
    servers: Count,
    timeouts: bool,
    ipvs: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Changes {
    fn between((old, before): (&[SharedService], &Config), (new, now): (&[SharedService], &Config)) -> Changes {
        let mut changes = Changes {
            timeouts: before.timeouts != now.timeouts,
            ipvs: before.ipvs != now.ipvs,
            ..Changes::default()
        };
        let mut gone: BTreeMap<_, _> = old.iter().map(|service| (identity(service), service)).collect();
        for service in new {
            match gone.remove(&identity(service)) {
                None => {
                    changes.services.added += 1;
                    changes.servers.added += service.servers.len();
                }
                Some(before) if Arc::ptr_eq(before, service) => {}
                Some(before) => {
                    changes.services.changed += usize::from(!has_same_settings(before, service));
                    changes.servers.compare(before, service);
                }
            }
        }
        changes.services.removed = gone.len();
        changes.servers.removed += gone.values().map(|service| service.servers.len()).sum::<usize>();
        changes
    }
}

impl Count {
    fn compare(&mut self, old: &Service, new: &Service) {
        let mut gone: BTreeMap<_, _> = old.servers.iter().map(|server| (server.slot, server)).collect();
        for server in &new.servers {
            match gone.remove(&server.slot) {
                None => self.added += 1,
                Some(before) => self.changed += usize::from(before != server),
            }
        }
        self.removed += gone.len();
    }
}

fn identity(service: &Service) -> (u8, Address, u16) {
    (service.protocol, service.address, service.port)
}

/// Whether all but the servers is equal.
fn has_same_settings(a: &Service, b: &Service) -> bool {
    a.scheduler == b.scheduler
        && a.scheduler_flags == b.scheduler_flags
        && a.client_address == b.client_address
        && a.local_v4 == b.local_v4
        && a.local_v6 == b.local_v6
        && a.local_ports == b.local_ports
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [("services", &self.services), ("servers", &self.servers)];
        let parts = counts.into_iter().filter(|(_, count)| **count != Count::default());
        let mut parts: Vec<String> = parts.map(|(what, count)| format!("{what}: {count}")).collect();
        if self.timeouts {
            parts.push("timeouts changed".to_owned());
        }
        if self.ipvs {
            parts.push("[ipvs] changed".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing differs".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} added, {} removed, {} changed",
            self.added, self.removed, self.changed
        )
    }
}

#[cfg(test)]
mod tests;
