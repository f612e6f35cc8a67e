//! Two namespaces joined by a veth pair: `d0` (192.0.2.1) is the director's, `p0` (192.0.2.2) is the peer's.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use ulvs::af_xdp::{Error, Settings, open};

/// The address that the director's kernel holds.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The peer's.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An address that only the program on AF_XDP holds.
pub const OWNED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// Nothing here is expected to take long; this only ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The namespaces; removed on drop.
pub struct Lab {
    /// Namespace of the director.
    pub director: String,
    /// Namespace of the peer.
    pub peer: String,
    /// Namespace of the server behind the director, if there is one.
    pub server: String,
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}; the tests need iproute2, ethtool and ping"));
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
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

/// A UDP socket that talks to port 7 of an address.
pub fn client(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect((address, 7)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket
}

/// Sends `length` bytes from a new port and expects them back. Asks again, because the other side may just be starting.
pub fn echoed(address: Ipv4Addr, length: usize) {
    let socket = client(address);
    let data: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
    let mut answer = vec![0; length + 1];
    for _ in 0..20 {
        socket.send(&data).unwrap();
        if let Ok(received) = socket.recv(&mut answer) {
            assert!(
                answer[..received] == data,
                "{length} bytes came back changed or as {received}"
            );
            return;
        }
    }
    panic!("{length} bytes sent to {address} never came back");
}

impl Lab {
    /// Creates it, or says why that cannot be.
    pub fn new(director_queues: u32, peer_queues: u32, mtu: u32) -> Option<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: network namespaces and AF_XDP need root");
            return None;
        }
        let name = |what| {
            format!(
                "ulvs-afxdp-{}-{}-{what}",
                std::process::id(),
                NEXT.load(Ordering::Relaxed)
            )
        };
        let lab = Lab {
            director: name("director"),
            peer: name("peer"),
            server: name("server"),
        };
        NEXT.fetch_add(1, Ordering::Relaxed);
        for namespace in [&lab.director, &lab.peer] {
            run(&format!("ip netns add {namespace}"));
        }
        lab.add_pair("d0", director_queues, &lab.peer, "p0", peer_queues, mtu);
        run(&format!("ip -n {} address add {DIRECTOR}/24 dev d0", lab.director));
        run(&format!("ip -n {} address add {PEER}/24 dev p0", lab.peer));
        Some(lab)
    }

    fn add_pair(&self, here: &str, here_queues: u32, namespace: &str, there: &str, there_queues: u32, mtu: u32) {
        let director = &self.director;
        run(&format!(
            "ip link add {here} netns {director} mtu {mtu} numrxqueues {here_queues} numtxqueues {here_queues} \
             type veth peer name {there} netns {namespace} mtu {mtu} numrxqueues {there_queues} numtxqueues {there_queues}"
        ));
        run(&format!("ip -n {director} link set {here} up"));
        run(&format!("ip -n {namespace} link set {there} up"));
        // A sender on the same machine otherwise leaves its checksums half done.
        run(&format!("ip netns exec {namespace} ethtool -K {there} tx off"));
    }

    /// Adds a second port `d1` and behind it a namespace that holds the owned address itself.
    pub fn add_server(&self) {
        run(&format!("ip netns add {}", self.server));
        self.add_pair("d1", 1, &self.server, "s0", 1, 1500);
        run(&format!("ip -n {} address add {OWNED}/24 dev s0", self.server));
        let here = |device| format_mac(mac_of(&self.director, device));
        run(&format!(
            "ip -n {} neighbour add {OWNED} lladdr {} dev p0",
            self.peer,
            here("d0")
        ));
        run(&format!(
            "ip -n {} neighbour add {PEER} lladdr {} dev s0",
            self.server,
            here("d1")
        ));
    }

    /// Ethernet address of `p0`.
    pub fn peer_mac(&self) -> [u8; 6] {
        mac_of(&self.peer, "p0")
    }

    /// Ethernet address of `s0`.
    pub fn server_mac(&self) -> [u8; 6] {
        mac_of(&self.server, "s0")
    }

    /// The peer reaches the director's kernel.
    pub fn ping_kernel(&self) {
        run(&format!(
            "ip netns exec {} ping -q -c 3 -i 0.05 -W 5 {DIRECTOR}",
            self.peer
        ));
    }

    /// Sets `d0` up or down.
    pub fn set_director_link(&self, state: &str) {
        run(&format!("ip -n {} link set d0 {state}", self.director));
    }

    /// Removes the pair of `d0` and `p0`.
    pub fn remove_director_link(&self) {
        run(&format!("ip -n {} link delete d0", self.director));
    }

    /// What `ip link` says of `d0`.
    pub fn director_link(&self) -> String {
        run(&format!("ip -n {} -details link show dev d0", self.director))
    }

    /// The program is off `d0`, at the latest when the children that other tests just started no longer hold copies of this
    /// process's descriptors.
    pub fn expect_detached(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.director_link().contains("prog/xdp") {
            assert!(Instant::now() < deadline, "still attached: {}", self.director_link());
        }
    }

    /// Packets that `d0` has sent.
    pub fn sent_packets(&self) -> u64 {
        let text = run(&format!("ip -n {} -json -statistics link show dev d0", self.director));
        let links: serde_json::Value = serde_json::from_str(&text).unwrap();
        links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    }

    /// Opening must fail in the director's namespace; returns how.
    pub fn open_error(&self, settings: Settings) -> Error {
        match run_in(&self.director, move || open(&settings)) {
            Ok(_) => panic!("this should have failed"),
            Err(error) => error,
        }
    }

    /// Starts one of this package's examples in the director's namespace.
    pub fn start_example(&self, name: &str, arguments: &[&str]) -> Child {
        // `ip netns exec` becomes the program, so the child's process id is the program's.
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.director])
            .arg(example(name))
            .args(arguments);
        command.spawn().unwrap()
    }

    /// Runs an example under a shell command, which ends in `exec ... "$@"`; it must fail. Returns what it says.
    pub fn failing_example(&self, shell: &str, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.director, "sh", "-c", shell, "sh"])
            .arg(example(name))
            .args(arguments);
        let output = command.env("RUST_BACKTRACE", "0").output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build --example {name}",
        program.display()
    );
    program
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.director, &self.peer, &self.server] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

fn mac_of(namespace: &str, device: &str) -> [u8; 6] {
    let text = run(&format!("ip -n {namespace} -json link show dev {device}"));
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    let parts = links[0]["address"]
        .as_str()
        .unwrap()
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).unwrap());
    parts.collect::<Vec<_>>().try_into().unwrap()
}

fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
