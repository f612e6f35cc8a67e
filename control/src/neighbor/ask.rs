//! Makes the kernel resolve neighbours, and keep those fresh that the director forwards to.
//!
//! A forwarded packet never touches the kernel's neighbour table, so the kernel would let the entry of a busy real server grow
//! stale and drop it. Since Linux 5.16 an entry may be *managed* (`NTF_EXT_MANAGED`): the kernel then probes it by itself, and
//! tries again for ever if nobody answers. An older kernel ignores that flag without a word; there each [`reconcile`] is a
//! plain `NTF_USE`, which begins one resolution, so the caller repeats it every [`REFRESH_PERIOD_MS`].
//!
//! Each entry that we make carries our mark in `NDA_PROTOCOL`. By it a director that was killed finds its own entries after
//! the restart, and touches no other's.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::{Handle, new_connection};
use ulvs_dataplane::address::Address;

use super::model::Neighbour;
use super::view::KernelView;
use super::watch::{WatchError, dump_neighbours};

/// The mark of our entries, as `ip neigh` shows it behind `proto`. The kernel gives the numbers no meaning; this one is not in
/// iproute2's list (`rt_protos`).
pub const NEIGHBOUR_PROTOCOL: u8 = 117;

/// How often [`reconcile`] must be called even if nothing changed, in milliseconds: below the kernel's least time between
/// stale and forgotten, and the period of its own managed probing.
pub const REFRESH_PERIOD_MS: u64 = 5_000;

/// `ENOENT`: the kernel has no such neighbour.
const NO_ENTRY: i32 = 2;

/// What to ask of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Begin to resolve the neighbour, if it is not known.
    Once {
        /// The interface.
        ifindex: u32,
        /// The neighbour.
        address: Address,
    },
    /// Resolve the neighbour and keep it fresh.
    Manage {
        /// The interface.
        ifindex: u32,
        /// The neighbour.
        address: Address,
    },
    /// Forget the neighbour: it was ours, and is wanted no more.
    Release {
        /// The interface.
        ifindex: u32,
        /// The neighbour.
        address: Address,
    },
}

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {request}: {reason}")]
pub struct AskError {
    /// What was asked.
    pub request: Request,
    /// The kernel's answer.
    pub reason: String,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, ifindex, address) = match self {
            Request::Once { ifindex, address } => ("resolve", ifindex, address),
            Request::Manage { ifindex, address } => ("resolve and keep", ifindex, address),
            Request::Release { ifindex, address } => ("forget", ifindex, address),
        };
        write!(f, "{what} neighbour {address} on interface {ifindex}")
    }
}

/// What must be asked so that exactly the wanted neighbours of these interfaces are kept fresh by us. Nothing, once the view shows
/// it so (on a kernel that can manage entries).
pub fn plan(view: &KernelView, interfaces: &BTreeSet<u32>, wanted: &BTreeSet<(u32, Address)>) -> Vec<Request> {
    let on_our_interface = |key: &&(u32, Address)| interfaces.contains(&key.0);
    let manage = wanted
        .iter()
        .filter(on_our_interface)
        .filter(|(ifindex, address)| may_ask(view, *ifindex, *address))
        .map(|(ifindex, address)| Request::Manage {
            ifindex: *ifindex,
            address: *address,
        });
    let release = view
        .neighbours()
        .filter(|have| is_ours(have, interfaces) && !wanted.contains(&(have.ifindex, have.address)))
        .map(|have| Request::Release {
            ifindex: have.ifindex,
            address: have.address,
        });
    manage.chain(release).collect()
}

/// Whether the kernel may be asked for a neighbour. Never for a static entry: asking wipes it. Never for one that is managed
/// already, by us or another: a plain `NTF_USE` would end that. Nor where no answer can come.
fn may_ask(view: &KernelView, ifindex: u32, address: Address) -> bool {
    let link_fits = view
        .link(ifindex)
        .is_some_and(|link| link.up && link.resolves_neighbours);
    link_fits
        && view
            .neighbour(ifindex, address)
            .is_none_or(|have| !have.is_static() && !have.managed)
}

fn is_ours(neighbour: &Neighbour, interfaces: &BTreeSet<u32>) -> bool {
    neighbour.protocol == NEIGHBOUR_PROTOCOL && !neighbour.is_static() && interfaces.contains(&neighbour.ifindex)
}

/// Brings the kernel's entries on these interfaces in line with the wanted ones (see [`plan`]), including what a killed
/// predecessor left. To be called when either changes, and every [`REFRESH_PERIOD_MS`], inside a tokio runtime. Returns what the
/// kernel refused; the rest is done.
pub async fn reconcile(
    view: &KernelView,
    interfaces: &BTreeSet<u32>,
    wanted: &BTreeSet<(u32, Address)>,
) -> Result<Vec<AskError>, WatchError> {
    let requests = plan(view, interfaces, wanted);
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    ask_all(requests).await
}

/// Resolves a neighbour once, for a destination that is not worth keeping (a client on the link). The entry is the kernel's,
/// which forgets it as any other. Does nothing for static and managed entries.
pub async fn resolve_once(view: &KernelView, ifindex: u32, address: Address) -> Result<Vec<AskError>, WatchError> {
    if !may_ask(view, ifindex, address) {
        return Ok(Vec::new());
    }
    ask_all(vec![Request::Once { ifindex, address }]).await
}

/// Removes every entry of ours on these interfaces, by a fresh look at the kernel: for shutdown.
pub async fn release_all(interfaces: &BTreeSet<u32>) -> Result<Vec<AskError>, WatchError> {
    let neighbours = dump_neighbours().await?;
    let ours = neighbours.iter().filter(|have| is_ours(have, interfaces));
    ask_all(
        ours.map(|have| Request::Release {
            ifindex: have.ifindex,
            address: have.address,
        })
        .collect(),
    )
    .await
}

/// Asks one after the other, over a socket of its own: nothing survives a failure of the socket.
async fn ask_all(requests: Vec<Request>) -> Result<Vec<AskError>, WatchError> {
    let (connection, handle, _) = new_connection().map_err(WatchError::Open)?;
    tokio::spawn(connection);
    let mut refused = Vec::new();
    for request in requests {
        if let Err(error) = ask(&handle, request).await {
            refused.push(AskError {
                request,
                reason: reason(&error),
            });
        }
    }
    Ok(refused)
}

async fn ask(handle: &Handle, request: Request) -> Result<(), rtnetlink::Error> {
    match request {
        Request::Once { ifindex, address } => add(handle, ifindex, address, Vec::new()).await,
        Request::Manage { ifindex, address } => {
            let marks = vec![
                NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
                NeighbourAttribute::Protocol(RouteProtocol::from(NEIGHBOUR_PROTOCOL)),
            ];
            add(handle, ifindex, address, marks).await
        }
        Request::Release { ifindex, address } => match remove(handle, ifindex, address).await {
            // Gone already, with its link or by the operator.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -NO_ENTRY => Ok(()),
            result => result,
        },
    }
}

async fn add(
    handle: &Handle,
    ifindex: u32,
    address: Address,
    attributes: Vec<NeighbourAttribute>,
) -> Result<(), rtnetlink::Error> {
    let request = handle.neighbours().add(ifindex, IpAddr::from(address));
    let mut request = request.state(KernelState::None).flags(NeighbourFlags::Use).replace();
    request.message_mut().attributes.extend(attributes);
    request.execute().await
}

async fn remove(handle: &Handle, ifindex: u32, address: Address) -> Result<(), rtnetlink::Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_v4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::from(IpAddr::from(
            address,
        ))));
    handle.neighbours().del(message).execute().await
}

fn reason(error: &rtnetlink::Error) -> String {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
