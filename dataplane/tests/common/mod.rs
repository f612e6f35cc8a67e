//! Where the recordings of a real kernel are.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

/// Reads `ipvs/<name>` of the recordings: in the directory that `ULVS_GOLDENS` names, else in `../shared/goldens` beside the
/// workspace. `None`, and a line on the terminal, when it is not there.
pub fn recording<T: DeserializeOwned>(name: &str) -> Option<T> {
    let beside_workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/goldens");
    let goldens = std::env::var_os("ULVS_GOLDENS").map_or_else(|| PathBuf::from(beside_workspace), PathBuf::from);
    let path = goldens.join("ipvs").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))),
        Err(error) => {
            println!(
                "SKIPPED: no recording {} ({error}); set ULVS_GOLDENS to the directory that holds ipvs/",
                path.display()
            );
            None
        }
    }
}
