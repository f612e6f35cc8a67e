//! Instructions per packet, counted by callgrind: they hold on a noisy machine too.

use std::process::Command;

use crate::ports::ROUND;

const ROUNDS: usize = 20;
const FLOWS: &str = "10000";
const ROWS: &[&str] = &[
    "DR v4 UDP in",
    "DR v4 TCP in",
    "DR v6 TCP in",
    "TUN v4 UDP in",
    "TUN v6 TCP in",
    "NAT v4 UDP in",
    "NAT v4 UDP out",
    "NAT v4 TCP in",
    "NAT v4 TCP out",
    "NAT v6 TCP in",
    "NAT v6 TCP out",
    "FullNAT v4 UDP in",
    "FullNAT v4 UDP out",
    "FullNAT v6 TCP in",
    "FullNAT v6 TCP out",
    "FullNAT 6→4 TCP in",
    "FullNAT 6→4 TCP out",
    "new DR v4 SYN wlc",
    "new DR v4 SYN rr",
    "new DR v4 SYN mh",
    "new NAT v4 SYN wlc",
    "new FullNAT v4 SYN wlc",
    "flood DR v4 SYN",
    "flood NAT v4 SYN",
];

/// Prints instructions per packet, ports included, for one kind of each row.
pub fn table() {
    println!("| case, {FLOWS} connections | instructions per packet |");
    println!("|---|---:|");
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    for row in ROWS
        .iter()
        .filter(|row| only.as_ref().is_none_or(|only| row.contains(only.as_str())))
    {
        match instructions(row) {
            Some(count) => println!("| {row} | {:.0} |", count as f64 / (ROUNDS * ROUND) as f64),
            None => println!("| {row} | valgrind did not run |"),
        }
    }
}

fn instructions(row: &str) -> Option<u64> {
    let own = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*timed_turns*",
        ])
        .arg(own)
        .args([
            "--bench",
            "--counted",
            "--flows",
            FLOWS,
            "--rounds",
            &ROUNDS.to_string(),
            "--only",
            row,
            "--exact",
        ])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}
