//! Clients that send what they should not.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use proptest::prelude::*;

use super::fake::{Fake, service};
use super::{Running, start};
use crate::api::ClientError;
use crate::api::client::Client;
use crate::api::frame::{self, MAX_FRAME};
use crate::api::protocol::{ErrorCode, Request, Response};
use crate::api::server::{Limits, RESERVED_FOR_ROOT};

fn running() -> Running {
    start(
        Fake {
            services: vec![service(80, 2)],
            ..Fake::default()
        },
        Limits::default(),
    )
}

fn hello() -> Request {
    Request::Hello {
        protocol_version: 1,
        program: "test 1".into(),
    }
}

/// A connection that has said hello.
fn raw(running: &Running) -> UnixStream {
    let mut stream = UnixStream::connect(running.path()).unwrap();
    frame::write(&mut stream, &hello()).unwrap();
    assert!(matches!(frame::read(&mut stream).unwrap(), Response::Hello { .. }));
    stream
}

fn send_text(stream: &mut UnixStream, text: &[u8]) {
    stream.write_all(&(text.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(text).unwrap();
}

fn error_code(stream: &mut UnixStream) -> ErrorCode {
    match frame::read(stream).unwrap() {
        Response::Error { code, message } => {
            assert!(!message.is_empty());
            code
        }
        other => panic!("expected an error, got {other:?}"),
    }
}

fn still_serves(running: &Running) {
    assert_eq!(running.client().services(None).unwrap().len(), 1);
}

#[test]
fn wrong_requests_get_errors_and_the_connection_goes_on() {
    let running = running();
    let mut stream = raw(&running);
    for (text, code) in [
        (&b"not json"[..], ErrorCode::BadRequest),
        (b"", ErrorCode::BadRequest),
        (b"null", ErrorCode::BadRequest),
        (b"[1,2,3]", ErrorCode::BadRequest),
        (b"{\"request\":7}", ErrorCode::BadRequest),
        (b"\xff\xfe", ErrorCode::BadRequest),
        (b"{\"request\":\"reload_everything\"}", ErrorCode::UnknownRequest),
        (b"{\"request\":\"services\",\"cursor\":\"x\"}", ErrorCode::BadRequest),
        (b"{\"request\":\"connections\",\"limit\":-1}", ErrorCode::BadRequest),
        (
            b"{\"request\":\"services\",\"cursor\":{\"part\":9,\"position\":9}}",
            ErrorCode::StaleCursor,
        ),
        (
            b"{\"request\":\"services\",\"selector\":{\"name\":\"nobody\"}}",
            ErrorCode::NotFound,
        ),
        (b"{\"request\":\"timeouts\"}", ErrorCode::Unavailable),
        (b"{\"request\":\"workers\"}", ErrorCode::TooLong),
        (&[b'['; 10_000], ErrorCode::BadRequest),
    ] {
        send_text(&mut stream, text);
        assert_eq!(error_code(&mut stream), code, "{}", String::from_utf8_lossy(text));
    }
    frame::write(&mut stream, &Request::Director).unwrap();
    assert!(matches!(frame::read(&mut stream).unwrap(), Response::Director(_)));
}

#[test]
fn too_long_a_frame_ends_the_connection_with_a_sentence() {
    let running = running();
    let mut stream = raw(&running);
    stream.write_all(&(MAX_FRAME as u32 + 1).to_be_bytes()).unwrap();
    assert_eq!(error_code(&mut stream), ErrorCode::TooLong);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    still_serves(&running);
}

#[test]
fn the_longest_frame_is_read_to_its_end() {
    let running = running();
    let mut stream = raw(&running);
    send_text(&mut stream, &vec![b' '; MAX_FRAME]);
    assert_eq!(error_code(&mut stream), ErrorCode::BadRequest);
    still_serves(&running);
}

#[test]
fn hello_comes_first_and_names_both_versions_when_they_differ() {
    let running = running();
    let mut silent = UnixStream::connect(running.path()).unwrap();
    frame::write(&mut silent, &Request::Director).unwrap();
    assert_eq!(error_code(&mut silent), ErrorCode::BadRequest);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);

    let mut newer = UnixStream::connect(running.path()).unwrap();
    frame::write(
        &mut newer,
        &Request::Hello {
            protocol_version: 77,
            program: "ulvs 9".into(),
        },
    )
    .unwrap();
    match frame::read(&mut newer).unwrap() {
        Response::Error {
            code: ErrorCode::VersionMismatch,
            message,
        } => {
            assert!(
                message.contains("ulvs 9") && message.contains("77") && message.contains("version 1;"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_stops_in_the_middle_holds_up_nobody() {
    let running = running();
    let mut half_length = raw(&running);
    half_length.write_all(&[0, 0]).unwrap();
    let mut half_body = raw(&running);
    half_body.write_all(&[0, 0, 0, 100, b'{']).unwrap();
    let _silent = UnixStream::connect(running.path()).unwrap();
    // Asks for much and never reads: its answers pile up in its own socket.
    let mut deaf = raw(&running);
    deaf.set_nonblocking(true).unwrap();
    let request = frame::encode(&Request::Services {
        selector: None,
        cursor: None,
    })
    .unwrap();
    while deaf.write_all(&request).is_ok() {}
    still_serves(&running);
    half_body.shutdown(Shutdown::Write).unwrap();
    still_serves(&running);
}

#[test]
fn a_client_that_does_not_finish_its_frame_is_dropped() {
    let limits = Limits {
        frame: Duration::from_millis(50),
        ..Limits::default()
    };
    let running = start(Fake::default(), limits);
    let mut stream = raw(&running);
    stream.write_all(&[0, 0, 0, 100, b'{']).unwrap();
    // Comes back when the server hangs up, however long that takes.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn clients_over_the_limit_are_told_so() {
    let running = start(
        Fake::default(),
        Limits {
            clients: 2,
            ..Limits::default()
        },
    );
    let limit = if nix::unistd::geteuid().is_root() {
        2 + RESERVED_FOR_ROOT
    } else {
        2
    };
    let mut clients: Vec<_> = (0..limit).map(|_| running.client()).collect();
    match Client::connect(&running.path(), "test 1") {
        Err(ClientError::Refused {
            code: ErrorCode::Busy,
            message,
        }) => {
            assert!(message.contains(&limit.to_string()), "{message}");
        }
        other => panic!("{other:?}"),
    }
    drop(clients.pop());
    // The place is free as soon as the server has seen the other one leave.
    while Client::connect(&running.path(), "test 1").is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn any_bytes_leave_the_server_alive() {
    let running = running();
    proptest!(ProptestConfig::with_cases(300), |(bytes in proptest::collection::vec(any::<u8>(), 0..200), greeted: bool, framed: bool)| {
        let mut stream = if greeted { raw(&running) } else { UnixStream::connect(running.path()).unwrap() };
        // The server may hang up in the middle of it.
        if framed {
            let _ = stream.write_all(&(bytes.len() as u32).to_be_bytes());
        }
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    still_serves(&running);
}

#[test]
fn any_request_of_the_right_shape_leaves_the_server_alive() {
    let running = running();
    let text = r#"\{"request":"(services|connections|director|hello)","(cursor|limit|filter|selector)":(null|-?[0-9]{1,20}|\{"part":[0-9]{1,20},"position":[0-9]{1,20}\}|"[a-z]*")\}"#;
    proptest!(ProptestConfig::with_cases(300), |(text in text)| {
        let mut stream = raw(&running);
        send_text(&mut stream, text.as_bytes());
        frame::read::<Response>(&mut stream).unwrap();
    });
    still_serves(&running);
}
