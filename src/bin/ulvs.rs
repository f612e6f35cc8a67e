//! The command line of ULVS; ipvsadm when it is called by that name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ulvs::cli::main()
}
