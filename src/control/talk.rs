//! What a peer sends: bytes that may be anything, in pieces of any size. Run
//! by the property test beside this, and by `fuzz/`, which includes this file.

use super::{Json, LONGEST_REQUEST, Lines, Request, progress, table};

/// Reads the bytes, the first of which says how they are cut, and asserts
/// what holds of any. Returns how many requests there were in them.
pub(super) fn run(bytes: &[u8]) -> usize {
    let (size, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let (mut lines, mut requests) = (Lines::default(), 0);
    'talk: for piece in bytes.chunks(usize::from(*size) + 1) {
        lines.take_in(piece);
        loop {
            match lines.take_line() {
                Ok(Some(line)) => requests += usize::from(take(&line)),
                Ok(None) => break,
                Err(_) => break 'talk,
            }
        }
    }
    requests
}

fn take(line: &[u8]) -> bool {
    assert!(line.len() <= LONGEST_REQUEST);
    // As a client takes what comes from a server.
    if let Some(json) = std::str::from_utf8(line).ok().and_then(Json::parse) {
        let _ = table(&json, true, None);
        let shown = progress(&json);
        assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    }
    match Request::parse(line) {
        Ok(request) => {
            let again = Request::parse(request.line().as_bytes());
            assert_eq!(again.as_ref(), Ok(&request));
            true
        }
        Err(error) => {
            assert!(!error.is_empty() && error.len() < 200 && !error.contains('\n'));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::samples;
    use super::*;

    #[test]
    fn anything_may_be_sent() {
        let mut state = 1_u64;
        let mut random = move |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % end
        };
        let lines: Vec<String> = samples().iter().map(Request::line).collect();
        let mut found = 0;
        for _ in 0..20_000 {
            let mut bytes = vec![u8::try_from(random(256)).unwrap()];
            for _ in 0..=random(4) {
                bytes.extend_from_slice(lines[random(lines.len())].as_bytes());
                bytes.push(b'\n');
            }
            for _ in 0..random(4) {
                let at = 1 + random(bytes.len() - 1);
                bytes[at] = u8::try_from(random(256)).unwrap();
            }
            found += run(&bytes);
        }
        assert!(found > 20_000, "{found} requests");
        assert_eq!(run(&[b'x'; 3 * LONGEST_REQUEST]), 0);
    }
}
