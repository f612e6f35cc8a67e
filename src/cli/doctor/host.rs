//! The box as its files show it: /sys, /proc, /etc and the like, below a root that need not be `/`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Reads below a root. What is not there is `None`; what may not be read is remembered.
pub(super) struct Host {
    root: PathBuf,
    denied: RefCell<BTreeSet<String>>,
}

impl Host {
    pub fn below(root: &Path) -> Host {
        Host {
            root: root.to_owned(),
            denied: RefCell::default(),
        }
    }

    /// Where a path of the box is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the blanks around it.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.seen(path, fs::read(self.path(path)))?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Some(entries) = self.seen(path, fs::read_dir(self.path(path))) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link points to, which is how /sys says "driver" or "IOMMU group".
    pub fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether a path is there, if only as a link that leads nowhere.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The first of these paths that is there.
    pub fn first<'a>(&self, paths: &[&'a str]) -> Option<&'a str> {
        paths.iter().copied().find(|path| self.has(path))
    }

    /// Whether a process of this name runs.
    pub fn runs(&self, program: &str) -> bool {
        let numbers = self.names("/proc");
        let mut processes = numbers
            .iter()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        processes.any(|process| self.text(&format!("/proc/{process}/comm")).as_deref() == Some(program))
    }

    /// The words of the kernel command line.
    pub fn command_line(&self) -> Vec<String> {
        let line = self.text("/proc/cmdline").unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// What could not be read for want of rights.
    pub fn denied(&self) -> Vec<String> {
        self.denied.borrow().iter().cloned().collect()
    }

    /// What came of reading or opening a path; a want of rights is remembered.
    pub fn seen<T>(&self, path: &str, result: io::Result<T>) -> Option<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            self.denied.borrow_mut().insert(path.to_owned());
        }
        result.ok()
    }
}

/// The numbers of a list as the kernel writes them: `0-3,8`.
pub(super) fn number_list(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            // Far above the kernel's NR_CPUS.
            numbers.extend((first..=last).take(1 << 16));
        }
    }
    numbers
}

/// Numbers for people and for options of the kernel: `1-3,8`.
pub(super) fn list_text(numbers: &[usize]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last)| {
        if first == last {
            format!("{first}")
        } else {
            format!("{first}-{last}")
        }
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

/// The command that adds options to the kernel command line, where GRUB boots.
pub(super) fn boot_with(options: &str) -> String {
    format!("sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{options} /' /etc/default/grub && update-grub  # then reboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_lists_are_read_and_written_as_the_kernel_does() {
        for (text, numbers) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3", vec![0, 1, 2, 3]),
            ("1,3-4,9", vec![1, 3, 4, 9]),
        ] {
            assert_eq!(number_list(text), numbers);
            assert_eq!(list_text(&numbers), text);
        }
        assert!(number_list("x,3-1,2-").is_empty());
        assert_eq!(list_text(&[3, 1, 2, 2]), "1-3");
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        let host = Host::below(Path::new("/nonexistent"));
        assert_eq!(host.text("/proc/cmdline"), None);
        assert_eq!(host.names("/sys/class/net"), Vec::<String>::new());
        assert!(!host.runs("irqbalance") && host.denied().is_empty());
    }
}
