//! wrr by hand, and against the rule as the kernel words it: round after round, one step at a time.

use proptest::prelude::*;

use super::{Weights, Wrr};
use crate::scheduler::tests::{SERVER_LIMIT, client, of_servers, overload, picks, server, service};
use crate::scheduler::{Algorithm, SchedulerKind, SchedulerState};
use crate::service::{Loads, Service};

#[test]
fn a_round_gives_each_server_its_weight() {
    let service = service(SchedulerKind::Wrr, &[4, 0, 2, 1]);
    let loads = Loads::new(SERVER_LIMIT);
    let mut state = SchedulerState(crate::scheduler::State::Wrr(Wrr::start(&service.servers)));
    let round = [0, 0, 0, 2, 0, 2, 3].map(Some);
    assert_eq!(picks(&mut state, &service, &loads, 7), round);
    assert_eq!(picks(&mut state, &service, &loads, 7), round);
}

#[test]
fn a_change_goes_back_to_the_head_and_keeps_the_round() {
    let old = service(SchedulerKind::Wrr, &[3, 3]);
    let loads = Loads::new(SERVER_LIMIT);
    let mut state = SchedulerState(crate::scheduler::State::Wrr(Wrr::start(&old.servers)));
    assert_eq!(picks(&mut state, &old, &loads, 1), [Some(0)]);
    let new = of_servers(SchedulerKind::Wrr, vec![server(7, 1), server(0, 3), server(1, 3)]);
    state.update(&old, &new);
    assert_eq!(
        picks(&mut state, &new, &loads, 4),
        [0, 1, 2, 1].map(Some),
        "the round with weight 1 goes on"
    );
}

#[test]
fn far_apart_weights_take_no_longer() {
    let service = service(SchedulerKind::Wrr, &[1, 4_000_000_007]);
    let loads = Loads::new(SERVER_LIMIT);
    overload(&loads, &service.servers[1]);
    let mut state = SchedulerState::new(&service);
    assert_eq!(picks(&mut state, &service, &loads, 3), [Some(0); 3]);
}

/// A search that takes each round and each server by itself. Differs from [`Wrr::pick`] in nothing but its time.
fn pick_step_by_step(wrr: &mut Wrr, service: &Service, loads: &Loads) -> Option<usize> {
    if wrr.first_weight == 0 {
        return None;
    }
    let began_at = wrr.last;
    let mut place = wrr.last.map_or(0, |last| last + 1);
    let (mut was_last_round, mut started_again) = (false, false);
    loop {
        while let Some(server) = service.servers.get(place) {
            if server.weight >= wrr.current_weight && loads.is_usable(server) {
                wrr.last = Some(place);
                return Some(place);
            }
            // The last round of a search that began in the middle ends where it began.
            if was_last_round && started_again && began_at == Some(place) {
                return None;
            }
            place += 1;
        }
        place = 0;
        if wrr.current_weight > wrr.step {
            wrr.current_weight -= wrr.step;
        } else {
            wrr.current_weight = wrr.first_weight;
            if was_last_round || began_at.is_none() {
                wrr.last = None;
                return None;
            }
            started_again = true;
        }
        was_last_round = wrr.current_weight <= wrr.step;
    }
}

proptest! {
    #[test]
    fn skipping_rounds_changes_no_pick(
        weights in proptest::collection::vec(0..30_u32, 1..6),
        factor in 1..5_u32,
        phases in proptest::collection::vec((any::<u8>(), 0..9_u32), 1..6),
    ) {
        let weights: Vec<u32> = weights.into_iter().map(|weight| weight * factor).collect();
        let service = service(SchedulerKind::Wrr, &weights);
        let (mut ours, mut steps) = (Wrr::start(&service.servers), Wrr::start(&service.servers));
        for (overloaded, picks) in phases {
            let loads = Loads::new(SERVER_LIMIT);
            service.servers.iter().filter(|server| overloaded >> server.slot.0 & 1 == 1).for_each(|server| overload(&loads, server));
            for number in 0..picks {
                let expected = pick_step_by_step(&mut steps, &service, &loads);
                prop_assert_eq!(ours.pick(&service, &loads, &client(number)), expected);
                prop_assert_eq!((ours.last, ours.current_weight), (steps.last, steps.current_weight));
            }
            if picks % 3 == 0 {
                ours.weights_changed(Weights::of(&service.servers));
                steps.weights_changed(Weights::of(&service.servers));
            }
        }
    }
}
