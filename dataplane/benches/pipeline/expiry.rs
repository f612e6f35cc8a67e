//! The end of connections by their timers.

use std::time::Instant;

use ulvs_dataplane::io::BURST;
use ulvs_dataplane::time::Time;

use crate::ports::BenchIo;
use crate::rig::{Ports, Rig, Timing, timed_turns};

/// What housekeeping ends at most in a turn.
const EXPIRED_PER_TURN: usize = 128;
const EXPIRED_PER_ROUND: usize = BenchIo::ROUND / BURST * EXPIRED_PER_TURN;

/// Times the end of all connections, which nobody uses any more: nothing but housekeeping, per connection.
pub fn measure(rig: &mut Rig<BenchIo>) -> Timing {
    rig.now = rig.now + Time::from_secs(1000).0;
    let mut times = Vec::with_capacity(rig.connections() / EXPIRED_PER_ROUND + 1);
    // First the wheel turns to where they are.
    let all = rig.connections();
    while rig.connections() == all {
        timed_turns(&mut rig.worker, &mut rig.now);
    }
    while rig.connections() > 2 * EXPIRED_PER_ROUND {
        let (before, start) = (rig.connections(), Instant::now());
        timed_turns(&mut rig.worker, &mut rig.now);
        let elapsed = start.elapsed();
        if before - rig.connections() == EXPIRED_PER_ROUND {
            times.push(elapsed);
        }
    }
    Timing::of(times, EXPIRED_PER_ROUND)
}
