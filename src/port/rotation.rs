//! Connection by connection: which lane is next while they come slowly, and
//! which lanes' queues stand still.

use std::time::Duration;

use super::LaneId;
use crate::supervisor::Time;
use crate::table::Table;

/// Whether clinit can be told of each connection as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arrivals {
    /// It is, where it asks for that.
    Told,
    /// It never is.
    Untold,
}

/// The time that one connection takes at the greatest pace at which they are
/// given out one by one: 100 a second. Above, choosing costs more than it
/// brings.
const PACE: Duration = Duration::from_millis(10);

/// How far ahead of that pace they may come: so many at once.
const BURST: Duration = Duration::from_millis(40);

/// How long they are given out at random before the pace is looked at again;
/// and how long none may come before all take part again, since what comes
/// after a pause may be a burst.
const REST: Duration = Duration::from_secs(1);

/// How long a queue may stand still while others move before its worker
/// counts as stuck.
const STANDSTILL: Duration = Duration::from_millis(250);

/// Whether a lane's queue moves, as far as has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flow {
    /// It was empty, or shorter than before.
    Moving,
    /// Nobody has taken from it: it counts as stuck at `stuck_at`.
    Still { stuck_at: Time, length: u32 },
    /// It is stuck, although its worker was seen to have it.
    Held { length: u32 },
}

impl Flow {
    /// What it is, now that the queue is this long.
    pub(super) fn after(self, length: u32, now: Time) -> Self {
        match self {
            _ if length == 0 => Self::Moving,
            Self::Still { length: before, .. } | Self::Held { length: before }
                if length < before =>
            {
                Self::Moving
            }
            Self::Still { stuck_at, .. } => Self::Still { stuck_at, length },
            Self::Held { .. } => Self::Held { length },
            Self::Moving => Self::Still {
                stuck_at: now + STANDSTILL,
                length,
            },
        }
    }

    pub(super) fn is_stuck(self, now: Time) -> bool {
        match self {
            Self::Moving => false,
            Self::Still { stuck_at, .. } => stuck_at <= now,
            Self::Held { .. } => true,
        }
    }
}

/// How long after a connection another one may be of the same burst.
const SAME_BURST: Duration = Duration::from_millis(2);

/// How a listener's connections are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pace {
    /// At random; the next arrival is told.
    Resting,
    /// At random, for the one that has just come may be the first of a burst,
    /// which is over before clinit hears of it. Each arrival is told.
    Settling {
        /// When the next one would come at the greatest pace.
        next_at: Time,
        /// When it was none of a burst.
        slow_at: Time,
    },
    /// One by one: each arrival is told, and the next goes to a lane that was
    /// given fewest.
    Slow {
        /// As above.
        next_at: Time,
        /// When none has come for a while.
        rest_at: Time,
    },
    /// At random, and no arrival is told.
    Fast { until: Time },
}

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rotation {
    pace: Pace,
    /// How many connections each lane that takes part has been given, more
    /// than the one that was given fewest.
    given: Table<LaneId, u32>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            pace: Pace::Resting,
            given: Table::new(),
        }
    }
}

impl Rotation {
    /// Whether connections are given out one by one.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.pace, Pace::Slow { .. })
    }

    pub(super) fn is_fast(&self) -> bool {
        matches!(self.pace, Pace::Fast { .. })
    }

    /// Whether each arrival matters: the next connection is for another lane.
    pub(super) fn takes_turns(&self) -> bool {
        !self.is_fast() && self.given.len() > 1
    }

    /// When to look at the pace again. Where all were given as many it makes
    /// no difference.
    pub(super) fn until(&self) -> Option<Time> {
        match self.pace {
            Pace::Settling { slow_at: due, .. } | Pace::Slow { rest_at: due, .. } => {
                let uneven = self.given.values().any(|given| *given > 0);
                uneven.then_some(due)
            }
            Pace::Resting => None,
            Pace::Fast { until } => Some(until),
        }
    }

    /// Takes in that a connection has arrived at a lane.
    pub(super) fn arrived(&mut self, lane: LaneId, now: Time) {
        let next_at = match self.pace {
            Pace::Fast { .. } => return,
            Pace::Resting => now,
            Pace::Settling { next_at, .. } | Pace::Slow { next_at, .. } => next_at.max(now),
        } + PACE;
        if next_at.since(now) > BURST {
            self.pace = Pace::Fast { until: now + REST };
            self.given.clear();
            return;
        }
        let slow_at = now + SAME_BURST;
        self.pace = Pace::Settling { next_at, slow_at };
        if let Some(given) = self.given.get_mut(&lane) {
            *given = given.saturating_add(1);
        }
    }

    /// Goes on to the pace that is due.
    pub(super) fn look(&mut self, now: Time) {
        match self.pace {
            Pace::Settling { next_at, slow_at } if slow_at <= now => {
                let rest_at = now + REST;
                self.pace = Pace::Slow { next_at, rest_at };
            }
            Pace::Slow { rest_at: due, .. } | Pace::Fast { until: due } if due <= now => {
                self.pace = Pace::Resting;
            }
            Pace::Resting | Pace::Settling { .. } | Pace::Slow { .. } | Pace::Fast { .. } => {}
        }
    }

    /// The lanes that the next connection is for: of those that take part, the
    /// ones that were given fewest. One that is new among them starts where
    /// the others are: were it to catch up, it would be given everything.
    ///
    /// All of them, and not one after the other: a burst would all be for that
    /// one.
    pub(super) fn turn(&mut self, lanes: &[LaneId]) -> Vec<LaneId> {
        self.given.retain(|lane, _| lanes.contains(lane));
        let fewest = self.given.values().min().copied().unwrap_or(0);
        for given in self.given.values_mut() {
            *given -= fewest;
        }
        for lane in lanes {
            self.given.insert_if_new(*lane, 0);
        }
        let due = lanes.iter().filter(|lane| self.given.get(lane) == Some(&0));
        due.copied().collect()
    }

    pub(super) fn forget(&mut self, lane: LaneId) {
        self.given.remove(&lane);
    }

    /// How many connections a lane has been given, for the explorer.
    #[cfg(test)]
    pub(super) fn given_to(&self, lane: LaneId) -> u32 {
        self.given.get(&lane).copied().unwrap_or(0)
    }

    /// Gives the lanes other names, for the explorer.
    #[cfg(test)]
    pub(super) fn renumber(&mut self, names: &Table<LaneId, LaneId>) {
        let given = std::mem::take(&mut self.given).into_iter();
        self.given = given
            .filter_map(|(lane, given)| Some((*names.get(&lane)?, given)))
            .collect();
    }

    /// Rounds what has too many values, for the explorer: whoever is behind,
    /// by however much, has the next turn.
    #[cfg(test)]
    pub(super) fn round(&mut self, now: Time) {
        if let Pace::Settling { next_at, .. } | Pace::Slow { next_at, .. } = &mut self.pace
            && *next_at > now
        {
            *next_at = now + BURST;
        }
        self.given
            .values_mut()
            .for_each(|given| *given = (*given).min(1));
    }

    /// Moves every instant back, for the explorer.
    #[cfg(test)]
    pub(super) fn shift(&mut self, shift: impl Fn(&mut Time)) {
        match &mut self.pace {
            Pace::Resting => {}
            Pace::Settling {
                next_at,
                slow_at: due,
            }
            | Pace::Slow {
                next_at,
                rest_at: due,
            } => {
                shift(next_at);
                shift(due);
            }
            Pace::Fast { until } => shift(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000 + ms)
    }

    /// A lane of those that take part: the kernel draws lots.
    fn drawn(rotation: &mut Rotation, lanes: &[LaneId], lot: u64) -> usize {
        let due = rotation.turn(lanes);
        let due = if rotation.is_slow() { &due } else { lanes };
        let drawn = due[usize::try_from(lot).unwrap() % due.len()];
        lanes.iter().position(|known| *known == drawn).unwrap()
    }

    /// Gives out connections that come `gap` ms apart and returns who got how
    /// many, until the pace is too great.
    fn give_out(rotation: &mut Rotation, lanes: &[LaneId], count: u64, gap: u64) -> Vec<u32> {
        let mut got = vec![0; lanes.len()];
        for number in 0..count {
            rotation.look(at(number * gap));
            let drawn = drawn(rotation, lanes, number * number);
            got[drawn] += 1;
            rotation.arrived(lanes[drawn], at(number * gap));
            if rotation.is_fast() {
                break;
            }
        }
        got
    }

    #[test]
    fn slow_connections_spread_evenly() {
        let lanes = [3, 0, 2, 1].map(LaneId);
        let got = give_out(&mut Rotation::default(), &lanes, 64, 20);
        assert_eq!(got, [16; 4]);
    }

    #[test]
    fn a_late_word_is_made_up_for() {
        let lanes = [0, 1, 2, 3].map(LaneId);
        let mut rotation = Rotation::default();
        let mut got = [0_u32; 4];
        for number in 0..64 {
            rotation.look(at(number * 40));
            let drawn = drawn(&mut rotation, &lanes, number);
            // Each fourth time two come before clinit is told of the first.
            let together = if number % 4 == 0 { 2 } else { 1 };
            for _ in 0..together {
                got[drawn] += 1;
                rotation.arrived(lanes[drawn], at(number * 40));
            }
        }
        assert_eq!(got, [20; 4]);
    }

    #[test]
    fn a_lane_that_is_new_gets_no_more_than_its_share() {
        let mut rotation = Rotation::default();
        let _ = give_out(&mut rotation, &[0, 1].map(LaneId), 101, 20);
        let lanes = [0, 1, 2].map(LaneId);
        let mut got = [0_u32; 3];
        for number in 0..30 {
            rotation.look(at(10_000 + number * 20));
            let drawn = drawn(&mut rotation, &lanes, number);
            got[drawn] += 1;
            rotation.arrived(lanes[drawn], at(10_000 + number * 20));
        }
        assert!(got.iter().all(|&got| (9..=11).contains(&got)), "{got:?}");
    }

    #[test]
    fn a_burst_is_for_all_and_given_out_at_random_for_a_while() {
        let lanes = [0, 1].map(LaneId);
        let mut rotation = Rotation::default();
        let _ = give_out(&mut rotation, &lanes, 64, 20);
        assert_eq!(rotation.turn(&lanes), lanes, "they are even");
        let mut rotation = Rotation::default();
        let got: u32 = give_out(&mut rotation, &lanes, 64, 0).iter().sum();
        assert_eq!(got, 5, "four at once, and the fifth is one too many");
        assert_eq!(rotation.until(), Some(at(1000)));
        rotation.look(at(999));
        assert!(rotation.is_fast() && !rotation.takes_turns());
        rotation.look(at(1000));
        let _ = rotation.turn(&lanes);
        assert!(!rotation.is_fast() && rotation.takes_turns());
    }

    #[test]
    fn after_a_pause_all_take_part_and_what_they_had_is_not_forgotten() {
        let lanes = [0, 1].map(LaneId);
        let mut rotation = Rotation::default();
        assert_eq!(rotation.until(), None, "nobody is woken for nothing");
        let first = drawn(&mut rotation, &lanes, 0);
        rotation.arrived(lanes[first], at(0));
        assert!(!rotation.is_slow(), "it may be the first of many");
        let _ = rotation.turn(&lanes);
        assert_eq!(rotation.until(), Some(at(2)));
        rotation.look(at(2));
        assert!(rotation.is_slow());
        assert_eq!(rotation.turn(&lanes), [lanes[1 - first]]);
        assert_eq!(rotation.until(), Some(at(1002)));
        rotation.look(at(1002));
        assert!(!rotation.is_slow() && rotation.takes_turns());
        assert_eq!(rotation.until(), None);
        // The next one makes it even, or does not: then it is made up for.
        rotation.arrived(lanes[first], at(5000));
        rotation.look(at(5002));
        assert_eq!(rotation.turn(&lanes), [lanes[1 - first]]);
        rotation.arrived(lanes[1 - first], at(6000));
        rotation.look(at(6002));
        rotation.arrived(lanes[1 - first], at(7000));
        let _ = rotation.turn(&lanes);
        assert_eq!(rotation.until(), None, "they are even: nobody is woken");
    }

    #[test]
    fn a_queue_that_nobody_takes_from_is_stuck_after_a_while() {
        let flow = Flow::Moving.after(1, at(0));
        assert!(!flow.is_stuck(at(249)));
        assert!(flow.is_stuck(at(250)));
        assert!(flow.after(7, at(100)).is_stuck(at(250)), "it only grew");
        assert_eq!(flow.after(7, at(1)).after(6, at(2)), Flow::Moving);
        assert_eq!(flow.after(0, at(300)), Flow::Moving);
    }
}
