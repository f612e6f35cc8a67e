//! Cuts a list of services into pages that fit a frame, and puts them together again. The unit is a row (a service or a server), so that
//! one service with thousands of servers is cut as well.

use super::protocol::ServicesPage;
use super::views::ServiceView;

/// Rows in a page: at well under 1 KiB of JSON each they fit [`MAX_FRAME`](super::frame::MAX_FRAME).
pub(super) const ROWS_PER_PAGE: usize = 500;

/// Pages of at most `rows` rows (at least two: a service and one of its servers). There is always one page, even if it is empty.
/// Their `next` is left empty.
pub(super) fn split(services: Vec<ServiceView>, rows: usize) -> Vec<ServicesPage> {
    let rows = rows.max(2);
    let mut pages = vec![ServicesPage::default()];
    let mut used = 0;
    for mut service in services {
        let mut servers = std::mem::take(&mut service.servers);
        let mut continued = false;
        loop {
            // A service's line stands with at least one of its servers.
            let wanted = 1 + usize::from(!servers.is_empty());
            if used + wanted > rows {
                pages.push(ServicesPage {
                    continued,
                    ..ServicesPage::default()
                });
                used = 0;
            }
            let rest = servers.split_off(servers.len().min(rows - used - 1));
            used += 1 + servers.len();
            let part = ServiceView {
                servers,
                ..service.clone()
            };
            if let Some(page) = pages.last_mut() {
                page.services.push(part);
            }
            if rest.is_empty() {
                break;
            }
            servers = rest;
            continued = true;
        }
    }
    pages
}

/// Appends a page to what the pages before it came to.
pub(super) fn join(services: &mut Vec<ServiceView>, mut page: ServicesPage) {
    if let (true, false, Some(open)) = (page.continued, page.services.is_empty(), services.last_mut()) {
        open.servers.append(&mut page.services.remove(0).servers);
    }
    services.append(&mut page.services);
}
