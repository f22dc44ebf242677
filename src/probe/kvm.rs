//! Tries KVM with a guest of 125 bytes that enters 64-bit mode, as every kernel does, and counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::exec::{Ending, ExecError, Program, Run};
use crate::host::{KvmTrial, QEMU_SYSTEM};

/// The time limit of the guest. It needs a tenth of a second, and QEMU itself some more.
const LIMIT: Duration = Duration::from_secs(2);

/// The size of the guest's firmware: the region below 1 MiB of a PC.
const ROM_BYTES: usize = 64 << 10;
/// The address at which a processor starts: `f000:fff0`.
const RESET: usize = 0xfff0;
/// `ljmp $0xf000, $0`.
const JUMP: [u8; 5] = [0xea, 0x00, 0x00, 0x00, 0xf0];
/// The code at `f000:0000`, in the syntax of the GNU assembler:
///
/// ```text
/// .code16 cli; xorw %ax, %ax; movw %ax, %ds
///         movw $0x2003, (0x1000); movw $0x3003, (0x2000); movw $0x83, (0x3000)     # one page of 2 MiB
///         movw $0xf000, %ax; movw %ax, %ds; lgdtl gdtr; movl $0x1000, %eax; movl %eax, %cr3
///         movl $0x20, %eax; movl %eax, %cr4                                        # PAE
///         movl $0xc0000080, %ecx; rdmsr; orl $0x100, %eax; wrmsr                   # EFER.LME
///         movl $0x80000001, %eax; movl %eax, %cr0; ljmpl $8, $0xf0000 + long       # PG, PE
/// .code64
/// long:   movl $10000000, %ecx
/// 1:      decl %ecx; jnz 1b; movw $0xf4, %dx; movb $42, %al; outb %al, %dx
/// 2:      hlt; jmp 2b
///         .balign 8
/// gdt:    .quad 0, 0x00209a0000000000
/// gdtr:   .word 15; .long 0xf0000 + gdt
/// ```
#[rustfmt::skip]
const GUEST: [u8; 125] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0xc7, 0x06, 0x00, 0x20, 0x03,
    0x30, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0xb8, 0x00, 0xf0, 0x8e, 0xd8, 0x66, 0x0f, 0x01, 0x16,
    0x78, 0x00, 0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8, 0x66, 0xb8, 0x20, 0x00, 0x00,
    0x00, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x66, 0x0d, 0x00, 0x01,
    0x00, 0x00, 0x0f, 0x30, 0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x55,
    0x00, 0x0f, 0x00, 0x08, 0x00, 0xb9, 0x80, 0x96, 0x98, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x66, 0xba,
    0xf4, 0x00, 0xb0, 0x2a, 0xee, 0xf4, 0xeb, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, 0x0f, 0x00, 0x68, 0x00, 0x0f,
];
/// The exit status of QEMU's device `isa-debug-exit` for the value 42.
const STATUS: i32 = 42 << 1 | 1;

/// Runs a guest under KVM. In some virtual machines `/dev/kvm` can be opened, but no guest runs
/// under it, or only the guest's 16-bit start does.
pub fn kvm() -> KvmTrial {
    match File::options().read(true).write(true).open("/dev/kvm") {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return KvmTrial::NoAccess,
        Err(_) => return KvmTrial::NoDevice,
        Ok(_) => {}
    }
    run_guest("kvm").unwrap_or_else(|error| match error {
        ExecError::Missing { .. } => KvmTrial::NoProgram,
        other => KvmTrial::Fails(other.to_string()),
    })
}

/// Runs the guest under one of QEMU's accelerators, `kvm` or `tcg`.
///
/// # Errors
/// If QEMU is not installed or cannot be started.
pub fn run_guest(accelerator: &str) -> Result<KvmTrial, ExecError> {
    let program = Program { name: QEMU_SYSTEM.name, package: QEMU_SYSTEM.package };
    let rom = match guest() {
        Ok(rom) => rom,
        Err(error) => return Ok(KvmTrial::Fails(error.to_string())),
    };
    // QEMU opens its firmware by path. This path needs no temporary file that a kill would leave
    // behind.
    let firmware = format!("/proc/{}/fd/{}", std::process::id(), rom.as_raw_fd());
    let machine = format!("pc,accel={accelerator}");
    let qemu = Run::new(program)
        .args(["-machine", &machine, "-nodefaults", "-display", "none", "-m", "16"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios", &firmware]);
    let watched = qemu.watch("", LIMIT, &mut |_| {})?;
    Ok(match watched.ending {
        Ending::Exited(status, _) if status.code() == Some(STATUS) => KvmTrial::Works,
        Ending::Exited(status, stderr) => {
            KvmTrial::Fails(stderr.lines().next().map_or_else(|| status.to_string(), str::to_owned))
        }
        _ => KvmTrial::Fails(format!("a test guest did not end within {} s", LIMIT.as_secs())),
    })
}

fn guest() -> io::Result<File> {
    let mut rom = vec![0_u8; ROM_BYTES];
    rom[..GUEST.len()].copy_from_slice(&GUEST);
    rom[RESET..RESET + JUMP.len()].copy_from_slice(&JUMP);
    let mut file = File::from(memfd_create("plywood-guest", MemfdFlags::CLOEXEC)?);
    file.write_all(&rom)?;
    Ok(file)
}
