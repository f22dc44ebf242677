//! Rules that replace a part of a file.

use super::times::{Clamp, Times};
use super::{keystore, shadow};

/// A rule that makes the content of a file independent of the time of the build and of the build
/// host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// The modification time of the source in the header of a compiled Python file.
    PycHeader,
    /// The days of the last password change in `/etc/shadow`.
    ShadowDays,
    /// The times in a Java keystore of certificate authorities.
    KeystoreTimes,
    /// The random name of an iSCSI initiator.
    InitiatorName,
    /// The random name and id of an NVMe host.
    NvmeHost,
    /// The random id in `/etc/machine-id`.
    MachineId,
    /// The drift of the build host's clock in `/etc/adjtime`.
    ClockDrift,
    /// The arrays of the build host in the `mdadm.conf` that its package generates.
    Arrays,
}

impl Rewrite {
    /// Returns how many bytes from the start of the file [`Rewrite::apply`] needs; `None` for all
    /// of them.
    pub fn head_bytes(self) -> Option<usize> {
        match self {
            Rewrite::PycHeader => Some(PYC_HEADER_BYTES),
            Rewrite::ShadowDays
            | Rewrite::KeystoreTimes
            | Rewrite::InitiatorName
            | Rewrite::NvmeHost
            | Rewrite::MachineId
            | Rewrite::ClockDrift
            | Rewrite::Arrays => None,
        }
    }

    /// Returns the replacement of `head`, the first [`Rewrite::head_bytes`] of the file; `None` if
    /// the file needs no change. Applying a rule twice changes nothing more.
    pub fn apply(self, head: &[u8], times: &Times) -> Option<Vec<u8>> {
        let new = match self {
            Rewrite::PycHeader => clamp_pyc(head, &times.clamp),
            Rewrite::ShadowDays => Some(shadow::normalize(head, times)),
            Rewrite::KeystoreTimes => keystore::clamp(head, times.clamp.epoch),
            Rewrite::InitiatorName => generate_initiator_name(head),
            Rewrite::NvmeHost => is_nvme_uuid(head).then(Vec::new),
            Rewrite::MachineId => is_machine_id(head).then(Vec::new),
            Rewrite::ClockDrift => Some(forget_drift(head)),
            Rewrite::Arrays => forget_arrays(head),
        };
        new.filter(|new| new != head)
    }
}

const PYC_HEADER_BYTES: usize = 16;

/// Clamps the time of the source. The modification time of the source itself is clamped, too. If
/// the two differed, Python would compile the source again at each start.
///
/// Header since Python 3.7: magic (two bytes, CR LF), flags, time, size; little endian, four bytes
/// each. Flag 1 says that a hash replaces time and size. Earlier versions have no flags. Source:
/// PEP 552; CPython, `importlib/_bootstrap_external.py`, on magic numbers.
fn clamp_pyc(head: &[u8], clamp: &Clamp) -> Option<Vec<u8>> {
    /// Magic numbers of Python 3.0 to 3.6, and of Python 2 from this one on.
    const WITHOUT_FLAGS: (std::ops::RangeInclusive<u16>, u16) = (3000..=3379, 20_000);
    let header: [u8; PYC_HEADER_BYTES] = head.try_into().ok()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let magic = u16::from_le_bytes([header[0], header[1]]);
    let has_flags = !WITHOUT_FLAGS.0.contains(&magic) && magic < WITHOUT_FLAGS.1;
    if &header[2..4] != b"\r\n" || (has_flags && word(4) != 0) {
        return None;
    }
    let at = if has_flags { 8 } else { 4 };
    let clamped = clamp.file(i64::from(word(at))).max(0) as u32;
    let mut new = header.to_vec();
    new[at..at + 4].copy_from_slice(&clamped.to_le_bytes());
    Some(new)
}

/// Returns true if `content` is an id. Other text must stay: with `uninitialized`, systemd treats
/// the next boot as the first one, so it applies presets and runs units with `ConditionFirstBoot=`.
/// With an empty file, it only makes an id.
///
/// Source: machine-id(5), "First Boot Semantics".
fn is_machine_id(content: &[u8]) -> bool {
    let id = content.trim_ascii_end();
    id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit)
}

/// Keeps `UTC` or `LOCAL`, which is configuration, and resets the measured drift of the build
/// host's clock. Source: adjtime_config(5).
fn forget_drift(content: &[u8]) -> Vec<u8> {
    match content.split(|&byte| byte == b'\n').nth(2) {
        Some(line) if line.starts_with(b"LOCAL") => b"0.0 0 0.0\n0\nLOCAL\n".to_vec(),
        _ => b"0.0 0 0.0\n0\nUTC\n".to_vec(),
    }
}

/// Removes the arrays of the build host and the date from a generated `mdadm.conf`. A file without
/// the generated line was written by an administrator, and stays.
///
/// Source: Debian, package mdadm, `mkconf`.
fn forget_arrays(content: &[u8]) -> Option<Vec<u8>> {
    const GENERATED: &[u8] = b"# This configuration was auto-generated on ";
    let is_generated = |line: &&[u8]| line.starts_with(GENERATED);
    content.split(|&byte| byte == b'\n').find(is_generated)?;
    let stays = |line: &&[u8]| !is_generated(line) && !line.starts_with(b"ARRAY ");
    Some(content.split(|&byte| byte == b'\n').filter(stays).collect::<Vec<_>>().join(&b'\n'))
}

/// Replaces a generated name by `GenerateName=yes`, which makes open-iscsi generate one when it
/// starts. Two machines with one name would corrupt each other's disks. A name that an
/// administrator chose stays.
///
/// Source: Debian, package open-iscsi, `open-iscsi.postinst` and `startup-checks.sh`.
fn generate_initiator_name(content: &[u8]) -> Option<Vec<u8>> {
    const MADE_UP: &[u8] = b"InitiatorName=iqn.1993-08.org.debian:01:";
    const WARNING: &[u8] = b"## DO NOT EDIT OR REMOVE THIS FILE!";
    let mut lines = content.split(|&byte| byte == b'\n');
    let made_up = content.starts_with(WARNING) && lines.any(|line| line.starts_with(MADE_UP));
    made_up.then(|| b"GenerateName=yes\n".to_vec())
}

/// Returns true for a generated host name or host id, which consists of a UUID. A name that an
/// administrator chose has another form.
///
/// Source: Debian, package nvme-cli, `nvme-cli.postinst`; NVM Express Base Specification, "NVMe
/// Qualified Names".
fn is_nvme_uuid(content: &[u8]) -> bool {
    const UUID_BYTES: usize = 36;
    let name = content.trim_ascii();
    let id = name.strip_prefix(b"nqn.2014-08.org.nvmexpress:uuid:").unwrap_or(name);
    id.len() == UUID_BYTES && id.iter().all(|&byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(epoch: i64) -> Times {
        Times { clamp: Clamp::to(epoch), started: epoch, ended: epoch }
    }

    fn pyc(flags: u32, mtime: u32) -> Vec<u8> {
        let words = [flags, mtime, 77].map(u32::to_le_bytes).concat();
        [b"\xa7\x0d\r\n".as_slice(), &words].concat()
    }

    #[test]
    fn a_generated_iscsi_name_is_replaced_and_a_chosen_one_stays() {
        let made_up =
            "## DO NOT EDIT OR REMOVE THIS FILE!\n## x\nInitiatorName=iqn.1993-08.org.debian:01:1f2e\n";
        let apply = |content: &str| Rewrite::InitiatorName.apply(content.as_bytes(), &times(0));
        assert_eq!(apply(made_up).as_deref(), Some(&b"GenerateName=yes\n"[..]));
        for chosen in ["InitiatorName=iqn.2026-01.example:web\n", "GenerateName=yes\n", ""] {
            assert_eq!(apply(chosen), None, "{chosen}");
        }
    }

    #[test]
    fn a_generated_nvme_host_is_removed_and_a_chosen_one_stays() {
        let apply = |content: &str| Rewrite::NvmeHost.apply(content.as_bytes(), &times(0));
        let uuid = "4c4c4544-0048-3310-8052-c7c04f4d4332";
        assert_eq!(apply(&format!("nqn.2014-08.org.nvmexpress:uuid:{uuid}\n")), Some(Vec::new()));
        assert_eq!(apply(&format!("{uuid}\n")), Some(Vec::new()));
        for chosen in ["nqn.2026-01.example:web\n", "", "\n"] {
            assert_eq!(apply(chosen), None, "{chosen:?}");
        }
    }

    #[test]
    fn pyc_times_are_clamped_and_hashes_are_kept() {
        let apply = |head: &[u8]| Rewrite::PycHeader.apply(head, &times(1000));
        assert_eq!(apply(&pyc(0, 2000)), Some(pyc(0, 1000)));
        assert_eq!(apply(&pyc(0, 1000)), None, "nothing to do");
        assert_eq!(apply(&pyc(1, 2000)), None, "unchecked hash");
        assert_eq!(apply(&pyc(3, 2000)), None, "checked hash");
        assert_eq!(apply(&pyc(0, 2000)[..15]), None, "too short");
        assert_eq!(apply(b"not a pyc file.."), None);
    }

    #[test]
    fn pyc_times_of_packages_are_kept() {
        let clamp = Clamp::to(1000).keeping([2000].into());
        let times = Times { clamp, ..times(1000) };
        assert_eq!(Rewrite::PycHeader.apply(&pyc(0, 2000), &times), None);
        assert_eq!(Rewrite::PycHeader.apply(&pyc(0, 2001), &times), Some(pyc(0, 1000)));
    }

    #[test]
    fn pyc_times_of_older_pythons_are_clamped() {
        let pyc = |magic: u16, mtime: u32| {
            let words = [mtime, 77, 1234].map(u32::to_le_bytes).concat();
            [&magic.to_le_bytes()[..], b"\r\n", &words].concat()
        };
        for (magic, python) in [(3379, "3.6"), (3000, "3.0"), (62_211, "2.7")] {
            let clamped = Rewrite::PycHeader.apply(&pyc(magic, 2000), &times(1000));
            assert_eq!(clamped, Some(pyc(magic, 1000)), "Python {python}");
        }
    }

    #[test]
    fn a_machine_id_is_removed_and_uninitialized_stays() {
        let apply = |content: &str| Rewrite::MachineId.apply(content.as_bytes(), &times(0));
        assert_eq!(apply("0123456789abcdef0123456789abcdef\n"), Some(Vec::new()));
        assert_eq!(apply("0123456789abcdef0123456789abcdef"), Some(Vec::new()));
        for kept in ["uninitialized\n", "uninitialized", "", "\n", "text\n"] {
            assert_eq!(apply(kept), None, "{kept:?}");
        }
    }

    #[test]
    fn drift_is_reset_and_local_time_stays() {
        let apply = |content: &str| Rewrite::ClockDrift.apply(content.as_bytes(), &times(0));
        let utc = Some(b"0.0 0 0.0\n0\nUTC\n".to_vec());
        assert_eq!(apply("-0.9 1790000000 0.0\n1790000000\nUTC\n"), utc);
        assert_eq!(apply("1.5 17 0\n17\nLOCAL\n"), Some(b"0.0 0 0.0\n0\nLOCAL\n".to_vec()));
        for kept in ["0.0 0 0.0\n0\nLOCAL\n", "0.0 0 0.0\n0\nUTC\n"] {
            assert_eq!(apply(kept), None, "{kept}");
        }
    }

    #[test]
    fn generated_arrays_are_removed_and_written_ones_stay() {
        let generated = "HOMEHOST <system>\nMAILADDR root\nARRAY /dev/md/0 UUID=1:2\n\n\
            # This configuration was auto-generated on Mon, 30 Nov 2026 12:00:00 +0000 by mkconf\n";
        let apply = |content: &str| Rewrite::Arrays.apply(content.as_bytes(), &times(0));
        assert_eq!(apply(generated).as_deref(), Some(&b"HOMEHOST <system>\nMAILADDR root\n\n"[..]));
        assert_eq!(apply("MAILADDR ops@example.org\nARRAY /dev/md/0 UUID=1:2\n"), None);
    }
}
