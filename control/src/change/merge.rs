//! What becomes of the command line's changes when the file is read again.
//!
//! - What is in the file is as in the file. Except: what was edited (`-E`, `-e`, `-P`, `-Q`, `--set`) stays edited while the file says of it
//!   what it said before; once the file says something new, the file holds.
//! - What the command line made and the file does not mention stays. If the file mentions it, it is the file's from then on.
//! - What the file had and does not mention any more is gone, and with a service all of its servers.
//! - What the command line deleted (`-D`, `-d`, `-C`) comes back if the file has it.

use std::collections::{HashMap, HashSet};

use super::ChangeError;
use super::table::{Key, Table};
use crate::config::{Config, LocalPool, RealServer, VirtualService};
use crate::origin::Origin;

/// `new` with what stays of the changes in `running` since `old` was read.
///
/// # Errors
/// The two together break a rule: a virtual address of the file is a server of the command line, say.
pub fn merge(old: &Config, running: &Config, new: Config) -> Result<Config, ChangeError> {
    let by_key = |config: &'_ Config| -> HashMap<Key, usize> {
        config
            .services
            .iter()
            .enumerate()
            .map(|(at, own)| (Key::of(own), at))
            .collect()
    };
    let (old_places, mut running_places) = (by_key(old), by_key(running));
    let mut merged = new;
    if merged.timeouts == old.timeouts {
        merged.timeouts = running.timeouts;
    }
    // The command line cannot change [ipvs]: the file always holds.
    for service in &mut merged.services {
        let key = Key::of(service);
        let Some(now) = running_places.remove(&key).map(|at| &running.services[at]) else {
            continue;
        };
        let before = old_places.get(&key).map(|at| &old.services[*at]);
        merge_service(before, now, service);
    }
    let is_own = |service: &&VirtualService| {
        service.origin == Origin::CommandLine && running_places.contains_key(&Key::of(service))
    };
    merged.services.extend(running.services.iter().filter(is_own).cloned());
    keep_pools(running, &mut merged);
    Table::new(&merged).check()?;
    Ok(merged)
}

fn merge_service(before: Option<&VirtualService>, now: &VirtualService, new: &mut VirtualService) {
    let unchanged = before.is_some_and(|before| has_same_settings(before, new));
    if now.origin == Origin::Edited && unchanged {
        new.scheduler = now.scheduler;
        new.scheduler_flags = now.scheduler_flags;
        new.local_pool = now.local_pool.clone();
        new.origin = Origin::Edited;
    }
    let place = |server: &RealServer| (server.address, server.port);
    let old: HashMap<_, _> = before
        .iter()
        .flat_map(|before| &before.servers)
        .map(|own| (place(own), own))
        .collect();
    let mut running: HashMap<_, _> = now.servers.iter().map(|own| (place(own), own)).collect();
    for server in &mut new.servers {
        let Some(now) = running.remove(&place(server)) else {
            continue;
        };
        let unchanged = old
            .get(&place(server))
            .is_some_and(|before| is_same_server(before, server));
        if now.origin == Origin::Edited && unchanged {
            *server = RealServer {
                line: server.line,
                ..now.clone()
            };
        }
    }
    let is_own = |server: &&RealServer| server.origin == Origin::CommandLine && running.contains_key(&place(server));
    new.servers.extend(now.servers.iter().filter(is_own).cloned());
}

/// The pools that were made for single services, while those use them.
fn keep_pools(running: &Config, merged: &mut Config) {
    let used: HashSet<&str> = merged
        .services
        .iter()
        .filter_map(|own| own.local_pool.as_deref())
        .collect();
    let in_file: HashSet<&str> = merged.local_pools.iter().map(|pool| pool.name.as_str()).collect();
    let stays = |pool: &&LocalPool| used.contains(&*pool.name) && !in_file.contains(&*pool.name);
    let own: Vec<_> = running
        .local_pools
        .iter()
        .filter(stays)
        .filter(|pool| pool.line == 0)
        .cloned()
        .collect();
    merged.local_pools.extend(own);
}

/// Whether the file says the same of both, servers apart.
fn has_same_settings(a: &VirtualService, b: &VirtualService) -> bool {
    a.scheduler == b.scheduler
        && a.scheduler_flags == b.scheduler_flags
        && a.local_pool == b.local_pool
        && a.client_address == b.client_address
}

fn is_same_server(a: &RealServer, b: &RealServer) -> bool {
    let RealServer {
        address,
        port,
        weight,
        method,
        tunnel,
        upper_threshold,
        lower_threshold,
        origin: _,
        line: _,
    } = a;
    (address, port, weight, method, tunnel, upper_threshold, lower_threshold)
        == (
            &b.address,
            &b.port,
            &b.weight,
            &b.method,
            &b.tunnel,
            &b.upper_threshold,
            &b.lower_threshold,
        )
}
