//! File trees as containers show them.

use super::*;

/// A file system of this test's own, removed at its end.
struct Tree(Root);

impl Tree {
    fn new(name: &str, cgroup: &str, mountinfo: &str) -> Self {
        let name = format!("clinit-cgroup-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // An earlier process of this pid may have been killed before it cleared up.
        let _ = fs::remove_dir_all(&path);
        Self(Root(path))
            .with("proc/self/cgroup", cgroup)
            .with("proc/self/mountinfo", mountinfo)
    }

    fn with(self, file: &str, text: &str) -> Self {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.0.join(file)
    }

    /// Quotas, with their files as seen from the tree's root.
    fn quotas(&self) -> Vec<(u64, u64, String)> {
        cpu_quotas(&self.0)
            .into_iter()
            .map(|quota| {
                let file = quota.file.strip_prefix(&self.0.0).unwrap();
                let file = file.to_str().unwrap().to_owned();
                (quota.quota_us, quota.period_us, file)
            })
            .collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.0);
    }
}

const V2_MOUNT: &str = "31 23 0:28 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";

#[test]
fn version_2_in_a_private_namespace() {
    let tree = Tree::new("v2-private", "0::/\n", V2_MOUNT)
        .with("sys/fs/cgroup/cpu.max", "150000 100000\n")
        .with("sys/fs/cgroup/memory.max", "268435456\n")
        .with(
            "sys/fs/cgroup/memory.events",
            "low 0\noom 3\noom_kill 2\noom_group_kill 1\n",
        )
        .with("sys/fs/cgroup/pids.max", "100\n")
        .with("sys/fs/cgroup/pids.current", "12\n");
    let expected = (150_000, 100_000, "sys/fs/cgroup/cpu.max".to_owned());
    assert_eq!(tree.quotas(), [expected]);
    let memory = memory_limit(&tree.0).unwrap();
    assert_eq!(memory, (268_435_456, tree.path("sys/fs/cgroup/memory.max")));
    assert_eq!(oom_kills(&tree.0), Some(2));
    assert_eq!(pids_limit(&tree.0), Some((12, 100)));
}

#[test]
fn version_2_in_the_hosts_namespace_has_ancestors() {
    let tree = Tree::new("v2-host", "0::/pod/web/worker\n", V2_MOUNT)
        .with("sys/fs/cgroup/pod/cpu.max", "400000 100000\n")
        .with("sys/fs/cgroup/pod/web/cpu.max", "max 100000\n")
        .with("sys/fs/cgroup/pod/web/worker/cpu.max", "50000 20000\n")
        .with("sys/fs/cgroup/pod/memory.max", "1000\n")
        .with("sys/fs/cgroup/pod/web/memory.max", "max\n")
        .with("sys/fs/cgroup/other/cpu.max", "1 1\n");
    let own = "sys/fs/cgroup/pod/web/worker/cpu.max";
    let pod = "sys/fs/cgroup/pod/cpu.max";
    let expected = [
        (50_000, 20_000, own.to_owned()),
        (400_000, 100_000, pod.to_owned()),
    ];
    assert_eq!(tree.quotas(), expected);
    assert_eq!(memory_limit(&tree.0).unwrap().0, 1000);
}

#[test]
fn version_1_with_the_mounts_root_in_the_path() {
    let mounts = "\
        40 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
        41 31 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
        42 31 0:31 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n";
    let own = "4:cpuset:/docker/abc\n3:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n";
    let tree = Tree::new("v1", own, mounts)
        .with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n")
        .with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        .with(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        )
        .with(
            "sys/fs/cgroup/memory/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
        );
    let file = "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us".to_owned();
    assert_eq!(tree.quotas(), [(250_000, 100_000, file)]);
    assert_eq!(memory_limit(&tree.0), None);
    assert_eq!(oom_kills(&tree.0), Some(5));
    let tree = tree.with("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    assert_eq!(tree.quotas(), []);
}

#[test]
fn version_1_beside_an_empty_version_2() {
    let mounts = "\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let own = "4:memory:/box/one\n1:cpu:/\n0::/\n";
    let tree = Tree::new("hybrid", own, mounts)
        .with("sys/fs/cgroup/unified/cgroup.procs", "")
        .with("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
        .with("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
        .with("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "5000\n")
        .with(
            "sys/fs/cgroup/memory/box/one/memory.limit_in_bytes",
            "6000\n",
        );
    let file = "sys/fs/cgroup/cpu/cpu.cfs_quota_us".to_owned();
    assert_eq!(tree.quotas(), [(200_000, 100_000, file)]);
    let limit = tree.path("sys/fs/cgroup/memory/box/memory.limit_in_bytes");
    assert_eq!(memory_limit(&tree.0), Some((5000, limit)));
    assert_eq!(oom_kills(&tree.0), None);
    assert_eq!(pids_limit(&tree.0), None);
}

#[test]
fn the_files_that_the_cpus_follow_are_those_of_all_groups() {
    let mounts = "30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                  31 23 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                  32 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
    let own = "2:cpu:/box\n1:cpuset:/box\n0::/box\n";
    let files = [
        "unified/box/cpu.max",
        "unified/box/cpuset.cpus",
        "cpu/box/cpu.cfs_quota_us",
        "cpu/cpu.cfs_quota_us",
        "cpu/box/cpu.cfs_period_us",
        "cpuset/box/cpuset.cpus",
        "cpuset/cpuset.cpus",
    ];
    let files = files.map(|file| format!("sys/fs/cgroup/{file}"));
    let tree = Tree::new("cpu-files", own, mounts);
    let tree = files.iter().fold(tree, |tree, file| tree.with(file, ""));
    let expected = files.map(|file| tree.path(&file));
    assert_eq!(cpu_files(&tree.0), expected);
    assert_eq!(
        cpu_files(&Root(PathBuf::from("/nonexistent"))),
        [""; 0].map(PathBuf::from)
    );
}

#[test]
fn a_mount_from_above_the_namespace() {
    let mounts = "31 23 0:28 /.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    // This process is in a sibling of its namespace's root.
    let tree = Tree::new("above", "0::/../sibling\n", mounts)
        .with("sys/fs/cgroup/cpu.max", "300000 100000\n")
        .with("sys/fs/cgroup/sibling/cpu.max", "100000 100000\n");
    assert_eq!(tree.quotas().len(), 2);
    // Its root's own name is not to be known from inside: what is above it is.
    let tree = tree.with("proc/self/cgroup", "0::/\n");
    assert_eq!(tree.quotas().len(), 1);
}

#[test]
fn a_sibling_of_what_is_mounted_is_not_seen() {
    let tree = Tree::new("beside", "0::/../sibling\n", V2_MOUNT)
        .with("sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_eq!(tree.quotas(), []);
}

#[test]
fn a_mount_that_shows_less_than_the_path_promises() {
    let tree = Tree::new("less", "0::/kubepods/pod/container\n", V2_MOUNT)
        .with("sys/fs/cgroup/cpu.max", "300000 100000\n");
    assert_eq!(tree.quotas().len(), 1);
}

#[test]
fn nothing_there_is_no_limit() {
    let root = Root(PathBuf::from("/nonexistent"));
    assert_eq!(cpu_quotas(&root), []);
    assert_eq!(memory_limit(&root), None);
    assert_eq!(oom_kills(&root), None);
    assert_eq!(pids_limit(&root), None);
    let tree = Tree::new("broken", "nonsense\n0::\n", "a b\n - \n1 2 3 / - cgroup2\n");
    assert_eq!(cpu_quotas(&tree.0), []);
}

#[test]
fn nonsense_in_a_file_is_no_limit() {
    for text in [
        "",
        "\n",
        "max",
        "100000",
        "-5 100000",
        "0 100000",
        "100000 0",
        "x y",
    ] {
        let tree = Tree::new("nonsense", "0::/\n", V2_MOUNT).with("sys/fs/cgroup/cpu.max", text);
        assert_eq!(tree.quotas(), [], "{text:?}");
    }
}

#[test]
fn this_machine_can_be_asked() {
    let root = Root::system();
    for quota in cpu_quotas(&root) {
        assert!(quota.period_us > 0 && quota.file.is_file());
    }
    let _ = (memory_limit(&root), oom_kills(&root), pids_limit(&root));
}
