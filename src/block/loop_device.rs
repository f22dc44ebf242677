//! Loop devices.
//!
//! `loopdev` finds a free device and opens it. This module attaches it with one call,
//! `LOOP_CONFIGURE`. With the two older calls (`LOOP_SET_FD` and `LOOP_SET_STATUS64`), the device
//! would show the whole file for an instant, and a SIGKILL between them would leave it attached.
//!
//! Source: Linux, `include/uapi/linux/loop.h`; loop(4).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use loopdev::{LoopControl, LoopDevice as Device};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::ioctl;
use tracing::debug;

use crate::disk::{Extent, SectorSize};

const LOOP_CONFIGURE: ioctl::Opcode = 0x4c0a;

/// The kernel detaches the device when its last user ends: a process that has it open, or a mounted
/// file system.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// How long to retry if other programs take the free device first.
const ATTACH_LIMIT: Duration = Duration::from_secs(20);

/// `struct loop_config`, with the fields of its `struct loop_info64`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device that shows a range of a file. It is detached when this is dropped, or after the
/// last unmount of its file system.
#[derive(Debug)]
pub(super) struct LoopDevice {
    /// The open handle keeps the device attached.
    _device: Device,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches `extent` of `backing`, which must be open for writing, to a device with this sector
    /// size.
    pub(super) fn attach(backing: &File, extent: Extent, sector: SectorSize) -> io::Result<Self> {
        let control = LoopControl::open()?;
        let deadline = Instant::now() + ATTACH_LIMIT;
        let mut pause = Duration::from_millis(1);
        loop {
            match Self::try_attach(&control, backing, extent, sector) {
                // Another program has taken the device after the kernel reported it as free.
                Err(error)
                    if error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                        && Instant::now() < deadline =>
                {
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(100));
                }
                result => return result,
            }
        }
    }

    fn try_attach(
        control: &LoopControl,
        backing: &File,
        extent: Extent,
        sector: SectorSize,
    ) -> io::Result<Self> {
        let device = match control.next_free() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_nodes()?;
                control.next_free()?
            }
            result => result?,
        };
        let configured = configure(&device, backing, extent, sector);
        debug!(device = ?device.path(), ?extent, ?sector, ?configured, "attaches a loop device");
        configured?;
        let path = device.path().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { _device: device, path })
    }

    /// Returns the device node.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Attaches and detaches a file in `directory`, to find out whether the build host can do it.
///
/// # Errors
/// The kernel's error.
pub fn try_loop_device(directory: &Path) -> io::Result<()> {
    const TRIED_BYTES: u64 = 1 << 20;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let path = directory.join("loop-trial");
    let file =
        File::from(rustix::fs::open(&path, flags | rustix::fs::OFlags::CREATE, Mode::RUSR | Mode::WUSR)?);
    // Removed at once, so that nothing stays after a kill. `O_TMPFILE` would do the same, but some
    // file systems that can hold disks lack it.
    fs::remove_file(&path)?;
    file.set_len(TRIED_BYTES)?;
    LoopDevice::attach(&file, Extent { offset: 0, bytes: TRIED_BYTES }, SectorSize::B512).map(drop)
}

/// Waits, at most for `limit`, until no file system uses the block device at `path`. Returns false
/// after the limit.
///
/// After an unmount, mount namespaces of processes that were just killed may keep the file system
/// for a moment. The kernel writes its last data when they are gone. The data is in the backing
/// file then, because the cache of a block device is written when its last user ends. Syncing the
/// device instead would also sync the backing file, which is slow and left to the caller.
pub(super) fn wait_until_unused(path: &Path, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        // O_EXCL on a block device fails while a mounted file system uses the device.
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        match File::options().read(true).write(true).custom_flags(exclusive).open(path) {
            Ok(_) => return Ok(true),
            Err(error) if error.raw_os_error() != Some(Errno::BUSY.raw_os_error()) => return Err(error),
            Err(_) if Instant::now() >= deadline => return Ok(false),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn configure(device: &Device, backing: &File, extent: Extent, sector: SectorSize) -> io::Result<()> {
    let config = LoopConfig {
        fd: backing.as_raw_fd() as u32,
        block_size: sector.bytes() as u32,
        offset: extent.offset,
        size_limit: extent.bytes,
        flags: LO_FLAGS_AUTOCLEAR,
        // SAFETY: all fields are integers or arrays of integers. Zero means "not set" for the
        // kernel.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: the device is open as long as `device` is borrowed.
    let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, and `LoopConfig` has the same fields.
    unsafe { ioctl::ioctl(fd, ioctl::Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }?;
    Ok(())
}

/// Creates missing device nodes of the kernel's loop devices. In containers, no udev creates them.
fn make_nodes() -> io::Result<()> {
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let node = Path::new("/dev").join(&name);
        if name.starts_with("loop") && !node.exists() {
            let number = fs::read_to_string(format!("/sys/block/{name}/dev"))?;
            let (major, minor) = number.trim().split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            let parse = |text: &str| text.parse::<u32>().map_err(io::Error::other);
            let device = makedev(parse(major)?, parse(minor)?);
            match mknodat(CWD, &node, FileType::BlockDevice, Mode::from_raw_mode(0o660), device) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the kernel's structures: `sizeof(struct loop_config)` is 304.
    #[test]
    fn the_kernel_structure_has_the_kernels_size() {
        assert_eq!(size_of::<LoopConfig>(), 8 + 232 + 64);
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 52);
    }
}
