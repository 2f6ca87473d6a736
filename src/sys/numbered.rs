//! Directories whose entries are numbers: processes, and descriptors
//! (`proc(5)`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The numbers among the names of a directory's entries, in no order. What
/// cannot be read any more is left out.
///
/// # Errors
///
/// Those of `open(2)`.
pub(super) fn numbers_in(directory: &Path) -> io::Result<Vec<i32>> {
    let directory = File::open(directory)?;
    let mut numbers = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the kernel writes into the buffer, and knows its length.
        let read = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                directory.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let entries = usize::try_from(read)
            .ok()
            .and_then(|read| buffer.get(..read));
        let mut entries = entries.unwrap_or_default();
        if entries.is_empty() {
            return Ok(numbers);
        }
        while let Some((name, rest)) = first_name(entries) {
            numbers.extend(
                str::from_utf8(name)
                    .ok()
                    .and_then(|name| name.parse::<i32>().ok()),
            );
            entries = rest;
        }
    }
}

/// The name of the first of some entries, and the entries after it: `struct
/// linux_dirent64` of `getdents64(2)`.
fn first_name(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let length = u16::from_ne_bytes([*entries.get(LENGTH)?, *entries.get(LENGTH + 1)?]);
    let (entry, rest) = entries.split_at_checked(length.into())?;
    let name = entry.get(NAME..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    Some((name.get(..end)?, rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::fd::RawFd;

    use super::*;

    #[test]
    fn all_numbers_are_found_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("clinit-numbered-{}", std::process::id()));
        // An earlier process of this pid may have been killed before it cleared up.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        // More than one buffer of them.
        for name in 0..1000 {
            fs::write(path.join(name.to_string()), "").unwrap();
        }
        for name in ["x", "1x", "99999999999"] {
            fs::write(path.join(name), "").unwrap();
        }
        let numbers = numbers_in(&path);
        fs::remove_dir_all(&path).unwrap();
        let numbers = numbers.unwrap();
        assert_eq!(numbers.len(), 1000);
        assert!(
            numbers
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .eq(0..1000)
        );
        assert_eq!(
            numbers_in(&path).unwrap_err().raw_os_error(),
            Some(libc::ENOENT)
        );
    }

    #[test]
    fn what_is_no_directory_has_none() {
        assert!(numbers_in(Path::new("/proc/self/stat")).unwrap().is_empty());
    }

    #[test]
    fn an_entry_that_is_cut_off_is_none() {
        let mut entry = [0_u8; 24];
        entry[16..18].copy_from_slice(&24_u16.to_ne_bytes());
        entry[19..21].copy_from_slice(b"42");
        assert_eq!(first_name(&entry), Some((&b"42"[..], &b""[..])));
        for length in 0..24 {
            assert_eq!(first_name(&entry[..length]), None);
            let mut shorter = entry;
            shorter[16..18].copy_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
            let read = first_name(&shorter);
            assert_eq!(read.is_some(), length > 21, "{length}");
        }
    }

    #[test]
    fn an_open_descriptor_is_among_the_own() {
        let open = File::open("/proc/self").unwrap();
        let number: RawFd = open.as_raw_fd();
        assert!(
            numbers_in(Path::new("/proc/self/fd"))
                .unwrap()
                .contains(&number)
        );
    }
}
