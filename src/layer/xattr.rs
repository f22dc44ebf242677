//! The extended attributes that belong to a layer.

/// Returns true if the extended attribute `name` belongs to the layer:
///
/// | kept | why |
/// |---|---|
/// | `security.capability` | file capabilities: without it `ping` needs setuid |
/// | `system.posix_acl_access`, `system.posix_acl_default` | permissions, as mode bits are |
/// | `user.*` but `user.overlay.*` | belongs to the program that wrote the file |
///
/// All others depend on the machine: `security.selinux` on its policy, `security.ima` on its keys.
/// overlayfs stores its own state in `trusted.overlay.*` and `user.overlay.*`; in a downloaded
/// layer, such an attribute is an attack on it.
pub fn is_content(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_documented_names_are_content() {
        for name in ["security.capability", "user.x", "user.overlayed", "system.posix_acl_default"] {
            assert!(is_content(name.as_bytes()), "{name}");
        }
        for name in [
            "security.selinux",
            "security.ima",
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "trusted.x",
        ] {
            assert!(!is_content(name.as_bytes()), "{name}");
        }
    }
}
