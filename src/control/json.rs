//! JSON (RFC 8259), as much of it as the protocol has: whole numbers, and
//! objects in lists in objects.
//!
//! `serde_json` would be 33 kB of the binary for this; the tests compare the
//! two. See docs/decisions/0010-own-json-for-the-control-socket.md.

use std::fmt::Write as _;

/// How deep lists and objects may be in one another.
const DEEPEST: usize = 8;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
    /// `[…]`
    List(Vec<Json>),
    /// `{…}`, in the order in which it was written.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one value and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let value = reader.value(0)?;
        reader.skip_blanks();
        reader.rest.is_empty().then_some(value)
    }

    /// The value of this name; of two the later one, as other readers have it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(pairs) = self else {
            return None;
        };
        let found = pairs.iter().rev().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    /// The number of this name.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<i64> {
        match self.get(key)? {
            Self::Number(number) => Some(*number),
            Self::Null | Self::Flag(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The string of this name.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Self::Text(text) => Some(text),
            Self::Null | Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// Whether the value of this name is `true`; none where it is no flag.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Self::Flag(flag) => Some(*flag),
            Self::Null | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// The list of this name; empty where there is none.
    #[must_use]
    pub fn list(&self, key: &str) -> &[Self] {
        match self.get(key) {
            Some(Self::List(list)) => list,
            Some(_) | None => &[],
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes this, after blanks, if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_blanks();
        let after = self.rest.strip_prefix(token);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEEPEST {
            return None;
        }
        for (word, value) in [
            ("null", Json::Null),
            ("true", Json::Flag(true)),
            ("false", Json::Flag(false)),
        ] {
            if self.take(word) {
                return Some(value);
            }
        }
        if self.take("\"") {
            return self.string().map(Json::Text);
        }
        if self.take("[") {
            let mut list = Vec::new();
            self.items("]", |reader| {
                list.push(reader.value(depth + 1)?);
                Some(())
            })?;
            return Some(Json::List(list));
        }
        if self.take("{") {
            let mut pairs = Vec::new();
            self.items("}", |reader| {
                let key = reader.take("\"").then(|| reader.string())??;
                let value = reader.take(":").then(|| reader.value(depth + 1))??;
                pairs.push((key, value));
                Some(())
            })?;
            return Some(Json::Object(pairs));
        }
        self.number()
    }

    /// Items with commas between, up to `end`.
    fn items(&mut self, end: &str, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.take(end) {
            return Some(());
        }
        loop {
            item(self)?;
            if self.take(end) {
                return Some(());
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        let length = self.rest.len() - digits.len() + count;
        let (number, rest) = self.rest.split_at_checked(length)?;
        let leading_zero = count > 1 && digits.starts_with('0');
        if leading_zero || rest.starts_with(['.', 'e', 'E']) {
            return None;
        }
        self.rest = rest;
        let (sign, digits) = number.split_at(number.len() - count);
        let number: u64 = digits.parse().ok()?;
        let number = match sign {
            "" => i64::try_from(number).ok(),
            _ => 0_i64.checked_sub_unsigned(number),
        };
        number.map(Json::Number)
    }

    /// A string, after its opening quotation mark.
    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        loop {
            let mut chars = self.rest.chars();
            let next = chars.next()?;
            self.rest = chars.as_str();
            match next {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                '\0'..='\x1f' => return None,
                plain => text.push(plain),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let letter = chars.next()?;
        self.rest = chars.as_str();
        Some(match letter {
            '"' | '\\' | '/' => letter,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                // Half of a pair (RFC 8259, section 7).
                self.rest = self.rest.strip_prefix("\\u")?;
                let second = self.unit()?.checked_sub(0xdc00).filter(|it| *it < 0x400)?;
                return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second);
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        let all_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        all_hex.then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

/// A string as JSON has it, with its quotation marks.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // What a terminal would act on is escaped as well.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// An object in the making.
#[derive(Debug)]
pub struct Object(String);

impl Object {
    /// An empty one.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is the beginning of one")]
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    /// One that is a line of the protocol.
    #[must_use]
    pub fn line() -> Self {
        Self::new().number("v", super::VERSION)
    }

    /// Adds a value that is JSON as it stands.
    #[must_use]
    #[inline(never)]
    pub fn json(mut self, key: &str, value: &str) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        for part in [comma, "\"", key, "\":", value] {
            self.0.push_str(part);
        }
        self
    }

    /// Adds a string.
    #[must_use]
    #[inline(never)]
    pub fn text(self, key: &str, value: &str) -> Self {
        self.json(key, &quote(value))
    }

    /// Adds a number.
    #[must_use]
    #[inline(never)]
    pub fn number(self, key: &str, value: u64) -> Self {
        self.json(key, &value.to_string())
    }

    /// Adds a flag.
    #[must_use]
    pub fn flag(self, key: &str, value: bool) -> Self {
        self.json(key, if value { "true" } else { "false" })
    }

    /// Adds a list of what is JSON as it stands.
    #[must_use]
    pub fn list(self, key: &str, items: &[String]) -> Self {
        let mut list = String::from("[");
        for item in items {
            if list.len() > 1 {
                list.push(',');
            }
            list.push_str(item);
        }
        list.push(']');
        self.json(key, &list)
    }

    /// It, whole.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same value as `serde_json` has it; none where there is a number
    /// that is not whole, or that does not fit.
    fn same(value: &serde_json::Value) -> Option<Json> {
        use serde_json::Value;
        Some(match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Flag(*flag),
            Value::Number(number) => Json::Number(number.as_i64()?),
            Value::String(text) => Json::Text(text.clone()),
            Value::Array(list) => Json::List(list.iter().map(same).collect::<Option<_>>()?),
            Value::Object(map) => Json::Object(
                map.iter()
                    .map(|(key, value)| Some((key.clone(), same(value)?)))
                    .collect::<Option<_>>()?,
            ),
        })
    }

    /// Sorted, and of two of a name the later one: as a map has it.
    fn sorted(value: Json) -> Json {
        match value {
            Json::List(list) => Json::List(list.into_iter().map(sorted).collect()),
            Json::Object(pairs) => {
                let map: std::collections::BTreeMap<_, _> = pairs
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect();
                Json::Object(map.into_iter().collect())
            }
            Json::Null | Json::Flag(_) | Json::Number(_) | Json::Text(_) => value,
        }
    }

    const SAMPLES: &[&str] = &[
        r#"{"v":1,"verb":"signal","signal":"USR1","slot":3}"#,
        r#" { "a" : [ 1 , -2 , { } , [ ] , null , true , false , "" ] } "#,
        r#""\"\\\/\b\f\n\r\tü\u00fc\ud834\udd1e𝄞""#,
        "[0,-0,9223372036854775807,-9223372036854775808]",
        r#"{"a":1,"b":2,"a":3}"#,
        "[[[[[[[[1]]]]]]]]",
    ];

    #[test]
    fn samples_are_read_as_serde_json_reads_them() {
        for text in SAMPLES {
            let theirs = serde_json::from_str(text).unwrap();
            // It has -0 for a fraction.
            let text = text.replace("-0", "0");
            let theirs = same(&theirs).or_else(|| same(&serde_json::from_str(&text).unwrap()));
            assert_eq!(Json::parse(&text).map(sorted), theirs, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "-",
            "+1",
            "1.5",
            "1e3",
            "nul",
            "truefalse",
            "\"",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\\u+123\"",
            "1 2",
            "\u{a0}1",
            "9223372036854775808",
            "[[[[[[[[[[1]]]]]]]]]]",
        ] {
            assert_eq!(Json::parse(text), None, "{text}");
        }
    }

    /// Samples with bytes changed: whatever is read here, `serde_json` reads as
    /// the same; and what it reads that is in our reach, we do.
    #[test]
    fn whatever_is_read_is_what_serde_json_reads() {
        let mut state = 7_u64;
        let mut random = move |end: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % end
        };
        let (mut read, mut refused) = (0, 0);
        let alphabet: Vec<char> = "{}[]\",:\\u0123456789-+.eE nultrfasbx\n\tü𝄞"
            .chars()
            .collect();
        for round in 0..60_000 {
            let mut text: Vec<char> = SAMPLES[round % SAMPLES.len()].chars().collect();
            for _ in 0..=random(3) {
                let (at, c) = (random(text.len()), alphabet[random(alphabet.len())]);
                match random(3) {
                    0 => text[at] = c,
                    1 => text.insert(at, c),
                    _ if text.len() > 1 => drop(text.remove(at)),
                    _ => {}
                }
            }
            let text: String = text.into_iter().collect();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).ok();
            if let Some(ours) = Json::parse(&text) {
                read += 1;
                let theirs = theirs.expect(&text);
                if let Some(theirs) = same(&theirs) {
                    assert_eq!(sorted(ours), theirs, "{text}");
                }
                continue;
            }
            refused += 1;
            let is_deep = text.matches('[').count() > DEEPEST;
            let is_fraction = |pair: &[u8]| pair[0].is_ascii_digit() && b".eE".contains(&pair[1]);
            if !is_deep && !text.as_bytes().windows(2).any(is_fraction) {
                assert!(theirs.as_ref().and_then(same).is_none(), "{text}");
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read, {refused} not");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text: String = (0..0x300).filter_map(char::from_u32).chain(['𝄞']).collect();
        let line = Object::line().text("text", &text).flag("ok", true);
        let line = line.list("list", &[Object::new().number("n", 7).finish(), "2".into()]);
        let line = line.finish();
        assert!(!line.contains(char::is_control));
        let read = Json::parse(&line).unwrap();
        assert_eq!(read.text("text"), Some(text.as_str()));
        assert_eq!((read.number("v"), read.flag("ok")), (Some(1), Some(true)));
        assert_eq!(read.list("list")[0].number("n"), Some(7));
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }
}
