//! What can stand on an ipvsadm command line, and which option goes with which command.

/// What ipvsadm is asked to do: exactly one, and always first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A`
    AddService,
    /// `-E`
    EditService,
    /// `-D`
    DeleteService,
    /// `-C`
    Clear,
    /// `-L`, `-l`, or nothing at all
    List,
    /// `-a`
    AddServer,
    /// `-d`
    DeleteServer,
    /// `-e`
    EditServer,
    /// `--set`
    Set,
    /// `--start-daemon`
    StartDaemon,
    /// `--stop-daemon`
    StopDaemon,
    /// `-R`
    Restore,
    /// `-S`
    Save,
    /// `-Z`
    Zero,
    /// `-P`, DPVS's
    AddLocalAddress,
    /// `-Q`, DPVS's
    DeleteLocalAddress,
    /// `-G`, DPVS's
    GetLocalAddresses,
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// What ipvsadm's messages call an option. Their order is the order in which it complains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Opt {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    OnePacket,
    PersistenceEngine,
    SchedulerFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxLength,
    TunInfo,
    TunType,
    TunPort,
    TunNoChecksum,
    TunChecksum,
    TunRemoteChecksum,
    LocalAddress,
    InterfaceName,
    Atomic,
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// It does not.
    None,
    /// It must have one.
    Required,
    /// The next word, if there is one that is not an option.
    Optional,
}

/// What a word on the command line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A command.
    Command(Command),
    /// An option.
    Option(Opt),
    /// `-6`
    Ipv6,
    /// `--sort`, which is the default and legal everywhere.
    Sort,
}

/// One row of the table of words.
#[derive(Debug)]
pub struct Word {
    /// After `--`.
    pub long: &'static str,
    /// After `-`.
    pub short: Option<char>,
    /// Its value.
    pub value: Value,
    /// Its meaning.
    pub meaning: Meaning,
}

const fn command(long: &'static str, short: Option<char>, command: Command) -> Word {
    Word {
        long,
        short,
        value: Value::None,
        meaning: Meaning::Command(command),
    }
}

const fn with_value(long: &'static str, short: Option<char>, option: Opt) -> Word {
    Word {
        long,
        short,
        value: Value::Required,
        meaning: Meaning::Option(option),
    }
}

const fn flag(long: &'static str, short: Option<char>, option: Opt) -> Word {
    Word {
        long,
        short,
        value: Value::None,
        meaning: Meaning::Option(option),
    }
}

/// All words.
pub const WORDS: &[Word] = &[
    command("add-service", Some('A'), Command::AddService),
    command("edit-service", Some('E'), Command::EditService),
    command("delete-service", Some('D'), Command::DeleteService),
    command("clear", Some('C'), Command::Clear),
    command("list", Some('L'), Command::List),
    command("list", Some('l'), Command::List),
    command("zero", Some('Z'), Command::Zero),
    command("add-server", Some('a'), Command::AddServer),
    command("edit-server", Some('e'), Command::EditServer),
    command("delete-server", Some('d'), Command::DeleteServer),
    command("set", None, Command::Set),
    command("help", Some('h'), Command::Help),
    command("version", Some('v'), Command::Version),
    command("restore", Some('R'), Command::Restore),
    command("save", Some('S'), Command::Save),
    Word {
        long: "start-daemon",
        short: None,
        value: Value::Required,
        meaning: Meaning::Command(Command::StartDaemon),
    },
    Word {
        long: "stop-daemon",
        short: None,
        value: Value::Required,
        meaning: Meaning::Command(Command::StopDaemon),
    },
    with_value("tcp-service", Some('t'), Opt::ServiceAddress),
    with_value("udp-service", Some('u'), Opt::ServiceAddress),
    with_value("sctp-service", None, Opt::ServiceAddress),
    with_value("fwmark-service", Some('f'), Opt::ServiceAddress),
    with_value("scheduler", Some('s'), Opt::Scheduler),
    Word {
        long: "persistent",
        short: Some('p'),
        value: Value::Optional,
        meaning: Meaning::Option(Opt::Persistent),
    },
    with_value("netmask", Some('M'), Opt::Netmask),
    with_value("real-server", Some('r'), Opt::RealServer),
    flag("masquerading", Some('m'), Opt::ForwardingMethod),
    flag("ipip", Some('i'), Opt::ForwardingMethod),
    flag("gatewaying", Some('g'), Opt::ForwardingMethod),
    with_value("weight", Some('w'), Opt::Weight),
    with_value("u-threshold", Some('x'), Opt::UpperThreshold),
    with_value("l-threshold", Some('y'), Opt::LowerThreshold),
    flag("numeric", Some('n'), Opt::Numeric),
    flag("connection", Some('c'), Opt::Connection),
    with_value("mcast-interface", None, Opt::McastInterface),
    flag("timeout", None, Opt::Timeout),
    flag("daemon", None, Opt::Daemon),
    flag("stats", None, Opt::Stats),
    flag("rate", None, Opt::Rate),
    flag("thresholds", None, Opt::Thresholds),
    flag("persistent-conn", None, Opt::PersistentConn),
    flag("nosort", None, Opt::NoSort),
    Word {
        long: "sort",
        short: None,
        value: Value::None,
        meaning: Meaning::Sort,
    },
    flag("exact", Some('X'), Opt::Exact),
    Word {
        long: "ipv6",
        short: Some('6'),
        value: Value::None,
        meaning: Meaning::Ipv6,
    },
    flag("ops", Some('o'), Opt::OnePacket),
    with_value("pe", None, Opt::PersistenceEngine),
    with_value("sched-flags", Some('b'), Opt::SchedulerFlags),
    with_value("syncid", None, Opt::SyncId),
    with_value("mcast-group", None, Opt::McastGroup),
    with_value("mcast-port", None, Opt::McastPort),
    with_value("mcast-ttl", None, Opt::McastTtl),
    with_value("sync-maxlen", None, Opt::SyncMaxLength),
    flag("tun-info", None, Opt::TunInfo),
    with_value("tun-type", None, Opt::TunType),
    with_value("tun-port", None, Opt::TunPort),
    flag("tun-nocsum", None, Opt::TunNoChecksum),
    flag("tun-csum", None, Opt::TunChecksum),
    flag("tun-remcsum", None, Opt::TunRemoteChecksum),
    // What ipvsadm 1.31 does not have: DPVS's, and our own.
    command("add-laddr", Some('P'), Command::AddLocalAddress),
    command("del-laddr", Some('Q'), Command::DeleteLocalAddress),
    command("get-laddr", Some('G'), Command::GetLocalAddresses),
    with_value("laddr", Some('z'), Opt::LocalAddress),
    with_value("ifname", Some('F'), Opt::InterfaceName),
    FULLNAT,
    flag("atomic", None, Opt::Atomic),
];

/// FullNAT is `-b` where a server is added or edited, as in DPVS. Elsewhere `-b` is ipvsadm's, for scheduler flags.
pub const FULLNAT: Word = flag("fullnat", None, Opt::ForwardingMethod);

impl Command {
    /// The name in ipvsadm's messages.
    pub fn name(self) -> &'static str {
        match self {
            Command::AddService => "add-service",
            Command::EditService => "edit-service",
            Command::DeleteService => "delete-service",
            Command::Clear => "flush",
            Command::List => "list",
            Command::AddServer => "add-server",
            Command::DeleteServer => "delete-server",
            Command::EditServer => "edit-server",
            Command::Set => "set",
            Command::StartDaemon => "start-daemon",
            Command::StopDaemon => "stop-daemon",
            Command::Restore => "restore",
            Command::Save => "save",
            Command::Zero => "zero",
            Command::AddLocalAddress => "add-laddr",
            Command::DeleteLocalAddress => "del-laddr",
            Command::GetLocalAddresses => "get-laddr",
            Command::Help => "help",
            Command::Version => "version",
        }
    }

    /// Options that it cannot do without.
    pub fn required(self) -> &'static [Opt] {
        match self {
            Command::AddService | Command::EditService | Command::DeleteService => &[Opt::ServiceAddress],
            Command::AddServer | Command::EditServer | Command::DeleteServer => &[Opt::ServiceAddress, Opt::RealServer],
            Command::AddLocalAddress | Command::DeleteLocalAddress => &[Opt::ServiceAddress, Opt::LocalAddress],
            _ => &[],
        }
    }

    /// Options of which it takes at most one.
    pub fn exclusive(self) -> &'static [Opt] {
        match self {
            Command::List => &[Opt::Connection, Opt::ServiceAddress, Opt::Timeout, Opt::Daemon],
            _ => &[],
        }
    }

    /// Further options that it takes.
    pub fn allowed(self) -> &'static [Opt] {
        match self {
            Command::AddService | Command::EditService => &[
                Opt::Scheduler,
                Opt::Persistent,
                Opt::Netmask,
                Opt::OnePacket,
                Opt::PersistenceEngine,
                Opt::SchedulerFlags,
            ],
            Command::List => &[
                Opt::Numeric,
                Opt::Stats,
                Opt::Rate,
                Opt::Thresholds,
                Opt::PersistentConn,
                Opt::NoSort,
                Opt::SyncId,
                Opt::Exact,
                Opt::TunInfo,
            ],
            Command::AddServer | Command::EditServer => &[
                Opt::ForwardingMethod,
                Opt::Weight,
                Opt::UpperThreshold,
                Opt::LowerThreshold,
                Opt::TunType,
                Opt::TunPort,
                Opt::TunNoChecksum,
                Opt::TunChecksum,
                Opt::TunRemoteChecksum,
            ],
            Command::StartDaemon => &[
                Opt::McastInterface,
                Opt::SyncId,
                Opt::McastGroup,
                Opt::McastPort,
                Opt::McastTtl,
                Opt::SyncMaxLength,
            ],
            Command::StopDaemon => &[Opt::SyncId],
            Command::Save => &[Opt::Numeric],
            Command::Zero => &[Opt::ServiceAddress],
            Command::Restore => &[Opt::Atomic],
            Command::AddLocalAddress | Command::DeleteLocalAddress => &[Opt::InterfaceName],
            Command::GetLocalAddresses => &[Opt::ServiceAddress, Opt::Numeric],
            _ => &[],
        }
    }
}

impl Opt {
    /// The name in ipvsadm's messages.
    pub fn name(self) -> &'static str {
        match self {
            Opt::Numeric => "numeric",
            Opt::Connection => "connection",
            Opt::ServiceAddress => "service-address",
            Opt::Scheduler => "scheduler",
            Opt::Persistent => "persistent",
            Opt::Netmask => "netmask",
            Opt::RealServer => "real-server",
            Opt::ForwardingMethod => "forwarding-method",
            Opt::Weight => "weight",
            Opt::UpperThreshold => "u-threshold",
            Opt::LowerThreshold => "l-threshold",
            Opt::McastInterface => "mcast-interface",
            Opt::Timeout => "timeout",
            Opt::Daemon => "daemon",
            Opt::Stats => "stats",
            Opt::Rate => "rate",
            Opt::Thresholds => "thresholds",
            Opt::PersistentConn => "persistent-conn",
            Opt::NoSort => "nosort",
            Opt::SyncId => "syncid",
            Opt::Exact => "exact",
            Opt::OnePacket => "ops",
            Opt::PersistenceEngine => "pe",
            Opt::SchedulerFlags => "sched-flags",
            Opt::McastGroup => "mcast-group",
            Opt::McastPort => "mcast-port",
            Opt::McastTtl => "mcast-ttl",
            Opt::SyncMaxLength => "sync-maxlen",
            Opt::TunInfo => "tun-info",
            Opt::TunType => "tun-type",
            Opt::TunPort => "tun-port",
            Opt::TunNoChecksum => "tun-nocsum",
            Opt::TunChecksum => "tun-csum",
            Opt::TunRemoteChecksum => "tun-remcsum",
            Opt::LocalAddress => "laddr",
            Opt::InterfaceName => "ifname",
            Opt::Atomic => "atomic",
        }
    }

    /// All of them, in the order in which ipvsadm complains.
    pub const ALL: [Opt; 37] = [
        Opt::Numeric,
        Opt::Connection,
        Opt::ServiceAddress,
        Opt::Scheduler,
        Opt::Persistent,
        Opt::Netmask,
        Opt::RealServer,
        Opt::ForwardingMethod,
        Opt::Weight,
        Opt::UpperThreshold,
        Opt::LowerThreshold,
        Opt::McastInterface,
        Opt::Timeout,
        Opt::Daemon,
        Opt::Stats,
        Opt::Rate,
        Opt::Thresholds,
        Opt::PersistentConn,
        Opt::NoSort,
        Opt::SyncId,
        Opt::Exact,
        Opt::OnePacket,
        Opt::PersistenceEngine,
        Opt::SchedulerFlags,
        Opt::McastGroup,
        Opt::McastPort,
        Opt::McastTtl,
        Opt::SyncMaxLength,
        Opt::TunInfo,
        Opt::TunType,
        Opt::TunPort,
        Opt::TunNoChecksum,
        Opt::TunChecksum,
        Opt::TunRemoteChecksum,
        Opt::LocalAddress,
        Opt::InterfaceName,
        Opt::Atomic,
    ];
}
