//! What of libtest these tests need: its arguments, its lines.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

pub(crate) type Test<E> = (&'static str, fn(&E));

/// The arguments of libtest that mean something here; the others are let be.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) lists: bool,
    is_exact: bool,
    only_ignored: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

impl Arguments {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => arguments.lists = true,
                "--exact" => arguments.is_exact = true,
                "--ignored" => arguments.only_ignored = true,
                "--skip" => arguments.skips.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed"
                | "-Z" => {
                    words.next();
                }
                _ => {
                    if let Some(skip) = word.strip_prefix("--skip=") {
                        arguments.skips.push(skip.to_owned());
                    } else if !word.starts_with('-') {
                        arguments.filters.push(word);
                    }
                }
            }
        }
        arguments
    }

    pub(crate) fn choose<E>(&self, tests: &[Test<E>]) -> Vec<Test<E>> {
        let matches = |name: &str, pattern: &String| {
            if self.is_exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        let is_chosen = |name: &str| {
            let is_asked_for =
                self.filters.is_empty() || self.filters.iter().any(|filter| matches(name, filter));
            is_asked_for && !self.skips.iter().any(|skip| matches(name, skip)) && !self.only_ignored
        };
        tests
            .iter()
            .filter(|(name, _)| is_chosen(name))
            .copied()
            .collect()
    }
}

pub(crate) fn list<E>(tests: &[Test<E>], arguments: &Arguments) -> ExitCode {
    for (name, _) in arguments.choose(tests) {
        println!("{name}: test");
    }
    ExitCode::SUCCESS
}

/// Runs the tests, one after the other.
pub(crate) fn run<E>(tests: &[Test<E>], environment: &E, of: usize) -> ExitCode {
    println!("\nrunning {} tests", tests.len());
    let mut failed = Vec::new();
    for (name, test) in tests {
        print!("test {name} ... ");
        let _ = std::io::stdout().flush();
        if catch_unwind(AssertUnwindSafe(|| test(environment))).is_ok() {
            println!("ok");
        } else {
            println!("FAILED");
            failed.push(*name);
        }
    }
    report(tests.len() - failed.len(), &failed, 0, of)
}

/// Says of the tests that they did not run.
pub(crate) fn ignore<E>(tests: &[Test<E>], of: usize) -> ExitCode {
    println!("\nrunning {} tests", tests.len());
    for (name, _) in tests {
        println!("test {name} ... ignored, no Docker engine");
    }
    report(0, &[], tests.len(), of)
}

/// The closing line, out of `of` tests in all.
pub(crate) fn report(passed: usize, failed: &[&str], ignored: usize, of: usize) -> ExitCode {
    if !failed.is_empty() {
        println!("\nfailures:");
        for name in failed {
            println!("    {name}");
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out\n",
        failed.len(),
        of - passed - failed.len() - ignored,
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}
