//! The AF_XDP backend on veth pairs, against the kernel's own network stack in another namespace. Needs root; says so and does
//! nothing otherwise.
#![cfg(feature = "af_xdp")]

#[path = "../examples/af_xdp_echo/echo.rs"]
mod echo;
#[path = "end_to_end/kernel.rs"]
mod kernel;
#[path = "af_xdp/lab.rs"]
mod lab;
#[path = "af_xdp/refusals.rs"]
mod refusals;

use lab::{DIRECTOR, Lab, OWNED, PATIENCE, PEER, echoed, run_in};
use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ulvs::af_xdp::{
    AddressClass, AfXdpIo, AttachMode, DeviceSettings, Error, FilterCounters, Opened, Settings, XdpMode, ZeroCopy, open,
};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex};

fn settings(names: &[&str], mode: AttachMode, workers: usize) -> Settings {
    let devices = names
        .iter()
        .map(|name| DeviceSettings {
            mode,
            ..DeviceSettings::new(*name)
        })
        .collect();
    Settings {
        workers,
        ring_size: 256,
        ..Settings::new(devices)
    }
}

fn own(opened: &mut Opened, addresses: &[Ipv4Addr]) {
    let owned = |address: &Ipv4Addr| (Address::v4(address.octets()), AddressClass::Owned);
    opened
        .filter
        .set_addresses(&addresses.iter().map(owned).collect::<HashMap<_, _>>())
        .unwrap();
}

/// Workers that echo in threads of their own.
struct Echo {
    opened: Opened,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<AfXdpIo>>,
    received: Vec<Arc<AtomicUsize>>,
}

impl Echo {
    fn start(lab: &Lab, settings: Settings) -> Echo {
        let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
        own(&mut opened, &[OWNED]);
        let stop = Arc::new(AtomicBool::new(false));
        let macs: Vec<_> = opened.devices.iter().map(|device| device.mac).collect();
        let (mut threads, mut received) = (Vec::new(), Vec::new());
        for mut io in opened.workers.drain(..) {
            let (stop, macs, count) = (stop.clone(), macs.clone(), Arc::new(AtomicUsize::new(0)));
            received.push(count.clone());
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match echo::turn(&mut io, &macs, OWNED) {
                        0 => io.wait(100),
                        frames => drop(count.fetch_add(frames, Ordering::Relaxed)),
                    }
                }
                io
            }));
        }
        Echo {
            opened,
            stop,
            threads,
            received,
        }
    }

    fn counters(&self) -> FilterCounters {
        self.opened.filter.counters().unwrap()
    }

    /// Ends the workers and checks that every frame is where it belongs.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut workers: Vec<AfXdpIo> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        expect_all_frames(&mut workers, self.opened.frames);
    }
}

/// Waits until everything was sent, then counts: nothing is held outside, and no frame is missing or twice there.
fn expect_all_frames(workers: &mut [AfXdpIo], frames: u32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        workers.iter_mut().for_each(Io::housekeeping);
        let sending: u64 = workers.iter().map(|io| io.frame_account().sending).sum();
        if sending == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{sending} frames were never sent");
    }
    let accounts: Vec<_> = workers.iter().map(AfXdpIo::frame_account).collect();
    assert_eq!(
        accounts.iter().map(|account| account.in_hand).sum::<i64>(),
        0,
        "frames leaked: {accounts:?}"
    );
    let in_place: u64 = accounts.iter().map(|account| account.free + account.receiving).sum();
    assert_eq!(
        in_place + workers[0].shared_free_frames(),
        u64::from(frames),
        "{accounts:?}"
    );
}

/// Echo and, at the same time, the kernel's own address.
fn echo_and_kernel(mode: AttachMode, expected: XdpMode, queues: u32) {
    let Some(lab) = Lab::new(queues, queues, 1500) else {
        return;
    };
    let echo = Echo::start(&lab, settings(&["d0"], mode, queues as usize));
    let facts = &echo.opened.devices[0];
    assert_eq!(
        (facts.mode, facts.is_veth, facts.receive_queues),
        (expected, true, queues)
    );
    assert!(!facts.zero_copy, "veth copies");

    // As many flows as it takes until each queue has had one. In generic mode veth puts everything on queue 0.
    let busy = if expected == XdpMode::Native {
        queues as usize
    } else {
        1
    };
    for flow in 0.. {
        run_in(&lab.peer, move || echoed(OWNED, 100));
        if flow >= 3
            && echo.received[..busy]
                .iter()
                .all(|count| count.load(Ordering::Relaxed) > 0)
        {
            break;
        }
        assert!(flow < 200, "a queue never received anything: {:?}", echo.received);
    }
    let told = facts.warnings.iter().any(|warning| warning.contains("on queue 0"));
    assert_eq!(told, expected == XdpMode::Generic && queues > 1, "{:?}", facts.warnings);
    lab.ping_kernel();
    // A burst deep enough for several turns of the rings.
    run_in(&lab.peer, || {
        let socket = lab::client(OWNED);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for round in 0..40u32 {
            for i in 0..32u32 {
                socket.send(&(round * 32 + i).to_be_bytes()).unwrap();
            }
            for _ in 0..32 {
                socket.recv(&mut [0; 4]).unwrap();
            }
        }
    });
    lab.ping_kernel();

    let counters = echo.counters();
    assert!(counters.redirected >= 40 * 32, "{counters:?}");
    assert!(counters.passed > 0 && counters.no_socket == 0, "{counters:?}");
    for queue in echo.opened.counters.read() {
        assert_eq!(
            (queue.rx_dropped, queue.rx_invalid, queue.tx_invalid),
            (0, 0, 0),
            "{queue:?}"
        );
    }
    assert_eq!(echo.opened.counters.read().len(), queues as usize);
    echo.finish();
}

#[test]
fn native_mode_with_one_queue_echoes_and_leaves_the_rest_to_the_kernel() {
    echo_and_kernel(AttachMode::Native, XdpMode::Native, 1);
}

#[test]
fn native_mode_with_two_queues_and_workers() {
    echo_and_kernel(AttachMode::Auto, XdpMode::Native, 2);
}

#[test]
fn generic_mode_with_one_queue() {
    echo_and_kernel(AttachMode::Generic, XdpMode::Generic, 1);
}

#[test]
fn generic_mode_with_two_queues_and_workers() {
    echo_and_kernel(AttachMode::Generic, XdpMode::Generic, 2);
}

#[test]
fn one_worker_serves_both_queues() {
    let Some(lab) = Lab::new(2, 2, 1500) else { return };
    let echo = Echo::start(&lab, settings(&["d0"], AttachMode::Native, 1));
    for _ in 0..30 {
        run_in(&lab.peer, || echoed(OWNED, 500));
    }
    echo.finish();
}

fn jumbo_round_trip(mode: AttachMode) {
    if kernel::skip_without_multi_buffer("jumbo frames") {
        return;
    }
    let Some(lab) = Lab::new(1, 1, 9000) else { return };
    let echo = Echo::start(&lab, settings(&["d0"], mode, 1));
    assert!(echo.opened.devices[0].multi_buffer);
    // Around the border between one, two and three buffers, and the largest that the MTU allows.
    for length in (3700..3860)
        .step_by(7)
        .chain((7500..7720).step_by(11))
        .chain([9000 - 28])
    {
        run_in(&lab.peer, move || echoed(OWNED, length));
    }
    echo.finish();
}

#[test]
fn jumbo_frames_span_buffers_in_native_mode() {
    jumbo_round_trip(AttachMode::Native);
}

#[test]
fn jumbo_frames_span_buffers_in_generic_mode() {
    jumbo_round_trip(AttachMode::Generic);
}

#[test]
fn without_multi_buffer_the_promised_mtu_works_and_one_more_is_refused() {
    for (frame_size, largest) in [(2048, 1770), (4096, 3818)] {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            let Some(lab) = Lab::new(1, 1, largest) else { return };
            let single = Settings {
                frame_size,
                multi_buffer: false,
                ..settings(&["d0"], mode, 1)
            };
            let echo = Echo::start(&lab, single.clone());
            run_in(&lab.peer, move || echoed(OWNED, largest as usize - 28));
            echo.finish();

            let Some(lab) = Lab::new(1, 1, largest + 1) else { return };
            let error = lab.open_error(single);
            assert!(
                matches!(error, Error::MtuTooLarge { largest: told, .. } if told == largest),
                "{error}"
            );
            lab.expect_detached();
        }
    }
}

#[test]
fn frames_cross_from_port_to_port_without_a_copy() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    lab.add_server();
    let settings = settings(&["d0", "d1"], AttachMode::Native, 1);
    let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
    own(&mut opened, &[OWNED, PEER]);
    let mut io = opened.workers.remove(0);
    let (stop, next_hops) = (Arc::new(AtomicBool::new(false)), [lab.peer_mac(), lab.server_mac()]);
    let stopped = stop.clone();
    let forwarder = std::thread::spawn(move || {
        let mut frames = Vec::with_capacity(BURST);
        while !stopped.load(Ordering::Relaxed) {
            io.housekeeping();
            for (from, to) in [(0, 1), (1, 0)] {
                io.receive(PortIndex(from), &mut frames);
                for frame in &mut frames {
                    frame.head_mut()[..6].copy_from_slice(&next_hops[usize::from(to)]);
                }
                io.transmit(PortIndex(to), &mut frames);
            }
        }
        io
    });
    // The server is an ordinary UDP socket; it answers whatever it hears until the client is done.
    let server = {
        let stop = stop.clone();
        let socket = run_in(&lab.server, || UdpSocket::bind((OWNED, 7))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).unwrap();
                }
            }
        })
    };
    for length in (0..1400).step_by(50) {
        run_in(&lab.peer, move || echoed(OWNED, length));
    }
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap();
    expect_all_frames(&mut [forwarder.join().unwrap()], opened.frames);
}

#[test]
fn allocated_frames_are_all_sent_and_come_back() {
    const COUNT: usize = 5000;
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let settings = settings(&["d0"], AttachMode::Native, 1);
    let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
    let mut io = opened.workers.remove(0);
    let before = lab.sent_packets();
    let (mut sent, deadline) = (0, Instant::now() + PATIENCE);
    while sent < COUNT {
        let mut burst = Vec::new();
        while burst.len() < BURST.min(COUNT - sent) {
            let Some(mut frame) = io.allocate() else { break };
            frame.set_length(60).unwrap();
            frame.head_mut().fill(0);
            frame.head_mut()[..14].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
            burst.push(frame);
        }
        sent += io.transmit(PortIndex(0), &mut burst);
        assert!(burst.is_empty());
        io.housekeeping();
        assert!(Instant::now() < deadline, "only {sent} frames were accepted");
    }
    expect_all_frames(std::slice::from_mut(&mut io), opened.frames);
    assert!(lab.sent_packets() - before >= COUNT as u64);
}

#[test]
fn frames_that_cannot_be_sent_are_freed() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let settings = settings(&["d0"], AttachMode::Native, 1);
    let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
    let mut io = opened.workers.remove(0);
    let mut all: Vec<_> = std::iter::from_fn(|| io.allocate()).collect();
    assert!(all.len() > 256, "more than the ring has room for");
    // Empty frames are none that the kernel would take.
    assert_eq!(io.transmit(PortIndex(0), &mut all), 0);
    // Nor is there such a port.
    let mut some: Vec<_> = std::iter::from_fn(|| io.allocate()).take(10).collect();
    assert_eq!(io.transmit(PortIndex(9), &mut some), 0);
    assert!(all.is_empty() && some.is_empty());
    expect_all_frames(std::slice::from_mut(&mut io), opened.frames);
}

#[test]
fn a_sleeping_worker_is_woken() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let settings = settings(&["d0"], AttachMode::Native, 1);
    let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
    let mut io = opened.workers.remove(0);
    let waker = io.waker();
    waker.wake();
    let start = Instant::now();
    io.wait(60_000);
    assert!(
        start.elapsed() < Duration::from_secs(50),
        "it slept although it had been woken before"
    );
    let sleeper = std::thread::spawn(move || io.wait(60_000));
    waker.wake();
    sleeper.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(50), "nobody woke it");
}

#[test]
fn nothing_is_left_after_kill_and_a_new_start_works() {
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    let mut child = lab.start_example("af_xdp_echo", &["d0", &OWNED.to_string()]);
    run_in(&lab.peer, || echoed(OWNED, 64));
    assert!(
        lab.director_link().contains("prog/xdp"),
        "the filter is attached while the program runs"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    lab.expect_detached();
    lab.ping_kernel();

    let echo = Echo::start(&lab, settings(&["d0"], AttachMode::Native, 1));
    run_in(&lab.peer, || echoed(OWNED, 64));
    echo.finish();
    lab.expect_detached();
}

#[test]
fn a_port_works_again_after_it_was_down() {
    let Some(lab) = Lab::new(2, 2, 1500) else { return };
    let echo = Echo::start(&lab, settings(&["d0"], AttachMode::Native, 2));
    for _ in 0..3 {
        run_in(&lab.peer, || echoed(OWNED, 64));
        lab.set_director_link("down");
        lab.set_director_link("up");
    }
    run_in(&lab.peer, || echoed(OWNED, 64));
    echo.finish();
}

#[test]
fn a_port_that_disappears_does_not_stop_the_others() {
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
    let Some(lab) = Lab::new(1, 1, 1500) else { return };
    lab.add_server();
    let settings = settings(&["d0", "d1"], AttachMode::Native, 1);
    let mut opened = run_in(&lab.director, move || open(&settings)).unwrap();
    own(&mut opened, &[ELSEWHERE]);
    let mut io = opened.workers.remove(0);
    let macs: Vec<_> = opened.devices.iter().map(|device| device.mac).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let worker = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            if echo::turn(&mut io, &macs, ELSEWHERE) == 0 {
                io.wait(100);
            }
        }
    });
    run_in(&lab.peer, || echoed(ELSEWHERE, 64));
    lab.remove_director_link();
    run_in(&lab.server, || echoed(ELSEWHERE, 64));
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap();
}
