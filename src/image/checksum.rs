//! Files that hold the checksum of an output beside it.

/// An algorithm of such files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checksum {
    /// MD5, for those who still look for it.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Checksum {
    /// Every algorithm.
    pub const ALL: [Checksum; 2] = [Checksum::Md5, Checksum::Sha256];

    /// Returns what follows the output's name and a dot in the name of its file.
    pub const fn extension(self) -> &'static str {
        match self {
            Checksum::Md5 => "md5",
            Checksum::Sha256 => "sha256",
        }
    }

    /// Returns the text of the file, as `md5sum --check` and `sha256sum --check` read it: the sum in hexadecimal digits
    /// and the output's name.
    pub fn line(sum: &str, name: &str) -> String {
        format!("{sum}  {name}\n")
    }
}
