//! Which real server gets a new connection. One file per algorithm, named as in ipvsadm.

/// The algorithms, spelled as in ipvsadm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    /// Round robin
    Rr,
    /// Weighted round robin
    Wrr,
    /// Least connections
    Lc,
    /// Weighted least connections
    Wlc,
    /// Source hashing
    Sh,
    /// Maglev hashing
    Mh,
}

/// A lookup table built when a service is compiled; indices are places in `Service::servers`.
#[derive(Clone, Debug, Default)]
pub enum SchedulerTable {
    /// The algorithm needs none.
    #[default]
    None,
}
