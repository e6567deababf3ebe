//! The law of the code base, checked like any other claim: the floors, the file headers, the sizes, the banned things.
//! `lib.rs` is read as the law's text: a file may use what stands above it there, never what stands below.

#![allow(clippy::unwrap_used)] // clippy's own exception ends at helpers outside `#[test]`

use std::fs;
use std::path::{Path, PathBuf};

/// A file should fit in the head.
const LINES_MAX: usize = 450;
/// A function should fit on a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// Modules that stand on the floor of the outside world although they lie in a flow's folder.
const ADAPTERS: [(&str, usize); 3] = [("delivery/send", 4), ("store/redis", 4), ("store/sqlite", 4)];
/// The floor of the flows, which never import each other.
const FLOWS: usize = 5;

struct Source {
    /// Path below `src` without `.rs`, such as `store/query`.
    module: String,
    text: String,
}

impl Source {
    /// The text without the tests at its end: tests may do what the program may not.
    fn program(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    fn top(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }
}

fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty() || folder == "benches", "no Rust files under {folder}");
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    rust_files("src")
        .into_iter()
        .map(|(path, text)| Source {
            module: path.strip_prefix("src").unwrap().with_extension("").to_string_lossy().into_owned(),
            text,
        })
        .collect()
}

fn everything() -> Vec<(PathBuf, String)> {
    ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect()
}

/// The modules of `lib.rs` in reading order, each with its floor.
fn floors() -> Vec<(String, usize)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let mut floor = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("// Floor ") {
            floor = rest.chars().next().and_then(|digit| digit.to_digit(10));
        } else if let Some(name) = line.strip_prefix("pub mod ") {
            let floor = floor.expect("a `// Floor N` comment stands above every module") as usize;
            found.push((name.trim_end_matches(';').to_owned(), floor));
        }
    }
    assert!(found.len() > 10, "lib.rs names only {} modules", found.len());
    found
}

/// The crate modules that a text imports or names, as `crate::…` paths with slashes.
fn used(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let path = &code[at + "crate::".len()..];
        if let Some(group) = path.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            found.extend(
                group.split(',').map(|name| name.trim().split("::").next().unwrap_or_default().to_owned()),
            );
        } else {
            let path: String =
                path.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            found.push(path.replace("::", "/"));
        }
    }
    found
}

#[test]
fn a_file_imports_only_from_lower_floors() {
    let floors = floors();
    let place = |top: &str| floors.iter().position(|(name, _)| name == top);
    let mut broken = Vec::new();
    for source in sources() {
        if source.top() == "lib" || source.top() == "main" {
            continue;
        }
        let mine = place(source.top()).unwrap_or_else(|| panic!("lib.rs does not name {}", source.top()));
        let adapter = ADAPTERS.iter().find(|(module, _)| source.module.starts_with(module));
        for path in used(source.program()) {
            let top = path.split('/').next().unwrap_or_default();
            let Some(theirs) = place(top) else { continue };
            let names_adapter = ADAPTERS.iter().any(|(module, _)| path.starts_with(module));
            let allowed = match adapter {
                _ if top == source.top() => true,
                Some((_, floor)) => floors[theirs].1 < *floor,
                None if floors[mine].1 == FLOWS => floors[theirs].1 < FLOWS && !names_adapter,
                None => theirs < mine,
            };
            if !allowed {
                broken.push(format!("src/{}.rs uses {path}", source.module));
            }
        }
    }
    assert!(broken.is_empty(), "against the floors of lib.rs:\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in everything() {
        assert!(text.starts_with("//! ") && text.len() > 80, "{} does not open with //!", path.display());
    }
}

#[test]
fn every_file_and_function_fits_in_the_head() {
    let mut broken = Vec::new();
    for (path, text) in everything() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines", path.display()));
        }
        for (name, lines) in long_functions(&text) {
            broken.push(format!("{}: fn {name}: {lines} lines", path.display()));
        }
    }
    assert!(broken.is_empty(), "too long:\n{}", broken.join("\n"));
}

/// Functions whose text, by the indentation that rustfmt keeps, is longer than the law allows.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let code = line.trim_start();
        if let Some((name, at, since)) = &open {
            if *at == indent && code.starts_with('}') {
                let lines = number - since + 1;
                if lines > FUNCTION_LINES_MAX {
                    found.push((name.clone(), lines));
                }
                open = None;
            }
        } else if let Some(rest) = code.split("fn ").nth(1).filter(|_| is_function(code)) {
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !code.ends_with('}') && !code.ends_with(';') {
                open = Some((name, indent, number));
            }
        }
    }
    found
}

fn is_function(code: &str) -> bool {
    let words = [
        "fn ",
        "pub fn ",
        "pub async fn ",
        "async fn ",
        "pub(super) ",
        "pub(crate) ",
        "const fn ",
        "pub const fn ",
    ];
    words.iter().any(|word| code.starts_with(word))
}

#[test]
fn nothing_is_left_unfinished_or_unwrapped() {
    let banned = [
        concat!(".unw", "rap()"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("uns", "afe {"),
        concat!("lazy_", "static"),
        concat!("static ", "mut"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        for word in banned {
            if source.program().contains(word) {
                broken.push(format!("src/{}.rs holds {word}", source.module));
            }
        }
    }
    let skips = [concat!("#[ig", "nore"), concat!("#[should_", "panic")];
    for (path, text) in everything() {
        broken.extend(
            skips
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let mut checked = 0;
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') {
            checked += 1;
            assert!(
                line.rsplit_once(" # ").is_some_and(|(_, reason)| reason.len() > 10),
                "no reason: {line}"
            );
        }
    }
    assert!(checked > 20, "only {checked} dependencies seen");
}

#[test]
fn one_word_has_one_meaning() {
    let mut broken = Vec::new();
    for source in sources() {
        for line in source.program().lines().filter(|line| line.contains("struct ") || line.contains("enum "))
        {
            // A job is what an operator starts (`store/job`); nothing in the flow from ingress to delivery is one.
            let is_flow = ["event", "lifecycle", "ingress", "delivery"].contains(&source.top());
            for word in ["Task", "Item", "Job"].into_iter().take(if is_flow { 3 } else { 2 }) {
                if line.contains(&format!("struct {word}")) || line.contains(&format!("enum {word}")) {
                    broken.push(format!("src/{}.rs: {line}", source.module));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
