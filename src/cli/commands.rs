//! The subcommands of `ulvs`.

mod show;

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use ulvs_control::api::protocol::{ConnectionFilter, ErrorCode, SCHEMA_VERSION, ServiceSelector};
use ulvs_control::api::views::{ConnectionView, ServiceView};
use ulvs_control::api::{Client, ClientError};

use super::doctor::Doctor;
use super::{PROGRAM, default_socket, ipvsadm, proc};
use show::Shown;

/// The director refused, or something failed.
pub(super) const STATUS_FAILED: u8 = 1;
/// The director cannot be reached.
const STATUS_UNREACHABLE: u8 = 3;
/// What was asked for does not exist.
const STATUS_NOT_FOUND: u8 = 4;

/// Shows what a running ulvsd does, and changes it.
///
/// Exit status: 0 done, 1 refused or failed, 2 wrong command line, 3 ulvsd cannot be reached, 4 not found.
#[derive(Debug, Parser)]
#[command(name = "ulvs", version, about, max_term_width = 100)]
pub struct Ulvs {
    /// The director's socket [default: $ULVS_SOCKET, else /run/ulvs/ulvs.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Virtual services and their real servers
    Services(Services),
    /// Connections, a line each
    Connections(Connections),
    /// Counters: packets, bytes, drops by reason
    Counters(Counters),
    /// Workers: load, table and buffers of each
    Workers(Output),
    /// The director: version, generation, ports
    Status(Output),
    /// Writes the running configuration, with what was changed on the command line, as a configuration file
    Save {
        /// The file, replaced as a whole [default: standard output]
        file: Option<PathBuf>,
    },
    /// What a kernel director shows in /proc/net, in the kernel's layout
    Proc {
        /// Which file
        #[arg(value_enum)]
        file: proc::File,
    },
    /// What is right and wrong with this box, and what to run; needs no director. Exit status 1 if something is wrong
    Doctor(Doctor),
    /// ipvsadm's own command line and output, for scripts (also under the name ipvsadm)
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// What ipvsadm takes, e.g. -Ln
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Output {
    /// JSON for programs instead of text for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Services {
    /// Only this one: its name, ADDRESS:PORT, or protocol:ADDRESS:PORT (tcp:192.0.2.1:80)
    service: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Connections {
    /// Only of this service: its name, ADDRESS:PORT, or protocol:ADDRESS:PORT
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Only to this real server
    #[arg(long, value_name = "ADDRESS")]
    server: Option<IpAddr>,
    /// So many at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Counters {
    /// Zeros too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

/// Why a subcommand came to nothing.
enum Failure {
    /// Standard output did not take it.
    Output(io::Error),
    /// No answer.
    Client(ClientError),
    /// What was asked for does not exist.
    NotFound(String),
    /// A file cannot be written.
    File(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Failure::Client(ClientError::Unreachable { .. } | ClientError::NotPermitted { .. }) => STATUS_UNREACHABLE,
            Failure::Client(ClientError::Refused {
                code: ErrorCode::NotFound,
                ..
            })
            | Failure::NotFound(_) => STATUS_NOT_FOUND,
            Failure::Client(_) | Failure::Output(_) | Failure::File(_) => STATUS_FAILED,
        }
    }
}

impl Ulvs {
    /// Carries the subcommand out and returns the exit status. The error is one of writing to `out` or `err`.
    pub fn run(self, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
        let socket = self.socket.unwrap_or_else(default_socket);
        if let Command::Ipvsadm { arguments } = self.command {
            return ipvsadm::run("ipvsadm", arguments, &socket, &mut io::stdin().lock(), out, err);
        }
        if let Command::Doctor(doctor) = self.command {
            return doctor.run(socket, out);
        }
        let outcome = Client::connect(&socket, PROGRAM)
            .map_err(Failure::from)
            .and_then(|mut client| self.command.run(&mut client, out));
        let Err(failure) = outcome else { return Ok(0) };
        let status = failure.status();
        let sentence = match failure {
            Failure::Output(error) => return Err(error),
            Failure::Client(error) => error.to_string(),
            Failure::NotFound(sentence) | Failure::File(sentence) => sentence,
        };
        out.flush()?;
        writeln!(err, "ulvs: {sentence}")?;
        Ok(status)
    }
}

impl Command {
    fn run(self, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
        match self {
            Command::Services(arguments) => services(&arguments, client, out),
            Command::Connections(arguments) => connections(&arguments, client, out),
            Command::Counters(arguments) => counters(&arguments, client, out),
            Command::Workers(output) => print(&client.workers()?, "workers", &output, out),
            Command::Status(output) => print(&client.director()?, "director", &output, out),
            Command::Save { file } => save(file.as_deref(), client, out),
            Command::Proc { file } => Ok(out.write_all(proc::text(file, client)?.as_bytes())?),
            // Dealt with before a connection is made.
            Command::Doctor(_) | Command::Ipvsadm { .. } => Ok(()),
        }
    }
}

fn print<T: Shown + serde::Serialize>(
    shown: &T,
    key: &str,
    output: &Output,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if output.json {
        serde_json::to_writer_pretty(&mut *out, &json!({ "schema_version": SCHEMA_VERSION, key: shown }))
            .map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    Ok(out.write_all(shown.text().as_bytes())?)
}

/// A file is replaced as a whole: whoever reads it meanwhile sees the old one or the new one.
fn save(file: Option<&Path>, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let text = client.configuration()?;
    let Some(file) = file else {
        return Ok(out.write_all(text.as_bytes())?);
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, file));
    written.map_err(|error| Failure::File(format!("cannot write {}: {error}", file.display())))
}

fn services(arguments: &Services, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let services = match &arguments.service {
        Some(text) => find_services(text, client)?,
        None => client.services(None)?,
    };
    print(&services, "services", &arguments.output, out)
}

/// The services that a text names; none is an error.
fn find_services(text: &str, client: &mut Client) -> Result<Vec<ServiceView>, Failure> {
    match client.services(Some(selector(text))) {
        Err(ClientError::Refused {
            code: ErrorCode::NotFound,
            ..
        }) => Err(Failure::NotFound(format!(
            "there is no service '{text}'; 'ulvs services' lists those there are"
        ))),
        answer => Ok(answer?),
    }
}

/// `protocol:address:port`, `address:port` (any protocol), else a name.
fn selector(text: &str) -> ServiceSelector {
    use ulvs_control::api::views::Protocol;
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let with_protocol = protocols.into_iter().find_map(|protocol| {
        let rest = text.strip_prefix(protocol.name())?.strip_prefix(':')?;
        Some((Some(protocol), rest))
    });
    let (protocol, endpoint) = with_protocol.unwrap_or((None, text));
    match endpoint.parse::<std::net::SocketAddr>() {
        Ok(endpoint) => ServiceSelector::Address {
            protocol,
            address: endpoint.ip(),
            port: Some(endpoint.port()),
        },
        Err(_) => ServiceSelector::Name(text.to_owned()),
    }
}

fn connections(arguments: &Connections, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let filters = connection_filters(arguments, client)?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut printer = show::ConnectionPrinter::new(arguments.output.json, out)?;
    for filter in filters {
        if left == 0 {
            break;
        }
        let mut written = Ok(());
        client.connections(&filter, |connection: ConnectionView| {
            written = printer.print(&connection);
            left -= 1;
            if written.is_ok() && left > 0 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        written?;
    }
    Ok(printer.finish()?)
}

/// One filter, or one for each service that the name stands for.
fn connection_filters(arguments: &Connections, client: &mut Client) -> Result<Vec<ConnectionFilter>, Failure> {
    let base = ConnectionFilter {
        client: arguments.client,
        server: arguments.server,
        ..ConnectionFilter::default()
    };
    let Some(text) = &arguments.service else {
        return Ok(vec![base]);
    };
    let of_service = |service: ServiceView| ConnectionFilter {
        protocol: Some(service.protocol),
        virtual_address: Some(service.address),
        virtual_port: Some(service.port),
        ..base.clone()
    };
    Ok(find_services(text, client)?.into_iter().map(of_service).collect())
}

fn counters(arguments: &Counters, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let mut counters = client.counters()?;
    if !arguments.all {
        counters.retain(|counter| counter.total() > 0);
    }
    print(&counters, "counters", &arguments.output, out)
}
