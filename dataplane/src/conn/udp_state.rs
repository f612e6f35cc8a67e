//! The state of a UDP connection: there is only one.

/// The kernel's single UDP state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UdpState {
    /// Datagrams pass; each one starts the timeout again.
    Normal,
}

impl UdpState {
    /// The name in `ipvsadm -Lc`.
    pub const fn name(self) -> &'static str {
        "UDP"
    }
}
