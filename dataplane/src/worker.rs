//! The loop of a worker: receive, [`Pipeline`], transmit, a slice of housekeeping; and its mailbox to the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::ArrayQueue;

use crate::address::Address;
use crate::conn::connection::Connection;
use crate::conn::wheel;
use crate::counters::Event;
use crate::io::{BURST, Frame, Io, PortIndex};
use crate::pipeline::{Pipeline, Redirected, SPARE_FRAMES};
use crate::snapshot::{InterfaceIndex, Snapshot};
use crate::time::Time;

/// Messages that fit into each ring of a mailbox.
const MAILBOX: usize = 64;
/// Frames that fit into the ring between two workers.
const REDIRECT_RING: usize = 1024;
/// Table entries shown per request.
pub const PAGE: usize = 512;

/// What control asks of a worker.
#[derive(Debug)]
pub enum ToWorker {
    /// Use this configuration from the next burst on.
    Adopt(Arc<Snapshot>),
    /// Send these bytes, a whole frame, out of a port. The buffer comes back.
    Send(PortIndex, Vec<u8>),
    /// Copy connections from this table entry on into the buffer, which comes back.
    List(u32, Vec<ConnectionRow>),
    /// Finish.
    Stop,
}

/// What a worker tells control.
#[derive(Debug)]
pub enum FromWorker {
    /// The configuration of this generation is in use; the one before it comes back to be freed.
    Adopted(u64, Option<Arc<Snapshot>>),
    /// A buffer that was sent comes back to be freed.
    Sent(Vec<u8>),
    /// Connections, and where to go on; `None` at the end of the table.
    Listed(Vec<ConnectionRow>, Option<u32>),
    /// Please have the kernel find this neighbour's MAC.
    Resolve(InterfaceIndex, Address),
}

/// A connection as listings show it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRow {
    /// Its place in the worker's table.
    pub place: u32,
    /// The entry.
    pub connection: Connection,
    /// Seconds until it ends.
    pub expires_in_s: u32,
}

/// The two rings between control and a worker. A worker never waits on either.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// From control.
    pub to_worker: Arc<ArrayQueue<ToWorker>>,
    /// To control.
    pub from_worker: Arc<ArrayQueue<FromWorker>>,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox {
            to_worker: Arc::new(ArrayQueue::new(MAILBOX)),
            from_worker: Arc::new(ArrayQueue::new(4 * MAILBOX)),
        }
    }
}

/// Ends a worker's sleep.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The rings between all workers: `frames` carries redirected frames, `returns` gives empty ones back for them, so that no worker's pool runs dry.
pub struct Mesh<F> {
    workers: usize,
    sleepers: Vec<Sleeper>,
    frames: Vec<ArrayQueue<Redirected<F>>>,
    returns: Vec<ArrayQueue<F>>,
}

/// A worker that may sleep.
struct Sleeper {
    is_asleep: AtomicBool,
    wake: Wake,
}

impl<F> Mesh<F> {
    /// For so many workers that never sleep.
    pub fn new(workers: usize) -> Arc<Mesh<F>> {
        let never: Wake = Arc::new(|| ());
        Mesh::of_sleepers(vec![never; workers])
    }

    /// For a worker for each of `wakes`, which are called when there are frames for one that sleeps.
    pub fn of_sleepers(wakes: Vec<Wake>) -> Arc<Mesh<F>> {
        let workers = wakes.len();
        let pairs = if workers > 1 { workers * workers } else { 0 };
        let sleeper = |wake| Sleeper {
            is_asleep: AtomicBool::new(false),
            wake,
        };
        Arc::new(Mesh {
            workers,
            sleepers: wakes.into_iter().map(sleeper).collect(),
            frames: (0..pairs).map(|_| ArrayQueue::new(REDIRECT_RING)).collect(),
            returns: (0..pairs).map(|_| ArrayQueue::new(REDIRECT_RING)).collect(),
        })
    }

    fn frames(&self, from: usize, to: usize) -> &ArrayQueue<Redirected<F>> {
        &self.frames[from * self.workers + to]
    }

    fn returns(&self, from: usize, to: usize) -> &ArrayQueue<F> {
        &self.returns[from * self.workers + to]
    }

    /// Whether the worker may go to sleep now: it has said so, and found nothing for it afterwards.
    fn falls_asleep(&self, worker: usize) -> bool {
        self.sleepers[worker].is_asleep.store(true, Ordering::Relaxed);
        // Pairs with the one in `wake`: either this sees the frames, or the other worker sees that this one sleeps.
        fence(Ordering::SeqCst);
        (0..self.workers).all(|from| from == worker || self.frames(from, worker).is_empty())
    }

    fn gets_up(&self, worker: usize) {
        self.sleepers[worker].is_asleep.store(false, Ordering::Relaxed);
    }

    /// After frames were put into the ring to a worker.
    fn wake(&self, worker: usize) {
        fence(Ordering::SeqCst);
        let sleeper = &self.sleepers[worker];
        // Once is enough for all frames that come while it gets up.
        if sleeper.is_asleep.load(Ordering::Relaxed) && sleeper.is_asleep.swap(false, Ordering::Relaxed) {
            (sleeper.wake)();
        }
    }
}

/// One worker: its ports, its pipeline, its ends of the rings.
pub struct Worker<I: Io> {
    io: I,
    pipeline: Pipeline<I::Frame>,
    mailbox: Mailbox,
    mesh: Arc<Mesh<I::Frame>>,
    number: usize,
    received: Vec<I::Frame>,
    /// By worker: how many empty frames it is still to get back for those it handed over.
    owed: Box<[usize]>,
    stopping: bool,
}

impl<I: Io> Worker<I> {
    /// Puts a worker together. It forwards nothing until its mailbox brings a configuration.
    pub fn new(
        io: I,
        pipeline: Pipeline<I::Frame>,
        number: usize,
        mailbox: Mailbox,
        mesh: Arc<Mesh<I::Frame>>,
    ) -> Worker<I> {
        Worker {
            io,
            pipeline,
            mailbox,
            owed: vec![0; mesh.workers].into_boxed_slice(),
            mesh,
            number,
            received: Vec::with_capacity(BURST),
            stopping: false,
        }
    }

    /// One turn: the mailbox, every port once, other workers' frames, housekeeping. Returns whether there was anything to do.
    pub fn turn(&mut self, now: Time) -> bool {
        let mut frames = 0;
        self.refill_spare();
        // First of all: a worker that was stuck handles nothing more by a configuration that the others have left.
        let letters = self.read_mailbox(now);
        for port in 0..self.io.port_count() {
            let port = PortIndex(port as u8);
            self.io.receive(port, &mut self.received);
            if self.received.is_empty() {
                continue;
            }
            frames += self.received.len();
            self.pipeline.burst(now, port, &mut self.received);
            self.pipeline.release_ready(now);
            self.flush();
        }
        frames += self.take_redirected(now);
        self.pipeline.housekeeping(now);
        self.flush();
        self.io.housekeeping();
        let (free, total) = self.io.frames();
        let counters = self.pipeline.counters();
        counters.frames_free.set(free as u64);
        counters.frames_total.set(total as u64);
        counters.heartbeat_ns.set(now.0);
        counters.loops.add(1);
        if frames > 0 {
            counters.busy_loops.add(1);
        }
        frames > 0 || letters
    }

    /// Sleeps until a port has frames, another worker has some for this one, control has a message or `milliseconds` are over.
    pub fn sleep(&mut self, milliseconds: u32) {
        if self.mesh.falls_asleep(self.number) {
            self.io.wait(milliseconds);
        }
        self.mesh.gets_up(self.number);
    }

    /// Whether control has asked it to finish.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The ports, for waiting on them and for taking them apart at the end.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// Takes the worker apart. Its connections and the frames that it holds are gone; the ports are left.
    pub fn into_io(self) -> I {
        self.io
    }

    /// The packet machine.
    pub fn pipeline(&mut self) -> &mut Pipeline<I::Frame> {
        &mut self.pipeline
    }

    fn refill_spare(&mut self) {
        let spare = &mut self.pipeline.output.spare;
        while spare.len() < SPARE_FRAMES {
            match self.io.allocate() {
                Some(frame) => spare.push(frame),
                None => return,
            }
        }
    }

    fn take_redirected(&mut self, now: Time) -> usize {
        if self.mesh.workers <= 1 {
            return 0;
        }
        let mut taken = 0;
        let mesh = Arc::clone(&self.mesh);
        for from in (0..mesh.workers).filter(|&from| from != self.number) {
            while let Some(frame) = mesh.returns(from, self.number).pop() {
                self.io.free(frame);
            }
            for _ in 0..BURST {
                let Some(redirected) = mesh.frames(from, self.number).pop() else {
                    break;
                };
                self.pipeline.redirected(now, redirected);
                self.owed[from] += 1;
                taken += 1;
            }
        }
        if taken > 0 {
            self.pipeline.release_ready(now);
            self.flush();
        }
        self.return_empty();
        taken
    }

    /// An empty frame goes back for each that was taken over: now, or as soon as the pool has one again and the ring has room. Otherwise a worker that receives
    /// what others own would run dry for good.
    fn return_empty(&mut self) {
        for (to, owed) in self.owed.iter_mut().enumerate() {
            while *owed > 0 {
                let Some(empty) = self.io.allocate() else { return };
                if let Err(empty) = self.mesh.returns(self.number, to).push(empty) {
                    self.io.free(empty);
                    break;
                }
                *owed -= 1;
            }
        }
    }

    /// Sends and frees what the pipeline has put out.
    fn flush(&mut self) {
        let output = &mut self.pipeline.output;
        let mut failed = 0;
        for (port, frames) in output.transmit.iter_mut().enumerate() {
            if !frames.is_empty() {
                let count = frames.len();
                failed += count - self.io.transmit(PortIndex(port as u8), frames);
            }
        }
        let mut refused = 0;
        for (to, frames) in output.redirect.iter_mut().enumerate() {
            if frames.is_empty() {
                continue;
            }
            for redirected in frames.drain(..) {
                if let Err(back) = self.mesh.frames(self.number, to).push(redirected) {
                    self.io.free(back.frame);
                    refused += 1;
                }
            }
            self.mesh.wake(to);
        }
        for (port, frame) in output.punt.drain(..) {
            self.io.punt(port, frame);
        }
        for frame in output.free.drain(..) {
            self.io.free(frame);
        }
        let mut lost = 0;
        for (interface, address) in output.resolve.drain(..) {
            if self
                .mailbox
                .from_worker
                .push(FromWorker::Resolve(interface, address))
                .is_err()
            {
                lost += 1;
            }
        }
        let counters = self.pipeline.counters();
        counters.event(Event::TransmitFailed).add(failed as u64);
        counters.event(Event::RedirectFailed).add(refused);
        counters.event(Event::EventsLost).add(lost);
    }

    fn read_mailbox(&mut self, now: Time) -> bool {
        let mut any = false;
        // An answer must fit before a question is taken: nothing that control waits for is ever lost.
        while self.mailbox.from_worker.len() + MAILBOX < self.mailbox.from_worker.capacity() {
            let Some(message) = self.mailbox.to_worker.pop() else {
                break;
            };
            any = true;
            let answer = match message {
                ToWorker::Adopt(snapshot) => {
                    let generation = snapshot.generation;
                    FromWorker::Adopted(generation, self.pipeline.adopt(now, snapshot))
                }
                ToWorker::Send(port, bytes) => self.send(port, bytes),
                ToWorker::List(cursor, buffer) => self.list(now, cursor, buffer),
                ToWorker::Stop => {
                    self.stopping = true;
                    continue;
                }
            };
            if self.mailbox.from_worker.push(answer).is_err() {
                self.pipeline.counters().event(Event::EventsLost).add(1);
            }
        }
        any
    }

    fn send(&mut self, port: PortIndex, bytes: Vec<u8>) -> FromWorker {
        if let Some(mut frame) = self.io.allocate() {
            if frame.set_length(bytes.len()).is_ok() && usize::from(port.0) < self.io.port_count() {
                frame.head_mut().copy_from_slice(&bytes);
                self.pipeline.output.transmit[usize::from(port.0)].push(frame);
                self.pipeline.counters().event(Event::Generated).add(1);
            } else {
                self.io.free(frame);
            }
        }
        FromWorker::Sent(bytes)
    }

    fn list(&mut self, now: Time, cursor: u32, mut buffer: Vec<ConnectionRow>) -> FromWorker {
        let tick = wheel::tick_of(now);
        let room = (buffer.capacity() - buffer.len()).min(PAGE);
        let next = self.pipeline.table().scan(cursor, room, |place, connection| {
            let expires_in_s = wheel::seconds_until(connection.expires, tick);
            buffer.push(ConnectionRow {
                place,
                connection: *connection,
                expires_in_s,
            });
        });
        FromWorker::Listed(buffer, next)
    }
}
