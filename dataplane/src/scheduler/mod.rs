//! Which real server gets a new connection. One file per algorithm, named as in ipvsadm.
//!
//! A new algorithm is a file with a type that implements `Algorithm`, its `mod` line, and its line in the table below.

mod buckets;
mod changes;
mod conhash;
mod dh;
mod fo;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod locality;
mod mh;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::address::Address;
use crate::service::{Loads, Server, Service};
use crate::time::Time;
use changes::ServerChanges;

pub use buckets::{SchedulerTable, TooManyServers};
pub use conhash::RingPoint;

/// What a scheduler may look at of the client that opens a connection, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Source address.
    pub address: Address,
    /// Source port.
    pub port: u16,
    /// The address it called: the service's, unless the service is not for one address alone.
    pub called: Address,
    /// The time of the packet.
    pub now: Time,
}

/// One scheduling algorithm; the value is what it remembers between two connections of a service. Every worker has its own.
trait Algorithm: Sized {
    /// The start for a service that has all of `servers` already (how the kernel binds a scheduler to a service).
    fn start(servers: &[Server]) -> Self;

    /// Servers were added, edited or deleted.
    fn update(&mut self, _changes: &ServerChanges) {}

    /// The server for a new connection, as a place in `service.servers`; `None` when no server is available.
    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize>;

    /// What [`Algorithm::pick`] looks up, built once for each change of the service.
    fn table(_servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
        Ok(SchedulerTable::None)
    }
}

macro_rules! schedulers {
    ($($module:ident :: $kind:ident, $meaning:literal;)+) => {
        /// The algorithms, spelled as in ipvsadm.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SchedulerKind {
            $(#[doc = $meaning] $kind,)+
        }

        impl SchedulerKind {
            /// Every algorithm there is.
            pub const ALL: &[SchedulerKind] = &[$(SchedulerKind::$kind,)+];

            /// The name in ipvsadm and in the configuration file.
            pub const fn name(self) -> &'static str {
                match self { $(SchedulerKind::$kind => stringify!($module),)+ }
            }
        }

        /// What the algorithm of one service remembers, per worker. All its memory is taken when it is made or updated.
        #[derive(Debug)]
        pub struct SchedulerState(State);

        #[derive(Debug)]
        enum State {
            $($kind($module::$kind),)+
        }

        impl State {
            fn start(kind: SchedulerKind, servers: &[Server]) -> State {
                match kind { $(SchedulerKind::$kind => State::$kind(Algorithm::start(servers)),)+ }
            }

            fn kind(&self) -> SchedulerKind {
                match self { $(State::$kind(_) => SchedulerKind::$kind,)+ }
            }

            fn update(&mut self, changes: &ServerChanges) {
                match self { $(State::$kind(state) => state.update(changes),)+ }
            }

            #[inline]
            fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
                match self { $(State::$kind(state) => state.pick(service, loads, client),)+ }
            }
        }

        /// Builds what the algorithm `kind` looks up for `servers` (in the kernel's list order); control puts it into
        /// [`Service::scheduler_table`] at each change of the service.
        ///
        /// # Errors
        /// When the algorithm cannot spread over that many servers.
        pub fn compile_table(kind: SchedulerKind, servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
            match kind { $(SchedulerKind::$kind => $module::$kind::table(servers),)+ }
        }
    };
}

schedulers! {
    rr::Rr, "Round robin: the next usable server in list order.";
    wrr::Wrr, "Weighted round robin: round robin, in which a server's share is its weight.";
    lc::Lc, "Least connections.";
    wlc::Wlc, "Weighted least connections: least connections for the weight.";
    sed::Sed, "Shortest expected delay: least active connections for the weight, the new one counted in.";
    nq::Nq, "Never queue: a server without active connections, else shortest expected delay.";
    fo::Fo, "Failover: the usable server of the highest weight.";
    ovf::Ovf, "Overflow: the highest weight first, until its active connections exceed it.";
    lblc::Lblc, "Locality-based least connections: a called address stays with its server while that is not crowded.";
    lblcr::Lblcr, "Locality-based least connections with replication: a called address stays with a set of servers.";
    dh::Dh, "Destination hashing: a table that the called address picks from.";
    sh::Sh, "Source hashing: a table that the client's address picks from.";
    mh::Mh, "Maglev hashing: source hashing that moves few clients when servers come and go.";
    conhash::Conhash, "Consistent hashing: source hashing on a ring of servers, as DPVS has it.";
    twos::Twos, "Power of two choices: the less loaded of two servers drawn at random by weight.";
}

/// The place in `service.servers` of the server for a new connection of `client`; `None` when no server is available.
///
/// `state` must have followed the service: [`SchedulerState::update`] with each revision.
#[inline]
pub fn pick(state: &mut SchedulerState, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
    state.0.pick(service, loads, client)
}

impl SchedulerState {
    /// The state for a service that is new to the worker, as the kernel has it after the servers were added one by one.
    pub fn new(service: &Service) -> SchedulerState {
        let mut state = State::start(service.scheduler, &[]);
        state.update(&ServerChanges::between(&[], &service.servers));
        SchedulerState(state)
    }

    /// Carries the state over from the revision `old` to the revision `new` of the same service, with the kernel's rules for adding,
    /// editing and deleting a server. Several changes in one revision count as all deletions and edits, then the additions one by
    /// one. Another scheduler starts afresh.
    pub fn update(&mut self, old: &Service, new: &Service) {
        if self.0.kind() != new.scheduler {
            self.0 = State::start(new.scheduler, &new.servers);
        } else if old.servers != new.servers {
            self.0.update(&ServerChanges::between(&old.servers, &new.servers));
        }
    }
}

/// Turns that a worker is ahead at most: with very large weights a round has millions.
const MOST_TURNS_AHEAD: u64 = 4096;

impl SchedulerState {
    /// Has the round robin of worker `worker` of `workers` begin as far into a round as it is into the workers: otherwise the few first connections of every
    /// worker would all go to the first server. The first worker begins as the kernel does.
    pub fn go_ahead(&mut self, service: &Service, loads: &Loads, worker: u8, workers: u8) {
        let turns = |server: &Server| match service.scheduler {
            SchedulerKind::Rr => u64::from(server.weight.min(1)),
            SchedulerKind::Wrr => u64::from(server.weight),
            _ => 0,
        };
        let divisor = match service.scheduler {
            SchedulerKind::Wrr => wrr::divisor(&service.servers),
            _ => 1,
        };
        let round = service.servers.iter().map(turns).sum::<u64>() / u64::from(divisor);
        // Neither scheduler asks who the client is.
        let nobody = Client {
            address: Address::UNSPECIFIED,
            port: 0,
            called: service.address,
            now: Time::default(),
        };
        for _ in 0..(round * u64::from(worker) / u64::from(workers)).min(MOST_TURNS_AHEAD) {
            pick(self, service, loads, &nobody);
        }
    }

    /// Whether every change of a service has its round begin anew.
    pub fn begins_anew(service: &Service) -> bool {
        service.scheduler == SchedulerKind::Wrr
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no scheduler of that name here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScheduler(String);

impl fmt::Display for UnknownScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = SchedulerKind::ALL.iter().map(|kind| kind.name()).collect();
        write!(
            f,
            "there is no scheduler \"{}\"; use one of {}",
            self.0,
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownScheduler {}

impl FromStr for SchedulerKind {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<SchedulerKind, UnknownScheduler> {
        let known = SchedulerKind::ALL.iter().find(|kind| kind.name() == name);
        known.copied().ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}
