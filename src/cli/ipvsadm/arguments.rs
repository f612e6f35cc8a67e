//! ipvsadm's command line: one command, its options, and the rules on which go together. Messages and exit status are ipvsadm 1.31's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ulvs_control::api::protocol::ServiceSelector;
use ulvs_control::api::views::Protocol;

use super::options::{Command, Meaning, Opt};
use super::values;
use super::words::{Found, Reader, Wrong};

/// Exit status for a command line that breaks the rules, and for a kernel (here: a director) that cannot be reached.
pub const STATUS_RULES: u8 = 2;

/// Exit status for a command line that is not understood (-1 in the original).
pub const STATUS_USAGE: u8 = 255;

/// Why a command line is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// Exit status.
    pub status: u8,
    /// What stands on standard error.
    pub message: String,
}

/// A command line that keeps the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// What to do.
    pub command: Command,
    /// The value of the command itself (`--start-daemon master`).
    pub role: Option<String>,
    /// Words that are neither options nor values: the three timeouts of `--set`.
    pub plain: Vec<String>,
    /// The options that are given, and the value of those that have one.
    pub options: BTreeMap<Opt, Option<String>>,
    /// The service that `-t`, `-u`, `--sctp-service` or `-f` names.
    pub service: Option<ServiceSelector>,
    /// The server that `-r` names; port 0 when it names none.
    pub server: Option<(IpAddr, u16)>,
    /// The address that `-z` names.
    pub local_address: Option<IpAddr>,
}

impl Arguments {
    /// Whether an option is given.
    pub fn has(&self, option: Opt) -> bool {
        self.options.contains_key(&option)
    }

    /// The value of an option that is given and has one.
    pub fn value(&self, option: Opt) -> Option<&str> {
        self.options.get(&option)?.as_deref()
    }
}

pub(super) fn rules(message: impl Into<String>) -> UsageError {
    UsageError {
        status: STATUS_RULES,
        message: message.into(),
    }
}

pub(super) fn try_help(program: &str) -> UsageError {
    let message = format!("Try `{program} -h' or '{program} --help' for more information.");
    UsageError {
        status: STATUS_USAGE,
        message,
    }
}

/// Reads the words after the program's name. No words at all mean `-L`.
pub fn parse(program: &str, words: Vec<String>) -> Result<Arguments, UsageError> {
    let no_words = words.is_empty();
    let mut reader = Reader::new(words);
    let (command, role) = match reader.next_option() {
        Ok(Some(Found {
            meaning: Meaning::Command(command),
            value,
            ..
        })) => (command, value),
        Ok(None) if no_words => (Command::List, None),
        _ => return Err(try_help(program)),
    };
    values::check_role(command, role.as_deref())?;
    let mut arguments = Arguments {
        command,
        role,
        plain: Vec::new(),
        options: BTreeMap::new(),
        service: None,
        server: None,
        local_address: None,
    };
    if matches!(command, Command::Help | Command::Version) {
        return Ok(arguments);
    }
    while let Some(found) = reader.next_option().map_err(not_understood)? {
        arguments.take(found)?;
    }
    arguments.plain = reader.plain;
    arguments.check_plain_words()?;
    values::check_scheduler_flags(&arguments)?;
    arguments.check_options()?;
    arguments.check_list_output()?;
    values::check_together(&arguments)?;
    Ok(arguments)
}

fn not_understood(wrong: Wrong) -> UsageError {
    UsageError {
        status: STATUS_USAGE,
        message: format!("{}: {}", wrong.word, wrong.why),
    }
}

impl Arguments {
    fn take(&mut self, found: Found) -> Result<(), UsageError> {
        let option = match found.meaning {
            Meaning::Command(_) => return Err(rules(format!("invalid option `{}'", found.word))),
            Meaning::Sort => return Ok(()),
            Meaning::Ipv6 => return self.make_mark_ipv6(),
            Meaning::Option(option) => option,
        };
        if self.has(option) {
            return Err(rules(format!("multiple '{}' options specified", option.name())));
        }
        let value = found.value.as_deref().unwrap_or_default();
        match option {
            Opt::ServiceAddress => self.service = Some(service_selector(found.long, value)?),
            Opt::RealServer => self.server = Some(values::server(value, self.service.as_ref())?),
            Opt::LocalAddress => self.local_address = Some(values::local_address(value)?),
            _ => values::check(option, found.value.as_deref(), self.service.as_ref())?,
        }
        // Which of -g, -i, -m and -b was given is in the word itself.
        let value = if option == Opt::ForwardingMethod {
            Some(found.long.to_owned())
        } else {
            found.value
        };
        self.options.insert(option, value);
        Ok(())
    }

    fn make_mark_ipv6(&mut self) -> Result<(), UsageError> {
        match &mut self.service {
            Some(ServiceSelector::Fwmark { ipv6, .. }) => {
                *ipv6 = true;
                Ok(())
            }
            // The empty line is the original's.
            _ => Err(rules("-6 used before -f\n")),
        }
    }

    /// Only `--set` has plain words: its three timeouts.
    fn check_plain_words(&self) -> Result<(), UsageError> {
        let wanted = if self.command == Command::Set { 3 } else { 0 };
        if self.plain.len() < wanted {
            return Err(rules("--set option requires 3 timeout values"));
        }
        for timeout in self.plain.iter().take(wanted) {
            values::check_timeout(timeout)?;
        }
        self.plain
            .get(wanted)
            .map_or(Ok(()), |word| Err(rules(format!("unexpected argument {word}"))))
    }

    fn check_options(&self) -> Result<(), UsageError> {
        let command = self.command;
        let mut exclusive = None;
        for option in Opt::ALL {
            let (name, command_name) = (option.name(), command.name());
            if !self.has(option) {
                if command.required().contains(&option) {
                    let message = format!("You need to supply the '{name}' option for the '{command_name}' command");
                    return Err(rules(message));
                }
            } else if command.exclusive().contains(&option) {
                if let Some(first) = exclusive.replace(name) {
                    return Err(rules(format!(
                        "The option '{name}' conflicts with the '{first}' option in the '{command_name}' command"
                    )));
                }
            } else if !command.allowed().contains(&option) && !command.required().contains(&option) {
                return Err(rules(format!(
                    "Illegal '{name}' option with the '{command_name}' command"
                )));
            }
        }
        Ok(())
    }

    /// Columns go with services, not with connections, timeouts or daemons; only `-c` has a use for `--persistent-conn`.
    fn check_list_output(&self) -> Result<(), UsageError> {
        let other_list = [Opt::Connection, Opt::Timeout, Opt::Daemon]
            .into_iter()
            .find(|option| self.has(*option));
        let columns = [Opt::Stats, Opt::Rate, Opt::Thresholds]
            .iter()
            .any(|option| self.has(*option));
        let persistent = self.has(Opt::PersistentConn);
        match other_list {
            Some(list) if columns || (persistent && list != Opt::Connection) => {
                Err(rules("options conflicts in the list command"))
            }
            _ => Ok(()),
        }
    }
}

fn service_selector(option: &str, value: &str) -> Result<ServiceSelector, UsageError> {
    let protocol = match option {
        "fwmark-service" => return fwmark(value),
        "udp-service" => Protocol::Udp,
        "sctp-service" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    let (address, port) =
        values::endpoint(value, protocol).ok_or_else(|| rules("illegal virtual server address[:port] specified"))?;
    Ok(ServiceSelector::Address {
        protocol: Some(protocol),
        address,
        port: Some(port),
    })
}

fn fwmark(value: &str) -> Result<ServiceSelector, UsageError> {
    match value.parse::<u32>() {
        Ok(mark) if mark > 0 => Ok(ServiceSelector::Fwmark { mark, ipv6: false }),
        _ => Err(rules(format!("invalid fwmark value `{value}' specified"))),
    }
}
