//! Whether a server owes the client of a connection an answer, as far as that
//! shows in what has come and gone.
//!
//! What came after what went out last is a question. But the kernel tells time
//! in ticks of up to 10 ms, in which a quick server has read a question and
//! answered it, or answered one and been asked the next. And a client that has
//! just connected, or has just been sent its part of a TLS handshake, is about
//! to say something. All of these count as owed, for a moment; a connection on
//! which nothing happens for longer is idle, and keeps nobody.

use std::time::Duration;

use crate::sys::diag::Connection;

/// How long a client may take to say its first word, and a server to answer
/// what came in the tick in which its last answer went out.
const MOMENT: Duration = Duration::from_secs(1);

/// The most that is allowed for a client's next word, however far away it is.
const MOST_FOR_REPLY: Duration = Duration::from_millis(500);

/// Whether the server owes its client something.
pub(super) fn owes(connection: &Connection) -> bool {
    let Connection {
        unread,
        unsent,
        quiet_in,
        quiet_out,
        round_trip,
        has_received,
        has_sent,
        ..
    } = *connection;
    if unread > 0 || unsent > 0 {
        return true;
    }
    match (has_received, has_sent) {
        (false, false) => quiet_in < MOMENT,
        // A server that speaks first has spoken.
        (false, true) => false,
        (true, false) => true,
        (true, true) if quiet_in == quiet_out => quiet_in < MOMENT,
        (true, true) => {
            let reply = (round_trip * 2).min(MOST_FOR_REPLY);
            quiet_in < quiet_out || quiet_out < reply
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::diag::Handshake;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A connection on which something last came and last went out so long ago.
    fn after(quiet_in: u64, quiet_out: u64) -> Connection {
        Connection {
            id: Handshake::default(),
            inode: 1,
            unread: 0,
            unsent: 0,
            quiet_in: ms(quiet_in),
            quiet_out: ms(quiet_out),
            round_trip: ms(20),
            has_received: true,
            has_sent: true,
        }
    }

    #[test]
    fn a_question_is_owed_an_answer_until_that_has_gone_out() {
        assert!(
            owes(&after(300, 5000)),
            "it was asked later than it answered"
        );
        assert!(!owes(&after(5000, 300)));
        for (unread, unsent) in [(1, 0), (0, 1)] {
            let unfinished = Connection {
                unread,
                unsent,
                ..after(5000, 300)
            };
            assert!(owes(&unfinished));
        }
        let first = Connection {
            has_sent: false,
            ..after(60_000, 60_000)
        };
        assert!(owes(&first), "its first question");
    }

    #[test]
    fn an_idle_connection_is_owed_nothing() {
        for idle in [after(60_000, 59_999), after(60_000, 60_000)] {
            assert!(!owes(&idle));
        }
        let silent = Connection {
            has_received: false,
            has_sent: false,
            ..after(60_000, 60_000)
        };
        assert!(!owes(&silent));
        let greeted = Connection {
            has_received: false,
            ..after(100, 90)
        };
        assert!(!owes(&greeted));
    }

    #[test]
    fn what_cannot_be_told_is_owed_for_a_moment() {
        assert!(owes(&after(999, 999)), "in one tick");
        assert!(!owes(&after(1000, 1000)));
        let new = |quiet| Connection {
            has_received: false,
            has_sent: false,
            ..after(quiet, quiet)
        };
        assert!(owes(&new(999)), "just connected");
        assert!(!owes(&new(1000)));
    }

    #[test]
    fn a_client_has_two_round_trips_for_its_next_word() {
        assert!(owes(&after(50, 39)));
        assert!(!owes(&after(50, 40)));
        let far = |quiet_out| Connection {
            round_trip: ms(3000),
            ..after(600, quiet_out)
        };
        assert!(owes(&far(499)) && !owes(&far(500)));
    }
}
