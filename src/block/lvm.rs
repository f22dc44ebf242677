//! Makes logical volumes with the tools of LVM. They need the device mapper of the kernel.
//!
//! Devices of the device mapper outlive the process. Unlike loop devices and mounts, they stay
//! after a SIGKILL, and a later build of the same volume group reports them. There is no other way
//! to write to a logical volume.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::failed;
use super::loop_device::LoopDevice;
use crate::disk::{Layout, Lvm, LvmCommand};
use crate::exec::{ExecError, Program, Run};
use crate::port::DiskError;

/// The control node of the device mapper.
const CONTROL: &str = "/dev/mapper/control";

/// Returns true if the kernel has the device mapper, which logical volumes need.
pub fn has_device_mapper() -> bool {
    is_served(Path::new(CONTROL))
}

/// Returns true if the kernel has a driver for a device. A device node does not prove it, because
/// programs can create nodes. Opening the node loads the driver if it is a module.
fn is_served(device: &Path) -> bool {
    match File::open(device) {
        Ok(_) => true,
        // The device exists. Only root may open it, and making disks needs root anyway.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Fails with [`DiskError::NoDeviceMapper`] if the kernel lacks the device mapper.
pub(super) fn require_device_mapper() -> Result<(), DiskError> {
    if has_device_mapper() { Ok(()) } else { Err(DiskError::NoDeviceMapper) }
}

/// The active logical volumes of a disk. Dropping this deactivates them, but loses the error.
#[derive(Default)]
pub(super) struct Volumes {
    lvm: Lvm,
    /// The devices of the physical volumes. They are attached until this is dropped.
    _devices: Vec<LoopDevice>,
}

impl Volumes {
    /// Creates the logical volumes of `layout`, if it has any.
    pub(super) fn make(layout: &Layout, file: &File, raw: &Path) -> Result<Self, DiskError> {
        if layout.lvm.is_empty() {
            return Ok(Self::default());
        }
        let attach = |extent| {
            let attached = LoopDevice::attach(file, extent, layout.sector);
            attached.map_err(failed("attach a loop device to", raw))
        };
        let physical = &layout.lvm.physical;
        let devices = physical.iter().map(|volume| attach(volume.extent)).collect::<Result<Vec<_>, _>>()?;
        let device = |name: &str| {
            let volume = physical.iter().zip(&devices).find(|(volume, _)| volume.name == name);
            volume.map_or_else(String::new, |(_, device)| device.path().display().to_string())
        };
        let commands = layout.lvm.create_commands(device);
        let volumes = Self { lvm: layout.lvm.clone(), _devices: devices };
        commands.iter().try_for_each(run)?;
        Ok(volumes)
    }

    /// Deactivates the volumes.
    pub(super) fn release(mut self) -> Result<(), DiskError> {
        let lvm = std::mem::take(&mut self.lvm);
        Ok(lvm.release_commands().iter().try_for_each(run)?)
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for command in self.lvm.release_commands() {
            let _ = run(&command);
        }
    }
}

fn run(command: &LvmCommand) -> Result<(), ExecError> {
    Run::new(Program { name: command.program, package: "lvm2" }).args(&command.arguments).run()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_node_without_a_driver_does_not_count_as_device_mapper() {
        let directory = tempfile::tempdir().unwrap();
        let node = directory.path().join("control");
        assert!(!is_served(&node));
        // Opening a socket fails with ENXIO, like opening a node without a driver. Creating such a
        // node would need root.
        let _socket = UnixListener::bind(&node).unwrap();
        assert!(!is_served(&node));
        assert!(is_served(Path::new("/dev/null")));
    }
}
