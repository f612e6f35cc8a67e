//! `ulvs doctor`: looks at a box and says what is right, what is not, and what to run.
//!
//! ```text
//! files below a root ── host ──┐
//! system calls ────── answers ─┼─▶ gather: facts ─▶ judge: findings ─▶ lines, or JSON
//! configuration ────── wanted ─┘
//! ```
//!
//! Each area is a file with its facts, `gather` and `judge`. What is judged needs neither a director nor root; what could not be read
//! without root is said at the end.

mod af_xdp;
mod answers;
mod cores;
mod director;
mod dpdk;
mod finding;
mod host;
mod huge_pages;
mod iommu;
mod lifelines;
mod memory;
mod nics;
mod sysctls;
mod wanted;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use ulvs_control::config;

use answers::Answers;
use finding::{Finding, Findings};
use host::Host;
use wanted::{Backend, Wanted};

/// Something is wrong.
const STATUS_WRONG: u8 = 1;

/// What to look for.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Compare the box with this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The backend that will be used, when there is no configuration yet
    #[arg(long, conflicts_with = "config")]
    backend: Option<Backend>,
    /// JSON for programs instead of text for people
    #[arg(long)]
    json: bool,
    /// Look at the files below this folder instead of at this box; answers.json there has what system calls would say (for tests)
    #[arg(long, value_name = "FOLDER", hide = true)]
    root: Option<PathBuf>,
}

impl Doctor {
    /// Looks, and prints. The exit status is 0 when nothing is wrong, else 1.
    pub(super) fn run(self, control_socket: PathBuf, out: &mut impl Write) -> io::Result<u8> {
        let (wanted, refused) = self.wanted(control_socket);
        let host = Host::below(self.root.as_deref().unwrap_or(Path::new("/")));
        let answers = match &self.root {
            Some(root) => read_answers(root)?,
            None => Answers::ask(&host, &wanted),
        };
        let mut findings: Vec<Finding> = refused.into_iter().collect();
        findings.extend(examine(&host, &wanted, &answers));
        if self.json {
            finding::print_json(&findings, out)?;
        } else {
            let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            finding::print(&findings, colour, out)?;
        }
        Ok(if finding::count_wrong(&findings) == 0 {
            0
        } else {
            STATUS_WRONG
        })
    }

    /// What the box is for, and what is wrong with the configuration that should say so.
    fn wanted(&self, control_socket: PathBuf) -> (Wanted, Option<Finding>) {
        let unknown = || Wanted::unknown(self.backend, control_socket);
        let Some(file) = &self.config else {
            return (unknown(), None);
        };
        let mut findings = Findings::about("config");
        let shown = file.display();
        let wanted = match config::load(file) {
            Ok(config) => {
                findings.ok(format!("{shown} has no errors"));
                Wanted::from_config(&config)
            }
            Err(errors) => {
                let count = errors.len();
                let plural = if count == 1 { "" } else { "s" };
                findings.wrong(
                    format!("{shown} has {count} error{plural}, so the box is judged without it"),
                    format!("ulvsd --check {shown}"),
                );
                unknown()
            }
        };
        (wanted, findings.list().pop())
    }
}

fn read_answers(root: &Path) -> io::Result<Answers> {
    let text = std::fs::read_to_string(root.join("answers.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// All areas, from the bottom up.
fn examine(host: &Host, wanted: &Wanted, answers: &Answers) -> Vec<Finding> {
    let iommu = iommu::gather(host);
    let driver_for_dpdk = iommu.driver_for_dpdk();
    let mut findings = [
        cores::judge(&cores::gather(host, wanted, answers), wanted),
        memory::judge(&memory::gather(host, answers), wanted),
        huge_pages::judge(&huge_pages::gather(host, answers), wanted),
        iommu::judge(&iommu, wanted),
        nics::judge(&nics::gather(host, driver_for_dpdk), wanted),
        dpdk::judge(&dpdk::gather(host), wanted),
        af_xdp::judge(&af_xdp::gather(host, answers), wanted),
        sysctls::judge(&sysctls::gather(host, wanted), wanted),
        director::judge(&director::gather(host, wanted, answers), wanted),
    ]
    .concat();
    let denied = host.denied();
    if !denied.is_empty() {
        let mut root = Findings::about("root");
        root.note(
            format!("not seen without root: {}", denied.join(", ")),
            "sudo ulvs doctor",
        );
        findings.extend(root.list());
    }
    findings
}
