//! Checksum files beside outputs.

/// The algorithm of a checksum file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checksum {
    /// MD5, for tools that still expect it.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Checksum {
    /// Every algorithm.
    pub const ALL: [Checksum; 2] = [Checksum::Md5, Checksum::Sha256];

    /// Returns the extension of the checksum file, which follows the output's name and a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Checksum::Md5 => "md5",
            Checksum::Sha256 => "sha256",
        }
    }

    /// Returns the text of the file, in the format of `md5sum --check` and `sha256sum --check`: the
    /// sum in hexadecimal digits and the output's name.
    pub fn line(sum: &str, name: &str) -> String {
        format!("{sum}  {name}\n")
    }
}
