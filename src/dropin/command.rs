//! The commands of diskimage-builder.

use std::fmt;

/// A command of diskimage-builder that plywood replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    DiskImageCreate,
    /// Builds a kernel and an initial ramdisk.
    RamdiskImageCreate,
    /// Builds the images of YAML files.
    DiskimageBuilder,
    /// Shows the elements of an image.
    ElementInfo,
}

impl Command {
    /// Every command.
    pub const ALL: [Command; 4] = [
        Command::DiskImageCreate,
        Command::RamdiskImageCreate,
        Command::DiskimageBuilder,
        Command::ElementInfo,
    ];

    /// Returns the command's name.
    pub const fn name(self) -> &'static str {
        match self {
            Command::DiskImageCreate => "disk-image-create",
            Command::RamdiskImageCreate => "ramdisk-image-create",
            Command::DiskimageBuilder => "diskimage-builder",
            Command::ElementInfo => "element-info",
        }
    }

    /// Returns the command of a program path, by its last component; `None` for other programs.
    pub fn of_program(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        // In diskimage-builder, element-info is a file of its library, with an extension.
        let name = if name == "element-info.py" { Command::ElementInfo.name() } else { name };
        Self::ALL.into_iter().find(|command| command.name() == name)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_of_the_program_decides() {
        let table = [
            ("/usr/local/bin/disk-image-create", Some(Command::DiskImageCreate)),
            ("ramdisk-image-create", Some(Command::RamdiskImageCreate)),
            ("./diskimage-builder", Some(Command::DiskimageBuilder)),
            ("/lib/element-info.py", Some(Command::ElementInfo)),
            ("/usr/bin/plywood", None),
            ("disk-image-create.bak", None),
            ("", None),
        ];
        for (program, command) in table {
            assert_eq!(Command::of_program(program), command, "{program}");
        }
    }
}
