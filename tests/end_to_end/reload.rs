//! SIGHUP: another configuration for a running director.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client;
use crate::config::{Backend, Family::V4, Method, Service, with_port};
use crate::director::Director;
use crate::lab::{Lab, Shape};

/// Larger than what the sockets and the director hold on the way.
const DOWNLOAD_BYTES: usize = 20_000_000;
/// Detects a download that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn a_reload_changes_what_it_says_and_nothing_else(backend: Backend) {
    let Some(lab) = Lab::up("reload", Shape::usual(backend)) else {
        return;
    };
    let (changed, unchanged) = (Method::Nat.vip(V4), Method::FullNat.vip(V4));
    let service = |method, servers| {
        let mut service = Service::new("tcp", 80, method, V4, V4);
        service.servers.truncate(servers);
        service
    };
    // The changed one first: edits of the file below meet its servers, not the same ones of the other service.
    let director = Director::start(&lab, vec![service(Method::Nat, 2), service(Method::FullNat, 3)]);
    let file = lab.directory().join("director.toml");
    let original = std::fs::read_to_string(&file).expect("the file is there");
    let server = |number| format!("  address = \"{}\"\n", with_port(V4.server(number), 80));
    assert_eq!(who_answers(&lab, changed), ["server1", "server2"]);
    // rr: one of each server of the changed service.
    let downloads = [changed, changed, unchanged].map(|vip| Download::halted(&lab, vip));

    // A server comes, another drains, and with a new service there is a new virtual address.
    let new_vip = Method::DirectRouting.vip(V4);
    let edited = original
        .replacen(
            &server(2),
            &format!("{}  [[service.server]]\n{}", server(2), server(3)),
            1,
        )
        .replacen(&server(1), &format!("{}  weight = 0\n", server(1)), 1)
        + &format!(
            "\n[[service]]\nprotocol = \"tcp\"\naddress = \"{}\"\nmethod = \"dr\"\n[[service.server]]\naddress = \"{}\"\n",
            with_port(new_vip, 80),
            V4.server(2)
        );
    std::fs::write(&file, &edited).expect("the file can be written");
    let told = director.reload();
    assert!(
        told.contains("services: 1 added, 0 removed, 0 changed; servers: 2 added, 0 removed, 1 changed"),
        "{told}"
    );
    let as_edited = || {
        assert_eq!(who_answers(&lab, changed), ["server2", "server3"]);
        assert_eq!(who_answers(&lab, unchanged), ["server1", "server2", "server3"]);
        assert_eq!(who_answers(&lab, new_vip), ["server2"]);
    };
    as_edited();

    // Files that are refused: with errors, and with changes that need a restart.
    let bad = edited
        .replacen("\"rr\"", "\"rrr\"", 1)
        .replacen("weight = 0", "weight = -1", 1);
    std::fs::write(&file, bad).expect("the file can be written");
    let told = director.reload();
    assert!(told.contains("reload refused") && told.contains("2 error(s)"), "{told}");
    assert!(told.contains("rrr") && told.contains("weight is -1"), "{told}");
    as_edited();
    let other_size = original.replacen("connections = 65536", "connections = 32768", 1);
    std::fs::write(&file, other_size).expect("the file can be written");
    let told = director.reload();
    assert!(
        told.contains("reload refused") && told.contains("(connections in [director])"),
        "{told}"
    );
    as_edited();
    std::fs::remove_file(&file).expect("the file can be removed");
    let told = director.reload();
    assert!(
        told.contains("reload refused") && told.contains("cannot be read"),
        "{told}"
    );
    as_edited();

    // And back.
    std::fs::write(&file, &original).expect("the file can be written");
    let told = director.reload();
    assert!(
        told.contains("services: 0 added, 1 removed, 0 changed; servers: 0 added, 2 removed, 1 changed"),
        "{told}"
    );
    assert_eq!(who_answers(&lab, changed), ["server1", "server2"]);
    for download in downloads {
        download.finish();
    }
    director.stop();
}

/// The servers that answer many short requests, sorted.
fn who_answers(lab: &Lab, vip: &str) -> Vec<String> {
    let counts = client::count_servers(lab, vip, 12);
    assert_eq!(counts.values().sum::<u32>(), 12, "{counts:?}");
    let mut servers: Vec<String> = counts.into_keys().collect();
    servers.sort();
    servers
}

/// A download that can be halted in the middle.
struct Download {
    curl: Child,
    file: PathBuf,
}

impl Download {
    /// Begun and halted. On a machine too busy to halt it in time, another one is.
    fn halted(lab: &Lab, vip: &str) -> Download {
        loop {
            let download = Download::begin(lab, vip);
            download.signal("-STOP");
            if download.bytes() < DOWNLOAD_BYTES as u64 {
                return download;
            }
            download.finish();
        }
    }

    fn begin(lab: &Lab, vip: &str) -> Download {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let file = lab.directory().join(format!("download-{number}"));
        // "ip netns exec" becomes curl, so that signals reach it.
        let curl = Command::new("ip")
            .args([
                "netns",
                "exec",
                &lab.namespace("client"),
                "curl",
                "--silent",
                "--show-error",
                "--fail",
            ])
            .args(["--max-time", "110", "--limit-rate", "5M", "--output"])
            .arg(&file)
            .arg(format!("http://{}/bytes/{DOWNLOAD_BYTES}", with_port(vip, 80)))
            .stdin(Stdio::null())
            .spawn()
            .expect("ip can be started");
        let mut download = Download { curl, file };
        download.wait_until(|download| download.bytes() > 0);
        download
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }

    fn wait_until(&mut self, condition: impl Fn(&Download) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let ended = self.curl.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the download ended early: {ended:?}");
            assert!(start.elapsed() < PATIENCE, "the download does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.curl.id().to_string()]).status();
        assert!(status.expect("kill can be started").success());
    }

    /// Lets it go on to its end; not a byte may be wrong.
    fn finish(mut self) {
        self.signal("-CONT");
        let status = self.curl.wait().expect("a child can be waited for");
        assert!(status.success(), "a download did not survive: {status}");
        let wanted = (0..=DOWNLOAD_BYTES / 16)
            .map(|line| format!("{line:015}\n"))
            .collect::<String>();
        let got = std::fs::read(&self.file).expect("the file is there");
        assert!(
            got == wanted.as_bytes()[..DOWNLOAD_BYTES],
            "{} bytes came, not all right",
            got.len()
        );
    }
}
