//! Who is at the other end of a connection: a second line behind the mode of the socket file.

use std::fs;

use tokio::net::unix::UCred;

/// Whether the peer may use the API: root, the user that the director runs as, or a member of the socket's group.
pub(super) fn is_permitted(peer: &UCred, group_id: Option<u32>) -> bool {
    if peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw() {
        return true;
    }
    let Some(group_id) = group_id else { return false };
    peer.gid() == group_id || peer.pid().is_some_and(|pid| has_group(pid, group_id))
}

/// Whether a process has `group_id` among its supplementary groups, which SO_PEERCRED does not tell.
fn has_group(pid: i32, group_id: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    supplementary_groups(&status).any(|group| group == group_id)
}

/// The groups in the text of `/proc/PID/status`.
fn supplementary_groups(status: &str) -> impl Iterator<Item = u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_a_process_status() {
        let status = "Name:\tulvs\nUid:\t1000\t1000\t1000\t1000\nGroups:\t4 27 996 \nNgid:\t0\n";
        assert_eq!(supplementary_groups(status).collect::<Vec<_>>(), [4, 27, 996]);
        assert_eq!(supplementary_groups("Name:\tulvs\n").count(), 0);
        assert_eq!(supplementary_groups("Groups:\t\n").count(), 0);
    }

    #[test]
    fn own_groups_are_found_in_proc() {
        let own = fs::read_to_string("/proc/self/status").unwrap();
        for group in supplementary_groups(&own) {
            assert!(has_group(std::process::id() as i32, group));
        }
        assert!(!has_group(std::process::id() as i32, 0xffff_fffe));
    }
}
