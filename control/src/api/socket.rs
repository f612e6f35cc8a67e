//! The socket file: who may open it, and what to do about one that is already there.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Group;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// How long a socket that is already there may take to accept before it counts as alive but busy.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Why the API socket could not be opened. Each is a sentence for the operator.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another director answers on it.
    #[error(
        "another ulvsd{} already answers on {}; stop it, or give this one another API socket",
        owner(*.pid),
        .path.display()
    )]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
        /// The other one's process id, where the kernel says.
        pid: Option<i32>,
    },
    /// Something else stands at that path.
    #[error("{} exists and is not a socket; remove it, or choose another path for the API socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The configured group does not exist.
    #[error(
        "there is no group '{group}' to own the API socket; create it (groupadd --system {group}) or correct its name"
    )]
    NoSuchGroup {
        /// Its name.
        group: String,
    },
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn owner(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BindError + 'a {
    move |source| BindError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A listening socket whose file is removed when this is dropped, unless somebody else's has taken its place.
#[derive(Debug)]
pub(super) struct BoundSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Members may connect.
    pub(super) group_id: Option<u32>,
    device_and_inode: (u64, u64),
}

impl BoundSocket {
    /// Opens the socket with mode 0660, owned by `group` if one is given. The directory is made if need be. Must be called in a tokio
    /// runtime.
    pub(super) async fn bind(path: &Path, group: Option<&str>) -> Result<BoundSocket, BindError> {
        let group_id = group.map(group_id).transpose()?;
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(at("create the directory", directory))?;
        }
        refuse_if_taken(path).await?;

        // Made beside its place and moved there, so that nobody meets it before its mode and owner are right, and a stale one is replaced
        // in one step.
        let staged = staging_path(path);
        remove_if_there(&staged)?;
        let listener = UnixListener::bind(&staged).map_err(at("open the API socket", path))?;
        let placed = place(&staged, path, group_id);
        if placed.is_err() {
            // The error that matters is the first one; what is left is a file without a listener.
            let _ = fs::remove_file(&staged);
        }
        let metadata = placed?;
        Ok(BoundSocket {
            listener,
            path: path.to_owned(),
            group_id,
            device_and_inode: identity(&metadata),
        })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let still_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.device_and_inode);
        if still_ours {
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::warn!("cannot remove the API socket {}: {error}", self.path.display());
            }
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn staging_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    name.into()
}

fn remove_if_there(path: &Path) -> Result<(), BindError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn group_id(name: &str) -> Result<u32, BindError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err(BindError::NoSuchGroup { group: name.to_owned() }),
    }
}

/// Says so if another director answers at `path`: to be asked before anything is touched that would be in its way. Whatever else is
/// wrong with the path shows when the socket is opened.
///
/// # Errors
/// [`BindError::AlreadyRunning`]
pub async fn refuse_second(path: &Path) -> Result<(), BindError> {
    match refuse_if_taken(path).await {
        Err(error @ BindError::AlreadyRunning { .. }) => Err(error),
        _ => Ok(()),
    }
}

/// An error if a director answers at `path`, or something stands there that is no socket.
async fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("look at", path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let taken = |pid| {
        Err(BindError::AlreadyRunning {
            path: path.to_owned(),
            pid,
        })
    };
    match tokio::time::timeout(ANSWER_WAIT, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => taken(stream.peer_cred().ok().and_then(|credentials| credentials.pid())),
        // Nobody listens: what a director that was killed leaves behind.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(at("see whether another ulvsd answers on", path)(error)),
        Err(_elapsed) => taken(None),
    }
}

fn place(staged: &Path, path: &Path, group_id: Option<u32>) -> Result<Metadata, BindError> {
    if let Some(group_id) = group_id {
        let owned = std::os::unix::fs::chown(staged, None, Some(group_id));
        owned.map_err(at("give its group the API socket", path))?;
    }
    let mode = fs::Permissions::from_mode(0o660);
    fs::set_permissions(staged, mode).map_err(at("set the mode of the API socket", path))?;
    fs::rename(staged, path).map_err(at("put the API socket at", path))?;
    fs::symlink_metadata(path).map_err(at("look at", path))
}
