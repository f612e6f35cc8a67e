//! Two namespaces: in one of them a port's twin, in the other a peer; and the wire between, which stands for the port and its worker.

use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ulvs::slow_path::{Counters, Error, Injected, Limits, PortSettings, PuntSender, Running, SlowPath, Twin};
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::io::memory::MemoryFrame;

/// Nothing here is expected to take long; this only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The only port.
pub const PORT: PortIndex = PortIndex(0);
/// Name of the twin.
pub const TWIN: &str = "outside";
/// The port's MAC.
pub const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The peer's.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x01, 0xfe];
/// No limit matters.
pub const UNLIMITED: Limits = Limits {
    routing_pps: 10_000_000,
    neighbour_pps: 10_000_000,
    rest_pps: 10_000_000,
};

/// What the twin is to be.
pub fn port() -> PortSettings {
    PortSettings {
        name: TWIN.to_owned(),
        mac: MAC,
        mtu: 1400,
    }
}

/// The namespaces; removed on drop.
pub struct Lab {
    /// Where the twin is.
    pub director: String,
    /// Where the peer is.
    pub peer: String,
}

/// Runs a command that must succeed.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}; the tests need iproute2 and ping"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in a thread in the namespace.
pub fn run_in<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let handle = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A counter of the slow path by its name.
pub fn count(counters: &Counters, name: &str) -> u64 {
    let all = counters.read();
    let found = all.iter().find(|own| own.name == name && own.port == Some(PORT));
    found.unwrap_or_else(|| panic!("no counter {name}")).values[0]
}

impl Lab {
    /// Creates it, or says why that cannot be.
    pub fn new() -> Option<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces and TAPs need root");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |what| format!("ulvs-twin-{}-{number}-{what}", std::process::id());
        let lab = Lab {
            director: name("director"),
            peer: name("peer"),
        };
        for namespace in [&lab.director, &lab.peer] {
            run(&format!("ip netns add {namespace}"));
            // So that everything that is seen there was caused by the test.
            run(&format!(
                "ip netns exec {namespace} sysctl -qw net.ipv6.conf.default.router_solicitations=0"
            ));
        }
        Some(lab)
    }

    /// `ip` in the director's namespace.
    pub fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.director))
    }

    /// What `ip -json -details -statistics link` says of the twin.
    pub fn link(&self) -> serde_json::Value {
        let text = self.ip(&format!("-json -details -statistics link show dev {TWIN}"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].take()
    }

    /// A twin in the director's namespace.
    pub fn create(&self, port: PortSettings) -> Result<Twin, Error> {
        run_in(&self.director, move || Twin::create(&port))
    }

    /// The slow path of one port, its thread not running yet.
    pub fn open(&self, limits: Limits) -> SlowPath {
        run_in(&self.director, move || SlowPath::open(&[port()], limits)).unwrap()
    }

    /// Starts it with a wire to the peer. The twin is 192.0.2.1 and 2001:db8::1, the peer .2 and ::2.
    pub fn connect(&self, mut path: SlowPath) -> Wire {
        let settings = PortSettings {
            name: "p0".to_owned(),
            mac: PEER_MAC,
            mtu: 1400,
        };
        let peer = run_in(&self.peer, move || Twin::create(&settings)).unwrap();
        for (namespace, device, last) in [(&self.director, TWIN, 1), (&self.peer, "p0", 2)] {
            run(&format!("ip -n {namespace} address add 192.0.2.{last}/24 dev {device}"));
            run(&format!(
                "ip -n {namespace} address add 2001:db8::{last}/64 dev {device}"
            ));
        }
        let woken = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, injected) = (path.sender(), path.injected(PORT).unwrap());
        let wake = Arc::clone(&woken);
        let running = path
            .start(Arc::new(move || {
                let _ = wake.write(1);
            }))
            .unwrap();
        let thread = {
            let (woken, stop) = (Arc::clone(&woken), Arc::clone(&stop));
            std::thread::spawn(move || carry(&peer, &sender, injected, &woken, &stop))
        };
        Wire {
            running: Some(running),
            woken,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.director, &self.peer] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

/// What a worker does, without balancing anything. Ends the wire when it is dropped.
pub struct Wire {
    /// The slow path at work.
    pub running: Option<Running>,
    woken: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn carry(peer: &Twin, sender: &PuntSender, mut injected: Injected, woken: &EventFd, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Acquire) {
        let mut idle = true;
        while let Ok(length) = peer.read(&mut buffer) {
            sender.punt(PORT, &MemoryFrame::new(&buffer[..length], 2048));
            idle = false;
        }
        let to_peer = |frame: &[u8]| {
            assert!(
                frame.len() <= 14 + 1400,
                "a frame of {} bytes: not cut into segments",
                frame.len()
            );
            peer.write(frame).is_ok()
        };
        idle &= injected.take(64, to_peer) == 0;
        if idle {
            let own = PollFd::new(peer.as_fd(), PollFlags::POLLIN);
            let wake = PollFd::new(woken.as_fd(), PollFlags::POLLIN);
            poll(&mut [own, wake], PollTimeout::NONE).unwrap();
            let _ = woken.read();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.woken.write(1);
        let result = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = result
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
