//! The backend on DPDK's drivers that need no device: a ring that gives back what is sent, and a source and sink of nothing. On ordinary pages,
//! so that they run anywhere.
//!
//! A process can start DPDK once, so each test runs in a process of its own, also under `cargo test`.

use std::process::Command;

use ulvs_dataplane::io::{BURST, Frame, HEADROOM, Io, PortIndex};

use super::{DeviceSettings, DpdkFrame, DpdkIo, HugePages, Opened, Settings, open};

/// Set for a test that is the only one in its process.
const ALONE: &str = "ULVS_DPDK_TEST_ALONE";

/// Runs the body of the test with this full name in a process of its own.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("a test is a program");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("the test can be started again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! tests {
    ($($name:ident $body:block)*) => {
        $(
            #[test]
            fn $name() {
                alone(concat!(module_path!(), "::", stringify!($name)).split_once("::").expect("a path").1, || $body);
            }
        )*
    };
}

mod network;
mod offloads;
mod several_workers;

fn settings(devices: &[&str], workers: usize) -> Settings {
    let named = |device: &&str| DeviceSettings::new(*device, *device);
    Settings {
        workers,
        huge_pages: HugePages::Off,
        ..Settings::new(devices.iter().map(named).collect())
    }
}

const PORT: PortIndex = PortIndex(0);

/// A frame of `length` bytes, each of which is `value`.
fn frame(io: &mut DpdkIo, length: usize, value: u8) -> DpdkFrame {
    let mut frame = io.allocate().expect("a buffer is free");
    frame.set_length(length).expect("it fits");
    frame.head_mut().fill(value);
    frame
}

fn received(io: &mut DpdkIo) -> Vec<DpdkFrame> {
    let mut frames = Vec::with_capacity(BURST);
    io.receive(PORT, &mut frames);
    frames
}

/// Ends everything and checks that no buffer is missing.
fn close(opened: Opened) {
    drop((opened.workers, opened.counters));
    // The ring itself holds nothing any more; all that is out now would be lost.
    assert_eq!(
        opened.ports.frames(),
        (opened.frames, opened.frames),
        "free buffers, all buffers"
    );
    opened.ports.close();
}

tests! {
    what_is_sent_into_a_ring_comes_back_in_order_and_no_buffer_is_lost {
        let mut opened = open(&settings(&["net_ring0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        io.begin();
        for round in 0..1000u32 {
            let count = 1 + (round as usize * 7) % BURST;
            let mut burst: Vec<_> = (0..count).map(|i| frame(io, 60 + i, i as u8)).collect();
            assert_eq!(io.transmit(PORT, &mut burst), count);
            assert!(burst.is_empty());
            let back = received(io);
            assert_eq!(back.len(), count);
            for (i, frame) in back.into_iter().enumerate() {
                assert_eq!((frame.total_length(), frame.head()[0], frame.head()[59]), (60 + i, i as u8, i as u8));
                if i % 2 == 0 { io.free(frame) } else { drop(frame) }
            }
            io.housekeeping();
        }
        let counted = opened.counters.read();
        assert_eq!(counted[0].1.sent, counted[0].1.received);
        assert!(counted[0].1.sent > 20_000, "{counted:?}");
        close(opened);
    }

    what_a_full_ring_does_not_take_is_freed_and_told {
        let mut opened = open(&settings(&["net_ring0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        io.begin();
        let (mut offered, mut taken) = (0, 0);
        while offered == taken {
            let mut burst: Vec<_> = (0..BURST).map(|_| frame(io, 64, 1)).collect();
            offered += BURST;
            taken += io.transmit(PORT, &mut burst);
            assert!(burst.is_empty());
            assert!(offered < 100_000, "the ring never fills");
        }
        let mut back = 0;
        loop {
            let frames = received(io);
            if frames.is_empty() { break }
            back += frames.len();
        }
        assert_eq!(back, taken);
        close(opened);
    }

    an_empty_pool_says_so_and_recovers {
        let few = Settings { frames: Some(600), ..settings(&["net_null0"], 1) };
        let mut opened = open(&few).expect("it opens");
        let all = opened.frames as usize;
        let io = &mut opened.workers[0];
        io.begin();
        let mut held: Vec<DpdkFrame> = std::iter::from_fn(|| io.allocate()).collect();
        assert!(held.len() <= all && held.len() + 512 > all, "{} of {all}", held.len());
        assert!(io.allocate().is_none());
        // The driver needs buffers to receive into, and gets none.
        assert!(received(io).is_empty());
        // What is sent to nowhere comes back.
        assert_eq!(io.transmit(PORT, &mut held), held.capacity().min(all));
        assert!(io.allocate().is_some());
        assert!(!received(io).is_empty());
        close(opened);
    }

    a_frame_grows_and_shrinks_within_its_buffer {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let mut frame = frame(io, 60, 7);
        frame.push_front(HEADROOM).expect("that much is promised");
        assert_eq!((frame.total_length(), frame.head()[HEADROOM]), (60 + HEADROOM, 7));
        assert!(frame.push_front(1).is_err());
        frame.pull_front(HEADROOM + 10);
        assert_eq!((frame.total_length(), frame.head()), (50, &[7u8; 50][..]));
        assert!(frame.set_length(2048).is_err(), "ten bytes less than when it began");
        assert_eq!(frame.total_length(), 50);
        frame.set_length(2048 - 10).expect("to the end of the buffer");
        drop(frame);
        close(opened);
    }

    segments_are_read_in_order_and_dropped_with_the_frame_or_by_its_length {
        let mut opened = open(&settings(&["net_ring0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let chain = |io: &mut DpdkIo| {
            let mut first = frame(io, 100, 1);
            let (second, third) = (frame(io, 30, 2), frame(io, 20, 3));
            first.append(second);
            first.append(third);
            first
        };
        let whole = chain(io);
        assert_eq!((whole.total_length(), whole.head().len(), whole.segments()), (150, 100, 3));
        assert_eq!(whole.tail().map(|part| (part[0], part.len())).collect::<Vec<_>>(), [(2, 30), (3, 20)]);
        // Through a port and back.
        assert_eq!(io.transmit(PORT, &mut vec![whole]), 1);
        let mut back = received(io);
        assert_eq!((back.len(), back[0].total_length(), back[0].tail().count()), (1, 150, 2));
        back[0].pull_front(14);
        assert_eq!((back[0].total_length(), back[0].head().len()), (136, 86));
        back[0].set_length(40).expect("it fits");
        assert_eq!((back[0].total_length(), back[0].tail().count(), back[0].segments()), (40, 0, 1));
        drop(back);
        drop(chain(io));
        close(opened);
    }

    a_tag_that_the_driver_took_out_is_put_back {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let mut frame = frame(io, 60, 0);
        for (at, byte) in frame.head_mut().iter_mut().enumerate() { *byte = at as u8 }
        frame.pretend_stripped(0x2064);
        assert!(frame.lost_its_tag());
        frame.restore_tag();
        assert!(!frame.lost_its_tag());
        let expected: Vec<u8> = (0..12).chain([0x81, 0x00, 0x20, 0x64]).chain(12..60).collect();
        assert_eq!(frame.head(), expected);
        drop(frame);
        close(opened);
    }

    workers_take_from_one_pool_on_threads_of_their_own {
        let mut opened = open(&settings(&["net_null0", "net_null1"], 2)).expect("it opens");
        let workers = std::mem::take(&mut opened.workers);
        let all: u32 = opened.frames;
        let threads: Vec<_> = workers.into_iter().map(|mut io| std::thread::spawn(move || {
            io.begin();
            for _ in 0..200 {
                for port in 0..2 {
                    let mut frames = Vec::with_capacity(BURST);
                    io.receive(PortIndex(port), &mut frames);
                    assert_eq!(frames.len(), BURST);
                    assert_eq!(io.transmit(PortIndex(1 - port), &mut frames), BURST);
                }
                io.housekeeping();
            }
            // Another thread's frames may be freed anywhere.
            io.allocate().expect("a buffer is free")
        })).collect();
        let frames: Vec<DpdkFrame> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(opened.ports.frames(), (all - 2, all));
        drop(frames);
        close(opened);
    }

    more_workers_than_queues_is_a_sentence {
        let Err(error) = open(&settings(&["net_ring0"], 200)).map(|_| ()) else {
            panic!("the ring has 16 queues");
        };
        let told = error.to_string();
        assert!(told.contains("16 receive and 16 send queue(s) for 200 workers"), "{told}");
        assert!(told.contains("set the number of workers to 16"), "{told}");
    }

    a_device_that_is_not_there_is_a_sentence {
        let Err(error) = open(&settings(&["net_nosuch0"], 1)).map(|_| ()) else { panic!("there is no such driver") };
        let told = error.to_string();
        assert!(told.contains("net_nosuch0"), "{told}");
    }
}
