//! Who may import whom: the doc comment of src/lib.rs, kept. Neither rustc
//! nor clippy would.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "it is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate and what it may know: of the crate, and of others.
struct Layer {
    name: &'static str,
    may: &'static [&'static str],
    crates: &'static [&'static str],
    std: Option<&'static [&'static str]>,
}

const LAYERS: &[Layer] = &[
    Layer {
        name: "main",
        may: &["shell", "config"],
        crates: &["clinit"],
        std: None,
    },
    Layer {
        name: "shell",
        may: &[
            "shell",
            "supervisor",
            "port",
            "notify",
            "sys",
            "config",
            "control",
            "table",
        ],
        crates: &[],
        std: None,
    },
    Layer {
        name: "config",
        may: &["config", "supervisor::policy", "control", "sys::errno"],
        crates: &["lexopt"],
        std: None,
    },
    Layer {
        name: "control",
        may: &["control", "supervisor::policy"],
        crates: &[],
        std: Some(&["fmt", "mem", "str"]),
    },
    Layer {
        name: "sys",
        may: &["sys"],
        crates: &["libc", "nix", "socket2"],
        std: None,
    },
    Layer {
        name: "supervisor",
        may: &["supervisor"],
        crates: &[],
        std: Some(&[
            "cmp",
            "collections",
            "fmt",
            "iter",
            "mem",
            "num",
            "ops",
            "time",
        ]),
    },
    Layer {
        name: "table",
        may: &["table"],
        crates: &[],
        std: Some(&["iter", "mem", "vec"]),
    },
    Layer {
        name: "notify",
        may: &["notify"],
        crates: &[],
        std: Some(&["fmt", "str", "time"]),
    },
    Layer {
        name: "port",
        may: &["port", "supervisor::Time", "supervisor::WorkerId", "table"],
        crates: &[],
        std: Some(&[
            "cmp",
            "collections",
            "fmt",
            "iter",
            "mem",
            "net",
            "num",
            "ops",
            "time",
        ]),
    },
];

/// What is only data of `std::net`.
const ADDRESSES: &[&str] = &[
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];

/// What the core must not see, however it is written.
const SYSTEM: &[&str] = &[
    "Instant",
    "SystemTime",
    "thread",
    "env",
    "fs",
    "io",
    "net",
    "os",
    "process",
];

struct Source {
    layer: String,
    path: PathBuf,
    /// Without comments and strings.
    code: String,
    /// Whether only tests have it.
    is_test: bool,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap();
                let first = relative
                    .components()
                    .next()
                    .unwrap()
                    .as_os_str()
                    .to_str()
                    .unwrap();
                found.push(Source {
                    layer: first.trim_end_matches(".rs").to_owned(),
                    code: stripped(&fs::read_to_string(&path).unwrap()),
                    path: relative.to_owned(),
                    is_test: false,
                });
            }
        }
    }
    for index in 0..found.len() {
        found[index].is_test = is_test(&found[index], &found);
    }
    found
}

/// Whether a module above declares this one for tests alone.
fn is_test(source: &Source, all: &[Source]) -> bool {
    let name = source.path.to_str().unwrap();
    all.iter().any(|parent| {
        let path = parent.path.to_str().unwrap().trim_end_matches(".rs");
        let directory = path.trim_end_matches("/mod");
        parent
            .code
            .split("#[cfg(test)]")
            .skip(1)
            .any(|declaration| {
                let module = declaration.trim_start().trim_start_matches("pub(super) ");
                let module = module
                    .strip_prefix("mod ")
                    .and_then(|rest| rest.split_once(';'));
                module.is_some_and(|(module, _)| {
                    name == format!("{directory}/{module}.rs")
                        || name.starts_with(&format!("{directory}/{module}/"))
                })
            })
    })
}

/// The code without the tests at its end.
fn without_tests(source: &Source) -> &str {
    let tests = source.code.find("#[cfg(test)]\nmod tests {");
    match tests {
        _ if source.is_test => "",
        Some(tests) => &source.code[..tests],
        None => &source.code,
    }
}

/// The code without comments and the contents of strings.
fn stripped(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = 2 + hashes;
            rest[start..]
                .find(&close)
                .map_or(rest.len(), |end| start + end + close.len())
        } else if c == '"' {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path in the code, the trees of `use` spelt out.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let compact = code.replace("::\n", "::");
    for statement in compact.split("use ").skip(1) {
        let Some((tree, _)) = statement.split_once(';') else {
            continue;
        };
        let tree: String = tree
            .split_whitespace()
            .filter(|word| *word != "as" && *word != "_")
            .collect();
        spell_out("", &tree, &mut found);
    }
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in code.split(|c| !is_of_path(c)) {
        // What a brace follows is spelt out above.
        if word.contains("::") && !word.ends_with(':') {
            found.insert(word.trim_start_matches(':').to_owned());
        }
    }
    found
}

/// `a::{b, c::{d}}` as `a::b` and `a::c::d`.
fn spell_out(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let Some(open) = tree.find('{') else {
        found.insert(format!("{prefix}{tree}"));
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..].trim_end().trim_end_matches('}');
    let closers = tree[open + 1..].len() - inner.len();
    let inner = format!("{inner}{}", "}".repeat(closers.saturating_sub(1)));
    let (mut depth, mut start) = (0, 0);
    for (index, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spell_out(&prefix, &inner[start..index], found);
                start = index + 1;
            }
            _ => {}
        }
    }
    if start < inner.len() {
        spell_out(&prefix, &inner[start..], found);
    }
}

/// `super::super::…` in this file as a path from the crate's root, where it
/// leaves the file's layer.
fn absolute(path: &str, source: &Source) -> Option<String> {
    let above = path.split("::").take_while(|part| *part == "super").count();
    if above == 0 {
        return None;
    }
    let mut module: Vec<&str> = source
        .path
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .split('/')
        .collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    // A module of tests inside the file makes it one less.
    let keep = module.len().checked_sub(above)?;
    let rest = path.split("::").skip(above);
    Some(
        module[..keep]
            .iter()
            .copied()
            .chain(rest)
            .collect::<Vec<_>>()
            .join("::"),
    )
}

fn permitted(path: &str, may: &[&str]) -> bool {
    may.iter()
        .any(|allowed| path == *allowed || path.starts_with(&format!("{allowed}::")))
}

fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.layer != "lib") {
        let file = source.path.display();
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == source.layer) else {
            found.push(format!("{file}: there is no layer {}", source.layer));
            continue;
        };
        for path in paths(&source.code) {
            let own = path
                .strip_prefix("crate::")
                .or_else(|| path.strip_prefix("clinit::"));
            let own = own.map(str::to_owned).or_else(|| absolute(&path, source));
            if own.is_some_and(|own| {
                LAYERS
                    .iter()
                    .any(|l| own.split("::").next() == Some(l.name))
                    && !permitted(&own, layer.may)
            }) {
                found.push(format!("{file} imports {path}"));
            }
        }
        for path in paths(without_tests(source)) {
            let first = path.split("::").next().unwrap_or_default();
            let foreign = ["libc", "nix", "socket2", "serde_json", "lexopt", "clinit"];
            if foreign.contains(&first) && path.contains("::") && !layer.crates.contains(&first) {
                found.push(format!("{file} uses {path}"));
            }
            if let (Some(allowed), "std" | "core" | "alloc") = (layer.std, first) {
                let module = path.split("::").nth(1).unwrap_or_default();
                let of_net = path.split("::").nth(2).unwrap_or_default();
                let part_of_system = path
                    .split("::")
                    .any(|part| SYSTEM.contains(&part) && !(part == "net" && module == "net"));
                let opens_sockets = module == "net" && !ADDRESSES.contains(&of_net);
                if !allowed.contains(&module) || part_of_system || opens_sockets {
                    found.push(format!("{file} uses {path}"));
                }
            }
        }
        if source.layer != "sys" && has_unsafe(&source.code) {
            found.push(format!("{file} has unsafe code"));
        }
    }
    found
}

/// The binary's entry is exported under C's name and takes C's arguments:
/// that cannot be said without the word.
fn has_unsafe(code: &str) -> bool {
    let entry = [
        "unsafe(no_mangle)",
        "pub unsafe extern",
        "unsafe { arguments(",
        "forbid(unsafe_code)",
    ];
    let code = entry
        .iter()
        .fold(code.to_owned(), |code, known| code.replacen(known, "", 1));
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "unsafe")
}

#[test]
fn each_layer_imports_what_it_may_and_nothing_else() {
    let sources = sources();
    for layer in LAYERS {
        assert!(
            sources.iter().any(|source| source.layer == layer.name),
            "no {}",
            layer.name
        );
    }
    let found = violations(&sources);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_entry_is_excused() {
    for source in sources()
        .iter()
        .filter(|source| source.layer != "main" && source.layer != "sys")
    {
        for entry in ["no_mangle", "unsafe extern", "unsafe {"] {
            assert!(
                !source.code.contains(entry),
                "{}: {entry}",
                source.path.display()
            );
        }
    }
}

/// What this test is worth: each of these is found.
#[test]
fn what_is_not_allowed_is_found() {
    for (file, code) in [
        ("supervisor/app.rs", "use std::fs;"),
        ("supervisor/app.rs", "use std::{fmt, thread};"),
        ("supervisor/app.rs", "use std::time::{Duration, Instant};"),
        (
            "supervisor/app.rs",
            "fn a() { let _ = std::process::id(); }",
        ),
        ("supervisor/app.rs", "use core::net::IpAddr;"),
        ("supervisor/app.rs", "use crate::sys::kill;"),
        (
            "supervisor/app.rs",
            "use crate::{config::Config, supervisor::Time};",
        ),
        ("supervisor/app.rs", "use super::super::sys;"),
        (
            "supervisor/deep/app.rs",
            "use super::super::super::shell::run;",
        ),
        ("supervisor/app.rs", "fn a() { libc::getpid(); }"),
        ("supervisor/app.rs", "fn a() { unsafe { b() } }"),
        ("port/mod.rs", "use crate::supervisor::Event;"),
        (
            "port/lane.rs",
            "use crate::supervisor::{Supervisor, WorkerId};",
        ),
        ("port/lane.rs", "use crate::sys::listener;"),
        ("port/lane.rs", "use super::super::supervisor::Signal;"),
        ("port/lane.rs", "use std::net::TcpListener;"),
        ("port/lane.rs", "use std::os::fd::OwnedFd;"),
        ("port/lane.rs", "use std::thread;"),
        ("port/lane.rs", "fn a() { unsafe { b() } }"),
        ("supervisor/app.rs", "use crate::port::Ports;"),
        ("control/request.rs", "use crate::supervisor::Event;"),
        ("control/request.rs", "use std::os::unix::net::UnixStream;"),
        ("control/json.rs", "fn a() { serde_json::to_string(&1); }"),
        ("config/mod.rs", "use crate::port::Sharing;"),
        ("sys/kill.rs", "use crate::port::program::Program;"),
        ("sys/kill.rs", "use crate::supervisor::Signal;"),
        ("sys/kill.rs", "use super::super::config;"),
        ("sys/kill.rs", "use lexopt::Parser;"),
        ("config/mod.rs", "use crate::supervisor::Event;"),
        (
            "config/mod.rs",
            "use crate::supervisor::{policy::Policy, Event};",
        ),
        ("config/mod.rs", "use crate::sys::clock;"),
        ("config/mod.rs", "use nix::unistd::getpid;"),
        ("shell/mod.rs", "fn a() { unsafe { b() } }"),
        ("shell/mod.rs", "use nix::unistd::getpid;"),
        ("main.rs", "use clinit::supervisor::Event;"),
        ("main.rs", "use clinit::sys::kill;"),
        ("web/mod.rs", ""),
    ] {
        let source = Source {
            layer: file.split(['/', '.']).next().unwrap().to_owned(),
            path: file.into(),
            code: stripped(code),
            is_test: false,
        };
        assert_eq!(violations(&[source]).len(), 1, "{file}: {code}");
    }
    for (file, code) in [
        (
            "supervisor/app.rs",
            "use std::fmt; // std::fs\nuse crate::supervisor::Time;",
        ),
        (
            "supervisor/app.rs",
            "fn a() -> &'static str { \"std::fs \\\" crate::sys\" }",
        ),
        ("supervisor/app.rs", "use super::super::supervisor::Time;"),
        (
            "port/lane.rs",
            "use std::net::{Ipv4Addr, SocketAddr};\nuse crate::supervisor::{Time, WorkerId};",
        ),
        ("shell/mod.rs", "use crate::port::{Bind, Ports};"),
        (
            "config/mod.rs",
            "use crate::supervisor::policy::{Mode, Policy};",
        ),
        (
            "sys/kill.rs",
            "use nix::errno::Errno; fn a() { unsafe { b() } }",
        ),
        (
            "shell/mod.rs",
            "use crate::{sys::clock, supervisor::{Event, Time}};",
        ),
    ] {
        let source = Source {
            layer: file.split(['/', '.']).next().unwrap().to_owned(),
            path: file.into(),
            code: stripped(code),
            is_test: false,
        };
        assert_eq!(violations(&[source]), [""; 0], "{file}: {code}");
    }
}

/// What decides holds no unsafe code, whatever this test can read.
#[test]
fn what_decides_forbids_unsafe_code() {
    let sources = sources();
    for layer in ["supervisor", "port", "control"] {
        let root = format!("{layer}/mod.rs");
        let root = sources.iter().find(|of| of.path.to_str() == Some(&root));
        let code = &root.unwrap().code;
        assert!(code.contains("#![forbid(unsafe_code)]"), "{layer}");
    }
}
