//! Frames and messages.

use std::net::IpAddr;

use proptest::prelude::*;

use super::fake;
use crate::api::frame::{self, FrameError, MAX_FRAME};
use crate::api::protocol::*;
use crate::api::views::{Protocol, TimeoutsView};

fn round_trip<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = frame::encode(message).unwrap();
    assert_eq!(frame::read::<T>(&mut bytes.as_slice()).unwrap(), *message);
}

#[test]
fn messages_survive_the_wire() {
    let address: IpAddr = "2001:db8::1".parse().unwrap();
    let cursor = Some(Cursor {
        part: 1,
        position: u64::MAX,
    });
    let filter = ConnectionFilter {
        client: Some(address),
        virtual_port: Some(80),
        ..ConnectionFilter::default()
    };
    for request in [
        Request::Hello {
            protocol_version: 1,
            program: "ulvs \"1\"".into(),
        },
        Request::Director,
        Request::Services {
            selector: None,
            cursor: None,
        },
        Request::Services {
            selector: Some(ServiceSelector::Name("web".into())),
            cursor,
        },
        Request::Services {
            selector: Some(ServiceSelector::Address {
                protocol: Some(Protocol::Sctp),
                address,
                port: None,
            }),
            cursor: None,
        },
        Request::Services {
            selector: Some(ServiceSelector::Fwmark { mark: 7, ipv6: true }),
            cursor: None,
        },
        Request::Connections {
            filter,
            cursor,
            limit: Some(3),
        },
        Request::Counters,
        Request::Workers,
        Request::Timeouts,
    ] {
        round_trip(&request);
    }
    for response in [
        Response::Hello {
            protocol_version: 1,
            director_version: "1".into(),
        },
        Response::Services(ServicesPage {
            services: vec![fake::service(80, 2)],
            continued: true,
            next: cursor,
        }),
        Response::Connections(ConnectionsPage {
            connections: vec![fake::connection(7)],
            next: None,
        }),
        Response::Timeouts(TimeoutsView {
            tcp_seconds: 900,
            tcp_fin_seconds: 120,
            udp_seconds: 300,
        }),
        Response::Error {
            code: ErrorCode::NotFound,
            message: "No such service".into(),
        },
    ] {
        round_trip(&response);
    }
}

#[test]
fn short_requests_mean_everything() {
    let request: Request = serde_json::from_str(r#"{"request":"connections"}"#).unwrap();
    assert_eq!(
        request,
        Request::Connections {
            filter: ConnectionFilter::default(),
            cursor: None,
            limit: None
        }
    );
}

/// A newer director may have codes that this client does not know.
#[test]
fn unknown_error_codes_are_errors_still() {
    let response: Response = serde_json::from_str(r#"{"response":"error","code":"brand_new","message":"no"}"#).unwrap();
    assert_eq!(
        response,
        Response::Error {
            code: ErrorCode::Other,
            message: "no".into()
        }
    );
}

#[test]
fn lengths_are_checked_in_both_directions() {
    let longest = "x".repeat(MAX_FRAME - 2);
    round_trip(&longest);
    assert!(matches!(frame::encode(&(longest + "x")), Err(FrameError::TooLong { length }) if length == MAX_FRAME + 1));
    let announced = u32::MAX.to_be_bytes();
    assert!(matches!(
        frame::read::<Request>(&mut announced.as_slice()),
        Err(FrameError::TooLong { .. })
    ));
    assert!(matches!(
        frame::read::<Request>(&mut [].as_slice()),
        Err(FrameError::Closed)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_borne_by_a_client(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        // Almost nothing is a response; what matters is that reading comes back.
        prop_assert!(frame::read::<Response>(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn any_cut_of_a_frame_is_an_error(cut in 0_usize..60) {
        let bytes = frame::encode(&Request::Hello { protocol_version: 1, program: "a program with a name".into() }).unwrap();
        prop_assume!(cut < bytes.len());
        prop_assert!(frame::read::<Request>(&mut &bytes[..cut]).is_err());
    }
}
