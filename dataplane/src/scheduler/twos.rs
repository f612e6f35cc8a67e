//! Power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"): two servers are drawn at random by
//! weight, and the one with the smaller overhead for its weight is taken; the first drawn when they are equal.

use super::least::is_less;
use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Where the random numbers stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Twos {
    /// 0 until the first pick, whose time and service it then begins with: workers and services draw differently.
    random: u64,
}

impl Twos {
    /// The next number of Steele's SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `last`, both included.
    fn draw_up_to(&mut self, last: u64) -> u64 {
        // The high half of the product: as good as the remainder, without the division.
        ((u128::from(self.draw()) * (u128::from(last) + 1)) >> 64) as u64
    }
}

impl Algorithm for Twos {
    fn start(_servers: &[Server]) -> Twos {
        Twos { random: 0 }
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        if self.random == 0 {
            self.random = client.now.0 ^ u64::from(service.slot.0) << 48 | 1;
        }
        let usable = || {
            service
                .servers
                .iter()
                .enumerate()
                .filter(|(_, server)| loads.is_usable(server))
        };
        let (mut total, mut last_usable) = (0, None);
        for (place, server) in usable() {
            total += u64::from(server.weight);
            last_usable = Some(place);
        }
        last_usable?;
        // The kernel draws from 0 to the sum, both included, and takes the first server up to which the weights add up to the number:
        // the first server has one chance more than its weight.
        let drawn = [self.draw_up_to(total), self.draw_up_to(total)];
        let mut choices = [None; 2];
        let mut sum = 0;
        for (place, server) in usable() {
            sum += u64::from(server.weight);
            for (choice, drawn) in choices.iter_mut().zip(drawn) {
                if choice.is_none() && drawn <= sum {
                    *choice = Some((place, loads.get(server.slot).overhead(), server.weight));
                }
            }
            if choices.iter().all(Option::is_some) {
                break;
            }
        }
        match choices {
            [Some((first, overhead, weight)), Some((second, other, other_weight))] => {
                let is_second_less = is_less(other, other_weight, overhead, weight);
                Some(if is_second_less { second } else { first })
            }
            // Another worker has overloaded a server in between.
            [one, other] => one.or(other).map_or(last_usable, |(place, ..)| Some(place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Twos;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, open, overload, picks, service};
    use crate::service::Loads;

    /// Pearson's statistic of `counts` against `expected`.
    fn chi_square(counts: &[u32], expected: &[f64]) -> f64 {
        let deviation = |(count, expected): (&u32, &f64)| (f64::from(*count) - expected).powi(2) / expected;
        counts.iter().zip(expected).map(deviation).sum()
    }

    /// Without connections every tie goes to the first drawn: what is picked is how it is drawn. 0.1 % of all sequences exceed 10.8,
    /// 13.8 and 16.3 (one, two, three degrees of freedom).
    #[test]
    fn servers_are_drawn_by_weight_and_the_first_has_one_chance_more() {
        const DRAWS: u32 = 100_000;
        for (weights, critical) in [(&[3, 1][..], 10.8), (&[3, 2, 0, 1], 13.8), (&[4, 2, 2, 1], 16.3)] {
            let service = service(Twos, weights);
            let loads = Loads::new(SERVER_LIMIT);
            let mut state = SchedulerState::new(&service);
            let mut counts = vec![0; weights.len()];
            for place in picks(&mut state, &service, &loads, DRAWS) {
                counts[place.unwrap()] += 1;
            }
            let total = f64::from(weights.iter().sum::<u32>()) + 1.0;
            let chances = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
            let expected: Vec<f64> = chances
                .map(|(place, weight)| f64::from(weight + u32::from(place == 0)) / total * f64::from(DRAWS))
                .collect();
            counts.retain(|count| *count > 0);
            assert!(chi_square(&counts, &expected) < critical, "{counts:?} for {expected:?}");
        }
    }

    /// With two equal servers of which one is loaded, it is picked only when it is drawn twice: first with chances 2:1, so 4 of 9.
    #[test]
    fn the_less_loaded_of_the_two_wins() {
        const DRAWS: u32 = 100_000;
        let service = service(Twos, &[1, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        loads.get(service.servers[0].slot).open(&service.servers[0], true);
        let mut state = SchedulerState::new(&service);
        let loaded = picks(&mut state, &service, &loads, DRAWS);
        let loaded = loaded.into_iter().filter(|place| *place == Some(0)).count() as u32;
        let draws = f64::from(DRAWS);
        let statistic = chi_square(&[loaded, DRAWS - loaded], &[draws * 4.0 / 9.0, draws * 5.0 / 9.0]);
        assert!(statistic < 10.8, "{loaded} of {DRAWS}");
    }

    #[test]
    fn only_usable_servers_and_the_load_evens_out() {
        let service = service(Twos, &[1, 0, 1, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        overload(&loads, &service.servers[3]);
        let mut state = SchedulerState::new(&service);
        (0..1000).for_each(|_| assert!([0, 2].contains(&open(&mut state, &service, &loads))));
        let [first, second] = [0, 2].map(|place: usize| loads.get(service.servers[place].slot).active());
        assert!(first.abs_diff(second) < 50, "{first} and {second}");
        (0..2).for_each(|at| overload(&loads, &service.servers[at * 2]));
        assert_eq!(picks(&mut state, &service, &loads, 1), [None]);
    }
}
