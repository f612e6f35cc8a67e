//! How much one director takes.

use ulvs_dataplane::scheduler::SchedulerKind;

use crate::config::error::Findings;
use crate::config::parse::Entries;
use crate::config::section::At;
use crate::config::source::Span;

/// The places of the kernel's Maglev table (`IP_VS_MH_TAB_SIZE`). The kernel refuses a service with more servers than that.
pub const MH_TABLE_SIZE: usize = 4093;

pub fn check(entries: &Entries, findings: &mut Findings) {
    let mut services = Count::new("virtual services", "service_limit", &entries.service_limit);
    let mut servers = Count::new("real servers over all services", "server_limit", &entries.server_limit);
    for service in &entries.services {
        for (vip, _, place) in service.virtual_endpoints() {
            services.add(place);
            let mut in_service = 0;
            for server in service.servers.iter().filter(|server| server.serves(vip)) {
                servers.add(&server.span);
                in_service += 1;
            }
            if service.scheduler.value == SchedulerKind::Mh && in_service > MH_TABLE_SIZE {
                let message = format!("this service has {in_service} servers; mh takes at most {MH_TABLE_SIZE}");
                findings
                    .error(place, message)
                    .help("use another scheduler, or fewer servers");
            }
        }
    }
    services.tell(findings);
    servers.tell(findings);
}

/// A count against its limit.
struct Count<'a> {
    what: &'static str,
    key: &'static str,
    limit: &'a At<u32>,
    count: usize,
    first_too_many: Option<Span>,
}

impl<'a> Count<'a> {
    fn new(what: &'static str, key: &'static str, limit: &'a At<u32>) -> Count<'a> {
        Count {
            what,
            key,
            limit,
            count: 0,
            first_too_many: None,
        }
    }

    fn add(&mut self, place: &Span) {
        self.count += 1;
        if self.count > self.limit.value as usize {
            self.first_too_many.get_or_insert_with(|| place.clone());
        }
    }

    fn tell(self, findings: &mut Findings) {
        let Count {
            what,
            key,
            limit,
            count,
            first_too_many,
        } = self;
        let Some(place) = first_too_many else { return };
        let finding = findings.error(
            &place,
            format!("there are {count} {what}; {key} allows {}", limit.value),
        );
        finding.help(format!("set {key} in [director] to {count} or more"));
        if limit.given {
            finding.see(&limit.span, format!("{key} is set here"));
        }
    }
}
