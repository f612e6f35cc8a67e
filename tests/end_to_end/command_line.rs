//! Services made, changed and removed with ipvsadm's command line in a running director.

use crate::client;
use crate::config::{Backend, Family::V4, Method, with_port};
use crate::director::Director;
use crate::lab::{self, Lab, Shape, address};

pub fn ipvsadm_makes_drains_and_removes_what_clients_use(backend: Backend) {
    let Some(lab) = Lab::up("ipvsadm", Shape::usual(backend)) else {
        return;
    };
    // A director without any service: the virtual addresses are new to the filter and the network.
    let director = Director::start(&lab, Vec::new());
    let ipvsadm = |line: &str| {
        let words: Vec<&str> = ["ipvsadm"].into_iter().chain(line.split_whitespace()).collect();
        let output = director.ask(&words);
        assert!(output.status.success(), "{line}: {}", lab::describe(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let nat = with_port(Method::Nat.vip(V4), 80);
    let server = |number| with_port(V4.server(number), 80);
    let answers = |vip: &str| -> Vec<String> {
        let mut servers: Vec<_> = client::count_servers(&lab, vip, 6).into_keys().collect();
        servers.sort();
        servers
    };

    ipvsadm(&format!("-A -t {nat} -s rr"));
    ipvsadm(&format!("-a -t {nat} -r {} -m", server(1)));
    ipvsadm(&format!("-a -t {nat} -r {} -m", server(2)));
    assert_eq!(answers(Method::Nat.vip(V4)), ["server1", "server2"]);
    ipvsadm(&format!("-e -t {nat} -r {} -m -w 0", server(1)));
    assert_eq!(answers(Method::Nat.vip(V4)), ["server2"]);

    // FullNAT as DPVS spells it, and direct routing, with what is already there.
    let fullnat = with_port(Method::FullNat.vip(V4), 80);
    ipvsadm(&format!("-A -t {fullnat} -s rr"));
    ipvsadm(&format!("-P -t {fullnat} -z {}", address("POOL4")));
    ipvsadm(&format!("-a -t {fullnat} -r {} -b", server(3)));
    assert_eq!(answers(Method::FullNat.vip(V4)), ["server3"]);
    let dr = with_port(Method::DirectRouting.vip(V4), 80);
    ipvsadm(&format!("-A -t {dr}"));
    ipvsadm(&format!("-a -t {dr} -r {}", server(1)));
    assert_eq!(answers(Method::DirectRouting.vip(V4)), ["server1"]);

    // What was made stays through a reload of a file that does not know of it.
    let told = director.reload();
    assert!(
        told.contains(" reloaded, ") && told.contains("nothing differs"),
        "{told}"
    );
    assert_eq!(answers(Method::Nat.vip(V4)), ["server2"]);
    let connections = || -> u64 {
        let listing = ipvsadm("-Ln --stats");
        let row = listing.lines().find(|row| row.contains(&format!("-> {}", server(2))));
        let count = row.and_then(|row| row.split_whitespace().nth(2)?.parse().ok());
        count.unwrap_or_else(|| panic!("{listing}"))
    };
    assert!(connections() >= 12);
    ipvsadm("-Z");
    assert_eq!(connections(), 0);
    assert!(ipvsadm("-Ln --rate").contains("CPS"));

    ipvsadm(&format!("-d -t {nat} -r {}", server(2)));
    ipvsadm(&format!("-D -t {nat}"));
    let gone = director.ask(&["ipvsadm", "-Ln", "-t", &nat]);
    assert_eq!(gone.status.code(), Some(1), "{}", lab::describe(&gone));
    ipvsadm("-C");
    assert_eq!(ipvsadm("-Sn"), "");
    director.stop();
}
