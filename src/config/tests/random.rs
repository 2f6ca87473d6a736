//! Anything at all.

use super::*;

/// Marsaglia's xorshift64: the same numbers on every run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    /// A few bytes of an option, of a value, or of anything.
    fn word(&mut self) -> OsString {
        const VALUES: &[u8] = b"0123456789.:=,-%xmaushMGi[]/@{}*+ \n\0\xff\xc3";
        let mut word = Vec::new();
        if self.below(3) == 0 {
            let spec = &OPTIONS[self.below(OPTIONS.len())];
            let option = match spec.short {
                Some(letter) if self.below(2) == 0 => format!("-{letter}"),
                _ => format!("--{}", spec.long),
            };
            word.extend(option.bytes());
            if self.below(2) == 0 {
                word.push(b'=');
            }
        }
        let length = match self.below(50) {
            0 => 500,
            _ => self.below(12),
        };
        for _ in 0..length {
            word.push(match self.below(4) {
                0 => u8::try_from(self.below(256)).unwrap(),
                _ => VALUES[self.below(VALUES.len())],
            });
        }
        OsString::from_vec(word)
    }
}

#[test]
fn whatever_is_given_the_answer_is_a_configuration_or_one_short_line() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let (cwd, root) = (Path::new("/nonexistent"), Path::new("/nonexistent"));
    for _ in 0..20_000 {
        let words = random.below(6);
        let argv: Vec<OsString> = (0..words).map(|_| random.word()).collect();
        let mut env = Vec::new();
        if random.below(2) == 0 {
            let spec = &OPTIONS[random.below(OPTIONS.len())];
            let name = spec.variable().unwrap_or("CLINIT_X".into());
            env.push((name.into(), random.word()));
        }
        match parse_at(Place { cwd, root }, &argv, &env, false) {
            Err(error) => {
                let line = error.to_string();
                assert!(line.chars().count() <= 200, "{argv:?} {env:?}: {line}");
                assert!(!line.contains(char::is_control), "{argv:?} {env:?}: {line}");
            }
            Ok(parsed) => {
                if let Invocation::Run(config) = parsed.invocation {
                    assert_ne!(config.command[0], OsStr::new(""));
                    let template = Template::new(&config.command[1..]);
                    assert_eq!(template.render(0, &[]).len(), config.command.len() - 1);
                }
            }
        }
    }
}
