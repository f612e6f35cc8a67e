//! `ipvsadm -G`: local addresses by service, in DPVS's columns. What DPVS counts per local address is not counted here, and so a dash.

use ulvs_control::api::views::ServiceView;

use super::names::Names;
use super::order;

/// The table.
pub fn table(mut services: Vec<ServiceView>, names: &Names) -> String {
    order::sort_services(&mut services);
    let row = |cells: [&str; 5]| {
        let [vip, total, local, conflicts, connections] = cells;
        format!("{vip:<20} {total:<8} {local:<20} {conflicts:<10} {connections:<10}\n")
    };
    let mut text = row(["VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS"]);
    for service in services {
        let vip = names.endpoint(service.address, service.port, service.protocol);
        text += &row([&vip, &service.local_addresses.len().to_string(), "", "", ""]);
        for local in &service.local_addresses {
            text += &row(["", "", &local.to_string(), "-", "-"]);
        }
    }
    text
}
