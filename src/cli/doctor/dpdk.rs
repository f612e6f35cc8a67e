//! The DPDK that is installed: libraries, drivers, tools.

use super::finding::{Finding, Findings, Status};
use super::host::Host;
use super::wanted::{Backend, Wanted};

const BIND_TOOL: [&str; 4] = [
    "/usr/bin/dpdk-devbind.py",
    "/usr/sbin/dpdk-devbind.py",
    "/usr/local/bin/dpdk-devbind.py",
    "/usr/local/sbin/dpdk-devbind.py",
];

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// As pkg-config says it: what a build would be made with.
    build_version: Option<String>,
    /// Path of the library that a built program loads.
    library: Option<String>,
    /// Folder and number of the drivers that it loads by itself.
    plugins: Option<(String, usize)>,
    has_bind_tool: bool,
}

pub(super) fn gather(host: &Host) -> Facts {
    let mut facts = Facts {
        has_bind_tool: host.first(&BIND_TOOL).is_some(),
        ..Facts::default()
    };
    // The newest of a folder is the last in order.
    for folder in library_folders(host) {
        let version = host.text(&format!("{folder}/pkgconfig/libdpdk.pc")).and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("Version:"));
            line.map(|version| version.trim().to_owned())
        });
        facts.build_version = facts.build_version.or(version);
        let names = host.names(&folder);
        let library = names.iter().rfind(|name| name.starts_with("librte_eal.so."));
        facts.library = facts.library.or(library.map(|name| format!("{folder}/{name}")));
        let plugins = host.names(&format!("{folder}/dpdk"));
        let plugins = plugins.iter().rfind(|name| name.starts_with("pmds-"));
        facts.plugins = facts.plugins.or_else(|| {
            let folder = format!("{folder}/dpdk/{}", plugins?);
            let drivers = host.names(&folder).iter().filter(|name| name.ends_with(".so")).count();
            Some((folder, drivers))
        });
    }
    facts
}

/// Where libraries lie: built from source, and Debian's folders by architecture.
fn library_folders(host: &Host) -> Vec<String> {
    let mut folders = Vec::new();
    for folder in ["/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64"] {
        let architectures = host
            .names(folder)
            .into_iter()
            .filter(|name| name.ends_with("-linux-gnu"));
        folders.extend(architectures.map(|name| format!("{folder}/{name}")));
        folders.push(folder.to_owned());
    }
    folders
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    if !wanted.may_use(Backend::Dpdk) {
        return Vec::new();
    }
    let missing = if wanted.must_use(Backend::Dpdk) {
        Status::Wrong
    } else {
        Status::Note
    };
    let mut findings = Findings::about("dpdk");
    match (&facts.library, &facts.build_version) {
        (Some(library), Some(version)) => findings.ok(format!("DPDK {version}; {library}")),
        (Some(library), None) => findings.ok(format!("{library}; to build with it: apt-get install libdpdk-dev")),
        (None, _) => findings.add(
            missing,
            "DPDK is not installed",
            Some("apt-get install dpdk libdpdk-dev".to_owned()),
        ),
    }
    match &facts.plugins {
        Some((folder, count)) if *count > 0 => findings.ok(format!("{count} drivers in {folder}")),
        Some((folder, _)) => findings.add(
            missing,
            format!("there are no drivers in {folder}, so DPDK finds no card"),
            Some("apt-get install --reinstall librte-net-ixgbe23  # or the package of your card".to_owned()),
        ),
        None if facts.library.is_some() => {
            findings.remark(
                "there is no folder of drivers beside the library: they must be linked in, or no card is found",
            );
        }
        None => {}
    }
    if !facts.has_bind_tool {
        let sentence = "dpdk-devbind.py, which gives cards to DPDK, is not installed";
        findings.add(missing, sentence, Some("apt-get install dpdk".to_owned()));
    }
    findings.list()
}
