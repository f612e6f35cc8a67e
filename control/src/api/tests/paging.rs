//! Lists in pages, while the director changes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::fake::{Buckets, Fake, connection, service};
use super::start;
use crate::api::client::ClientError;
use crate::api::paging::{join, split};
use crate::api::protocol::{CONNECTIONS_PER_PAGE, ConnectionFilter, ErrorCode, ServiceSelector};
use crate::api::server::Limits;
use crate::api::views::ServiceView;

#[test]
fn long_lists_of_services_come_whole_and_in_order() {
    // The second one alone is longer than a frame.
    let services: Vec<_> = [(1, 3), (2, 5000), (3, 0), (4, 700)]
        .map(|(number, servers)| service(number, servers))
        .into();
    let running = start(
        Fake {
            services: services.clone(),
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut client = running.client();
    assert_eq!(client.services(None).unwrap(), services);
    assert_eq!(
        client
            .services(Some(ServiceSelector::Name("service-2".into())))
            .unwrap(),
        services[1..2]
    );
    match client.services(Some(ServiceSelector::Name("service-9".into()))) {
        Err(ClientError::Refused {
            code: ErrorCode::NotFound,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(client.services(None).unwrap(), services);
}

#[test]
fn many_services_come_whole() {
    let services: Vec<_> = (1..4000).map(|number| service(number, u32::from(number % 3))).collect();
    let running = start(
        Fake {
            services: services.clone(),
            ..Fake::default()
        },
        Limits::default(),
    );
    assert_eq!(running.client().services(None).unwrap(), services);
    let empty = start(Fake::default(), Limits::default());
    assert_eq!(empty.client().services(None).unwrap(), Vec::new());
}

proptest! {
    #[test]
    fn pages_put_together_are_the_list(servers in proptest::collection::vec(0_u32..12, 0..12), rows in 0_usize..9) {
        let services: Vec<ServiceView> =
            servers.iter().zip(1..).map(|(servers, number)| service(number, *servers)).collect();
        let pages = split(services.clone(), rows);
        let mut together = Vec::new();
        for page in pages {
            let used: usize = page.services.iter().map(|service| 1 + service.servers.len()).sum();
            prop_assert!(used <= rows.max(2));
            join(&mut together, page);
        }
        prop_assert_eq!(together, services);
    }
}

/// Connections 0..5000 stay; each page adds new ones in front of the walk and behind it, and ends older ones.
fn come_and_go(buckets: &mut Buckets) {
    let newest = 1_000_000 + buckets.values().flatten().count() as u32;
    for bucket in [0, 1234, 4999] {
        let list: &mut Vec<_> = buckets.entry(bucket).or_default();
        list.truncate(5);
        list.push(connection(newest + bucket as u32));
    }
}

#[test]
fn connections_that_stay_are_listed_once_however_the_table_changes() {
    const STAY: u32 = 5000;
    let mut buckets: Buckets = BTreeMap::new();
    for number in 0..STAY {
        buckets.entry(u64::from(number)).or_default().push(connection(number));
    }
    let fake = Fake {
        buckets: buckets.into(),
        change: Some(come_and_go),
        ..Fake::default()
    };
    let running = start(fake, Limits::default());
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut client = running.client();
    let mut pages = 0;
    let mut cursor = None;
    loop {
        let page = client
            .connections_page(&ConnectionFilter::default(), cursor, Some(u32::MAX))
            .unwrap();
        assert!(page.connections.len() <= CONNECTIONS_PER_PAGE as usize);
        pages += 1;
        for connection in page.connections {
            *seen.entry(connection.client.to_string()).or_default() += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!(pages >= STAY / CONNECTIONS_PER_PAGE);
    for number in 0..STAY {
        assert_eq!(
            seen.get(&connection(number).client.to_string()),
            Some(&1),
            "connection {number}"
        );
    }
}

#[test]
fn filters_and_early_ends_are_kept() {
    let buckets: Buckets = (0..2000)
        .map(|number| (u64::from(number), vec![connection(number)]))
        .collect();
    let running = start(
        Fake {
            buckets: buckets.into(),
            ..Fake::default()
        },
        Limits::default(),
    );
    let mut client = running.client();
    let wanted = connection(1500).client;
    let filter = ConnectionFilter {
        client: Some(wanted.ip()),
        client_port: Some(wanted.port()),
        ..ConnectionFilter::default()
    };
    let mut found = Vec::new();
    client
        .connections(&filter, |connection| {
            found.push(connection.client);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [wanted]);

    let mut count = 0;
    client
        .connections(&ConnectionFilter::default(), |_| {
            count += 1;
            if count < 3 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .unwrap();
    assert_eq!(count, 3);
    // The connection is fit for the next question.
    assert_eq!(client.director().unwrap().generation, 7);
    assert_eq!(client.counters().unwrap()[0].total(), 3);
}
