//! Round robin: the next usable server after the one used last, in list order; weights only tell usable from quiesced.

use super::{Algorithm, Client, ServerChanges};
use crate::service::{Loads, Server, Service};

/// Where the round stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rr {
    /// Place of the server used last; `None` is the head of the list.
    last: Option<usize>,
}

impl Algorithm for Rr {
    fn start(_servers: &[Server]) -> Rr {
        Rr { last: None }
    }

    /// When the server used last is deleted, the kernel goes on from the one in front of it.
    fn update(&mut self, changes: &ServerChanges) {
        self.last = self.last.and_then(|last| changes.place_at_or_before(last));
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let count = service.servers.len();
        let first = self.last.map_or(0, |last| last + 1);
        let mut round = (first..count).chain(0..first.min(count));
        let place = round.find(|place| loads.is_usable(&service.servers[*place]))?;
        self.last = Some(place);
        Some(place)
    }
}
