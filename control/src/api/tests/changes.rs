//! Transactions and texts that take several frames.

use std::sync::Arc;

use super::fake::Fake;
use super::start;
use crate::api::changes::{
    CHANGES_PER_REQUEST, CHANGES_PER_TRANSACTION, Change, ServerKey, ServerSettings, ServiceKey,
};
use crate::api::client::{Client, ClientError};
use crate::api::frame;
use crate::api::protocol::{ErrorCode, Request};
use crate::api::server::Limits;
use crate::api::views::{Method, Protocol, TunnelChecksum, TunnelKind, TunnelView};

/// The change whose JSON is the longest.
fn longest() -> Change {
    Change::DeleteServer {
        service: ServiceKey::Address {
            protocol: Protocol::Sctp,
            address: "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap(),
            port: u16::MAX,
        },
        server: ServerKey {
            address: "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap(),
            port: u16::MAX,
        },
    }
}

#[test]
fn a_full_request_fits_a_frame() {
    let Change::DeleteServer { service, server } = longest() else {
        unreachable!()
    };
    let change = Change::EditServer {
        service,
        server,
        settings: ServerSettings {
            method: Method::Fullnat,
            tunnel: Some(TunnelView {
                kind: TunnelKind::Ipip,
                port: u16::MAX,
                checksum: TunnelChecksum::Remote,
            }),
            weight: u32::MAX,
            upper_threshold: u32::MAX,
            lower_threshold: u32::MAX,
        },
    };
    let request = Request::Change {
        changes: vec![change; CHANGES_PER_REQUEST],
        atomic: true,
        more: true,
    };
    assert!(frame::encode(&request).is_ok());
}

#[test]
fn a_transaction_of_several_requests_is_made_once() {
    let fake = Fake::default();
    let made = Arc::clone(&fake.changes);
    let running = start(fake, Limits::default());
    let mut client = running.client();
    client
        .change(&vec![longest(); 3 * CHANGES_PER_REQUEST + 1], true)
        .unwrap();
    client.change(&[longest()], false).unwrap();
    client.change(&[], false).unwrap();
    assert_eq!(
        *made.lock().unwrap(),
        [(3 * CHANGES_PER_REQUEST + 1, true), (1, false), (0, false)]
    );
}

#[test]
fn a_transaction_has_an_end_and_a_limit() {
    let fake = Fake::default();
    let made = Arc::clone(&fake.changes);
    let running = start(fake, Limits::default());
    let refused = |client: &mut Client, changes: &[Change]| match client.change(changes, true) {
        Err(ClientError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let mut client = running.client();
    assert_eq!(
        refused(&mut client, &vec![Change::Flush; CHANGES_PER_TRANSACTION + 1]),
        ErrorCode::TooLong
    );
    client.change(&[Change::Flush], false).unwrap();
    assert_eq!(*made.lock().unwrap(), [(1, false)], "nothing of the long one is left");
}

#[test]
fn a_text_longer_than_a_frame_comes_whole() {
    let running = start(Fake::default(), Limits::default());
    let mut client = running.client();
    assert_eq!(client.configuration().unwrap(), "# é\n".repeat(500_000));
}
