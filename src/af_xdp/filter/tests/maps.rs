//! What the program's maps hold, and count.

use super::*;

#[test]
fn a_change_adds_and_removes_only_what_differs() {
    let Some(mut filter) = filter(&[0]) else { return };
    let to = |destination| frame(&packet("10.9.9.9", destination, TCP, &ports(1234, 80)));
    let addresses = HashMap::from([
        (address("10.0.0.20"), AddressClass::Owned),
        (address("10.0.0.30"), AddressClass::Owned),
    ]);
    filter.set_addresses(&addresses).unwrap();
    assert_eq!(verdict(&filter, &to("10.0.0.10")), Kernel, "gone");
    assert_eq!(verdict(&filter, &to("10.0.0.20")), Director);
    assert_eq!(verdict(&filter, &to("10.0.0.30")), Director, "new");

    let reply = frame(&packet("10.1.0.5", "10.9.9.9", TCP, &ports(8080, 1234)));
    assert_eq!(verdict(&filter, &reply), Director);
    filter.set_endpoints([]).unwrap();
    assert_eq!(verdict(&filter, &reply), Kernel);
    filter.update(&addresses, endpoints()).unwrap();
    assert_eq!(verdict(&filter, &reply), Director);
}

#[test]
fn a_full_map_can_be_replaced_whole_and_never_takes_more() {
    let Some(mut filter) = filter(&[0]) else { return };
    let sixteen = |first: u8| -> HashMap<_, _> {
        (first..first + 16)
            .map(|last| (Address::v4([10, 2, 0, last]), AddressClass::Owned))
            .collect()
    };
    let server = |last: u8| Endpoint {
        address: Address::v4([10, 3, 0, last]),
        port: 80,
        protocol: TCP,
    };
    for first in [0, 16, 32, 200] {
        filter.update(&sixteen(first), (first..first + 16).map(server)).unwrap();
    }
    let mut seventeen = sixteen(100);
    seventeen.insert(address("fd00::77"), AddressClass::Kernel);
    let error = filter.set_addresses(&seventeen).unwrap_err();
    assert!(
        matches!(
            error,
            Error::MapFull {
                map: "addresses",
                wanted: 17,
                limit: 16
            }
        ),
        "{error}"
    );
    let error = filter.update(&sixteen(100), (0..17).map(server)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::MapFull {
                map: "endpoints",
                wanted: 17,
                limit: 16
            }
        ),
        "{error}"
    );
    let to = |last| frame(&packet("10.9.9.9", &format!("10.2.0.{last}"), TCP, &ports(1, 2)));
    assert_eq!(verdict(&filter, &to(200)), Director, "what was in force still is");
    assert_eq!(verdict(&filter, &to(100)), Kernel, "nothing was applied by half");
}

#[test]
fn frames_are_counted() {
    let Some(filter) = filter(&[0]) else { return };
    let ours = frame(&packet("10.9.9.9", "10.0.0.10", TCP, &ports(1234, 80)));
    let theirs = frame(&packet("10.9.9.9", "10.0.0.1", TCP, &ports(1234, 80)));
    for (frame, count) in [(ours, 3), (theirs, 5)] {
        for _ in 0..count {
            action(&filter, "filter_linear", &frame);
        }
    }
    assert_eq!(
        filter.counters().unwrap(),
        FilterCounters {
            redirected: 0,
            passed: 5,
            no_socket: 3
        }
    );
}

#[test]
fn a_device_that_is_not_ours_is_left_alone() {
    let Some(mut filter) = filter(&[0]) else { return };
    filter.ports.remove(&LOOPBACK).unwrap();
    assert_eq!(verdict(&filter, &arp(1, [10, 0, 0, 10])), Kernel);
}
