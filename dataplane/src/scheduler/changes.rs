//! What happened to a service's servers between two of its revisions.

use crate::service::Server;

/// The difference of two server lists in the kernel's order: an added server is put in front, the others keep their order.
pub(super) struct ServerChanges<'a> {
    old: &'a [Server],
    new: &'a [Server],
    /// Place in `new` of the first server that was there before; all in front of it were added.
    first_kept: usize,
    /// A server was deleted, or anything of a kept one edited.
    kept_changed: bool,
}

impl<'a> ServerChanges<'a> {
    /// Compares two lists, each server known by its slot, in one pass from the back.
    pub fn between(old: &'a [Server], new: &'a [Server]) -> ServerChanges<'a> {
        let mut first_kept = new.len();
        let mut kept_changed = false;
        for before in old.iter().rev() {
            match new[..first_kept].last() {
                Some(server) if server.slot == before.slot => {
                    first_kept -= 1;
                    kept_changed |= server != before;
                }
                _ => kept_changed = true,
            }
        }
        ServerChanges {
            old,
            new,
            first_kept,
            kept_changed,
        }
    }

    /// The servers that were there before, as they are now; `None` when nothing happened to them and none was deleted.
    pub fn changed_kept(&self) -> Option<&'a [Server]> {
        self.kept_changed.then(|| self.kept())
    }

    /// The servers that were there before, as they are now.
    pub fn kept(&self) -> &'a [Server] {
        &self.new[self.first_kept..]
    }

    /// All servers, as they are now.
    pub fn now(&self) -> &'a [Server] {
        self.new
    }

    /// The added servers in the order in which they came.
    pub fn added(&self) -> impl Iterator<Item = &'a Server> + use<'a> {
        self.new[..self.first_kept].iter().rev()
    }

    /// Where the server that stood at `old_place` stands now. If it was deleted: where the nearest kept one in front of it stands;
    /// `None` when there is none, which is the head of the list.
    pub fn place_at_or_before(&self, old_place: usize) -> Option<usize> {
        let candidates = self.old.get(..=old_place)?;
        candidates.iter().rev().find_map(|candidate| {
            let place = self.kept().iter().position(|server| server.slot == candidate.slot)?;
            Some(self.first_kept + place)
        })
    }
}
