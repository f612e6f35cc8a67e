//! Weighted round robin: rounds through the list in which only servers of at least the current weight are picked; the current weight
//! goes down from the highest in steps of the weights' greatest common divisor, and then starts again.

use super::{Algorithm, Client, ServerChanges};
use crate::service::{Loads, Server, Service};

/// Where the rounds stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrr {
    /// Place of the server used last; `None` is the head of the list.
    last: Option<usize>,
    /// The weight that a server needs in this round.
    current_weight: u32,
    /// The current weight of the first of all rounds. Lower than the highest weight by `step` - 1, so that the last round asks for
    /// weight 1; 0 when no server has a weight.
    first_weight: u32,
    /// By how much the current weight goes down from round to round.
    step: u32,
}

/// Greatest common divisor and highest of the weights that are not 0.
#[derive(Clone, Copy, Default)]
struct Weights {
    divisor: u32,
    highest: u32,
}

impl Weights {
    fn of(servers: &[Server]) -> Weights {
        servers
            .iter()
            .fold(Weights::default(), |weights, server| weights.with(server.weight))
    }

    fn with(self, weight: u32) -> Weights {
        Weights {
            divisor: greatest_common_divisor(self.divisor, weight),
            highest: self.highest.max(weight),
        }
    }
}

/// The greatest common divisor of the servers' weights: how many turns of a round are one server's for a weight of as much. At least 1.
pub(super) fn divisor(servers: &[Server]) -> u32 {
    Weights::of(servers).divisor.max(1)
}

/// Euclid's algorithm; 0 counts as "no number yet".
pub(super) fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Wrr {
    /// The kernel's rule for any change: back to the head of the list; the current weight stays where it was if it still can,
    /// rounded down to a weight that a round has.
    fn weights_changed(&mut self, weights: Weights) {
        self.last = None;
        self.set_range(weights);
        if self.current_weight > self.first_weight || self.current_weight == 0 {
            self.current_weight = self.first_weight;
        } else if self.step > 1 {
            self.current_weight = self.current_weight / self.step * self.step + 1;
        }
    }

    fn set_range(&mut self, weights: Weights) {
        self.step = weights.divisor.max(1);
        self.first_weight = weights.highest.saturating_sub(self.step - 1);
    }

    /// Goes on to the first later round that has a server of weight `highest` in it. The kernel tries round after round; only the
    /// steps between are left out here, for weights far apart would keep a worker busy for one connection.
    fn skip_to_round_with(&mut self, highest: u32) {
        let next = match self.current_weight.saturating_sub(self.step) {
            0 => self.first_weight,
            lower => lower,
        };
        let rounds_without = next.saturating_sub(highest).div_ceil(self.step);
        self.current_weight = next.saturating_sub(rounds_without * self.step).max(1);
    }

    /// Where the kernel stands after it found no server: a last round that began in the middle of the list ends where it began,
    /// any other search ends at the start of the first round.
    fn none_available(&mut self) {
        if self.last.is_none() || self.current_weight > self.step {
            self.last = None;
            self.current_weight = self.first_weight;
        }
    }
}

impl Algorithm for Wrr {
    fn start(servers: &[Server]) -> Wrr {
        let mut wrr = Wrr {
            last: None,
            current_weight: 0,
            first_weight: 0,
            step: 1,
        };
        wrr.set_range(Weights::of(servers));
        wrr.current_weight = wrr.first_weight;
        wrr
    }

    fn update(&mut self, changes: &ServerChanges) {
        if let Some(kept) = changes.changed_kept() {
            self.weights_changed(Weights::of(kept));
        }
        let mut weights = Weights::of(changes.kept());
        for added in changes.added() {
            weights = weights.with(added.weight);
            self.weights_changed(weights);
        }
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        if self.first_weight == 0 {
            return None;
        }
        let servers = &service.servers;
        let rest = self.last.map_or(0, |last| last + 1);
        let fits = |place: &usize, weight: u32| servers[*place].weight >= weight && loads.is_usable(&servers[*place]);

        let mut found = (rest..servers.len()).find(|place| fits(place, self.current_weight));
        if found.is_none() {
            let usable = servers.iter().filter(|server| loads.is_usable(server));
            let Some(highest) = usable.map(|server| server.weight).max() else {
                self.none_available();
                return None;
            };
            self.skip_to_round_with(highest);
            found = (0..servers.len()).find(|place| fits(place, self.current_weight));
        }
        self.last = found.or(self.last);
        found
    }
}

#[cfg(test)]
mod tests;
