//! The server against clients of every kind, over real sockets in a temporary directory.

mod changes;
mod fake;
mod hostile;
mod paging;
mod socket;
mod wire;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::server::{Limits, Server};
use super::{Backend, Client};

/// A server on a thread of its own.
struct Running {
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn start<B: Backend + Send + 'static>(backend: B, limits: Limits) -> Running {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ulvs.sock");
    let (stop, stopped) = oneshot::channel::<()>();
    let (bound, is_bound) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        in_runtime(async {
            let server = Server::bind(&path, None).await.unwrap().with_limits(limits);
            bound.send(()).unwrap();
            let shutdown = async {
                // Dropping the other end stops the server too.
                let _ = stopped.await;
            };
            server.run(&backend, shutdown).await;
        });
    });
    is_bound.recv().unwrap();
    Running {
        directory,
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Running {
    fn path(&self) -> PathBuf {
        self.directory.path().join("ulvs.sock")
    }

    fn client(&self) -> Client {
        connect(&self.path())
    }

    /// Stops the server and fails if it had panicked.
    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server lives until it is stopped");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn connect(path: &Path) -> Client {
    Client::connect(path, "test 1").unwrap()
}
