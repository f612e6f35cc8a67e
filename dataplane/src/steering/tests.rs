use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

/// The definition, word by word.
fn naive(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let mut hash = 0;
    for at in 0..8 * input.len() {
        if bit(input, at) == 1 {
            hash ^= (0..32).fold(0u32, |window, i| window << 1 | u32::from(bit(key, at + i)));
        }
    }
    hash
}

fn tuple(source: &str, destination: &str) -> Key {
    let [source, destination]: [SocketAddr; 2] = [source, destination].map(|text| text.parse().unwrap());
    Key {
        source: source.ip().into(),
        destination: destination.ip().into(),
        source_port: source.port(),
        destination_port: destination.port(),
        protocol: 6,
    }
}

/// "Verifying the RSS hash calculation", Windows driver documentation: destination, source, hash of addresses, hash with TCP ports.
#[rustfmt::skip]
const VERIFICATION_SUITE: [(&str, &str, u32, u32); 8] = [
    ("161.142.100.80:1766",   "66.9.149.187:2794",    0x323e_8fc2, 0x51cc_c178),
    ("65.69.140.83:4739",     "199.92.111.2:14230",   0xd718_262a, 0xc626_b0ea),
    ("12.22.207.184:38024",   "24.19.198.95:12898",   0xd2d0_a5de, 0x5c2b_394a),
    ("209.142.163.6:2217",    "38.27.205.30:48228",   0x8298_9176, 0xafc7_327f),
    ("202.188.127.2:1303",    "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
    ("[3ffe:2501:200:3::1]:1766",             "[3ffe:2501:200:1fff::7]:2794",             0x2cc1_8cd5, 0x4020_7d3d),
    ("[ff02::1]:4739",                        "[3ffe:501:8::260:97ff:fe40:efab]:14230",   0x0f0c_461c, 0xdde5_1bbf),
    ("[fe80::200:f8ff:fe21:67cf]:38024",      "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
];

#[test]
fn the_published_hashes_are_found() {
    for (destination, source, of_addresses, of_tuple) in VERIFICATION_SUITE {
        let key = tuple(source, destination);
        assert_eq!(
            TOEPLITZ.addresses(&key.source, &key.destination),
            of_addresses,
            "{source}"
        );
        assert_eq!(RssFields::Tuple.hash(&key), of_tuple, "{source}");
    }
}

fn any_address(is_v4: bool) -> BoxedStrategy<Address> {
    if is_v4 {
        any::<[u8; 4]>().prop_map(Address::v4).boxed()
    } else {
        any::<[u8; 16]>().prop_map(Address::v6).boxed()
    }
}

fn any_tuple() -> impl Strategy<Value = Key> {
    let sides = any::<bool>().prop_flat_map(|is_v4| (any_address(is_v4), any_address(is_v4)));
    (sides, any::<(u16, u16)>()).prop_map(|((source, destination), (source_port, destination_port))| Key {
        source,
        destination,
        source_port,
        destination_port,
        protocol: 17,
    })
}

proptest! {
    #[test]
    fn tables_agree_with_the_definition(key in any_tuple(), secret in any::<[u8; 20]>()) {
        let mut random_key = KEY;
        random_key[..20].copy_from_slice(&secret);
        let toeplitz = Toeplitz::new(&random_key);
        let ports = [key.source_port.to_be_bytes(), key.destination_port.to_be_bytes()];
        let [source, destination] = [key.source.wire(), key.destination.wire()];
        prop_assert_eq!(toeplitz.tuple(&key), naive(&random_key, &[source, destination, &ports[0], &ports[1]].concat()));
        prop_assert_eq!(toeplitz.side(&key.source, key.source_port), naive(&random_key, &[source, &ports[0]].concat()));
        prop_assert_eq!(toeplitz.addresses(&key.source, &key.destination), naive(&random_key, &[source, destination].concat()));
    }

    #[test]
    fn both_directions_of_nat_have_one_owner(key in any_tuple(), workers in 1..=255u8) {
        let steering = Steering::new(workers, [RssFields::Source, RssFields::Destination]);
        let owner = steering.owner_by_client(&key.source, key.source_port);
        prop_assert!(owner < workers);
        prop_assert_eq!(steering.arrives_at(RssFields::Source, &key), owner);
        prop_assert_eq!(steering.arrives_at(RssFields::Destination, &key.reversed()), owner);
        prop_assert_eq!(steering.owner_by_tuple(&key), owner, "all services' packets come by the source then");
        prop_assert_eq!(steering.owner_of_reply(&key.reversed()), owner);
    }

    #[test]
    fn with_tuples_packets_arrive_at_their_owners(key in any_tuple(), workers in 1..=255u8) {
        let steering = Steering::new(workers, [RssFields::Tuple, RssFields::Tuple]);
        let arrives_at = steering.arrives_at(RssFields::Tuple, &key);
        prop_assert_eq!(steering.owner_by_tuple(&key), arrives_at);
        prop_assert_eq!(steering.owner_of_reply(&key), arrives_at);
        // What a card does: the low bits of the hash choose an entry of its table, which holds a queue.
        for length in [entries(workers), 4 * entries(workers)] {
            let entry = RssFields::Tuple.hash(&key) % length;
            prop_assert_eq!(worker_of_entry(entry as usize, workers), arrives_at);
        }
    }

    /// Whatever server and local address: among the ports, every worker has a share that is not far from its part of the table.
    #[test]
    fn every_worker_finds_local_ports(key in any_tuple(), by_destination in any::<bool>()) {
        let fields = if by_destination { RssFields::Destination } else { RssFields::Tuple };
        for workers in [2, 3, 16, 100, 255] {
            let replies = Steering::new(workers, [fields]).replies(&key);
            let mut ports = vec![0u32; usize::from(workers)];
            for port in 0..=u16::MAX {
                ports[usize::from(replies.owner(port))] += 1;
            }
            let mut shares = vec![0; usize::from(workers)];
            (0..entries(workers)).for_each(|entry| shares[usize::from(worker_of_entry(entry as usize, workers))] += 1);
            for (ports, share) in ports.iter().zip(shares) {
                prop_assert_eq!(*ports, share * 65_536 / entries(workers), "the hash is linear: the ports spread evenly");
            }
        }
    }
}

#[test]
fn no_worker_has_much_more_than_another() {
    for workers in 1..=255 {
        let mut shares = vec![0; usize::from(workers)];
        (0..entries(workers)).for_each(|entry| shares[usize::from(worker_of_entry(entry as usize, workers))] += 1);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(*least >= 4 && most - least <= 1, "{workers} workers: {least} to {most}");
    }
}

#[test]
fn a_longer_key_begins_as_the_key() {
    assert_eq!(key_of_length(52)[..40], KEY);
    assert_eq!(key_of_length(52)[40..], KEY[..12]);
}
