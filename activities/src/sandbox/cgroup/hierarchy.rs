//! A hierarchy of cgroups in which this process has a place, and how a group of it is bounded.

use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::sandbox::policy::Limits;

/// Where the worker itself goes under version 2, beside the groups of its commands.
const WORKER: &str = "worker-agents";

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// This process's group, or the one above where a worker has moved itself below it.
    pub(super) base: PathBuf,
    unified: bool,
    /// Whether it bounds processes.
    pub(super) processes: bool,
    /// Whether it bounds memory.
    pub(super) memory: bool,
}

/// The hierarchies that bound processes or memory, from `/proc/self/cgroup` and `/proc/self/mountinfo`. Version 2 first.
pub(super) fn find(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut found: Vec<Hierarchy> = cgroup
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let has = |name: &str| controllers.split(',').any(|controller| controller == name);
            let unified = controllers.is_empty();
            let (processes, memory) = (unified || has("pids"), unified || has("memory"));
            let mount = mounts.iter().find(|mount| {
                if unified { mount.kind == "cgroup2" } else { mount.kind == "cgroup" && mount.has(controllers) }
            })?;
            // In a container the mount begins at the container's own group.
            let below = Path::new(path).strip_prefix(mount.root).ok()?;
            // A group outside of the namespace of this process.
            let outside = below.components().any(|part| part == Component::ParentDir);
            let below = match below.file_name() {
                // A worker before this one, or what has started it, went there: groups stand beside it, not below.
                Some(name) if unified && name == WORKER => below.parent().unwrap_or(below),
                _ => below,
            };
            (!outside && (processes || memory)).then(|| Hierarchy {
                base: mount.point.join(below),
                unified,
                processes,
                memory,
            })
        })
        .collect();
    found.sort_by_key(|hierarchy| !hierarchy.unified);
    found
}

/// One line of mountinfo: `36 25 0:31 ROOT POINT OPTIONS … - KIND SOURCE OPTIONS`.
struct Mount<'a> {
    root: &'a str,
    point: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, Path::new(left.next()?));
        let mut right = right.split(' ');
        Some(Self { root, point, kind: right.next()?, options: right.nth(1)? })
    }

    fn has(&self, controllers: &str) -> bool {
        controllers.split(',').all(|controller| self.options.split(',').any(|option| option == controller))
    }
}

impl Hierarchy {
    pub(super) fn version(&self) -> &'static str {
        if self.unified { "v2" } else { "v1" }
    }

    /// Makes groups with limits possible below this process's own.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if !self.unified {
            return Ok(());
        }
        let offered = std::fs::read_to_string(self.base.join("cgroup.controllers"))?;
        if !["pids", "memory"].iter().all(|wanted| offered.split_whitespace().any(|controller| controller == *wanted)) {
            return Err(io::Error::other("it has no pids and memory controllers"));
        }
        let divide = || std::fs::write(self.base.join("cgroup.subtree_control"), "+pids +memory");
        match divide() {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
            divided => return divided,
        }
        // A group cannot both have processes and be divided: this one goes to a part of its own. With others in the group
        // it still cannot, and this one goes back.
        let own = self.base.join(WORKER);
        match std::fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        std::fs::write(own.join("cgroup.procs"), "0")?;
        let divided = divide();
        if divided.is_err() {
            std::fs::write(self.base.join("cgroup.procs"), "0")?;
            std::fs::remove_dir(&own)?;
        }
        divided
    }

    /// Bounds a group that nobody is in yet.
    pub(super) fn limit(&self, group: &Path, limits: &Limits) -> io::Result<()> {
        let set = |file: &str, value: String| std::fs::write(group.join(file), value);
        // Swap is accounted where the kernel was told to.
        let set_if_there =
            |file: &str, value: String| if group.join(file).exists() { set(file, value) } else { Ok(()) };
        if self.processes {
            set("pids.max", limits.processes.to_string())?;
        }
        let memory = limits.memory.to_string();
        match (self.memory, self.unified) {
            (false, _) => Ok(()),
            (true, false) => {
                set("memory.limit_in_bytes", memory.clone())?;
                set_if_there("memory.memsw.limit_in_bytes", memory)
            }
            (true, true) => {
                set("memory.max", memory)?;
                set_if_there("memory.swap.max", "0".to_owned())?;
                // All of it ends, not whichever process the kernel picks.
                set_if_there("memory.oom.group", "1".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "8:pids:/\n4:memory:/api/0150\n3:cpuset:/\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n";
    const V1_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn hierarchy(base: impl Into<PathBuf>, unified: bool, processes: bool, memory: bool) -> Hierarchy {
        Hierarchy { base: base.into(), unified, processes, memory }
    }

    fn limits() -> Limits {
        Limits { memory: 1 << 20, processes: 7, file: 1, folder: 1, open_files: 1 }
    }

    #[test]
    fn the_place_of_this_process_is_found_in_each_hierarchy_that_bounds() {
        let expected = [
            hierarchy("/sys/fs/cgroup/unified/", true, true, true),
            hierarchy("/sys/fs/cgroup/pids/", false, true, false),
            hierarchy("/sys/fs/cgroup/memory/api/0150", false, false, true),
        ];
        assert_eq!(find(V1, V1_MOUNTS), expected);
        // A container sees its own group as the root of the mount.
        let mounts = "35 31 0:32 /kubepods/pod1/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(find("0::/kubepods/pod1/c1/inner\n", mounts), [hierarchy("/sys/fs/cgroup/inner", true, true, true)]);
        assert_eq!(find("0::/elsewhere\n", mounts), []);
        assert_eq!(find("0::/../other\n", "35 31 0:32 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n"), []);
        assert_eq!(find("nonsense\n0:", "nonsense\n"), []);
        let mounts = "35 31 0:32 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let again = find("0::/service/worker-agents\n", mounts);
        assert_eq!(
            again,
            [hierarchy("/sys/fs/cgroup/service", true, true, true)],
            "not one level deeper at each start"
        );
    }

    #[test]
    fn a_group_of_version_2_is_bounded_as_a_whole() {
        let group = tempfile::tempdir().expect("folder");
        for file in ["memory.swap.max", "memory.oom.group"] {
            std::fs::write(group.path().join(file), "max").expect("written");
        }
        hierarchy(group.path(), true, true, true).limit(group.path(), &limits()).expect("bounded");
        let said = |file: &str| std::fs::read_to_string(group.path().join(file)).expect(file);
        let files = ["pids.max", "memory.max", "memory.swap.max", "memory.oom.group"];
        assert_eq!(files.map(said), ["7", "1048576", "0", "1"]);
    }

    #[test]
    fn a_group_of_version_2_without_its_controllers_is_not_used() {
        let group = tempfile::tempdir().expect("folder");
        let version_2 = hierarchy(group.path(), true, true, true);
        assert!(version_2.prepare().is_err(), "no controllers at all");
        std::fs::write(group.path().join("cgroup.controllers"), "cpu hugetlb\n").expect("written");
        assert!(version_2.prepare().expect_err("others").to_string().contains("no pids and memory"));
        std::fs::write(group.path().join("cgroup.controllers"), "cpu memory pids\n").expect("written");
        version_2.prepare().expect("divided");
        let divided = std::fs::read_to_string(group.path().join("cgroup.subtree_control")).expect("written");
        assert_eq!(divided, "+pids +memory");
    }
}
