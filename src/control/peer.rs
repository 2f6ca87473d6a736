//! Who may talk: to clinit, and to whom as to clinit.

/// Checks the other end of the socket by what the kernel says of it
/// (`SO_PEERCRED` in unix(7)). An abstract socket has no owner and no mode,
/// so either end has to look.
///
/// # Errors
///
/// Why it is a stranger.
pub fn check_peer(pid: i32, uid: u32, own_uid: u32) -> Result<(), &'static str> {
    if pid <= 0 {
        // With the host's network the abstract namespace is everybody's, and
        // user 0 of another container is nobody to this one.
        return Err("it is in another pid namespace");
    }
    if uid != 0 && uid != own_uid {
        return Err("it is another user's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_where_they_can_be_seen() {
        for (pid, uid, own, trusted) in [
            (1, 0, 0, true),
            (7, 0, 1000, true),
            (7, 1000, 1000, true),
            (7, 1001, 1000, false),
            (7, 65534, 0, false),
            // Another container with the host's network.
            (0, 0, 0, false),
            (0, 1000, 1000, false),
            (-1, 0, 0, false),
        ] {
            assert_eq!(
                check_peer(pid, uid, own).is_ok(),
                trusted,
                "{pid} {uid} {own}"
            );
        }
    }
}
