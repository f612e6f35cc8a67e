//! Whether the director can serve its virtual addresses, for whoever decides about them: itself, and the election of a master among directors.

use std::fmt;

/// What is wrong with the director. [`Parts::health`](super::Parts::health) publishes it; subscribe there, from any thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Workers that do not come round at the moment.
    pub stuck: Vec<usize>,
    /// A worker whose thread has ended; the director ends too.
    pub ended: Option<usize>,
}

impl Health {
    /// Whether the director should hold its virtual addresses. If not it neither answers for them nor announces them, and another director should.
    pub fn holds_addresses(&self) -> bool {
        self.stuck.is_empty() && self.ended.is_none()
    }
}

/// What is wrong, as part of a sentence.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(worker) = self.ended {
            return write!(f, "worker {worker} has ended");
        }
        match &self.stuck[..] {
            [] => f.write_str("all workers are well"),
            [worker] => write!(f, "worker {worker} is stuck"),
            workers => {
                let names: Vec<String> = workers.iter().map(usize::to_string).collect();
                write!(f, "workers {} are stuck", names.join(", "))
            }
        }
    }
}
