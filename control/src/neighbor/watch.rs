//! The socket that brings the kernel's news: a complete dump first, then every change, in batches.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::Stream;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::proto::Connection;
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};

use super::model::Neighbour;
use super::translate;
use super::view::Change;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// How long changes are gathered after the first, so that a burst (a link that goes down with its hundred neighbours) is one
/// batch and one snapshot.
const GATHER: Duration = Duration::from_millis(20);

/// How often a dump is begun anew because the kernel's tables changed under it.
const DUMP_ATTEMPTS: u32 = 5;

/// What goes wrong with the kernel's socket.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No socket.
    #[error("cannot open an rtnetlink socket: {0}; the director needs CAP_NET_ADMIN and the AF_NETLINK address family")]
    Open(#[source] std::io::Error),
    /// The kernel refused a dump.
    #[error("the kernel refused to list its {what}: {error}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        error: std::io::Error,
    },
    /// A dump ended without the kernel's word that it is complete.
    #[error("the kernel's list of {what} broke off before its end")]
    BrokenOff {
        /// What was asked for.
        what: &'static str,
    },
    /// A dump never came out consistent.
    #[error("the kernel's {what} changed during each of {DUMP_ATTEMPTS} attempts to list them")]
    Unsteady {
        /// What was asked for.
        what: &'static str,
    },
}

type RouteConnection = Connection<RouteNetlinkMessage>;
type Message = NetlinkMessage<RouteNetlinkMessage>;

/// The open subscription. It is not spawned: between calls of [`Watcher::next`] the news wait in the kernel's socket buffer, which
/// is bounded; if it overflows the kernel says so and everything is listed anew.
pub struct Watcher {
    subscription: Subscription,
    needs: Needs,
    /// Changes read, but not yet returned: a cancelled `next` loses nothing.
    pending: Vec<Change>,
}

/// What must be listed anew before the next batch.
#[derive(Clone, Copy, Default)]
struct Needs {
    everything: bool,
    routes: bool,
}

impl Watcher {
    /// Subscribes in the network namespace of the calling thread. The first [`Watcher::next`] returns everything that is there.
    pub fn open() -> Result<Watcher, WatchError> {
        let needs = Needs {
            everything: true,
            routes: false,
        };
        Ok(Watcher {
            subscription: Subscription::open()?,
            needs,
            pending: Vec::new(),
        })
    }

    /// Waits for news and returns them in the order in which they must be applied, all before the view is used. Safe to cancel.
    /// After an error the next call lists everything anew: call again after a pause.
    pub async fn next(&mut self) -> Result<Vec<Change>, WatchError> {
        loop {
            if !self.needs.everything && self.pending.is_empty() && !self.needs.routes {
                self.wait_for_news().await?;
                tokio::time::sleep(GATHER).await;
            }
            self.read_what_is_there().await?;
            if self.needs.everything {
                // What came before the dump is in the dump.
                self.pending.clear();
                let all = dump_everything().await?;
                self.needs = Needs::default();
                return Ok(all);
            }
            if self.needs.routes {
                let routes = dump_routes().await?;
                self.needs.routes = false;
                self.pending
                    .retain(|change| !matches!(change, Change::Route(..) | Change::RouteGone(_)));
                self.pending.push(routes);
            }
            if !self.pending.is_empty() {
                return Ok(coalesce(std::mem::take(&mut self.pending)));
            }
        }
    }

    async fn wait_for_news(&mut self) -> Result<(), WatchError> {
        match self.subscription.receive().await {
            Some(message) => {
                self.take(message);
                Ok(())
            }
            None => self.reopen(),
        }
    }

    async fn read_what_is_there(&mut self) -> Result<(), WatchError> {
        while let Some(received) = self.subscription.receive_now().await {
            match received {
                Some(message) => self.take(message),
                None => return self.reopen(),
            }
        }
        Ok(())
    }

    /// The socket failed. A new one tells nothing of what happened in between.
    fn reopen(&mut self) -> Result<(), WatchError> {
        self.needs.everything = true;
        self.subscription = Subscription::open()?;
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let (header, payload) = message.into_parts();
        match payload {
            NetlinkPayload::Overrun(_) => {
                tracing::warn!("the kernel's network news came faster than they were read; listing everything anew");
                self.needs.everything = true;
            }
            NetlinkPayload::InnerMessage(inner) => {
                self.needs.routes |= removes_routes_silently(&inner);
                self.pending.extend(translate::change(&header, inner));
            }
            _ => {}
        }
    }
}

/// The kernel drops IPv4 routes (and IPv6 ones under `skip_notify_on_dev_down`) without a message when their link goes down or
/// is removed, or when their preferred source is removed.
fn removes_routes_silently(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            !link.header.flags.contains(LinkFlags::Up) || link.header.change_mask.contains(LinkFlags::Up)
        }
        RouteNetlinkMessage::DelLink(_) | RouteNetlinkMessage::DelAddress(_) => true,
        _ => false,
    }
}

/// Keeps only the last of several changes to one neighbour, the only thing that changes by the thousand. What replaces what
/// among routes depends on their order, so those stay.
fn coalesce(changes: Vec<Change>) -> Vec<Change> {
    let mut told = BTreeSet::new();
    let mut kept: Vec<Change> = Vec::with_capacity(changes.len());
    for change in changes.into_iter().rev() {
        let neighbour = match &change {
            Change::Neighbour(neighbour) => Some((neighbour.ifindex, neighbour.address)),
            Change::NeighbourGone { ifindex, address } => Some((*ifindex, *address)),
            // A removed link takes its neighbours along: what follows it must not be mixed with what came before.
            Change::LinkGone { .. } => {
                told.clear();
                None
            }
            _ => None,
        };
        if neighbour.is_none_or(|key| told.insert(key)) {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

/// A socket in the multicast groups, and the machine that reads it.
struct Subscription {
    connection: RouteConnection,
    messages: Pin<Box<dyn Stream<Item = Message> + Send>>,
    /// Kept, because a connection without one ends itself.
    _handle: Handle,
}

impl Subscription {
    fn open() -> Result<Subscription, WatchError> {
        let (connection, handle, messages) = new_multicast_connection(&GROUPS).map_err(WatchError::Open)?;
        let messages = Box::pin(messages.map(|(message, _)| message));
        Ok(Subscription {
            connection,
            messages,
            _handle: handle,
        })
    }

    /// The next message; none if the socket failed.
    async fn receive(&mut self) -> Option<Message> {
        poll_fn(|context| {
            if let Poll::Ready(received) = self.messages.as_mut().poll_next(context) {
                return Poll::Ready(received);
            }
            if Pin::new(&mut self.connection).poll(context).is_ready() {
                return Poll::Ready(None);
            }
            // The connection has put what it read into the channel; if that is nothing, both will wake us.
            self.messages.as_mut().poll_next(context)
        })
        .await
    }

    /// As [`Subscription::receive`], but none at once if nothing is there.
    async fn receive_now(&mut self) -> Option<Option<Message>> {
        let mut receive = std::pin::pin!(self.receive());
        poll_fn(|context| match receive.as_mut().poll(context) {
            Poll::Ready(received) => Poll::Ready(Some(received)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}

/// Everything, in an order in which no address comes before its link.
async fn dump_everything() -> Result<Vec<Change>, WatchError> {
    let links = dump(
        "links",
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        |message| match message {
            RouteNetlinkMessage::NewLink(message) => translate::link(&message),
            _ => None,
        },
    );
    let addresses = dump(
        "addresses",
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        |message| match message {
            RouteNetlinkMessage::NewAddress(message) => translate::address(&message),
            _ => None,
        },
    );
    Ok(vec![
        Change::AllLinks(links.await?),
        Change::AllAddresses(addresses.await?),
        dump_routes().await?,
        Change::AllNeighbours(dump_neighbours().await?),
    ])
}

async fn dump_routes() -> Result<Change, WatchError> {
    let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    let routes = dump("routes", request, |message| match message {
        RouteNetlinkMessage::NewRoute(message) => translate::route(&message),
        _ => None,
    });
    Ok(Change::AllRoutes(routes.await?))
}

/// The kernel's neighbours of both families.
pub(super) async fn dump_neighbours() -> Result<Vec<Neighbour>, WatchError> {
    let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    dump("neighbours", request, |message| match message {
        RouteNetlinkMessage::NewNeighbour(message) => translate::neighbour(&message),
        _ => None,
    })
    .await
}

/// Lists one kind of thing, both families at once.
async fn dump<T>(
    what: &'static str,
    request: RouteNetlinkMessage,
    translate: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Vec<T>, WatchError> {
    for _ in 0..DUMP_ATTEMPTS {
        if let Some(items) = dump_once(what, request.clone(), &translate).await? {
            return Ok(items);
        }
    }
    Err(WatchError::Unsteady { what })
}

/// One attempt; none if the kernel marks it as inconsistent.
async fn dump_once<T>(
    what: &'static str,
    request: RouteNetlinkMessage,
    translate: impl Fn(RouteNetlinkMessage) -> Option<T>,
) -> Result<Option<Vec<T>>, WatchError> {
    let (mut connection, mut handle, _) = new_connection().map_err(WatchError::Open)?;
    // Without this a dump that breaks off looks like one that ended.
    connection.set_forward_done(true);
    tokio::spawn(connection);
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let broken_off = || WatchError::BrokenOff { what };
    let mut answers = handle.request(message).map_err(|_| broken_off())?;
    let mut items = Vec::new();
    let mut steady = true;
    while let Some(answer) = answers.next().await {
        steady &= answer.header.flags & NLM_F_DUMP_INTR == 0;
        match answer.payload {
            NetlinkPayload::Done(_) => return Ok(steady.then_some(items)),
            NetlinkPayload::Error(error) => {
                return Err(WatchError::Refused {
                    what,
                    error: error.to_io(),
                });
            }
            NetlinkPayload::InnerMessage(inner) => items.extend(translate(inner)),
            _ => {}
        }
    }
    Err(broken_off())
}

#[cfg(test)]
mod tests;
