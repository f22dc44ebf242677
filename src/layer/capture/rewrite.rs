//! Files of which a part is replaced.

use super::keystore;

/// How a file's content is made independent of the time of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrite {
    /// The time of its source in the header of a compiled Python file.
    PycHeader,
    /// The days of the last password change in `/etc/shadow`.
    ShadowDays,
    /// The times in a Java keystore of certificate authorities.
    KeystoreTimes,
    /// The random name of a machine in an iSCSI network.
    InitiatorName,
}

impl Rewrite {
    /// How many bytes from the start of the file [`Rewrite::apply`] wants to see: `None` for all of them.
    pub fn head_bytes(self) -> Option<usize> {
        match self {
            Rewrite::PycHeader => Some(PYC_HEADER_BYTES),
            Rewrite::ShadowDays | Rewrite::KeystoreTimes | Rewrite::InitiatorName => None,
        }
    }

    /// Returns what takes the place of `head`, the bytes that [`Rewrite::head_bytes`] asked for, or `None` if they may
    /// stay. No time after `epoch` (seconds since 1970) remains.
    pub fn apply(self, head: &[u8], epoch: i64) -> Option<Vec<u8>> {
        let new = match self {
            Rewrite::PycHeader => clamp_pyc(head, epoch),
            Rewrite::ShadowDays => Some(clamp_shadow(head, epoch)),
            Rewrite::KeystoreTimes => keystore::clamp(head, epoch),
            Rewrite::InitiatorName => generate_initiator_name(head),
        };
        new.filter(|new| new != head)
    }
}

const PYC_HEADER_BYTES: usize = 16;
const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// Clamps the source's time as the source's own time is clamped, so that Python still takes the file as fresh.
///
/// Header since Python 3.7: magic (two bytes, CR LF), flags, time, size; little endian, four bytes each. Flag 1 says
/// that a hash stands in place of time and size. Source: PEP 552.
fn clamp_pyc(head: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let header: [u8; PYC_HEADER_BYTES] = head.try_into().ok()?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if &header[2..4] != b"\r\n" || word(4) != 0 {
        return None;
    }
    let clamped = i64::from(word(8)).min(epoch.max(0)) as u32;
    let mut new = header.to_vec();
    new[8..12].copy_from_slice(&clamped.to_le_bytes());
    Some(new)
}

/// Asks for a name to be made at the first start, where Debian's package has made one up: no two machines may share it. A
/// name that somebody chose stays.
///
/// Source: Debian, package open-iscsi, `open-iscsi.postinst` and `startup-checks.sh`.
fn generate_initiator_name(content: &[u8]) -> Option<Vec<u8>> {
    const MADE_UP: &[u8] = b"InitiatorName=iqn.1993-08.org.debian:01:";
    const WARNING: &[u8] = b"## DO NOT EDIT OR REMOVE THIS FILE!";
    let mut lines = content.split(|&byte| byte == b'\n');
    let made_up = content.starts_with(WARNING) && lines.any(|line| line.starts_with(MADE_UP));
    made_up.then(|| b"GenerateName=yes\n".to_vec())
}

/// Clamps the third field of each line, the day of the last change counted from 1970, to the epoch's day. Lines of
/// another form stay as they are. Source: shadow(5).
fn clamp_shadow(content: &[u8], epoch: i64) -> Vec<u8> {
    let last_day = epoch.div_euclid(SECONDS_A_DAY);
    let clamp_line = |line: &[u8]| {
        let mut fields: Vec<Vec<u8>> = line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
        if let Some(day) = fields.get_mut(2) {
            let number = std::str::from_utf8(day).ok().and_then(|day| day.parse::<i64>().ok());
            if number.is_some_and(|number| number > last_day) {
                *day = last_day.to_string().into_bytes();
            }
        }
        fields.join(&b':')
    };
    content.split(|byte| *byte == b'\n').map(clamp_line).collect::<Vec<_>>().join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pyc(flags: u32, mtime: u32) -> Vec<u8> {
        let words = [flags, mtime, 77].map(u32::to_le_bytes).concat();
        [b"\xa7\x0d\r\n".as_slice(), &words].concat()
    }

    #[test]
    fn a_made_up_name_of_an_iscsi_initiator_is_made_up_anew_and_a_chosen_one_stays() {
        let made_up =
            "## DO NOT EDIT OR REMOVE THIS FILE!\n## x\nInitiatorName=iqn.1993-08.org.debian:01:1f2e\n";
        let apply = |content: &str| Rewrite::InitiatorName.apply(content.as_bytes(), 0);
        assert_eq!(apply(made_up).as_deref(), Some(&b"GenerateName=yes\n"[..]));
        for chosen in ["InitiatorName=iqn.2026-01.example:web\n", "GenerateName=yes\n", ""] {
            assert_eq!(apply(chosen), None, "{chosen}");
        }
    }

    #[test]
    fn pyc_times_are_clamped_and_hashes_are_kept() {
        let apply = |head: &[u8]| Rewrite::PycHeader.apply(head, 1000);
        assert_eq!(apply(&pyc(0, 2000)), Some(pyc(0, 1000)));
        assert_eq!(apply(&pyc(0, 1000)), None, "nothing to do");
        assert_eq!(apply(&pyc(1, 2000)), None, "unchecked hash");
        assert_eq!(apply(&pyc(3, 2000)), None, "checked hash");
        assert_eq!(apply(&pyc(0, 2000)[..15]), None, "too short");
        assert_eq!(apply(b"not a pyc file.."), None);
    }

    #[test]
    fn shadow_days_are_clamped_to_the_day_of_the_epoch() {
        let before = b"root:*:19999:0:99999:7:::\nold:!:10:0::::::\nempty:!:::::::\n+broken\n";
        let after = b"root:*:19675:0:99999:7:::\nold:!:10:0::::::\nempty:!:::::::\n+broken\n";
        assert_eq!(Rewrite::ShadowDays.apply(before, 1_700_000_000).as_deref(), Some(after.as_slice()));
        assert_eq!(Rewrite::ShadowDays.apply(after, 1_700_000_000), None);
    }
}
