//! The program that chooses a lane for each new connection: classic BPF, whose
//! value is the lane's index in the kernel's group (`SO_ATTACH_REUSEPORT_CBPF`
//! of `socket(7)`).

use std::fmt;

/// One instruction: `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many instructions are skipped where a comparison holds.
    pub jump_true: u8,
    /// How many where it does not.
    pub jump_false: u8,
    /// The constant.
    pub constant: u32,
}

// linux/bpf_common.h.
const LOAD_WORD_ABSOLUTE: u16 = 0x20;
const ADD_CONSTANT: u16 = 0x04;
const MODULO_CONSTANT: u16 = 0x94;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;

/// Where a load finds a random number: `SKF_AD_OFF + SKF_AD_RANDOM` of
/// linux/filter.h.
const RANDOM: u32 = (-0x1000_i32 + 56).cast_unsigned();

/// Where new connections go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// All to the lane of this index.
    Pinned(u32),
    /// To one of these at random, each as likely as another. Ascending, and
    /// at least one.
    Random(Vec<u32>),
}

impl fmt::Display for Program {
    /// As it would be derived for `Debug`, which takes 1,000 bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indices = match self {
            Self::Pinned(index) => return write!(f, "Pinned({index})"),
            Self::Random(indices) => indices,
        };
        f.write_str("Random([")?;
        let mut separator = "";
        for index in indices {
            write!(f, "{separator}{index}")?;
            separator = ", ";
        }
        f.write_str("])")
    }
}

impl Program {
    /// The instructions. Neighbours are one range, which costs three
    /// instructions, however many they are.
    #[must_use]
    pub fn instructions(&self) -> Vec<Instruction> {
        let indices = match self {
            Self::Pinned(index) => return vec![plain(RETURN_CONSTANT, *index)],
            Self::Random(indices) => indices,
        };
        let count = u32::try_from(indices.len()).unwrap_or(u32::MAX).max(1);
        let ranges = ranges(indices);
        let mut instructions = vec![
            plain(LOAD_WORD_ABSOLUTE, RANDOM),
            plain(MODULO_CONSTANT, count),
        ];
        let mut before = 0;
        for (position, (first, length)) in ranges.iter().enumerate() {
            if position + 1 < ranges.len() {
                instructions.push(Instruction {
                    code: JUMP_GREATER_OR_EQUAL,
                    // Past this range's own two.
                    jump_true: 2,
                    jump_false: 0,
                    constant: before + length,
                });
            }
            instructions.push(plain(ADD_CONSTANT, first.wrapping_sub(before)));
            instructions.push(plain(RETURN_ACCUMULATOR, 0));
            before += length;
        }
        instructions
    }
}

fn plain(code: u16, constant: u32) -> Instruction {
    Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        constant,
    }
}

/// Ascending numbers as ranges: the first, and how many.
fn ranges(indices: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &index in indices {
        match ranges.last_mut() {
            Some((first, length)) if *first + *length == index => *length += 1,
            Some(_) | None => ranges.push((index, 1)),
        }
    }
    ranges
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the kernel would make of a program, given this random number.
    pub(in crate::port) fn run(instructions: &[Instruction], random: u32) -> u32 {
        let mut accumulator = 0_u32;
        let mut next = 0;
        loop {
            let Instruction {
                code,
                jump_true,
                jump_false,
                constant,
            } = instructions[next];
            next += 1;
            match code {
                LOAD_WORD_ABSOLUTE => {
                    assert_eq!(constant, RANDOM);
                    accumulator = random;
                }
                MODULO_CONSTANT => accumulator %= constant,
                ADD_CONSTANT => accumulator = accumulator.wrapping_add(constant),
                JUMP_GREATER_OR_EQUAL => {
                    let holds = accumulator >= constant;
                    next += usize::from(if holds { jump_true } else { jump_false });
                }
                RETURN_CONSTANT => return constant,
                RETURN_ACCUMULATOR => return accumulator,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    #[test]
    fn it_reads_as_if_derived() {
        for program in [
            Program::Pinned(7),
            Program::Random(vec![3]),
            Program::Random(vec![0, 2, 3]),
        ] {
            assert_eq!(program.to_string(), format!("{program:?}"));
        }
    }

    #[test]
    fn every_set_of_lanes_is_drawn_from_evenly_and_no_other_lane() {
        for set in 1_u32..512 {
            let indices: Vec<u32> = (0..9).filter(|bit| set & (1 << bit) != 0).collect();
            let instructions = Program::Random(indices.clone()).instructions();
            let count = u32::try_from(indices.len()).unwrap();
            let mut drawn: BTreeMap<u32, u32> = BTreeMap::new();
            for random in 0..count * 3 {
                *drawn.entry(run(&instructions, random)).or_default() += 1;
            }
            let expected = indices.into_iter().map(|index| (index, 3)).collect();
            assert_eq!(drawn, expected, "{set:b}");
        }
    }

    #[test]
    fn a_pinned_lane_gets_all() {
        for random in [0, 1, u32::MAX] {
            assert_eq!(run(&Program::Pinned(7).instructions(), random), 7);
        }
    }

    #[test]
    fn neighbours_cost_no_more_than_one_and_the_worst_case_fits_the_kernel() {
        let all: Vec<u32> = (0..512).collect();
        assert_eq!(Program::Random(all).instructions().len(), 4);
        let every_other: Vec<u32> = (0..512).step_by(2).collect();
        // BPF_MAXINSNS of linux/bpf_common.h.
        assert!(Program::Random(every_other).instructions().len() <= 4096);
    }
}
