//! `ulvsd`, the director: arguments → configuration → ports → workers → control loop → ordered shutdown.

// Without a backend there is nothing to run on, only `--check`.
#![cfg_attr(not(any(feature = "af_xdp", feature = "dpdk")), allow(unused))]

use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

#[cfg(not(all(feature = "af_xdp", feature = "dpdk")))]
use anyhow::bail;
use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use ulvs::backend::{self, Opened};
use ulvs::launch;
use ulvs_control::api;
use ulvs_control::config::{self, Backend, Config, ConfigError};
use ulvs_control::runtime::{self, Health, Parts, Reload};
use ulvs_dataplane::io::Io;
use ulvs_dataplane::service::Loads;

/// The connection tables are worth it.
#[global_allocator]
static ALLOCATOR: ulvs::huge_pages::HugePages = ulvs::huge_pages::HugePages;

/// EX_CONFIG of sysexits.h
const EXIT_CONFIG: u8 = 78;

/// The director of ULVS, a layer-4 load balancer in user space.
#[derive(Parser)]
#[command(name = "ulvsd", version, arg_required_else_help = true)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
struct Arguments {
    /// Run with this configuration file.
    #[arg(long, value_name = "FILE", group = "what")]
    config: Option<PathBuf>,

    /// Only check this configuration file: needs neither root nor a network card. Exit status 78 if it has errors.
    #[arg(long, value_name = "FILE", group = "what")]
    check: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.check, arguments.config) {
        (Some(file), _) => check(&file),
        (None, Some(file)) => start(&file),
        (None, None) => unreachable!("clap requires one of the two"),
    }
}

fn load(file: &Path) -> Result<Config, ExitCode> {
    config::load(file).map_err(|errors| {
        print_all(&errors);
        let count = errors.len();
        eprintln!(
            "ulvsd: {} has {count} error{}",
            file.display(),
            if count == 1 { "" } else { "s" }
        );
        ExitCode::from(EXIT_CONFIG)
    })
}

fn print_all(errors: &[ConfigError]) {
    for error in errors {
        eprintln!("{error}\n");
    }
}

fn check(file: &Path) -> ExitCode {
    let config = match load(file) {
        Ok(config) => config,
        Err(status) => return status,
    };
    print_all(&config.warnings);
    let servers: usize = config.services.iter().map(|service| service.servers.len()).sum();
    println!(
        "{}: ok, {} ports, {} virtual services, {servers} real servers",
        file.display(),
        config.ports.len(),
        config.services.len()
    );
    ExitCode::SUCCESS
}

fn start(file: &Path) -> ExitCode {
    let filter = EnvFilter::try_from_env("ULVS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colour codes are for people at a terminal, not for files and journals.
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(Milliseconds)
        .with_target(false)
        .init();
    let config = match load(file) {
        Ok(config) => config,
        Err(status) => return status,
    };
    print_all(&config.warnings);
    match run(config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ulvsd: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes. Many errors already say their cause where it reads best; it is not repeated then.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !sentence.contains(&cause) {
            if !sentence.is_empty() {
                sentence += ": ";
            }
            sentence += &cause;
        }
    }
    sentence
}

/// UTC to the millisecond: what is finer only makes lines longer.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let mut text = String::new();
        SystemTime.format_time(&mut Writer::new(&mut text))?;
        // 2026-01-31T12:00:00.123456Z
        match text.split_once('.') {
            Some((seconds, rest)) if rest.len() > 3 => write!(writer, "{seconds}.{}Z", &rest[..3]),
            _ => writer.write_str(&text),
        }
    }
}

fn run(config: Config, file: &Path) -> Result<()> {
    info!("ulvsd {} starts", env!("CARGO_PKG_VERSION"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control thread could not be set up")?;
    // Caught from here on, so that a signal during the start also ends in order.
    let wanted = Rc::new(Notify::new());
    let shutdown = {
        let _entered = runtime.enter();
        signals(Rc::clone(&wanted))?
    };
    runtime.block_on(api::refuse_second(&config.director.control_socket))?;
    match config.director.backend {
        #[cfg(feature = "af_xdp")]
        Backend::AfXdp => forward(
            backend::af_xdp::open(&config)?,
            config,
            file,
            &runtime,
            wanted,
            shutdown,
        ),
        #[cfg(feature = "dpdk")]
        Backend::Dpdk => forward(backend::dpdk::open(&config)?, config, file, &runtime, wanted, shutdown),
        #[cfg(not(all(feature = "af_xdp", feature = "dpdk")))]
        _ => bail!(
            "this ulvsd was built without the backend that [director] names; those that it has: [{}]. Build it with the default features for all",
            [(cfg!(feature = "af_xdp"), "af_xdp"), (cfg!(feature = "dpdk"), "dpdk")]
                .iter()
                .filter_map(|(has, name)| has.then_some(*name))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Runs the director on ports that are open, until `shutdown`.
fn forward<I: Io + Send + 'static>(
    opened: Opened<I>,
    config: Config,
    file: &Path,
    runtime: &tokio::runtime::Runtime,
    wanted: Rc<Notify>,
    shutdown: impl Future<Output = ()>,
) -> Result<()>
where
    I::Frame: Send + 'static,
{
    let loads = Arc::new(Loads::new(config.director.server_limit));
    let (threads, workers) = launch::launch(&config.director, &config.ports, opened.workers, &loads)?;
    let parts = Parts {
        config,
        ports: opened.ports,
        workers,
        loads,
        capture: opened.capture,
        health: watch::Sender::new(Health::default()),
        reload: Reload {
            wanted,
            load: {
                let file = file.to_owned();
                Box::new(move || config::load(&file))
            },
        },
    };
    let result = runtime.block_on(runtime::run(parts, shutdown, || info!("ready: forwarding")));
    // After an error some workers may not have been told to stop; the end of the process ends them.
    result?;
    threads.join();
    (opened.close)();
    info!("ulvsd has stopped");
    Ok(())
}

/// Ready when SIGTERM or SIGINT comes; passes each SIGHUP on until then.
fn signals(reload: Rc<Notify>) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM could not be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT could not be caught")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP could not be caught")?;
    Ok(async move {
        let name = loop {
            tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => {
                    info!("SIGHUP: reading the configuration again");
                    reload.notify_one();
                }
            }
        };
        info!("{name}: stopping");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("no such thing");
        let silent = anyhow::Error::new(cause()).context("it failed");
        assert_eq!(sentence(&silent), "it failed: no such thing");
        let telling = anyhow::Error::new(cause()).context("it failed (no such thing), try again");
        assert_eq!(sentence(&telling), "it failed (no such thing), try again");
    }
}
