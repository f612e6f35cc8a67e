//! `[ipvs]`.

use ulvs_dataplane::tunables::Tunables;

use crate::config::section::Section;

pub fn parse(section: &Section) -> Tunables {
    let number = |key| section.integer(key).value;
    let is_set = |key| number(key) != 0;
    Tunables {
        // The table of keys holds this and secure_tcp between 0 and 3.
        conn_reuse_mode: number("conn_reuse_mode") as u8,
        expire_nodest_conn: is_set("expire_nodest_conn"),
        sloppy_tcp: is_set("sloppy_tcp"),
        sloppy_sctp: is_set("sloppy_sctp"),
        schedule_icmp: is_set("schedule_icmp"),
        nat_icmp_send: is_set("nat_icmp_send"),
        pmtu_disc: is_set("pmtu_disc"),
        secure_tcp: number("secure_tcp") as u8,
    }
}
