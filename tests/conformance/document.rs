//! docs/personalities.md lists clinit's differences as the tables have them.
//! `BLESS=1 cargo test --test conformance` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::table::{CATATONIT, DUMB_INIT, Row, TINI, Whose};

fn section(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n### {title}\n\n| behaviour | the original | clinit | why |\n|---|---|---|---|\n"
    );
    for row in rows {
        if let Some((instead, why)) = row.instead {
            let original = row.expected(Whose::Original);
            let cells = [row.what, original, instead, why].map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

#[test]
fn the_document_lists_every_difference() {
    const OPEN: &str = "<!-- differences -->\n";
    const CLOSE: &str = "<!-- /differences -->";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/personalities.md");
    let text = fs::read_to_string(&path).expect("docs/personalities.md");
    let (before, rest) = text.split_once(OPEN).expect("its beginning");
    let (is, after) = rest.split_once(CLOSE).expect("its end");
    let tables = [
        ("tini, docker-init", TINI),
        ("dumb-init", DUMB_INIT),
        ("catatonit", CATATONIT),
    ];
    let ought: String = tables.map(|(title, rows)| section(title, rows)).concat() + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{OPEN}{ought}{CLOSE}{after}")).expect("it is written");
        return;
    }
    assert!(
        is == ought,
        "docs/personalities.md is stale: BLESS=1 cargo test --test conformance"
    );
}

#[test]
fn no_difference_is_one_in_name_only() {
    for row in [TINI, DUMB_INIT, CATATONIT].into_iter().flatten() {
        if let Some((instead, why)) = row.instead {
            assert_ne!(instead, row.expected(Whose::Original), "{}", row.what);
            assert!(!why.is_empty(), "{}", row.what);
        }
    }
}
