use super::*;

const MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x33];

#[test]
fn gratuitous_arp_byte_for_byte() {
    let frame = gratuitous_arp([192, 0, 2, 80], MAC, None);
    #[rustfmt::skip]
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x5e, 0x00, 0x01, 0x33, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
        0x00, 0x00, 0x5e, 0x00, 0x01, 0x33, 192, 0, 2, 80,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 192, 0, 2, 80,
    ];
    assert_eq!(frame[..42], expected);
    assert_eq!(frame[42..], [0; 18], "padded to the least frame");
}

#[test]
fn a_vlan_tag_stands_between_the_addresses_and_the_type() {
    let plain = gratuitous_arp([192, 0, 2, 80], MAC, None);
    let tagged = gratuitous_arp([192, 0, 2, 80], MAC, Some(0x0123));
    assert_eq!(tagged[..12], plain[..12]);
    assert_eq!(tagged[12..16], [0x81, 0x00, 0x01, 0x23]);
    assert_eq!(tagged[16..46], plain[12..42]);
    assert_eq!(tagged.len(), 60);
}

#[test]
fn unsolicited_neighbour_advertisement_byte_for_byte() {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    address[15] = 0x80;
    let frame = unsolicited_neighbour_advertisement(address, MAC, None);
    // The checksum by hand, in 16-bit words. Pseudo-header: source 2001+0db8+0080 = 2e39; destination ff02+0001 = ff03; length
    // 0020; next header 003a. Message: 8800+2000, target 2e39, option 0201, MAC 0000+5e00+0133.
    // 2e39+ff03+0020+003a+8800+2000+2e39+0201+5e00+0133 = 26503; 6503+2 = 6505; its complement is 9afa.
    #[rustfmt::skip]
    let expected = [
        0x33, 0x33, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x5e, 0x00, 0x01, 0x33, 0x86, 0xdd,
        0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
        0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
        0x88, 0x00, 0x9a, 0xfa, 0x20, 0x00, 0x00, 0x00,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80,
        0x02, 0x01, 0x00, 0x00, 0x5e, 0x00, 0x01, 0x33,
    ];
    assert_eq!(frame, expected);
}

#[test]
fn announcement_follows_the_family() {
    let v4 = announcement(Address::v4([192, 0, 2, 80]), MAC, Some(5));
    assert_eq!(v4, gratuitous_arp([192, 0, 2, 80], MAC, Some(5)));
    let mut octets = [0xfd; 16];
    octets[15] = 1;
    let v6 = announcement(Address::v6(octets), MAC, Some(5));
    assert_eq!(v6, unsolicited_neighbour_advertisement(octets, MAC, Some(5)));
    assert_eq!(v6[12..18], [0x81, 0x00, 0x00, 0x05, 0x86, 0xdd]);
}
