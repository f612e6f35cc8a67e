//! The command line: `ulvs`, and `ipvsadm` when it is called by that name.

mod commands;
mod doctor;
pub mod ipvsadm;
mod proc;
mod table;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

pub use commands::Ulvs;

/// How the director's log names this program.
pub(crate) const PROGRAM: &str = concat!("ulvs ", env!("CARGO_PKG_VERSION"));

/// Names the director's socket when no option does.
pub const SOCKET_VARIABLE: &str = "ULVS_SOCKET";

/// Runs the command line given by the process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = match ipvsadm_name(&arguments) {
        Some(program) => {
            let words = arguments
                .iter()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            ipvsadm::run(
                &program,
                words,
                &default_socket(),
                &mut io::stdin().lock(),
                &mut out,
                &mut io::stderr(),
            )
        }
        // clap prints its own messages and exits, with 2 for a wrong command line.
        None => Ulvs::parse_from(arguments).run(&mut out, &mut io::stderr()),
    };
    match outcome.and_then(|status| out.flush().map(|()| status)) {
        Ok(status) => ExitCode::from(status),
        // The reader has seen enough (`ulvs connections | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the output: {error}");
            ExitCode::from(commands::STATUS_FAILED)
        }
    }
}

/// The name that the program was called by, if it is ipvsadm's.
fn ipvsadm_name(arguments: &[OsString]) -> Option<String> {
    let name = arguments.first()?;
    let is_ipvsadm = Path::new(name).file_name().is_some_and(|file| file == "ipvsadm");
    is_ipvsadm.then(|| name.to_string_lossy().into_owned())
}

fn default_socket() -> PathBuf {
    let from_environment = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    from_environment
        .unwrap_or_else(|| ulvs_control::api::DEFAULT_SOCKET.into())
        .into()
}
