//! What this machine's kernel can do.

/// Whether a test needs frames that span several AF_XDP buffers, which came with Linux 6.6, and the kernel is older; then says so. A newer
/// kernel that refuses them fails the test instead.
pub fn skip_without_multi_buffer(test: &str) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let is_old = version(release).is_some_and(|version| version < (6, 6));
    if is_old {
        // Not by eprintln!, which the test runner hides when the test succeeds.
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "skipped {test}: Linux {release} has no AF_XDP multi-buffer, 6.6 has"
        );
    }
    is_old
}

/// The first two numbers of a release such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[test]
fn releases_are_read_as_numbers() {
    assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
    assert_eq!(version("6.18.5"), Some((6, 18)));
    assert!(version("5.15-rc1") < Some((6, 6)) && version("6.10") > Some((6, 6)));
}
