//! Where this process's control groups are in the file system.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::Root;

/// A tree of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy<'a> {
    /// Version 2's only one.
    Unified,
    /// Version 1's for a controller.
    Controller(&'a str),
}

/// The directories of this process's group and its visible ancestors, the
/// group first. Empty where the hierarchy is not mounted, or the mount does
/// not show the group.
pub(super) fn groups(root: &Root, hierarchy: Hierarchy<'_>) -> Vec<PathBuf> {
    find(root, hierarchy).unwrap_or_default()
}

fn find(root: &Root, hierarchy: Hierarchy<'_>) -> Option<Vec<PathBuf>> {
    let own = fs::read_to_string(root.0.join("proc/self/cgroup")).ok()?;
    let own = own.lines().find_map(|line| hierarchy.path_in(line))?;
    let mounts = fs::read_to_string(root.0.join("proc/self/mountinfo")).ok()?;
    let mut mounts = mounts.lines().filter_map(|line| hierarchy.mount_in(line));
    mounts.find_map(|mount| mount.groups_of(&root.0, own))
}

impl Hierarchy<'_> {
    /// The group's path, from a line of `/proc/self/cgroup`:
    /// `4:cpu,cpuacct:/path`, in version 2 `0::/path`.
    fn path_in<'line>(&self, line: &'line str) -> Option<&'line Path> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match self {
            Self::Unified => id == "0" && controllers.is_empty(),
            Self::Controller(name) => controllers.split(',').any(|each| each == *name),
        };
        matches.then_some(Path::new(path))
    }

    /// The mount, from a line of `/proc/self/mountinfo`:
    /// `32 31 0:29 /root /mount/point rw - cgroup source rw,cpu`.
    fn mount_in(&self, line: &str) -> Option<Mount> {
        let mut fields = line.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // Fields that may be there end with a hyphen.
        fields.find(|field| *field == "-")?;
        let (file_system, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match self {
            Self::Unified => file_system == "cgroup2",
            Self::Controller(name) => {
                file_system == "cgroup" && options.split(',').any(|each| each == *name)
            }
        };
        matches.then(|| Mount {
            root: unescape(root),
            point: unescape(point),
        })
    }
}

/// A mount of a hierarchy.
struct Mount {
    /// The group that is seen at the mount point. Above the root of this
    /// process's cgroup namespace it is `/..`, `/../..` and so on, as is the
    /// path of a group there.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// The directories of the group with this path and of its ancestors, up
    /// to the mount point.
    fn groups_of(&self, file_system: &Path, group: &Path) -> Option<Vec<PathBuf>> {
        let point = file_system.join(self.point.strip_prefix("/").ok()?);
        let own = match group.strip_prefix(&self.root) {
            Ok(below) if below.components().any(is_upwards) => return None,
            Ok(below) => point.join(below),
            // The names between an ancestor and the namespace's root are not
            // to be known from inside. The ancestor itself binds.
            Err(_) if self.root.components().skip(1).all(is_upwards) => point.clone(),
            // Beside what is mounted.
            Err(_) => return None,
        };
        // A mount may show less than the path promises, such as the group of
        // the container alone: then begin with what there is.
        let mut groups = Vec::new();
        for directory in own.ancestors() {
            if !directory.starts_with(&point) {
                break;
            }
            if directory.is_dir() {
                groups.push(directory.to_owned());
            }
        }
        Some(groups)
    }
}

fn is_upwards(part: Component<'_>) -> bool {
    part == Component::ParentDir
}

/// mountinfo writes a space as `\040`, and so tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('\\');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let code = part.get(..3).map(|digits| u32::from_str_radix(digits, 8));
        let code = code.and_then(|code| u8::try_from(code.ok()?).ok());
        if let (Some(byte), Some(rest)) = (code, part.get(3..)) {
            bytes.push(byte);
            bytes.extend_from_slice(rest.as_bytes());
        } else {
            bytes.push(b'\\');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/plain"), Path::new("/plain"));
        assert_eq!(unescape(r"/a\040b\134"), Path::new("/a b\\"));
        assert_eq!(unescape(r"/a\9"), Path::new(r"/a\9"));
    }

    #[test]
    fn a_controller_is_found_among_others() {
        let cpu = Hierarchy::Controller("cpu");
        let path = |line| cpu.path_in(line);
        assert_eq!(path("4:cpu,cpuacct:/a:b"), Some(Path::new("/a:b")));
        assert_eq!(path("4:cpuacct,cpu:/a"), Some(Path::new("/a")));
        assert_eq!(path("4:cpuacct:/a"), None);
        assert_eq!(path("4:cpuset:/a"), None);
        assert_eq!(path("1:name=cpu:/a"), None);
        assert_eq!(path("0::/a"), None);
        assert_eq!(path(""), None);
        let path = |line| Hierarchy::Unified.path_in(line);
        assert_eq!(path("0::/a"), Some(Path::new("/a")));
        assert_eq!(path("1:name=systemd:/a"), None);
    }

    #[test]
    fn optional_fields_of_a_mount_are_skipped() {
        let line =
            "32 31 0:29 /a /sys/fs/cgroup/cpu rw shared:9 master:1 - cgroup x rw,cpu,cpuacct";
        let mount = Hierarchy::Controller("cpu").mount_in(line).unwrap();
        assert_eq!(mount.root, Path::new("/a"));
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/cpu"));
        assert!(Hierarchy::Controller("cpuset").mount_in(line).is_none());
        assert!(Hierarchy::Unified.mount_in(line).is_none());
    }
}
