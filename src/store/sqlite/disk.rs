//! The files under the store: where they may be, who may use them, and how sure their disk is. Knows nothing of SQL.
//!
//! Invariant: while a [`Hold`] lives, no other relay on this machine has one for the same file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::store::query::Durability;

use super::{Memory, OpenError};

/// Events hold personal data: only the relay's own user may read its files.
const MODE: u32 = 0o600;

/// A database file that this process alone uses.
#[derive(Debug)]
pub struct Hold {
    /// The file, without symbolic links.
    pub path: PathBuf,
    /// How sure its disk is.
    pub durability: Durability,
    /// Locked until it is dropped; the kernel drops it with the process, however that ends.
    lock: File,
}

impl Drop for Hold {
    /// Gives the lock up by word. Closing alone would leave it to a program that this process is just starting: until it
    /// runs, a fork of us holds the descriptor too.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock); // what fails here is done by closing
    }
}

/// Checks the place, locks it against other relays, and makes the file where it is missing.
///
/// # Errors
/// [`OpenError`] where the file may not be there, is in use or cannot be written.
pub fn hold(path: &Path, memory: Memory) -> Result<Hold, OpenError> {
    let path = resolved(path)?;
    let folder = path.parent().ok_or_else(|| OpenError::NoFolder(path.clone()))?;
    let durability = durability_of(folder, memory)?;
    let lock = lock(&path)?;
    if !path.exists() {
        writable(&path).map_err(OpenError::Unwritable)?;
        // Without this a power cut may take the new file's name away, and all events with it.
        File::open(folder).and_then(|folder| folder.sync_all())?;
    } else {
        writable(&path).map_err(OpenError::Unwritable)?;
    }
    Ok(Hold { path, durability, lock })
}

/// Two names of one file must meet at one lock, so links are followed first.
fn resolved(path: &Path) -> Result<PathBuf, OpenError> {
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let name = path.file_name().ok_or_else(|| OpenError::NoFolder(path.to_owned()))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    match folder.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder.join(name)),
        Ok(_) | Err(_) => Err(OpenError::NoFolder(folder.to_owned())),
    }
}

fn writable(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock"); // never removed: removing a lock file lets two relays lock two files of one name
    let file = writable(Path::new(&name)).map_err(OpenError::Unwritable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(PathBuf::from(name))),
        Err(other) => Err(OpenError::Io(other.into())),
    }
}

/// `f_type` numbers of statfs(2) that matter here.
#[cfg(target_os = "linux")]
mod magic {
    /// Locks and memory maps across machines do not hold what SQLite needs of them.
    pub const NETWORK: [(u32, &str); 11] = [
        (0x6969, "nfs"),
        (0x517B, "smb"),
        (0xFE53_4D42, "smb2"),
        (0xFF53_4D42, "cifs"),
        (0x0102_1997, "9p"),
        (0x00C3_6400, "ceph"),
        (0x5346_414F, "afs"),
        (0x6B41_4653, "afs"),
        (0x0BD0_0BD0, "lustre"),
        (0x7375_7245, "coda"),
        (0x564C, "ncp"),
    ];
    pub const MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58F6]; // tmpfs, ramfs
    pub const OVERLAY: [u32; 2] = [0x794C_7630, 0x6175_6673]; // overlayfs, aufs
    pub const FUSE: u32 = 0x6573_5546;
}

#[cfg(target_os = "linux")]
fn durability_of(folder: &Path, memory: Memory) -> Result<Durability, OpenError> {
    let stat = rustix::fs::statfs(folder).map_err(io::Error::from)?;
    let kind = stat.f_type as u32; // the numbers have 32 bits; the field is wider, and signed, on some machines
    if let Some((_, name)) = magic::NETWORK.into_iter().find(|(number, _)| *number == kind) {
        return Err(OpenError::NetworkFileSystem(name));
    }
    if magic::MEMORY.contains(&kind) {
        return match memory {
            Memory::Allowed => Ok(Durability::Memory),
            Memory::Refused => Err(OpenError::MemoryFileSystem),
        };
    }
    if kind == magic::FUSE {
        // A container's mount on a desktop is one, but so is sshfs: only the operator can know.
        tracing::warn!(
            "the store is on a FUSE file system: whether it keeps what it confirms is up to its driver"
        );
    }
    if magic::OVERLAY.contains(&kind) {
        tracing::warn!(
            "the store is in the container's own file system and is gone with it: give it a volume"
        );
        return Ok(Durability::Overlay);
    }
    Ok(Durability::Proven)
}

#[cfg(not(target_os = "linux"))]
fn durability_of(_folder: &Path, _memory: Memory) -> Result<Durability, OpenError> {
    Ok(Durability::Proven) // other systems name their file systems differently; there it is the operator's to know
}
