//! The slow path against the kernel's own network stack, in namespaces. Needs root; says so and does nothing otherwise.

#[path = "slow_path/lab.rs"]
mod lab;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lab::{Lab, MAC, PATIENCE, PEER_MAC, PORT, TWIN, UNLIMITED, count, port, run, run_in, wait_for};
use ulvs::slow_path::{Error, Limits, PortSettings, PuntSender, Running};
use ulvs_dataplane::io::memory::MemoryFrame;

/// Where BFD listens; the frames of a test carry a number in place of the protocol.
const BFD: u16 = 3784;
const LARGEST_TTL: u8 = 255;

/// An IPv4 UDP frame from the peer to the twin.
fn udp(ttl: u8, destination_port: u16, payload: &[u8]) -> MemoryFrame {
    let length = |header: usize| ((header + payload.len()) as u16).to_be_bytes();
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
    ip[2..4].copy_from_slice(&length(28));
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&folded.to_be_bytes());
    // A UDP checksum of 0 is none.
    let header = [
        &49152u16.to_be_bytes(),
        &destination_port.to_be_bytes(),
        &length(8),
        &[0, 0][..],
    ]
    .concat();
    let frame = [&MAC, &PEER_MAC, &[8, 0][..], &ip, &header, payload].concat();
    MemoryFrame::new(&frame, 2048)
}

fn arp() -> MemoryFrame {
    MemoryFrame::new(&[&[0xff; 6][..], &PEER_MAC, &[8, 6], &[0; 28]].concat(), 2048)
}

#[test]
fn arp_ping_and_tcp_pass_the_twin() {
    let Some(lab) = Lab::new() else { return };
    let wire = lab.connect(lab.open(UNLIMITED));
    let link = lab.link();
    assert_eq!(
        (
            link["address"].as_str(),
            link["mtu"].as_u64(),
            link["operstate"].as_str()
        ),
        (Some("02:00:00:00:00:01"), Some(1400), Some("UNKNOWN")),
        "a TAP's state is unknown while it has a carrier"
    );
    let peer = &lab.peer;
    run(&format!("ip netns exec {peer} ping -q -c 3 -i 0.05 -w 20 192.0.2.1"));
    let neighbours = run(&format!("ip -n {peer} neighbour show 192.0.2.1"));
    assert!(neighbours.contains("lladdr 02:00:00:00:00:01"), "{neighbours}");
    let neighbours = lab.ip("neighbour show 192.0.2.2");
    assert!(neighbours.contains("lladdr 02:00:00:00:01:fe"), "{neighbours}");
    // Larger than the MTU: fragments.
    run(&format!(
        "ip netns exec {peer} ping -q -c 2 -i 0.05 -w 20 -s 3000 192.0.2.1"
    ));

    // Duplicate address detection has to end first, which is when the addresses may be used.
    wait_for("duplicate address detection", || {
        lab.ip("-6 address show tentative").is_empty()
            && run(&format!("ip -n {peer} -6 address show tentative")).is_empty()
    });
    run(&format!("ip netns exec {peer} ping -q -c 3 -i 0.05 -w 20 2001:db8::1"));
    let link_local = "fe80::ff:fe00:1%p0";
    run(&format!("ip netns exec {peer} ping -q -c 2 -i 0.05 -w 20 {link_local}"));

    for address in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        let listener = run_in(&lab.director, move || TcpListener::bind(address).unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut data = vec![0; 300_000];
            stream.read_exact(&mut data).unwrap();
            stream.write_all(&data).unwrap();
        });
        let mut stream = run_in(peer, move || TcpStream::connect(address).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent: Vec<u8> = (0..300_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
        stream.write_all(&sent).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(sent == back, "{address}: changed on the way");
        server.join().unwrap();
    }

    // The link of the port is that of the twin.
    let twin = &wire.running.as_ref().unwrap().twins()[0];
    twin.set_carrier(false).unwrap();
    wait_for("no carrier", || lab.link()["operstate"] == "DOWN");
    twin.set_carrier(true).unwrap();
    wait_for("carrier", || lab.link()["operstate"] != "DOWN");
}

/// Floods the twin until told to stop; returns how many frames it sent.
fn flood(sender: PuntSender, stop: Arc<AtomicBool>, frames: [MemoryFrame; 2]) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            for frame in &frames {
                for _ in 0..64 {
                    sender.punt(PORT, frame);
                    sent += 1;
                }
            }
        }
        sent
    })
}

#[test]
fn a_flood_costs_no_urgent_frame_and_no_more_than_its_rate() {
    const URGENT: u64 = 2000;
    /// Fewer than the lane has room for, so that urgent frames do not displace each other.
    const ON_THE_WAY: u64 = 64;
    let limits = Limits {
        routing_pps: 1,
        neighbour_pps: 500,
        rest_pps: 1000,
    };
    let Some(lab) = Lab::new() else { return };
    let started = Instant::now();
    let path = lab.open(limits);
    lab.ip(&format!("address add 192.0.2.1/24 dev {TWIN}"));
    let counters = path.counters();
    let (sender, stop) = (path.sender(), Arc::new(AtomicBool::new(false)));
    let running = path.start(Arc::new(|| ())).unwrap();

    // The kernel's own listener says what came, and in which order.
    let listener = run_in(&lab.director, || UdpSocket::bind(("192.0.2.1", BFD)).unwrap());
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let arrived = Arc::new(AtomicU64::new(0));
    let reader = {
        let arrived = Arc::clone(&arrived);
        std::thread::spawn(move || {
            for expected in 0..URGENT {
                let mut number = [0; 8];
                listener.recv(&mut number).expect("an urgent frame is lost");
                assert_eq!(u64::from_be_bytes(number), expected);
                arrived.store(expected + 1, Ordering::Release);
            }
        })
    };
    let flooder = flood(sender.clone(), Arc::clone(&stop), [udp(64, 9, &[0; 32]), arp()]);
    for number in 0..URGENT {
        assert!(
            sender.punt(PORT, &udp(LARGEST_TTL, BFD, &number.to_be_bytes())),
            "frame {number} found no room"
        );
        let deadline = Instant::now() + PATIENCE;
        while number - arrived.load(Ordering::Acquire).min(number) >= ON_THE_WAY {
            assert!(Instant::now() < deadline, "urgent frames do not arrive");
            std::thread::yield_now();
        }
    }
    reader.join().unwrap();
    // At least until the flood has been limited.
    let limited = |class: &str| count(&counters, &format!("slow_path_punt_rate_limited_{class}"));
    wait_for("a limit", || limited("rest") > 0 && limited("neighbour") > 0);
    stop.store(true, Ordering::Relaxed);
    let flooded = flooder.join().unwrap();
    drop(running);

    let of = |what: &str, class: &str| count(&counters, &format!("slow_path_{what}_{class}"));
    assert_eq!(of("punted", "urgent"), URGENT);
    for class in ["rest", "neighbour"] {
        let pps = if class == "rest" {
            limits.rest_pps
        } else {
            limits.neighbour_pps
        };
        let most = 50.0 + f64::from(pps) * started.elapsed().as_secs_f64();
        let punted = of("punted", class);
        assert!(
            punted > 0 && punted as f64 <= most,
            "{class}: {punted} frames, at most {most:.0}"
        );
        // What still waited in the lane when the thread ended is neither.
        let waited = if class == "rest" { 1024 } else { 256 };
        let lost = of("punt_rate_limited", class) + of("punt_ring_full", class);
        let accounted = punted + lost;
        let sent = flooded / 2;
        assert!(
            (accounted..=accounted + waited).contains(&sent),
            "{class}: {sent} sent, {accounted} accounted for"
        );
    }
}

#[test]
fn a_full_lane_drops_by_name_and_other_lanes_go_on() {
    let Some(lab) = Lab::new() else { return };
    let path = lab.open(UNLIMITED);
    let (counters, sender) = (path.counters(), path.sender());
    assert!(!sender.punt(PORT, &udp(64, 9, &[0; 1500])), "longer than the MTU");
    let fill = |frame: &MemoryFrame| (0..5000).take_while(|_| sender.punt(PORT, frame)).count();
    assert_eq!(fill(&arp()), 256);
    assert_eq!(fill(&udp(64, 9, b"rest")), 1024);
    assert_eq!(fill(&udp(LARGEST_TTL, BFD, b"urgent")), 256);
    let of = |name: &str| count(&counters, &format!("slow_path_{name}"));
    assert_eq!(
        (
            of("punt_ring_full_neighbour"),
            of("punt_ring_full_rest"),
            of("punt_ring_full_urgent")
        ),
        (1, 1, 1)
    );
    assert_eq!((of("punt_too_long_rest"), of("punt_ring_full_routing")), (1, 0));
    // Everything that was taken arrives.
    let received = || lab.link()["stats64"]["rx"]["packets"].as_u64().unwrap();
    let before = received();
    let _running = path.start(Arc::new(|| ())).unwrap();
    wait_for("all frames", || received() == before + 256 + 1024 + 256);
    assert_eq!(
        (of("punted_neighbour"), of("punted_rest"), of("punted_urgent")),
        (256, 1024, 256)
    );
}

#[test]
fn what_the_kernel_sends_is_bounded_and_the_urgent_leaves_first() {
    let Some(lab) = Lab::new() else { return };
    let mut path = lab.open(UNLIMITED);
    let counters = path.counters();
    let mut injected = path.injected(PORT).unwrap();
    assert!(path.injected(PORT).is_none(), "there is one taker");
    let woken = Arc::new(AtomicU64::new(0));
    let wake = Arc::clone(&woken);
    lab.ip(&format!("address add 192.0.2.1/24 dev {TWIN}"));
    lab.ip(&format!(
        "neighbour replace 192.0.2.2 lladdr 02:00:00:00:01:fe dev {TWIN}"
    ));
    let _running = path
        .start(Arc::new(move || {
            wake.fetch_add(1, Ordering::Relaxed);
        }))
        .unwrap();
    let socket = run_in(&lab.director, || UdpSocket::bind("192.0.2.1:0").unwrap());
    // Nobody takes anything, so the lane runs full; how many the kernel itself drops before is its own affair.
    wait_for("a full lane", || {
        for _ in 0..100 {
            socket.send_to(b"rest", "192.0.2.2:9").unwrap();
        }
        count(&counters, "slow_path_inject_ring_full_rest") > 0
    });
    assert!(woken.load(Ordering::Relaxed) > 0);
    socket.set_ttl(u32::from(LARGEST_TTL)).unwrap();
    let port_of = |frame: &[u8]| u16::from_be_bytes([frame[36], frame[37]]);
    let mut first = None;
    wait_for("the urgent frame", || {
        socket.send_to(b"urgent", ("192.0.2.2", BFD)).unwrap();
        // A worker whose queue is full: the frame is kept.
        injected.take(1, |frame| {
            first = Some(port_of(frame));
            false
        });
        first == Some(BFD)
    });
    let (mut urgent, mut rest, mut others) = (0, 0, 0);
    loop {
        let mut rest_in_this_call = 0;
        let sort = |frame: &[u8]| {
            match (frame[12..14] == [8, 0] && frame[23] == 17).then(|| port_of(frame)) {
                Some(BFD) => {
                    // One that comes while the rest is being taken is seen by the next call.
                    assert_eq!(rest_in_this_call, 0, "an urgent frame behind others");
                    urgent += 1;
                }
                Some(9) => rest_in_this_call += 1,
                _ => others += 1,
            }
            true
        };
        let taken = injected.take(10_000, sort);
        rest += rest_in_this_call;
        if taken == 0 {
            break;
        }
    }
    assert!(urgent >= 1, "the frame that was refused came again");
    assert!(rest >= 1024, "{rest} of the rest, {others} others");
    let classes = ["urgent", "routing", "neighbour", "rest"];
    let injected = classes.map(|class| count(&counters, &format!("slow_path_injected_{class}")));
    assert_eq!(injected.iter().sum::<u64>(), urgent + rest + others);
}

#[test]
fn a_twin_made_before_stays_with_its_addresses() {
    let Some(lab) = Lab::new() else { return };
    lab.ip(&format!("tuntap add dev {TWIN} mode tap"));
    lab.ip(&format!("address add 192.0.2.1/24 dev {TWIN}"));
    lab.ip(&format!("link set {TWIN} up"));
    for round in 0..2 {
        // Children that other tests just started may hold copies of the descriptor for a moment.
        let mut twin = lab.create(port());
        wait_for("the twin is free", || {
            if matches!(twin, Err(Error::InUse(_))) {
                twin = lab.create(port());
            }
            !matches!(twin, Err(Error::InUse(_)))
        });
        let twin = twin.unwrap();
        assert!(twin.was_there(), "round {round}");
        let link = lab.link();
        assert_eq!(
            (link["address"].as_str(), link["mtu"].as_u64()),
            (Some("02:00:00:00:00:01"), Some(1400))
        );
        assert_eq!(link["ifindex"].as_u64(), Some(u64::from(twin.ifindex())));
        assert!(lab.ip(&format!("address show dev {TWIN}")).contains("192.0.2.1/24"));
        // From the second time on it has the port's MAC already, and keeps the neighbours that an operator gave it.
        let neighbour = format!("neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev {TWIN} nud permanent");
        if round == 0 {
            lab.ip(&neighbour);
        }
        assert!(
            lab.ip(&format!("neighbour show dev {TWIN}")).contains("192.0.2.2"),
            "round {round}"
        );
        let message = lab.create(port()).unwrap_err().to_string();
        assert!(
            message.contains(TWIN) && message.contains("in use by another program"),
            "{message}"
        );
        drop(twin);
    }
    assert!(lab.ip(&format!("address show dev {TWIN}")).contains("192.0.2.1/24"));
}

#[test]
fn a_twin_of_ours_goes_with_us() {
    let Some(lab) = Lab::new() else { return };
    let twin = lab.create(port()).unwrap();
    assert!(!twin.was_there());
    drop(twin);
    // Children that other tests just started may hold copies of the descriptor for a moment.
    wait_for("the twin's end", || !lab.ip("link show").contains(TWIN));
}

#[test]
fn what_cannot_be_a_twin_is_refused_with_a_sentence() {
    let Some(lab) = Lab::new() else { return };
    lab.ip("link add br0 type bridge");
    lab.ip("tuntap add dev tun0 mode tun");
    lab.ip("tuntap add dev many mode tap multi_queue");
    for name in ["br0", "tun0", "many", "lo"] {
        let named = PortSettings {
            name: name.to_owned(),
            ..port()
        };
        let message = lab.create(named).unwrap_err().to_string();
        let is_told = message.contains(&format!("interface {name} is there already")) && message.contains("no TAP");
        assert!(is_told, "{message}");
    }
    let address = lab.ip("-brief link show dev br0");
    assert!(
        !address.contains("02:00:00:00:00:01"),
        "it was changed all the same: {address}"
    );
}

#[test]
fn a_twin_that_somebody_removes_is_counted_and_ends_nothing() {
    let Some(lab) = Lab::new() else { return };
    let path = lab.open(UNLIMITED);
    let (counters, sender) = (path.counters(), path.sender());
    let running: Running = path.start(Arc::new(|| ())).unwrap();
    assert!(sender.punt(PORT, &arp()));
    wait_for("the first frame", || {
        count(&counters, "slow_path_punted_neighbour") == 1
    });
    lab.ip(&format!("link delete {TWIN}"));
    assert!(sender.punt(PORT, &arp()));
    wait_for("the second frame", || {
        count(&counters, "slow_path_punt_refused_neighbour") == 1
    });
    drop(running);
}
