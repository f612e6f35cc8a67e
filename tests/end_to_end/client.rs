//! What a client does: curl, dig, iperf3, ping, and `hack/lab/probe.py` where those do not reach.

use std::collections::HashMap;

use crate::config::{bracket, with_port};
use crate::lab::{self, Lab};

/// What a server said about a request: `server=server1 client=10.99.1.2:41234 address=10.99.1.101:80`.
#[derive(Debug)]
pub struct About {
    fields: HashMap<String, String>,
    text: String,
}

impl About {
    /// Reads one line of such fields.
    pub fn parse(text: &str) -> About {
        let pairs = text.split_whitespace().filter_map(|word| word.split_once('='));
        let fields = pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        About {
            fields,
            text: text.to_string(),
        }
    }

    /// One field.
    pub fn get(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("the answer says nothing about {name}: {:?}", self.text))
    }

    /// The field's address, without its port.
    pub fn host(&self, name: &str) -> &str {
        let value = self.get(name);
        let (host, _) = value
            .rsplit_once(':')
            .unwrap_or_else(|| panic!("{name} has no port: {value}"));
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// curl in the client, with a time limit as a failure detector.
pub fn curl(lab: &Lab, arguments: &[&str]) -> String {
    let usual = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--globoff",
        "--max-time",
        "100",
    ];
    lab.run("client", &[&usual, arguments].concat())
}

/// `GET /path` on the VIP.
pub fn get(lab: &Lab, vip: &str, port: u16, path: &str) -> String {
    curl(lab, &[&format!("http://{}{path}", with_port(vip, port))])
}

/// `GET /path`, and the client's own address and port on that connection.
pub fn get_with_own_address(lab: &Lab, vip: &str, port: u16, path: &str) -> (About, String) {
    let url = format!("http://{}{path}", with_port(vip, port));
    let text = curl(lab, &["--write-out", "%{local_ip} %{local_port}", &url]);
    let (answer, own) = text
        .trim_end()
        .rsplit_once('\n')
        .expect("curl writes its address behind the answer");
    let (host, own_port) = own.split_once(' ').expect("address and port");
    (About::parse(answer), with_port(host, own_port.parse().expect("a port")))
}

/// So many requests, each on a connection of its own: who answered how often.
pub fn count_servers(lab: &Lab, vip: &str, requests: u32) -> HashMap<String, u32> {
    let name_of_vip = format!("vip.example:80:{}", bracket(vip));
    let url = format!("http://vip.example/?[1-{requests}]");
    let close = ["--header", "Connection: close"];
    let usual = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "60",
        "--resolve",
        &name_of_vip,
        &url,
    ];
    let text = lab.run("client", &[&usual, &close[..]].concat());
    let mut counts = HashMap::new();
    for line in text.lines() {
        *counts.entry(About::parse(line).get("server").to_string()).or_default() += 1;
    }
    counts
}

/// Downloads so many bytes and compares each with what the server sends (hack/lab/serving/web.py).
pub fn download(lab: &Lab, vip: &str, bytes: usize, more: &[&str]) {
    let url = format!("http://{}/bytes/{bytes}", with_port(vip, 80));
    let text = curl(lab, &[&[url.as_str()], more].concat());
    let wanted = (0..=bytes / 16).map(|line| format!("{line:015}\n")).collect::<String>();
    let wanted = &wanted.as_bytes()[..bytes];
    if text.as_bytes() != wanted {
        let differs = text.bytes().zip(wanted).position(|(got, wanted)| got != *wanted);
        panic!(
            "{bytes} bytes were wanted, {} came; the first wrong one is at {differs:?}",
            text.len()
        );
    }
}

/// Uploads so many bytes and compares the server's checksum with our own.
pub fn upload(lab: &Lab, vip: &str, bytes: u64) {
    upload_to(lab, vip, 80, bytes);
}

/// The same to another port than HTTP's own.
pub fn upload_to(lab: &Lab, vip: &str, port: u16, bytes: u64) {
    use std::io::Read;
    let path = lab.directory().join("upload").display().to_string();
    let mut random = std::fs::File::open("/dev/urandom")
        .expect("there are random bytes")
        .take(bytes);
    let mut file = std::fs::File::create(&path).expect("the file can be made");
    std::io::copy(&mut random, &mut file).expect("the file can be written");
    let own = lab.run("client", &["sha256sum", &path]);
    let own = own.split_whitespace().next().expect("a checksum");
    let url = format!("http://{}/", with_port(vip, port));
    let seen = curl(
        lab,
        &[
            "--header",
            "Content-Type: application/octet-stream",
            "--data-binary",
            &format!("@{path}"),
            &url,
        ],
    );
    assert_eq!(seen.trim(), own, "the server got other bytes than were sent");
}

/// iperf3, 20 MB in one direction; the bytes that arrived.
pub fn iperf3(lab: &Lab, vip: &str, direction: &[&str]) -> u64 {
    let usual = [
        "iperf3",
        "--json",
        "--bytes",
        "20M",
        "--connect-timeout",
        "10000",
        "--client",
        vip,
    ];
    // An iperf3 server ends one test and closes its listener before it takes the next client, and says so to a client that comes
    // too early. A director that is at fault does not get better by being asked again.
    for _ in 0..50 {
        let output = lab.try_run("client", &[&usual, direction].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let report: serde_json::Value = serde_json::from_str(&text).expect("iperf3 writes JSON");
        let error = report["error"].as_str().unwrap_or_default();
        if !["busy", "refused", "reset by peer"]
            .iter()
            .any(|not_yet| error.contains(not_yet))
        {
            let bytes = report["end"]["sum_received"]["bytes"].as_u64();
            return bytes.unwrap_or_else(|| panic!("iperf3 counted no bytes: {}", lab::describe(&output)));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("iperf3's server took no test from {vip}");
}

/// One TXT question by dig.
pub fn dig(lab: &Lab, vip: &str, name: &str) -> String {
    let usual = [
        "dig",
        "+short",
        "+tries=1",
        "+timeout=15",
        "+bufsize=4096",
        "+ignore",
        "-t",
        "TXT",
    ];
    lab.run("client", &[&usual[..], &[&format!("@{vip}"), name]].concat())
}

/// `hack/lab/probe.py` in the client.
pub fn probe(lab: &Lab, kind: &str, vip: &str, port: u16, more: &[&str]) -> String {
    let path = lab::script("lab/probe.py");
    lab.run(
        "client",
        &[&["python3", &path, kind, vip, &port.to_string()], more].concat(),
    )
}
