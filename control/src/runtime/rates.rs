//! Traffic per second, as the kernel's estimator (`ip_vs_est.c`) computes it: a sample every two seconds, of which the average takes a
//! quarter of the difference; connections and packets in units of 1/1024, bytes of 1/32. So it prints the kernel's numbers, rounding included.

use std::collections::HashMap;
use std::time::Duration;

use ulvs_dataplane::service::{ServerSlot, ServiceSlot, SharedService};

use crate::api::views::{Rates, Traffic};

/// Time between two samples.
pub(super) const SAMPLE_PERIOD: Duration = Duration::from_secs(2);

/// log2 of the units per count; the sample period is taken off as it is a power of two as well.
const COUNT_SCALE: u32 = 10;
const BYTE_SCALE: u32 = 5;

/// One moving average for each of the five counts.
#[derive(Clone, Copy, Debug, Default)]
struct Estimator([i64; 5]);

impl Estimator {
    /// Takes in what came in one sample period.
    fn sample(&mut self, came: &Traffic) {
        for ((average, count), scale) in self.0.iter_mut().zip(five(came)).zip(SCALES) {
            let per_second = i64::try_from(count)
                .unwrap_or(i64::MAX >> scale)
                .saturating_mul(1 << (scale - 1));
            *average += (per_second - *average) >> 2;
        }
    }

    fn rates(&self) -> Rates {
        let mut rounded = [0; 5];
        for ((rate, average), scale) in rounded.iter_mut().zip(self.0).zip(SCALES) {
            *rate = ((average + (1 << (scale - 1)) - 1) >> scale).max(0) as u64;
        }
        let [connections, packets_in, packets_out, bytes_in, bytes_out] = rounded;
        Rates {
            connections,
            packets_in,
            packets_out,
            bytes_in,
            bytes_out,
        }
    }
}

const SCALES: [u32; 5] = [COUNT_SCALE, COUNT_SCALE, COUNT_SCALE, BYTE_SCALE, BYTE_SCALE];

fn five(traffic: &Traffic) -> [u64; 5] {
    [
        traffic.connections,
        traffic.packets_in,
        traffic.packets_out,
        traffic.bytes_in,
        traffic.bytes_out,
    ]
}

/// The rates of all servers and services, and of everything together.
#[derive(Debug, Default)]
pub(super) struct Estimators {
    servers: HashMap<ServerSlot, (Traffic, Estimator)>,
    services: HashMap<ServiceSlot, Estimator>,
    all: Estimator,
}

impl Estimators {
    /// Takes a sample. `counted` says what a server's counters stand at.
    pub(super) fn sample(&mut self, services: &[SharedService], counted: impl Fn(ServerSlot) -> Traffic) {
        let mut servers = HashMap::with_capacity(self.servers.len());
        let mut averages = HashMap::with_capacity(self.services.len());
        let mut all_came = Traffic::default();
        for service in services {
            let mut service_came = Traffic::default();
            for server in &service.servers {
                let now = counted(server.slot);
                // What counted before the first sample of a server is not known, and its slot may have had another server before.
                let (before, mut estimator) = self.servers.remove(&server.slot).unwrap_or((now, Estimator::default()));
                let came = now.since(&before);
                estimator.sample(&came);
                service_came = service_came.plus(&came);
                servers.insert(server.slot, (now, estimator));
            }
            let mut estimator = self.services.remove(&service.slot).unwrap_or_default();
            estimator.sample(&service_came);
            averages.insert(service.slot, estimator);
            all_came = all_came.plus(&service_came);
        }
        self.all.sample(&all_came);
        (self.servers, self.services) = (servers, averages);
    }

    /// Makes a server's samples begin here: it is new, or its counters were zeroed.
    pub(super) fn begin(&mut self, slot: ServerSlot, counted: Traffic) {
        self.servers.insert(slot, (counted, Estimator::default()));
    }

    pub(super) fn server(&self, slot: ServerSlot) -> Rates {
        self.servers
            .get(&slot)
            .map(|(_, estimator)| estimator.rates())
            .unwrap_or_default()
    }

    pub(super) fn service(&self, slot: ServiceSlot) -> Rates {
        self.services.get(&slot).map(Estimator::rates).unwrap_or_default()
    }

    pub(super) fn all(&self) -> Rates {
        self.all.rates()
    }

    /// Back to nothing, as the kernel does when counters are zeroed. A service's servers begin anew themselves.
    pub(super) fn zero(&mut self, service: ServiceSlot) {
        self.services.remove(&service);
    }

    pub(super) fn zero_all(&mut self) {
        self.all = Estimator::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(connections: u64, packets: u64, bytes: u64) -> Traffic {
        Traffic {
            connections,
            packets_in: packets,
            packets_out: packets,
            bytes_in: bytes,
            bytes_out: bytes,
        }
    }

    /// The kernel's arithmetic, worked out by hand: 8 in 2 s are 4 per second = 4096 units, of which the average takes a quarter.
    #[test]
    fn a_sample_moves_the_average_by_a_quarter() {
        let mut estimator = Estimator::default();
        estimator.sample(&traffic(8, 16, 2000));
        assert_eq!(estimator.0, [1024, 2048, 2048, 8000, 8000]);
        let rates = estimator.rates();
        assert_eq!((rates.connections, rates.packets_in, rates.bytes_out), (1, 2, 250));
        for _ in 0..60 {
            estimator.sample(&traffic(8, 16, 2000));
        }
        let rates = estimator.rates();
        assert_eq!((rates.connections, rates.packets_out, rates.bytes_in), (4, 8, 1000));
        for _ in 0..60 {
            estimator.sample(&Traffic::default());
        }
        assert_eq!(estimator.rates(), Rates::default());
    }

    /// 26 connections of 4 packets each way in one sample, 5616 and 5720 bytes: what a real kernel printed after it (`Ln_rate.txt`).
    #[test]
    fn rounding_is_the_kernels() {
        let mut estimator = Estimator::default();
        estimator.sample(&Traffic {
            connections: 26,
            packets_in: 104,
            packets_out: 104,
            bytes_in: 5616,
            bytes_out: 5720,
        });
        let rates = estimator.rates();
        assert_eq!(
            [
                rates.connections,
                rates.packets_in,
                rates.packets_out,
                rates.bytes_in,
                rates.bytes_out
            ],
            [3, 13, 13, 702, 715]
        );
    }

    #[test]
    fn huge_counts_do_not_overflow() {
        let mut estimator = Estimator::default();
        estimator.sample(&traffic(u64::MAX, u64::MAX, u64::MAX));
        assert!(estimator.rates().connections > 0);
    }
}
