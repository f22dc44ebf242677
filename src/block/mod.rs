//! Raw disks on loop devices: partition table, file systems, mounts, content, boot code.
//!
//! ```text
//! create            fill                        finish
//! sparse file,      copy of the merged tree     ESP content by our own FAT writer, trim, unmount,
//! table, mkfs, mount                              check, boot code, sync
//! ```
//!
//! Each partition has its own loop device with an offset and a size. This needs no partition scan
//! of the kernel, no udev and no device mapper. The kernel cleans up when the process dies, also
//! after SIGKILL: loop devices are attached with autoclear in one system call, and mounts are in
//! the process's own mount namespace, which `main` enters at the start.

mod boot;
mod copy;
mod error;
mod fat;
mod loop_device;
mod lvm;
mod mbr;
mod measure;
mod mount;
mod sparse;
mod table;
mod writer;

pub use loop_device::try_loop_device;
pub use lvm::has_device_mapper;
pub use writer::LoopWriter;
