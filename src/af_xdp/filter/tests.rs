//! The program itself, run by the kernel on frames made here (`BPF_PROG_TEST_RUN`), with no device involved. Needs root; says so
//! and does nothing otherwise.

mod frames;
mod maps;
mod workers;

use super::*;
use frames::*;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Such a run arrives on the loopback interface.
const LOOPBACK: u32 = 1;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Director,
    Kernel,
}
use To::{Director, Kernel};

/// A filter that knows some addresses of every class, or nothing when the kernel does not let us load one.
fn filter(vlans: &[u16]) -> Option<Filter> {
    let limits = FilterLimits {
        devices: 1,
        sockets: 1,
        addresses: 16,
        endpoints: 16,
    };
    let mut filter = match Filter::load(limits) {
        Ok(filter) => filter,
        Err(error @ Error::NotPermitted { .. }) => {
            println!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    filter.set_port(LOOPBACK, 0, 1, vlans).unwrap();
    let class = |text: &str, class| (address(text), class);
    let addresses = HashMap::from([
        class("10.0.0.1", AddressClass::Kernel),
        class("10.0.0.10", AddressClass::Owned),
        class("10.0.0.20", AddressClass::Shared),
        class("fd00::1", AddressClass::Kernel),
        class("fd00::10", AddressClass::Owned),
        class("fd00::20", AddressClass::Shared),
    ]);
    filter.update(&addresses, endpoints()).unwrap();
    Some(filter)
}

fn endpoints() -> Vec<Endpoint> {
    let endpoint = |text, port, protocol| Endpoint {
        address: address(text),
        port,
        protocol,
    };
    vec![
        // Services on the shared VIPs.
        endpoint("10.0.0.20", 80, TCP),
        endpoint("fd00::20", 80, TCP),
        // Real servers behind NAT; the last one for all its ports.
        endpoint("10.1.0.5", 8080, TCP),
        endpoint("fd00:1::5", 8080, TCP),
        endpoint("10.1.0.6", 0, UDP),
    ]
}

fn address(text: &str) -> Address {
    match text.parse().unwrap() {
        std::net::IpAddr::V4(address) => Address::v4(address.octets()),
        std::net::IpAddr::V6(address) => Address::v6(address.octets()),
    }
}

/// `BPF_PROG_TEST_RUN`'s part of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// The XDP action of `program` on a frame.
fn action(filter: &Filter, program: &str, frame: &[u8]) -> u32 {
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    let program: &Xdp = filter.ebpf.program(program).unwrap().try_into().unwrap();
    let mut run = TestRun {
        program: program.fd().unwrap().as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: `run` has the layout of union bpf_attr for this command, and points to the frame, which is only read.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<TestRun>()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    run.result
}

/// For whom both programs take a frame. There is no socket, so what is the director's is dropped.
fn verdict(filter: &Filter, frame: &[u8]) -> To {
    const XDP_DROP: u32 = 1;
    const XDP_PASS: u32 = 2;
    let actions = ["filter_frags", "filter_linear"].map(|program| action(filter, program, frame));
    match actions {
        [XDP_DROP, XDP_DROP] => Director,
        [XDP_PASS, XDP_PASS] => Kernel,
        other => panic!("XDP actions {other:?}"),
    }
}

/// Checks each (what it is, frame, whose it is) and says which is wrong.
#[track_caller]
fn expect(cases: &[(&str, Vec<u8>, To)]) {
    let Some(filter) = filter(&[0]) else { return };
    for (what, frame, to) in cases {
        assert_eq!(verdict(&filter, frame), *to, "{what}");
    }
}

#[test]
fn addresses_decide_first() {
    let to = |destination| frame(&packet("10.9.9.9", destination, TCP, &ports(1234, 80)));
    let to_v6 = |destination| frame(&packet("fd99::9", destination, TCP, &ports(1234, 80)));
    expect(&[
        ("kernel's own", to("10.0.0.1"), Kernel),
        ("owned", to("10.0.0.10"), Director),
        (
            "owned, any protocol",
            frame(&packet("10.9.9.9", "10.0.0.10", 47, &[])),
            Director,
        ),
        (
            "owned, without a whole transport header",
            frame(&packet("10.9.9.9", "10.0.0.10", TCP, &[1])),
            Director,
        ),
        ("shared, a service", to("10.0.0.20"), Director),
        ("unknown", to("10.0.0.30"), Kernel),
        ("IPv6 kernel's own", to_v6("fd00::1"), Kernel),
        ("IPv6 owned", to_v6("fd00::10"), Director),
        ("IPv6 shared, a service", to_v6("fd00::20"), Director),
        ("IPv6 unknown", to_v6("fd00::30"), Kernel),
        ("multicast", to("224.0.0.18"), Kernel),
        ("broadcast", to("255.255.255.255"), Kernel),
        ("IPv6 multicast", to_v6("ff02::12"), Kernel),
        ("not IP", ethernet_to(UNICAST, &[], 0x88cc, &[0; 40]), Kernel),
        (
            "sent to everybody in the network",
            ethernet_to(
                [255; 6],
                &[],
                0x0800,
                &packet("10.9.9.9", "10.0.0.10", TCP, &ports(1, 80)),
            ),
            Kernel,
        ),
    ]);
}

#[test]
fn on_a_shared_address_only_services_are_taken() {
    let to = |protocol, payload: &[u8]| frame(&packet("10.9.9.9", "10.0.0.20", protocol, payload));
    let to_v6 = |protocol, payload: &[u8]| frame(&packet("fd99::9", "fd00::20", protocol, payload));
    let about = |source, source_port, destination, destination_port| {
        to(
            ICMP,
            &icmp(
                3,
                &packet(source, destination, TCP, &ports(source_port, destination_port)),
            ),
        )
    };
    expect(&[
        ("ssh", to(TCP, &ports(1234, 22)), Kernel),
        (
            "another protocol on the service's port",
            to(UDP, &ports(1234, 80)),
            Kernel,
        ),
        ("IPv6 ssh", to_v6(TCP, &ports(1234, 22)), Kernel),
        ("GRE", to(47, &[0; 20]), Kernel),
        ("echo request", to(ICMP, &icmp(8, &[])), Director),
        ("IPv6 echo request", to_v6(ICMPV6, &icmp(128, &[])), Director),
        ("timestamp request", to(ICMP, &icmp(13, &[])), Kernel),
        (
            "reply of a real server",
            frame(&packet("10.1.0.5", "10.0.0.20", TCP, &ports(8080, 5000))),
            Director,
        ),
        (
            "error about a service",
            about("10.0.0.20", 80, "10.9.9.9", 1234),
            Director,
        ),
        (
            "error about the kernel's ssh",
            about("10.0.0.20", 22, "10.9.9.9", 1234),
            Kernel,
        ),
        (
            "error about a tunnel",
            to(ICMP, &icmp(3, &packet("10.0.0.20", "10.1.0.7", 4, &[]))),
            Director,
        ),
        ("error that quotes nothing", to(ICMP, &icmp(3, &[])), Director),
    ]);
}

#[test]
fn replies_of_real_servers_are_taken_on_their_way_to_clients() {
    let from = |source, protocol, port| frame(&packet(source, "10.9.9.9", protocol, &ports(port, 1234)));
    expect(&[
        ("reply", from("10.1.0.5", TCP, 8080), Director),
        (
            "IPv6 reply",
            frame(&packet("fd00:1::5", "fd99::9", TCP, &ports(8080, 1))),
            Director,
        ),
        ("another port of the server", from("10.1.0.5", TCP, 22), Kernel),
        ("port 0 of the server", from("10.1.0.5", TCP, 0), Kernel),
        ("another protocol", from("10.1.0.5", UDP, 8080), Kernel),
        (
            "any port of the server with a service on all ports",
            from("10.1.0.6", UDP, 4711),
            Director,
        ),
        ("but not another protocol", from("10.1.0.6", TCP, 4711), Kernel),
        (
            "towards the server",
            frame(&packet("10.9.9.9", "10.1.0.5", TCP, &ports(1234, 8080))),
            Kernel,
        ),
        (
            "to the kernel, as for a health check",
            frame(&packet("10.1.0.5", "10.0.0.1", TCP, &ports(8080, 1))),
            Kernel,
        ),
    ]);
}

#[test]
fn icmp_errors_go_where_the_quoted_packet_belongs() {
    let error = |kind, quoted: &[u8]| frame(&packet("10.1.0.99", "10.9.9.9", ICMP, &icmp(kind, quoted)));
    let error_v6 = |kind, quoted: &[u8]| frame(&packet("fd00:1::99", "fd99::9", ICMPV6, &icmp(kind, quoted)));
    let request = packet("10.9.9.9", "10.1.0.5", TCP, &ports(1234, 8080)[..8]);
    let reply = packet("10.1.0.5", "10.9.9.9", TCP, &ports(8080, 1234)[..8]);
    let other = packet("10.1.0.7", "10.9.9.9", TCP, &ports(8080, 1234)[..8]);
    let request_v6 = packet("fd99::9", "fd00:1::5", TCP, &ports(1234, 8080));
    let extended = packet("fd99::9", "fd00:1::5", 60, &extension(TCP, 0, &ports(1234, 8080)));
    let mut cases = Vec::new();
    for kind in [3, 4, 11, 12] {
        cases.push(("about a request", error(kind, &request), Director));
        cases.push(("about a reply", error(kind, &reply), Director));
        cases.push(("about something else", error(kind, &other), Kernel));
    }
    for kind in 1..=4 {
        cases.push(("IPv6 about a request", error_v6(kind, &request_v6), Director));
        cases.push(("IPv6 with an extension header", error_v6(kind, &extended), Director));
    }
    cases.extend([
        ("a redirect is no error", error(5, &request), Kernel),
        ("an echo reply neither", error(0, &request), Kernel),
        (
            "quotes a later fragment",
            error(3, &fragment_v4(request.clone(), 1480, false)),
            Director,
        ),
        ("quotes too little", error(3, &request[..19]), Kernel),
        (
            "to an owned address",
            frame(&packet("10.1.0.99", "10.0.0.10", ICMP, &icmp(3, &other))),
            Director,
        ),
    ]);
    expect(&cases);
}

#[test]
fn fragments_stay_together() {
    let reply = || packet("10.1.0.5", "10.9.9.9", TCP, &ports(8080, 1234));
    let stranger = packet("10.1.0.7", "10.9.9.9", TCP, &ports(8080, 1234));
    let ssh = || packet("10.9.9.9", "10.0.0.20", TCP, &ports(1234, 22));
    let reply_v6 = |offset, more| {
        frame(&packet(
            "fd00:1::5",
            "fd99::9",
            44,
            &fragment_header(TCP, offset, more, &ports(8080, 1234)),
        ))
    };
    expect(&[
        ("first", frame(&fragment_v4(reply(), 0, true)), Director),
        ("later", frame(&fragment_v4(reply(), 1480, true)), Director),
        ("last", frame(&fragment_v4(reply(), 2960, false)), Director),
        ("of somebody else", frame(&fragment_v4(stranger, 1480, true)), Kernel),
        (
            "don't fragment is not a fragment",
            frame(&{
                let mut whole = ssh();
                whole[6] = 0x40;
                whole
            }),
            Kernel,
        ),
        ("to a shared address", frame(&fragment_v4(ssh(), 1480, true)), Director),
        ("IPv6 first", reply_v6(0, true), Director),
        ("IPv6 later", reply_v6(1448, true), Director),
        ("IPv6 last", reply_v6(2896, false), Director),
    ]);
}

#[test]
fn options_and_extension_headers_are_skipped() {
    let mut options = packet("10.9.9.9", "10.0.0.20", TCP, &[vec![1; 40], ports(1234, 80)].concat());
    options[0] = 0x4f;
    let mut too_short = packet("10.9.9.9", "10.0.0.20", TCP, &ports(1234, 80));
    too_short[0] = 0x44;
    let with = |first, payload: &[u8]| frame(&packet("fd99::9", "fd00::20", first, payload));
    let service = ports(1234, 80);
    let ssh = ports(1234, 22);
    // An authentication header (51) counts its length in words, less two: 0 is 8 bytes.
    let chain = |payload: &[u8]| extension(43, 1, &extension(60, 2, &extension(51, 0, &extension(TCP, 0, payload))));
    let too_many = (0..9)
        .fold((TCP, service.clone()), |(next, payload), _| {
            (60, extension(next, 0, &payload))
        })
        .1;
    expect(&[
        ("IPv4 options", frame(&options), Director),
        ("IPv4 header length below the minimum", frame(&too_short), Kernel),
        ("hop-by-hop", with(0, &extension(TCP, 0, &service)), Director),
        ("hop-by-hop, ssh", with(0, &extension(TCP, 0, &ssh)), Kernel),
        ("four headers", with(0, &chain(&service)), Director),
        ("four headers, ssh", with(0, &chain(&ssh)), Kernel),
        ("longest header", with(60, &extension(TCP, 255, &service)), Director),
        ("more headers than we follow", with(60, &too_many), Kernel),
        (
            "the same to an owned address",
            frame(&packet("fd99::9", "fd00::10", 60, &too_many)),
            Director,
        ),
        ("no next header", with(59, &service), Kernel),
    ]);
}

#[test]
fn arp_and_neighbour_discovery_for_owned_addresses() {
    let mut strange = arp(1, [10, 0, 0, 10]);
    strange[15] = 6; // hardware type
    expect(&[
        ("request, owned", arp(1, [10, 0, 0, 10]), Director),
        ("reply, owned", arp(2, [10, 0, 0, 10]), Director),
        ("request, kernel's", arp(1, [10, 0, 0, 1]), Kernel),
        ("reply to the kernel", arp(2, [10, 0, 0, 1]), Kernel),
        ("request, shared: the kernel answers", arp(1, [10, 0, 0, 20]), Kernel),
        ("request, unknown", arp(1, [10, 0, 0, 77]), Kernel),
        ("not Ethernet", strange, Kernel),
        ("solicitation, owned", neighbour_discovery(135, "fd00::10"), Director),
        ("solicitation, kernel's", neighbour_discovery(135, "fd00::1"), Kernel),
        ("solicitation, shared", neighbour_discovery(135, "fd00::20"), Kernel),
        ("advertisement", neighbour_discovery(136, "fd00::10"), Kernel),
        ("router solicitation", neighbour_discovery(133, "fd00::10"), Kernel),
        ("router advertisement", neighbour_discovery(134, "fd00::10"), Kernel),
        ("redirect", neighbour_discovery(137, "fd00::10"), Kernel),
        (
            "an advertisement sent to an owned address itself",
            frame(&packet(
                "fd00::99",
                "fd00::10",
                ICMPV6,
                &icmp(136, address("fd00::10").wire()),
            )),
            Kernel,
        ),
    ]);
}

#[test]
fn only_our_vlans_are_taken() {
    const VLAN: u16 = 0x8100;
    const QINQ: u16 = 0x88a8;
    let packet = packet("10.9.9.9", "10.0.0.10", TCP, &ports(1234, 80));
    let tagged = |tags: &[(u16, u16)]| ethernet_to(UNICAST, tags, 0x0800, &packet);
    type Case<'a> = (&'a [u16], &'a [(u16, u16)], To);
    let cases: [Case; 14] = [
        (&[0], &[], Director),
        (&[0], &[(VLAN, 10)], Kernel),
        // A tag with id 0 is only a priority.
        (&[0], &[(VLAN, 0xe000)], Director),
        (&[10], &[], Kernel),
        (&[10], &[(VLAN, 0)], Kernel),
        (&[10], &[(VLAN, 10)], Director),
        (&[10], &[(VLAN, 0xf00a)], Director),
        (&[10], &[(VLAN, 11)], Kernel),
        (&[10, 20], &[(QINQ, 10), (VLAN, 20)], Director),
        (&[10], &[(QINQ, 10), (VLAN, 20)], Kernel),
        (&[20], &[(QINQ, 10), (VLAN, 20)], Kernel),
        (&[10], &[(VLAN, 0), (VLAN, 10)], Director),
        (&[10], &[(VLAN, 10), (VLAN, 10), (VLAN, 10)], Kernel),
        (&[4094], &[(VLAN, 4094)], Director),
    ];
    for (vlans, tags, to) in cases {
        let Some(filter) = filter(vlans) else { return };
        assert_eq!(verdict(&filter, &tagged(tags)), to, "VLANs {vlans:?}, tags {tags:?}");
    }
}

#[test]
fn cut_frames_never_reach_the_director_without_an_address() {
    let Some(filter) = filter(&[0]) else { return };
    for (whole, address_end) in [
        (arp(1, [10, 0, 0, 10]), 14 + 28),
        (frame(&packet("10.9.9.9", "10.0.0.10", TCP, &ports(1, 80))), 14 + 20),
        (
            frame(&packet("fd99::9", "fd00::10", 0, &extension(TCP, 0, &ports(1, 80)))),
            14 + 40,
        ),
        (neighbour_discovery(135, "fd00::10"), 14 + 40 + 24),
    ] {
        for length in 14..=whole.len() {
            let expected = if length < address_end { Kernel } else { Director };
            assert_eq!(
                verdict(&filter, &whole[..length]),
                expected,
                "{length} bytes of {whole:x?}"
            );
        }
    }
}
