//! Control's part: configurations on their way to the workers, and the slots of servers.

use ulvs_dataplane::service::ServerSlot;
use ulvs_dataplane::worker::{FromWorker, ToWorker};

use super::{Checked, World, ensure};
use crate::plan::SERVERS;

impl World {
    /// Sends the plan to every worker; each gets it, and takes it over, at its own time.
    pub fn configure(&mut self) {
        let snapshot = self.plan.snapshot();
        self.letters
            .iter_mut()
            .for_each(|letters| letters.push(snapshot.clone()));
    }

    /// Some workers get the configurations that were sent to them.
    pub(super) fn deliver_letters(&mut self) {
        for (mailbox, letters) in self.mailboxes.iter().zip(&mut self.letters) {
            if self.random.chance(20) {
                let now = letters.len().min(8);
                for snapshot in letters.drain(..now) {
                    let letter = mailbox.to_worker.push(ToWorker::Adopt(snapshot));
                    letter.expect("workers read their mail");
                }
            }
        }
    }

    pub(super) fn read_answers(&mut self) -> Checked {
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            while let Some(answer) = mailbox.from_worker.pop() {
                if let FromWorker::Adopted(generation, _) = answer {
                    ensure!(generation > self.generations[number], "configurations out of order");
                    self.generations[number] = generation;
                }
            }
        }
        Ok(())
    }

    /// Whether every worker uses the newest configuration.
    fn is_settled(&self) -> bool {
        self.generations.iter().all(|&own| own == self.plan.generation)
    }

    /// The slots of servers that are in no configuration, and that no worker's connection names: they may be given to others.
    pub fn free_slots(&mut self) -> Vec<usize> {
        if !self.is_settled() {
            return Vec::new();
        }
        (0..self.plan.services.len() * SERVERS)
            .filter(|&slot| {
                let load = self.loads.get(ServerSlot(slot as u32));
                let service = &self.plan.services[slot / SERVERS];
                !(service.is_configured && service.servers[slot % SERVERS].is_configured)
                    && load.active() + load.inactive() == 0
            })
            .collect()
    }

    /// Gives a free slot to a new server.
    pub fn replace_server(&mut self, slot: usize) {
        self.loads.get(ServerSlot(slot as u32)).reset();
        self.plan.replace_server(slot);
    }
}
