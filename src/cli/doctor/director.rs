//! The director's own place on the box: service, socket, clock.

use super::answers::Answers;
use super::finding::{Finding, Findings};
use super::host::Host;
use super::wanted::Wanted;

const UNIT: [&str; 3] = [
    "/etc/systemd/system/ulvsd.service",
    "/usr/lib/systemd/system/ulvsd.service",
    "/lib/systemd/system/ulvsd.service",
];
const CLOCK_PROGRAMS: [&str; 4] = ["chronyd", "ntpd", "systemd-timesyn", "ptp4l"];

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    has_systemd: bool,
    unit: Option<&'static str>,
    /// What the unit starts, and that it is not there.
    missing_program: Option<String>,
    socket: SocketFacts,
    group_exists: bool,
    runs: bool,
    clock_is_behind: bool,
    clock_program: Option<&'static str>,
}

/// What stands where the control socket belongs.
#[derive(Debug, PartialEq, Eq)]
enum SocketFacts {
    /// Nothing, or a socket.
    Free,
    /// Something that the director will not replace.
    Taken,
    /// The folder cannot be made.
    NoFolder(String),
}

pub(super) fn gather(host: &Host, wanted: &Wanted, answers: &Answers) -> Facts {
    let unit = host.first(&UNIT);
    let text = unit.and_then(|unit| host.text(unit)).unwrap_or_default();
    let program = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=")?.split_whitespace().next());
    let groups = host.text("/etc/group").unwrap_or_default();
    let group_exists = |group: &String| groups.lines().any(|line| line.split(':').next() == Some(group));
    Facts {
        has_systemd: host.has("/run/systemd/system"),
        missing_program: program.filter(|program| !host.has(program)).map(str::to_owned),
        unit,
        socket: socket(host, wanted),
        group_exists: wanted.control_group.as_ref().is_none_or(group_exists),
        runs: answers.director_runs,
        clock_is_behind: answers.now_s < answers.program_s,
        clock_program: CLOCK_PROGRAMS.into_iter().find(|program| host.runs(program)),
    }
}

fn socket(host: &Host, wanted: &Wanted) -> SocketFacts {
    use std::os::unix::fs::FileTypeExt;
    let path = host.path(&wanted.control_socket.to_string_lossy());
    if path
        .symlink_metadata()
        .is_ok_and(|metadata| !metadata.file_type().is_socket())
    {
        return SocketFacts::Taken;
    }
    // The director makes the folders that are missing.
    let nearest = wanted
        .control_socket
        .ancestors()
        .skip(1)
        .find(|folder| host.has(&folder.to_string_lossy()));
    match nearest {
        Some(folder) if !host.path(&folder.to_string_lossy()).is_dir() => {
            SocketFacts::NoFolder(folder.display().to_string())
        }
        _ => SocketFacts::Free,
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Findings::about("director");
    match (facts.unit, &facts.missing_program) {
        (Some(unit), Some(program)) => findings.wrong(
            format!("{unit} starts {program}, which is not there"),
            "install target/release/ulvsd target/release/ulvs /usr/local/sbin/",
        ),
        (Some(unit), None) => findings.ok(format!("the service is installed: {unit}")),
        (None, _) if facts.has_systemd => findings.note(
            "the service is not installed, so the director does not start with the box",
            "install -m 644 config/ulvsd.service /etc/systemd/system/ && systemctl daemon-reload",
        ),
        (None, _) => findings.remark("systemd does not run here: start ulvsd by your own means"),
    }
    judge_socket(facts, wanted, &mut findings);
    if facts.clock_is_behind {
        findings.wrong(
            "the clock is wrong: it shows a time before this program was built, so times in logs are wrong too",
            "apt-get install chrony && chronyc makestep",
        );
    } else if let Some(program) = facts.clock_program {
        findings.ok(format!("the clock is kept by {program}"));
    } else {
        findings.note("nothing keeps the clock: times in logs drift", "apt-get install chrony");
    }
    findings.list()
}

fn judge_socket(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let socket = wanted.control_socket.display();
    match &facts.socket {
        SocketFacts::Taken => findings.wrong(
            format!("{socket} is not a socket, and the director will not replace it"),
            format!("ls -ld {socket}  # then move it away, or correct control_socket in the configuration"),
        ),
        SocketFacts::NoFolder(file) => findings.wrong(
            format!("{file} is not a folder, so the control socket {socket} cannot be made"),
            format!("ls -l {file}  # then move it away, or correct control_socket in the configuration"),
        ),
        SocketFacts::Free if facts.runs => findings.ok(format!("a director answers on {socket}")),
        SocketFacts::Free => findings.ok(format!("no director answers on {socket}, and its place is free")),
    }
    if let (false, Some(group)) = (facts.group_exists, &wanted.control_group) {
        findings.wrong(
            format!("there is no group {group} for the control socket (control_group)"),
            format!("groupadd --system {group}"),
        );
    }
}
