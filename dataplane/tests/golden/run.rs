//! Runs the script of a case (`frames.txt`) and puts what happened under each step.
//!
//! A step begins at the left margin, what it must lead to is indented:
//!
//! ```text
//! > PORT FRAME          a frame arrives on the port of that interface (PORT@1: at worker 1)
//! > PORT xN FRAME       N times; a number written 40000+ grows with each
//! @ 500 ms              time passes
//! ! NAME                the director takes [change.NAME] over
//! # anything            a remark
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::io::memory::{MemoryFrame, MemoryIo};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::Loads;
use ulvs_dataplane::steering::Steering;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::worker::{FromWorker, Mailbox, Mesh, ToWorker, Worker};

use crate::config::Director;
use crate::decode::{self, FragmentOf};
use crate::encode;
use crate::state::State;
use crate::words::Names;

/// What a port of the real director has.
const FRAME_SIZE: usize = 2048;
const SERVERS: usize = 64;

/// Pieces of a datagram that has not come out whole yet.
type Pieces = HashMap<(Vec<u8>, Vec<u8>, u32, u8), Vec<FragmentOf>>;

/// The director of a case at work.
pub struct Run {
    director: Director,
    names: Names,
    workers: Vec<Worker<MemoryIo>>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<Counters>>,
    loads: Arc<Loads>,
    now: Time,
    seen: State,
    pieces: Pieces,
    /// Frames that exist: each one must be somewhere.
    frames: usize,
    /// The packet came with a wrong checksum, so it must not leave with a right one.
    came_bad: bool,
    /// What came out of the last step.
    pub lines: Vec<String>,
    /// What was wrong whatever a script expects.
    pub faults: Vec<String>,
}

/// Runs the case in `folder`: the script with what happened under each step, and what was wrong whatever the script expects.
pub fn case(folder: &Path, script: &str) -> Result<(String, Vec<String>), String> {
    let director = Director::read(folder)?;
    let about = format!("This case shows: {}", director.case().description);
    let mut run = Run::new(director)?;
    let mut text = String::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.trim_end();
        if line.starts_with([' ', '\t']) {
            continue;
        }
        text += line;
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        run.step(line)
            .map_err(|error| format!("frames.txt line {}: {error}", number + 1))?;
        run.check();
        for line in run.lines.drain(..) {
            text += &format!("    {line}\n");
        }
        if !run.faults.is_empty() {
            let faults = run
                .faults
                .iter()
                .map(|fault| format!("after line {}: {fault}", number + 1));
            return Ok((text, faults.chain([about]).collect()));
        }
    }
    Ok((text, Vec::new()))
}

impl Run {
    /// With its configuration taken over.
    pub fn new(director: Director) -> Result<Run, String> {
        let case = director.case().clone();
        let ports = director.port_count();
        let count = usize::from(case.workers);
        let mesh = Mesh::new(count);
        let loads = Arc::new(Loads::new(SERVERS));
        let mailboxes: Vec<Mailbox> = (0..count).map(|_| Mailbox::default()).collect();
        let counters: Vec<_> = (0..count).map(|_| Arc::new(Counters::new(SERVERS))).collect();
        let now = Time::from_secs(1000);
        let workers = (0..count).map(|number| {
            let settings = Settings {
                worker: number as u8,
                steering: Steering::new(case.workers, []),
                connections: case.connections,
                service_limit: 16,
                server_limit: SERVERS,
                ports,
                // The same in every run, so that owners and local ports are.
                hasher: KeyHasher::new([11, 22, 33, 44, 55]),
            };
            let pipeline = Pipeline::new(settings, Arc::clone(&counters[number]), Arc::clone(&loads), now);
            let io = MemoryIo::new(ports, case.frames, FRAME_SIZE);
            Worker::new(io, pipeline, number, mailboxes[number].clone(), Arc::clone(&mesh))
        });
        let mut run = Run {
            names: director.names()?,
            workers: workers.collect(),
            mailboxes,
            counters: counters.clone(),
            loads,
            now,
            seen: State::default(),
            pieces: HashMap::new(),
            frames: count * case.frames,
            came_bad: false,
            lines: Vec::new(),
            faults: Vec::new(),
            director,
        };
        if case.is_configured {
            let snapshot = run.director.compile()?;
            run.adopt(snapshot);
        }
        run.seen = run.look();
        run.lines.clear();
        Ok(run)
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        let (sign, rest) = line.split_at(1);
        let rest = rest.trim();
        match sign {
            ">" => self.arrive(rest)?,
            "@" => self.pass_time(rest)?,
            "!" => {
                self.director.change(rest)?;
                let snapshot = self.director.compile()?;
                self.adopt(snapshot);
            }
            _ => return Err(format!("`{sign}` begins no step")),
        }
        let now = self.look();
        self.lines.extend(now.changes_since(&self.seen));
        self.seen = now;
        Ok(())
    }

    /// A frame arrives, as a script's `>` says.
    pub fn arrive(&mut self, text: &str) -> Result<(), String> {
        let (place, mut text) = text.split_once(' ').ok_or("a frame is missing")?;
        let (port, worker) = match place.split_once('@') {
            Some((port, worker)) => (port, worker.parse::<usize>().map_err(|_| "no worker")?),
            None => (place, 0),
        };
        let port = self.director.port(port)?;
        let mut times = 1;
        if let Some((first, rest)) = text.split_once(' ')
            && let Some(count) = first.strip_prefix('x')
        {
            times = count.parse().map_err(|_| format!("`{first}` is no number of times"))?;
            text = rest;
        }
        for time in 0..times {
            let built = encode::frame(&counted(text, time), &self.names)?;
            let frame = match built.segments {
                Some((head, segment)) => MemoryFrame::segmented(&built.bytes, head, segment),
                None => MemoryFrame::new(&built.bytes, FRAME_SIZE),
            };
            self.frames += 1;
            self.workers[worker].io().arrivals[usize::from(port.0)].push_back(frame);
        }
        self.came_bad = text.contains("checksum bad");
        self.turn();
        self.came_bad = false;
        Ok(())
    }

    /// A frame of any bytes arrives; what comes out is not judged.
    pub fn arrive_bytes(&mut self, port: PortIndex, bytes: &[u8]) {
        self.frames += 1;
        self.workers[0].io().arrivals[usize::from(port.0)].push_back(MemoryFrame::new(bytes, FRAME_SIZE));
        self.turn();
        self.lines.clear();
        self.faults.clear();
    }

    fn pass_time(&mut self, text: &str) -> Result<(), String> {
        let (number, unit) = text.split_once(' ').ok_or("time has a unit: ms or s")?;
        let number: u64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        let nanoseconds = match unit {
            "ms" => number * 1_000_000,
            "s" => number * 1_000_000_000,
            _ => return Err(format!("`{unit}` is neither ms nor s")),
        };
        // In strides: a worker catches up with a bounded stretch of time per turn.
        const STRIDE_NS: u64 = 60_000_000_000;
        let mut left = nanoseconds;
        while left > 0 {
            let stride = left.min(STRIDE_NS);
            self.now = self.now + stride;
            left -= stride;
            self.turn();
        }
        Ok(())
    }

    fn adopt(&mut self, snapshot: Arc<ulvs_dataplane::snapshot::Snapshot>) {
        for mailbox in &self.mailboxes {
            if mailbox.to_worker.push(ToWorker::Adopt(Arc::clone(&snapshot))).is_err() {
                self.faults.push("a mailbox is full".to_owned());
            }
        }
        self.turn();
    }

    /// Lets all workers go round until nothing moves any more, and takes what came out.
    fn turn(&mut self) {
        for _ in 0..20 {
            let mut any = false;
            for worker in &mut self.workers {
                any |= worker.turn(self.now);
            }
            if !any {
                break;
            }
        }
        for worker in 0..self.workers.len() {
            for port in 0..self.director.port_count() {
                let frames = std::mem::take(&mut self.workers[worker].io().departures[port]);
                let name = self.director.port_name(port).to_owned();
                self.show(&format!("< {name}"), frames);
            }
            let punted = std::mem::take(&mut self.workers[worker].io().punted);
            for (PortIndex(port), frame) in punted {
                let name = self.director.port_name(usize::from(port)).to_owned();
                self.frames -= 1;
                let text = decode::frame(&frame.to_vec(), &self.names).text;
                self.lines.push(format!("punt {name} {text}"));
            }
            while let Some(message) = self.mailboxes[worker].from_worker.pop() {
                if let FromWorker::Resolve(interface, address) = message {
                    self.lines.push(format!(
                        "resolve {address} on {}",
                        self.director.interface_name(interface)
                    ));
                }
            }
        }
    }

    /// Adds frames that were sent to the lines, equal ones only once, and judges each.
    fn show(&mut self, what: &str, frames: Vec<MemoryFrame>) {
        self.frames -= frames.len();
        let mut texts: Vec<(String, usize)> = Vec::new();
        for frame in frames {
            let reading = decode::frame(&frame.to_vec(), &self.names);
            let faults = reading.faults.iter();
            let faults = faults.filter(|fault| !(self.came_bad && fault.starts_with("bad checksum")));
            self.faults
                .extend(faults.map(|fault| format!("{fault}: {}", reading.text)));
            if let Some(fragment) = reading.fragment {
                self.put_together(fragment);
            }
            match texts.last_mut() {
                Some((last, count)) if *last == reading.text => *count += 1,
                _ => texts.push((reading.text, 1)),
            }
        }
        for (text, count) in texts {
            let times = if count > 1 { format!("x{count} ") } else { String::new() };
            self.lines.push(format!("{what} {times}{text}"));
        }
    }

    /// Collects the fragments of a datagram; a whole one is judged.
    fn put_together(&mut self, fragment: FragmentOf) {
        let key = fragment.datagram.clone();
        let pieces = self.pieces.entry(key.clone()).or_default();
        pieces.push(fragment);
        pieces.sort_by_key(|piece| piece.offset);
        let mut data: Vec<u8> = Vec::new();
        for piece in pieces.iter() {
            if piece.offset != data.len() {
                return;
            }
            data.extend(&piece.data);
        }
        if pieces.last().is_some_and(|last| last.more) {
            return;
        }
        let fault = decode::reassembled(&key.0, &key.1, key.3, &data);
        self.faults.extend(fault);
        self.pieces.remove(&key);
    }

    fn look(&mut self) -> State {
        let mut state = State::default();
        for worker in &mut self.workers {
            state.add(&self.director, worker.pipeline(), self.now);
        }
        state.add_loads(&self.director, &self.loads);
        state
    }

    /// What always holds: every frame has one verdict or waits, and none is lost.
    pub fn check(&mut self) {
        let mut held = 0;
        for (number, counters) in self.counters.iter().enumerate() {
            let came = counters.event(Event::Received).get() + counters.event(Event::RedirectedIn).get();
            let accounted = counters.verdicts() + counters.held.get();
            held += counters.held.get() as usize;
            if came != accounted {
                self.faults.push(format!(
                    "worker {number}: {came} frames came, {accounted} are accounted for"
                ));
            }
        }
        // Rings between workers hold frames too; one worker has none.
        if let [worker] = &mut self.workers[..] {
            let there = worker.io().pool_size() + worker.pipeline().output.spare.len() + held;
            if there != self.frames {
                self.faults
                    .push(format!("there are {} frames, {there} of them are found", self.frames));
            }
        }
    }
}

/// Numbers written `40000+`, made larger by `time`.
fn counted(text: &str, time: usize) -> String {
    let count = |word: &str| match word.strip_suffix('+').and_then(|number| number.parse::<usize>().ok()) {
        Some(number) => (number + time).to_string(),
        None => word.to_owned(),
    };
    text.split(' ').map(count).collect::<Vec<_>>().join(" ")
}
