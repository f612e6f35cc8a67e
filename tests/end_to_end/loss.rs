//! Transfers over a link that loses frames.

use crate::cases::in_two_configurations;
use crate::client;
use crate::config::Backend;
use crate::director::Director;
use crate::lab::{Lab, Shape};
use crate::traffic;

pub fn transfers_survive_lost_frames(backend: Backend) {
    survive_lost_frames("lost_frames", 1, backend);
}

pub fn transfers_survive_lost_frames_with_two_workers(backend: Backend) {
    survive_lost_frames("lost_frames_2", 2, backend);
}

fn survive_lost_frames(test: &str, queues: u8, backend: Backend) {
    let shape = Shape {
        queues,
        ..Shape::usual(backend)
    };
    let Some(lab) = Lab::up(test, shape) else { return };
    lab.lose_frames();
    for cases in in_two_configurations() {
        let director = Director::start(&lab, cases.iter().flat_map(traffic::services).collect());
        let lost_before = lab.frames_lost();
        for case in &cases {
            eprintln!("{case:?}");
            client::download(&lab, traffic::vip(case), 1_000_000, &[]);
            client::upload(&lab, traffic::vip(case), 1_000_000);
        }
        assert!(
            lab.frames_lost() > lost_before,
            "no frame was lost, so nothing was tested"
        );
        if queues > 1 {
            let handed_over = director.counter("redirected");
            assert!(
                handed_over > 0,
                "no frame came to a worker that does not own its connection"
            );
        }
        director.stop();
    }
}
