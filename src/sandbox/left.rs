//! The mounts that a hook of a host phase leaves in the target.
//!
//! With diskimage-builder, a hook mounts a cache into the image once, and all later hooks see it.
//! Here a mount ends with its job. So plywood records the mount and makes it again for each later
//! job. It records only mounts from [`View::CACHE`], because it cannot know what others depend on.

use std::path::Path;

use super::mountinfo::Line;
use crate::port::{CacheMount, View};

/// Returns the directories of the cache among `mounts` that are mounted in the target. Mounts whose
/// paths are not UTF-8 are left out, because they are recorded as text.
pub(super) fn cache_mounts(mounts: &[Line]) -> Vec<CacheMount> {
    let Some(cache) = mounts.iter().find(|mount| mount.place == Path::new(View::CACHE)) else {
        return Vec::new();
    };
    let found = mounts.iter().filter(|mount| mount.device == cache.device).filter_map(|mount| {
        let source = mount.root.strip_prefix(&cache.root).ok()?.to_str()?.to_owned();
        let target = mount.place.strip_prefix(View::HOST_MOUNT).ok()?.to_str()?;
        Some(CacheMount { source, target: format!("/{target}") }).filter(|_| !target.is_empty())
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_mounts_of(mountinfo: &str) -> Vec<CacheMount> {
        cache_mounts(&Line::all(mountinfo.as_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn directories_of_the_cache_in_the_target_are_found_and_nothing_else() {
        let mountinfo = "\
            1 0 8:1 / / ro - ext4 /dev/sda1 ro\n\
            2 1 0:50 / /tmp/plywood/mnt rw - overlay overlay rw\n\
            3 1 8:1 /var/cache/plywood/cache/dib /tmp/plywood/cache rw - ext4 /dev/sda1 rw\n\
            4 2 8:1 /var/cache/plywood/cache/dib/pip /tmp/plywood/mnt/tmp/pip rw - ext4 /dev/sda1 rw\n\
            5 2 8:1 /var/cache/plywood/cache/dib/a\\040b /tmp/plywood/mnt/c\\040d rw - ext4 /dev/sda1 rw\n\
            6 2 8:1 /var/cache/plywood/cache/dib-other /tmp/plywood/mnt/x rw - ext4 /dev/sda1 rw\n\
            7 2 8:1 /srv /tmp/plywood/mnt/srv rw - ext4 /dev/sda1 rw\n\
            8 2 8:2 /var/cache/plywood/cache/dib/y /tmp/plywood/mnt/y rw - ext4 /dev/sdb rw\n\
            9 2 0:60 / /tmp/plywood/mnt/proc rw - proc proc rw\n";
        let found: Vec<_> =
            cache_mounts_of(mountinfo).into_iter().map(|mount| (mount.source, mount.target)).collect();
        let expected = [("pip", "/tmp/pip"), ("a b", "/c d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found, expected);
        assert_eq!(cache_mounts_of("1 0 8:1 / / ro - ext4 /dev/sda1 ro\n"), []);
    }
}
