//! Least connections: the usable server with the smallest overhead ([`Load::overhead`](crate::service::Load::overhead)); among equals
//! the first in list order.

use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lc;

impl Algorithm for Lc {
    fn start(_servers: &[Server]) -> Lc {
        Lc
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let usable = service
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| loads.is_usable(server));
        // min_by_key gives the first of several smallest.
        usable
            .min_by_key(|(_, server)| loads.get(server.slot).overhead())
            .map(|(place, _)| place)
    }
}
