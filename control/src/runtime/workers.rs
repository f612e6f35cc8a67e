//! The workers as control sees them: mailboxes that are never waited on.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;
use ulvs_dataplane::address::Address;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::snapshot::{InterfaceIndex, Snapshot};
use ulvs_dataplane::worker::{ConnectionRow, FromWorker, Mailbox, PAGE, ToWorker};

/// One worker, as the rim started it.
pub struct WorkerHandle {
    /// The core that it is pinned to.
    pub core: Option<usize>,
    /// Its mailbox.
    pub mailbox: Mailbox,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Connections that its table holds.
    pub capacity: usize,
    /// Ends its sleep, so that it reads its mail.
    pub wake: Box<dyn Fn()>,
    /// Whether its thread has ended.
    pub has_ended: Box<dyn Fn() -> bool>,
}

/// A page of a worker's table, and where to go on.
pub(super) type Page = (Vec<ConnectionRow>, Option<u32>);

struct Worker {
    handle: WorkerHandle,
    /// The newest configuration that did not fit into the mailbox yet.
    waiting: Option<Arc<Snapshot>>,
    adopted: u64,
    outbox: VecDeque<ToWorker>,
    /// Who waits for a page, in the order of their questions.
    asked: VecDeque<oneshot::Sender<Page>>,
}

/// All workers.
pub(super) struct Workers(Vec<Worker>);

impl Workers {
    pub(super) fn new(handles: Vec<WorkerHandle>) -> Workers {
        let worker = |handle| Worker {
            handle,
            waiting: None,
            adopted: 0,
            outbox: VecDeque::new(),
            asked: VecDeque::new(),
        };
        Workers(handles.into_iter().map(worker).collect())
    }

    pub(super) fn handles(&self) -> impl ExactSizeIterator<Item = &WorkerHandle> {
        self.0.iter().map(|worker| &worker.handle)
    }

    /// Hands a configuration to all. A worker that is behind gets the newest one only.
    pub(super) fn adopt(&mut self, snapshot: &Arc<Snapshot>) {
        for worker in &mut self.0 {
            worker.waiting = Some(Arc::clone(snapshot));
            worker.deliver();
        }
    }

    /// Whether all work by this generation or a later one.
    pub(super) fn all_adopted(&self, generation: u64) -> bool {
        self.0.iter().all(|worker| worker.adopted >= generation)
    }

    /// Has the first worker send a frame.
    pub(super) fn send(&mut self, port: PortIndex, frame: Vec<u8>) {
        if let Some(worker) = self.0.first_mut() {
            worker.outbox.push_back(ToWorker::Send(port, frame));
            worker.deliver();
        }
    }

    /// Asks a worker for connections from a table entry on; `None` if there is no such worker.
    pub(super) fn list(&mut self, worker: usize, cursor: u32) -> Option<oneshot::Receiver<Page>> {
        let worker = self.0.get_mut(worker)?;
        let (answer, page) = oneshot::channel();
        worker.asked.push_back(answer);
        worker
            .outbox
            .push_back(ToWorker::List(cursor, Vec::with_capacity(PAGE)));
        worker.deliver();
        Some(page)
    }

    /// Reads all mail; returns the next hops that were asked for. What workers gave back is freed here, not by them.
    pub(super) fn read(&mut self) -> Vec<(InterfaceIndex, Address)> {
        let mut unresolved = Vec::new();
        for worker in &mut self.0 {
            while let Some(message) = worker.handle.mailbox.from_worker.pop() {
                match message {
                    FromWorker::Adopted(generation, _old) => worker.adopted = generation,
                    FromWorker::Sent(_buffer) => {}
                    FromWorker::Listed(rows, next) => {
                        if let Some(answer) = worker.asked.pop_front() {
                            // Whoever asked may have gone.
                            let _ = answer.send((rows, next));
                        }
                    }
                    FromWorker::Resolve(interface, address) => unresolved.push((interface, address)),
                }
            }
            worker.deliver();
        }
        unresolved
    }

    /// A worker whose thread has ended.
    pub(super) fn find_stopped(&self) -> Option<usize> {
        self.0.iter().position(|worker| (worker.handle.has_ended)())
    }

    /// Tells all to finish.
    pub(super) fn stop(&mut self) {
        for worker in &mut self.0 {
            let mut stop = ToWorker::Stop;
            // A full mailbox makes room for this: nothing in it matters any more.
            while let Err(again) = worker.handle.mailbox.to_worker.push(stop) {
                drop(worker.handle.mailbox.to_worker.pop());
                stop = again;
            }
            (worker.handle.wake)();
        }
    }
}

impl Worker {
    /// Puts into the mailbox what fits.
    fn deliver(&mut self) {
        let mailbox = &self.handle.mailbox.to_worker;
        let mut delivered = false;
        if let Some(snapshot) = self.waiting.take() {
            match mailbox.push(ToWorker::Adopt(snapshot)) {
                Ok(()) => delivered = true,
                Err(ToWorker::Adopt(snapshot)) => self.waiting = Some(snapshot),
                Err(_) => {}
            }
        }
        while let Some(message) = self.outbox.pop_front() {
            match mailbox.push(message) {
                Ok(()) => delivered = true,
                Err(message) => {
                    self.outbox.push_front(message);
                    break;
                }
            }
        }
        if delivered {
            (self.handle.wake)();
        }
    }
}
