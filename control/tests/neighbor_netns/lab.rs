//! Two network namespaces joined by a veth pair: the director's side (`eth0`, 192.0.2.1) and the servers' (`srv0`, 192.0.2.10).

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use ulvs_control::neighbor::{KernelView, Watcher};

/// A failure, not a measure: nothing here is expected to take nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    pub director: String,
    pub servers: String,
}

impl Lab {
    /// None, with a printed reason, where namespaces cannot be made.
    pub fn new() -> Option<Lab> {
        let name = format!(
            "ulvsnb-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Lab {
            director: format!("{name}-d"),
            servers: format!("{name}-s"),
        };
        for namespace in [&lab.director, &lab.servers] {
            let made = Command::new("ip").args(["netns", "add", namespace]).output();
            if !made.as_ref().is_ok_and(|output| output.status.success()) {
                println!("skipped: cannot make network namespaces here (needs root and iproute2): {made:?}");
                return None;
            }
        }
        let peer = ["type", "veth", "peer", "name", "srv0", "netns", &lab.servers];
        lab.ip(&[&["link", "add", "eth0"][..], &peer].concat());
        for (namespace, link, host) in [(&lab.director, "eth0", 1), (&lab.servers, "srv0", 10)] {
            let ip = |arguments: &str| run(namespace, arguments);
            ip("link set lo up");
            ip(&format!("address add 192.0.2.{host}/24 dev {link}"));
            ip(&format!("address add 2001:db8::{host}/64 dev {link} nodad"));
            ip(&format!("link set {link} up"));
        }
        Some(lab)
    }

    /// `ip` in the director's namespace.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run(&self.director, &arguments.join(" "))
    }

    /// `ip` with one line of arguments in the director's namespace.
    pub fn director(&self, arguments: &str) -> String {
        run(&self.director, arguments)
    }

    /// `ip` with one line of arguments in the servers' namespace.
    pub fn servers(&self, arguments: &str) -> String {
        run(&self.servers, arguments)
    }

    /// Many `ip` commands at once in the director's namespace.
    pub fn director_batch(&self, commands: &str) {
        use std::io::Write;
        let mut child = Command::new("ip")
            .args(["-n", &self.director, "-batch", "-"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("ip -batch starts");
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(commands.as_bytes())
            .expect("it reads");
        assert!(child.wait().expect("it ends").success());
    }

    /// Runs a test inside the director's namespace, on a thread of its own.
    pub fn run_inside<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let namespace = File::open(format!("/run/netns/{}", self.director)).expect("the namespace's file");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(test());
            });
            if let Err(panic) = inside.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.director, &self.servers] {
            // It may be missing if the lab was never complete.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

fn run(namespace: &str, arguments: &str) -> String {
    let output = Command::new("ip")
        .args(["-n", namespace])
        .args(arguments.split_whitespace())
        .output()
        .expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A view that follows the namespace.
pub struct Follower {
    watcher: Watcher,
    pub view: KernelView,
}

impl Follower {
    pub async fn open() -> Follower {
        let mut watcher = Watcher::open().expect("a watcher");
        let mut view = KernelView::new();
        for change in watcher.next().await.expect("the dump") {
            view.apply(change);
        }
        Follower { watcher, view }
    }

    /// Takes news in until the view is as it should be.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&KernelView) -> bool) {
        let wait = async {
            while !is_so(&self.view) {
                for change in self.watcher.next().await.expect("news") {
                    self.view.apply(change);
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(in_time, "never came: {what}\n{:#?}", self.view);
    }

    /// One batch of news, not applied by halves.
    pub async fn batch(&mut self) -> Vec<ulvs_control::neighbor::Change> {
        let batch = tokio::time::timeout(PATIENCE, self.watcher.next())
            .await
            .expect("in time")
            .expect("news");
        for change in batch.clone() {
            self.view.apply(change);
        }
        batch
    }

    pub fn eth0(&self) -> u32 {
        self.view.link_named("eth0").expect("eth0").ifindex
    }

    pub fn interfaces(&self) -> BTreeSet<u32> {
        BTreeSet::from([self.eth0()])
    }
}
