//! `ipvsadm -h` and `ipvsadm -v`.

use super::listing::IPVS_VERSION;

/// The version line. Scripts look for the version of ipvsadm whose behaviour they can count on, so it is that one's line.
pub fn version() -> String {
    format!("ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v{IPVS_VERSION})\n")
}

/// The help text.
pub fn help(program: &str) -> String {
    format!("{}{}{OPTIONS}", version(), USAGE.replace("{program}", program))
}

const USAGE: &str = "\
Usage (this is ulvs, which answers for its own director; it lists, and does not change anything yet):
  {program} [-L|-l] [SERVICE] [options]   services and their servers
  {program} -L -c [options]               connections
  {program} -L --timeout                  timeouts of TCP, TCP after a FIN, and UDP, in seconds
  {program} -L --daemon                   connection synchronisation
  {program} -h | -v                       this text, the version

";

const OPTIONS: &str = "\
SERVICE, one of
  --tcp-service    -t HOST[:PORT]
  --udp-service    -u HOST[:PORT]
  --sctp-service      HOST[:PORT]
  --fwmark-service -f MARK                a firewall mark greater than 0; -6 behind it for IPv6

Options
  --numeric        -n                     addresses and ports as numbers
  --exact          -X                     large numbers in full
  --stats                                 totals
  --rate                                  rates per second
  --thresholds                            limits on a server's connections
  --persistent-conn                       persistence templates; with -c the keys of persistence engines
  --tun-info                              outer headers of tunnelled servers
  --nosort                                the director's own order
  --sort                                  sorted, which is the default
Short options may be combined: -Lnc.
";
