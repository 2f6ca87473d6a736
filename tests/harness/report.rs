//! What a fixture worker says.

use std::fmt;

/// A line from a fixture worker.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// As the worker sees it.
    pub(crate) pid: i32,
    /// `-` for a process that has none.
    pub(crate) slot: String,
    pub(crate) word: String,
    pub(crate) fields: Vec<String>,
}

impl Report {
    pub(super) fn parse(line: &str) -> Self {
        let mut fields = line.trim_end_matches('\n').split('\t').map(str::to_owned);
        let mut next = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("a report: {line:?}"))
        };
        Self {
            pid: next().parse().expect("a pid"),
            slot: next(),
            word: next(),
            fields: fields.collect(),
        }
    }

    /// The value of the field `NAME=VALUE`, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let value = |field: &'_ String| field.strip_prefix(name)?.strip_prefix('=').map(str::len);
        let (field, length) = self
            .fields
            .iter()
            .find_map(|field| Some((field, value(field)?)))?;
        Some(&field[field.len() - length..])
    }

    /// The value of the field `NAME=VALUE`.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> &str {
        let value = self.find(name);
        value.unwrap_or_else(|| panic!("no {name} in: {self}"))
    }

    /// The only field.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.fields.len(), 1, "{self}");
        &self.fields[0]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            slot,
            word,
            fields,
        } = self;
        write!(f, "{pid} of slot {slot}: {word} {fields:?}")
    }
}
