//! ipvsadm's command line on top of a director: `ulvs ipvsadm …`, or this program under the name `ipvsadm`.
//!
//! What it prints, how it exits and what it complains about is ipvsadm 1.31's, byte for byte, since scripts read it. [`arguments`] reads the
//! command line, [`change`](mod@change) makes a request for
//! the director of it, [`listing`] and [`connections`] make text of views, and here they meet the director.

pub mod arguments;
pub mod change;
pub mod connections;
pub mod help;
pub mod listing;
mod local_addresses;
pub mod names;
pub mod numbers;
pub mod options;
pub mod order;
mod restore;
pub mod save;
pub mod values;
pub mod words;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::path::Path;

use ulvs_control::api::protocol::{ConnectionFilter, ErrorCode};
use ulvs_control::api::{Client, ClientError};

use super::PROGRAM;
use arguments::{Arguments, STATUS_RULES, UsageError};
use listing::{Columns, Format};
use names::Names;
use options::{Command, Opt};

/// Exit status when the director says no to a question.
const STATUS_REFUSED: u8 = 1;
/// Exit status when the director says no to a change (-1 in the original).
const STATUS_CHANGE_REFUSED: u8 = 255;

/// Carries out one command line and returns the exit status. `program` is the name that messages give it; `input` is read by `-R`.
pub fn run(
    program: &str,
    words: Vec<String>,
    socket: &Path,
    input: &mut impl BufRead,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let outcome = match arguments::parse(program, words) {
        Ok(arguments) if arguments.command == Command::Restore => {
            restore::restore(program, &arguments, socket, input, out, err)
        }
        Ok(arguments) => carry_out(program, &arguments, socket, out),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => out.flush().map(|()| 0),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Reported(status)) => out.flush().map(|()| status),
        Err(Failure::Said(status, message)) => {
            out.flush()?;
            writeln!(err, "{message}")?;
            Ok(status)
        }
    }
}

/// Why a command line was not carried out.
enum Failure {
    /// Standard output did not take it, or standard input could not be read.
    Output(io::Error),
    /// An exit status; what is wrong was written already.
    Reported(u8),
    /// An exit status and what stands on standard error.
    Said(u8, String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::Said(error.status, error.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let status = match error {
            // The original's status when it cannot talk to the kernel.
            ClientError::Unreachable { .. } | ClientError::NotPermitted { .. } => STATUS_RULES,
            ClientError::Refused {
                code: ErrorCode::NotFound,
                ..
            } => {
                return Failure::Said(STATUS_REFUSED, "No such service".to_owned());
            }
            _ => STATUS_REFUSED,
        };
        Failure::Said(status, error.to_string())
    }
}

fn carry_out(program: &str, arguments: &Arguments, socket: &Path, out: &mut impl Write) -> Result<(), Failure> {
    match arguments.command {
        Command::Help => Ok(out.write_all(help::help(program).as_bytes())?),
        Command::Version => Ok(out.write_all(help::version().as_bytes())?),
        Command::List => list(arguments, &mut Client::connect(socket, PROGRAM)?, out),
        Command::Save => save(arguments, &mut Client::connect(socket, PROGRAM)?, out),
        Command::GetLocalAddresses => list_local_addresses(arguments, &mut Client::connect(socket, PROGRAM)?, out),
        // Only a restore can come with lines, and not from one.
        Command::Restore => Err(arguments::try_help(program).into()),
        Command::AddService
        | Command::EditService
        | Command::DeleteService
        | Command::Clear
        | Command::AddServer
        | Command::EditServer
        | Command::DeleteServer
        | Command::Set
        | Command::Zero
        | Command::StartDaemon
        | Command::StopDaemon
        | Command::AddLocalAddress
        | Command::DeleteLocalAddress => change_one(arguments, &mut Client::connect(socket, PROGRAM)?),
    }
}

fn change_one(arguments: &Arguments, client: &mut Client) -> Result<(), Failure> {
    let changes: Vec<_> = change::change(arguments).into_iter().collect();
    let outcome = client.change(&changes, true).map_err(refused)?;
    match outcome.failures.into_iter().next() {
        Some(failure) => Err(Failure::Said(STATUS_CHANGE_REFUSED, failure.message)),
        None => Ok(()),
    }
}

/// What the director says to a change as a whole.
fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { message, .. } => Failure::Said(STATUS_CHANGE_REFUSED, message),
        other => other.into(),
    }
}

fn save(arguments: &Arguments, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let services = client.services(None)?;
    Ok(out.write_all(save::rules(services, &names(arguments)).as_bytes())?)
}

fn list_local_addresses(arguments: &Arguments, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let services = client.services(arguments.service.clone())?;
    Ok(out.write_all(local_addresses::table(services, &names(arguments)).as_bytes())?)
}

fn list(arguments: &Arguments, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.has(Opt::Connection) {
        return list_connections(arguments, client, out);
    }
    if arguments.has(Opt::Timeout) {
        return Ok(out.write_all(listing::timeouts(&client.timeouts()?).as_bytes())?);
    }
    if arguments.has(Opt::Daemon) {
        // The director runs no connection synchronisation, and the original prints nothing then.
        return Ok(());
    }
    list_services(arguments, client, out)
}

fn list_services(arguments: &Arguments, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let format = format(arguments);
    let services = client.services(arguments.service.clone())?;
    if format.columns == Columns::Rate && services.iter().any(|service| service.rates.is_none()) {
        let message = "--rate is not available: this ulvsd does not estimate rates; --stats has the totals";
        return Err(Failure::Said(STATUS_REFUSED, message.to_owned()));
    }
    if arguments.service.is_none() {
        out.write_all(listing::banner(client.director()?.connection_table_size).as_bytes())?;
    }
    Ok(out.write_all(listing::services(services, &format).as_bytes())?)
}

fn list_connections(arguments: &Arguments, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let names = names(arguments);
    let with_engine = arguments.has(Opt::PersistentConn);
    out.write_all(connections::headings(with_engine).as_bytes())?;
    let mut written = Ok(());
    client.connections(&ConnectionFilter::default(), |connection| {
        written = out.write_all(connections::line(&connection, &names, with_engine).as_bytes());
        if written.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(written?)
}

fn names(arguments: &Arguments) -> Names {
    if arguments.has(Opt::Numeric) {
        Names::numeric()
    } else {
        Names::of_system()
    }
}

/// When several columns are asked for, the first of this list counts.
fn format(arguments: &Arguments) -> Format {
    let choices = [
        (Opt::Stats, Columns::Stats),
        (Opt::Rate, Columns::Rate),
        (Opt::Thresholds, Columns::Thresholds),
        (Opt::PersistentConn, Columns::PersistentConn),
        (Opt::TunInfo, Columns::TunInfo),
    ];
    let chosen = choices.into_iter().find(|(option, _)| arguments.has(*option));
    Format {
        columns: chosen.map_or(Columns::Plain, |(_, columns)| columns),
        exact: arguments.has(Opt::Exact),
        sorted: !arguments.has(Opt::NoSort),
        names: names(arguments),
    }
}
