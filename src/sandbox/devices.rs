//! Limits the device nodes that a job in the target may make to those that every system has.
//!
//! Hooks make systems inside the target (debootstrap, sbuild, mock), whose `/dev/null` has to work.
//! So the target is not mounted `nodev`. Instead, a seccomp filter answers other calls of mknod(2)
//! with EPERM, as container engines do; programs know how to handle that.
//!
//! The filter protects the disks of the build host against accidents. It does not stop a malicious
//! program, because jobs may mount.
//!
//! Source: seccomp(2); the kernel's `include/uapi/linux/{audit,filter,seccomp}.h`,
//! `arch/*/entry/syscalls`, `kdev_t.h`, and `Documentation/admin-guide/devices.txt`.

use std::io;

use nix::libc::{self, sock_filter, sock_fprog};

/// Major and minor numbers of null, zero, full, random, urandom, tty, console and ptmx; and 0/0,
/// which is a whiteout of overlayfs.
const HARMLESS: [(u32, u32); 9] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (0, 0)];

/// A system call that makes a node.
struct Call {
    number: u32,
    /// Index of the argument `mode`. The argument `dev` follows it.
    mode: u32,
}

/// The system calls that make nodes, by audit architecture. A 64-bit kernel also runs 32-bit
/// programs, whose calls have other numbers; without them, such a program would bypass the filter.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, &[Call]); 2] = [
    (0xc000_003e, &[Call { number: 133, mode: 1 }, Call { number: 259, mode: 2 }]),
    // 32-bit programs.
    (0x4000_0003, &[Call { number: 14, mode: 1 }, Call { number: 297, mode: 2 }]),
];
#[cfg(target_arch = "aarch64")]
const CALLS: [(u32, &[Call]); 2] = [
    (0xc000_00b7, &[Call { number: 33, mode: 2 }]),
    // 32-bit programs.
    (0x4000_0028, &[Call { number: 14, mode: 1 }, Call { number: 324, mode: 2 }]),
];

/// The bit that marks calls of x32 programs (x86-64 with 32-bit pointers). Apart from it, their
/// call numbers are those of x86-64.
const X32: u32 = 0x4000_0000;

/// Makes every later call of this process and its children fail with EPERM if it would make another
/// device node.
///
/// # Errors
/// If the kernel has no seccomp filters, or this process may not set one.
pub(super) fn forbid_making_others() -> io::Result<()> {
    let mut filter = filter();
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // Without this flag, kernels before 5.16 turn on mitigations of speculative execution, which
    // slow down every program under the filter.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program and its filter live through the call, and their lengths are right.
    let status =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the filter: a BPF program that the kernel runs on the number, architecture and arguments
/// of each call.
fn filter() -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    for (architecture, calls) in CALLS {
        let body = calls_of(calls);
        program.push(if_equal(architecture, 0, body.len()));
        program.extend(body);
    }
    // An architecture that the filter does not know cannot run here; the kernel would not start its
    // programs.
    program.push(ALLOW);
    program
}

/// Returns the instructions for one architecture.
fn calls_of(calls: &[Call]) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER), and(!X32)];
    for call in calls {
        let body = device_of(call);
        program.push(if_equal(call.number, 0, body.len()));
        program.extend(body);
    }
    program.push(ALLOW);
    program
}

/// Returns the instructions for one call. They always end in a decision.
fn device_of(call: &Call) -> Vec<sock_filter> {
    let harmless = HARMLESS.iter().enumerate().map(|(place, (major, minor))| {
        // Jumps to the last instruction, which allows.
        if_equal(major << 8 | minor, HARMLESS.len() - place, 0)
    });
    let devices: Vec<_> = [load(argument(call.mode + 1))].into_iter().chain(harmless).collect();
    let mut program = vec![
        load(argument(call.mode)),
        and(libc::S_IFMT),
        // A block device: jumps to the refusal.
        if_equal(libc::S_IFBLK, devices.len() + 1, 0),
        // Neither a block nor a character device: jumps to the last instruction, which allows.
        if_equal(libc::S_IFCHR, 0, devices.len() + 1),
    ];
    program.extend(devices);
    program.extend([REFUSE, ALLOW]);
    program
}

/// Offsets in `struct seccomp_data`. Its arguments have 64 bits; modes and devices are in the lower
/// half.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

fn argument(place: u32) -> u32 {
    16 + 8 * place
}

const ALLOW: sock_filter = returning(libc::SECCOMP_RET_ALLOW);
const REFUSE: sock_filter = returning(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);

const fn returning(value: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }
}

fn load(place: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: place }
}

fn and(mask: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k: mask }
}

/// Skips `equal` instructions if the loaded number is `value`, otherwise `other`.
fn if_equal(value: u32, equal: usize, other: usize) -> sock_filter {
    let skip = |count: usize| u8::try_from(count).expect("the filter is short");
    sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: skip(equal),
        jf: skip(other),
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the filter as the kernel does; supports only the instructions that it uses.
    fn decide(architecture: u32, number: u32, arguments: [u32; 4]) -> u32 {
        let program = filter();
        let (mut place, mut loaded) = (0, 0);
        loop {
            let step = program[place];
            place += 1;
            match u32::from(step.code) & 0x07 {
                libc::BPF_LD => {
                    loaded = match step.k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => arguments[(offset as usize - 16) / 8],
                    }
                }
                libc::BPF_ALU => loaded &= step.k,
                libc::BPF_JMP => place += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn only_nodes_that_every_system_has_can_be_made() {
        let (character, block) = (libc::S_IFCHR | 0o666, libc::S_IFBLK | 0o600);
        for (architecture, calls) in CALLS {
            for call in calls {
                for (mode, device, allowed) in [
                    (character, 0x103, true),
                    (character, 0x109, true),
                    (character, 0x502, true),
                    (character, 0, true),
                    (character, 0x101, false),
                    (character, 0x10_0103, false),
                    (character, 0xa_ed, false),
                    (block, 0x800, false),
                    (block, 0x103, false),
                    (block, 0, false),
                    (libc::S_IFIFO | 0o644, 0x800, true),
                    (libc::S_IFREG, 0, true),
                    (0o644, 0x800, true),
                ] {
                    let mut arguments = [7; 4];
                    arguments[call.mode as usize] = mode;
                    if let Some(place) = arguments.get_mut(call.mode as usize + 1) {
                        *place = device;
                    }
                    let expected = if allowed { ALLOW.k } else { REFUSE.k };
                    let found = decide(architecture, call.number, arguments);
                    assert_eq!(found, expected, "{architecture:x} {} {mode:o} {device:x}", call.number);
                    assert_eq!(decide(architecture, call.number + 1, arguments), ALLOW.k);
                }
            }
        }
        assert_eq!(decide(1, 133, [0; 4]), ALLOW.k);
    }
}
