//! Lines out of what comes in pieces.

use super::LONGEST_REQUEST;

/// A line had more bytes than a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What has come of a line that may have no end yet.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes in what has come. Callers give it no more before
    /// [`Self::take_line`] has no line left.
    pub fn take_in(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// How many bytes wait to be read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.len()
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    ///
    /// Where it is too long, if only so far.
    pub fn take_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let end = self.0.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) if end <= LONGEST_REQUEST => {
                let rest = self.0.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.0, rest);
                line.truncate(end);
                Ok(Some(line))
            }
            None if self.0.len() <= LONGEST_REQUEST => Ok(None),
            Some(_) | None => Err(TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"one\n\ntwo\nhalf";
        for size in 1..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.chunks(size) {
                lines.take_in(piece);
                while let Some(line) = lines.take_line().unwrap() {
                    found.push(line);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", b"two"], "{size}");
        }
    }

    #[test]
    fn a_line_has_an_end_before_it_is_too_long() {
        let mut lines = Lines::default();
        lines.take_in(&[b'x'; LONGEST_REQUEST]);
        assert_eq!(lines.take_line(), Ok(None));
        lines.take_in(b"\n");
        assert_eq!(lines.take_line().unwrap().unwrap().len(), LONGEST_REQUEST);
        lines.take_in(&[b'x'; LONGEST_REQUEST + 1]);
        assert_eq!(lines.take_line(), Err(TooLong));
        let mut lines = Lines::default();
        lines.take_in(&[&[b'x'; LONGEST_REQUEST + 1][..], b"\n"].concat());
        assert_eq!(lines.take_line(), Err(TooLong));
    }
}
