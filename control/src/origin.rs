//! Who made a service or server: the configuration file or the command line. What follows from it stands in `crate::change::merge`.

use serde::{Deserialize, Serialize};

/// Where a service or server comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file.
    #[default]
    File,
    /// The configuration file, and changed on the command line since.
    Edited,
    /// The command line.
    CommandLine,
}

impl Origin {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Origin::File => "file",
            Origin::Edited => "file, edited",
            Origin::CommandLine => "command line",
        }
    }
}
