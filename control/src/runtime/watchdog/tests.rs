use super::*;

const LIMIT: Duration = Duration::from_millis(100);

/// Two workers and a clock.
struct Scene {
    watchdog: Watchdog,
    start: Instant,
    now_ms: u64,
    beats: [u64; 2],
}

impl Scene {
    fn new() -> Scene {
        Scene {
            watchdog: Watchdog::new(LIMIT, 2),
            start: Instant::now(),
            now_ms: 0,
            beats: [0, 0],
        }
    }

    fn look(&mut self) -> Vec<Change> {
        let now = self.start + Duration::from_millis(self.now_ms);
        self.watchdog.look(now, self.beats.into_iter())
    }

    /// Looks every 10 ms; a worker beats until its time is up. Returns what was seen, and when.
    fn run(&mut self, until_ms: u64, beats_until_ms: [u64; 2]) -> Vec<(u64, Change)> {
        let mut seen = Vec::new();
        while self.now_ms < until_ms {
            self.now_ms += 10;
            for (beat, until) in self.beats.iter_mut().zip(beats_until_ms) {
                *beat = (*beat).max(self.now_ms.min(until));
            }
            let now = self.now_ms;
            seen.extend(self.look().into_iter().map(|change| (now, change)));
        }
        seen
    }
}

#[test]
fn a_stuck_worker_is_seen_before_the_limit_has_passed() {
    for stuck_at in [201, 205, 209, 210] {
        let mut scene = Scene::new();
        let seen = scene.run(1000, [u64::MAX, stuck_at]);
        let [(at, change)] = &seen[..] else {
            panic!("{seen:?}");
        };
        assert_eq!(*change, Change::Stuck(1));
        assert!(
            (stuck_at + 80..=stuck_at + 100).contains(at),
            "stuck at {stuck_at}, seen at {at}"
        );
        assert_eq!(scene.watchdog.stuck(), [1]);
        let now = scene.start + Duration::from_millis(1000);
        assert_eq!(scene.watchdog.stuck_for(1, now), Some(Duration::from_millis(790)));
        assert_eq!(scene.watchdog.stuck_for(0, now), None);
    }
}

#[test]
fn a_worker_that_comes_back_is_told_once() {
    let mut scene = Scene::new();
    scene.run(500, [u64::MAX, 200]);
    assert_eq!(
        scene.run(700, [u64::MAX; 2]),
        [(510, Change::Recovered(1, Duration::from_millis(310)))]
    );
    assert!(scene.watchdog.stuck().is_empty());
    assert_eq!(
        scene.run(900, [700, u64::MAX]),
        [(790, Change::Stuck(0))],
        "and can get stuck again"
    );
}

#[test]
fn a_worker_that_allocates_its_tables_is_not_stuck() {
    let mut scene = Scene::new();
    assert!(scene.run(5000, [0, 0]).is_empty());
}

#[test]
fn a_machine_that_stood_still_has_no_stuck_worker() {
    let mut scene = Scene::new();
    scene.run(200, [u64::MAX; 2]);
    for _ in 0..3 {
        // Nobody ran: neither the workers nor control. The workers run again a moment after control.
        scene.now_ms += 3000;
        assert!(scene.look().is_empty());
        let until = scene.now_ms + 50;
        assert!(scene.run(until, [u64::MAX; 2]).is_empty());
    }
    // Who stays silent afterwards is stuck.
    scene.now_ms += 3000;
    assert!(scene.look().is_empty());
    let until = scene.now_ms + 100;
    let seen = scene.run(until, [u64::MAX, 0]);
    assert!(matches!(seen[..], [(_, Change::Stuck(1))]), "{seen:?}");
}
