//! What there is with DPDK only: its own ways to fail, twins, and their links.

use crate::cases::two_arms;
use crate::client;
use crate::config::{Backend, Config, Family::V4, Method::Nat};
use crate::director::Director;
use crate::lab::{self, Lab, Shape, address};
use crate::traffic;

/// A director that cannot start ends with one sentence that names the reason, and leaves nothing behind.
pub fn a_failed_start_is_explained() {
    let Some(lab) = Lab::up("dpdk_failed_start", Shape::usual(Backend::Dpdk)) else {
        return;
    };
    let config = Config::usual(&lab, traffic::services(&two_arms(Nat, V4, V4)));
    let good = config.to_toml();
    let two_workers = Config { workers: 2, ..config }.to_toml();
    let cases = [
        (good.replace("iface=wire-inside", "iface=wire-insdie"), "wire-insdie"),
        (good.replace("net_af_xdp1,", "net_afxdp1,"), "net_afxdp1"),
        (good.replace("mtu = 1500", "mtu = 9000"), "takes an MTU from 68 to "),
        (two_workers, "1 receive and 1 send queue(s) for 2 workers"),
        // More than any machine has.
        (
            good.clone() + "\n[dpdk]\nhuge_pages = \"on\"\nmemory_mib = 1048576\n",
            "DPDK needs 1048576 MiB of huge pages and",
        ),
        (
            good.clone() + "\n[dpdk]\neal_arguments = [\"--no-such-option\"]\n",
            "DPDK could not be started: ",
        ),
    ];
    let links = || lab.run("director", &["ls", "/sys/class/net"]) + &lab.run("director", &["ip", "-details", "link"]);
    let before = links();
    let file = lab.directory().join("failed.toml").display().to_string();
    for (text, sentence) in cases {
        eprintln!("{sentence}");
        std::fs::write(&file, text).expect("a file can be written");
        let output = lab.try_run("director", &[env!("CARGO_BIN_EXE_ulvsd"), "--config", &file]);
        assert_eq!(output.status.code(), Some(1), "{}", lab::describe(&output));
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or_default();
        assert!(last.starts_with("ulvsd: ") && last.contains(sentence), "{errors}");
        assert_eq!(links(), before, "a failed start left something: {errors}");
    }
    // One that runs is not disturbed by another that wants its interface.
    let director = Director::start_with_text(&lab, &good);
    std::fs::write(&file, good.replace("ulvs.sock", "other.sock")).expect("a file can be written");
    let output = lab.try_run("director", &[env!("CARGO_BIN_EXE_ulvsd"), "--config", &file]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("ulvsd: port outside: another ulvsd works on wire-outside"),
        "{errors}"
    );
    client::get(&lab, traffic::vip(&two_arms(Nat, V4, V4)), 80, "/");
    director.stop();
}

/// Without twins made before, the director makes them and takes them away. Addresses that they get meanwhile are used as those of any interface.
pub fn twins_of_our_own_go_with_the_director() {
    let Some(lab) = Lab::up("own_twins", Shape::usual(Backend::Dpdk)) else {
        return;
    };
    let case = two_arms(Nat, V4, V4);
    let config = Config::usual(&lab, traffic::services(&case));
    for twin in lab.directors_ports() {
        lab.run("director", &["ip", "link", "delete", twin]);
    }
    let director = Director::start_with(&lab, config);
    for (twin, own) in [("outside", "DIRECTOR_OUTSIDE4"), ("inside", "DIRECTOR_INSIDE4")] {
        let own = format!("{}/24", address(own));
        lab.run("director", &["ip", "address", "add", &own, "dev", twin]);
        lab.run("director", &["ip", "link", "set", twin, "up"]);
    }
    crate::ports::reach_kernel(&lab, address("DIRECTOR_OUTSIDE4"));
    client::get(&lab, traffic::vip(&case), 80, "/");
    for counter in [
        "port_rx_frames[outside]",
        "port_tx_frames[inside]",
        "slow_path_punted_rest[outside]",
    ] {
        assert!(director.counter(counter) > 0, "{counter} is 0");
    }
    // Compares with before the start, when there were none.
    director.stop();
}

/// A port's link is its twin's: what the kernel and routing programs on the director see.
pub fn a_link_that_goes_and_comes() {
    // DPDK's TAP driver, which two queues bring, tells the state of its link.
    let shape = Shape {
        queues: 2,
        ..Shape::usual(Backend::Dpdk)
    };
    let Some(lab) = Lab::up("dpdk_link", shape) else { return };
    let director = Director::start(&lab, Vec::new());
    let carrier_of_twin = || {
        lab.run("director", &["cat", "/sys/class/net/outside/carrier"])
            .trim()
            .to_owned()
    };
    director.wait_for_log("port outside: the link is up");
    assert_eq!(carrier_of_twin(), "1");
    lab.run("director", &["ip", "link", "set", "card-outside", "down"]);
    director.wait_for_log("port outside: the link is down");
    lab.wait_until(|| carrier_of_twin() == "0", "the twin loses its link");
    lab.run("director", &["ip", "link", "set", "card-outside", "up"]);
    lab.wait_until(|| carrier_of_twin() == "1", "the twin has its link again");
    director.stop();
}
