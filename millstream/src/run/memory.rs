//! How much memory keyed state may take: as configured, or a part of what the process may use.

use std::path::Path;

use millstream_config::{Configuration, keys};

/// The limit in bytes; `None` where nobody can tell how much memory there is.
pub(crate) fn for_state(configuration: &Configuration) -> Option<usize> {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(size) = configuration.get(&keys::MANAGED_MEMORY_SIZE) {
        return Some(bytes(size.0));
    }
    let process =
        configuration.get(&keys::PROCESS_MEMORY_SIZE).map(|size| size.0).or_else(|| of_process(Path::new("/")));
    let fraction = configuration.get(&keys::MANAGED_MEMORY_FRACTION).0;
    process.map(|process| bytes((process as f64 * fraction) as u64))
}

/// What the control group allows, or the machine has.
pub(super) fn of_process(root: &Path) -> Option<u64> {
    let machine = std::fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| size(&text, "MemTotal:"));
    let allowed = std::fs::read_to_string(root.join("proc/self/cgroup")).ok().and_then(|text| allowed_by(root, &text));
    allowed.into_iter().chain(machine).min()
}

/// The size behind a name in a file such as /proc/meminfo, in bytes.
pub(super) fn size(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// The smallest limit of the control group and those above it, in version 2 or 1.
fn allowed_by(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        let (folder, file) = match hierarchy {
            "" => (root.join("sys/fs/cgroup"), "memory.max"),
            "memory" => (root.join("sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        let own = folder.join(path.trim_start_matches('/'));
        let above = own.ancestors().take_while(|above| above.starts_with(&folder)).map(Path::to_path_buf);
        // Inside of a container the path may be that of the host: its own group is mounted as the root then.
        let limit = |folder: &Path| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        above.chain([folder.clone()]).filter_map(|folder| limit(&folder)).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_process_has_what_its_groups_allow_or_the_machine_has() {
        let root = std::env::temp_dir().join(format!("millstream-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        assert_eq!(of_process(&root), None);
        write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:  1 kB\n");
        write("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(of_process(&root), Some(16_000_000 << 10), "no group limits it");
        write("sys/fs/cgroup/a/memory.max", "2000000\n");
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(of_process(&root), Some(2_000_000), "a group above does");
        write("proc/self/cgroup", "4:cpu:/x\n9:memory:/job\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000\n");
        assert_eq!(of_process(&root), Some(3_000_000), "version 1, in a container");
        fs::remove_dir_all(&root).expect("was written");
    }
}
