//! Checks the modules of `src/` against their import rules, as the table in `src/lib.rs` states
//! them, and checks that each public item has a doc comment.
//!
//! | rule | why |
//! |---|---|
//! | a module imports only the modules below it | modules without dependencies can be read, tested
//! and changed alone |
//! | core modules name no file, process, environment, network, clock, sleep or trace | a plan is a value: same inputs, same plan |
//! | only `exec` and `sandbox` start programs | one place handles streams, secrets and signals | |
//! `engine` uses no type of the command line and reads nothing from the process | front ends are
//! thin, and tests are front ends too | | only `cli` and `main` exit, and nothing calls `println!`
//! and similar macros | a library returns values, and its caller decides what is shown. The macros
//! panic if the reader of a pipe has ended |
//! | files of a module import each other one way | a file can be read and changed with those below it alone |
//!
//! Test modules are exempt: a test may read a fixture.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/docs.rs"]
mod docs;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use docs::undocumented;
use source::{NamedPath, names};

/// The modules that a module may import, and whether it may have effects.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Values in, values out. May import the listed modules.
    Core(&'static [&'static str]),
    /// Shared code of edges. May import core and the listed modules.
    Foundation(&'static [&'static str]),
    /// One kind of effect each. May import core and the foundations.
    Edge,
    /// Carries out a plan through ports. May import core.
    Build,
    /// Connects edges to ports, and decides what is done. May import everything except `cli`.
    Engine,
    /// Front ends of the engine. They may import core, the engine, and the listed edges, for
    /// commands that are no verbs of the engine, such as `plywood boot`.
    Cli(&'static [&'static str]),
}

const MODULES: &[(&str, Kind)] = &[
    ("oci", Kind::Core(&[])),
    ("trust", Kind::Core(&["oci"])),
    ("layer", Kind::Core(&["oci"])),
    ("element", Kind::Core(&["oci"])),
    ("distro", Kind::Core(&["oci", "element"])),
    ("image", Kind::Core(&["oci", "trust", "element", "distro", "disk"])),
    ("disk", Kind::Core(&["oci", "element"])),
    ("host", Kind::Core(&[])),
    ("plan", Kind::Core(&["oci", "layer", "element", "distro", "image", "disk"])),
    ("port", Kind::Core(&["oci", "layer", "element", "distro", "image", "disk", "plan"])),
    ("share", Kind::Core(&["oci", "trust", "layer", "plan", "port"])),
    ("dropin", Kind::Core(&["oci", "layer", "element", "distro", "image", "disk", "plan", "port"])),
    ("exec", Kind::Foundation(&[])),
    ("tree", Kind::Foundation(&[])),
    ("directory", Kind::Foundation(&["tree"])),
    ("load", Kind::Edge),
    ("staging", Kind::Edge),
    ("probe", Kind::Edge),
    ("sandbox", Kind::Edge),
    ("package", Kind::Edge),
    ("source", Kind::Edge),
    ("store", Kind::Edge),
    ("block", Kind::Edge),
    ("output", Kind::Edge),
    ("registry", Kind::Edge),
    ("build", Kind::Build),
    ("engine", Kind::Engine),
    ("cli", Kind::Cli(&["engine", "load", "directory", "exec", "probe"])),
];

/// The modules that `main.rs` may import. It sets up the process and then calls the front end.
const MAIN_IMPORTS: &[&str] = &["cli", "sandbox"];

/// Effects that no core module may name. A bare `std::time` would hide which of its types is meant.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::net",
    "std::os::unix::net",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::thread::sleep",
    "rustix",
    "nix",
    "libc",
    "tracing",
];

/// Names that the engine may not use. Front ends pass it the settings of the process and the
/// command line.
const OF_FRONT_ENDS: &[&str] = &["clap", "std::env"];

const PRINTING: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq)]
struct Violation {
    file: PathBuf,
    line: usize,
    named: String,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, named, rule } = self;
        write!(f, "src/{}:{line}: `{named}`: {rule}", file.display())
    }
}

fn kind(module: &str) -> Option<Kind> {
    MODULES.iter().find(|(name, _)| *name == module).map(|(_, kind)| *kind)
}

/// Returns the module of a file below `src/`: `oci/digest.rs` and `oci.rs` are in `oci`.
fn module_of(file: &Path) -> String {
    let first = file.iter().next().expect("a path below src/ has a component");
    Path::new(first).file_stem().expect("a component has a stem").to_string_lossy().into_owned()
}

fn may_import(from: &str, to: &str) -> bool {
    let is_core = |module| matches!(kind(module), Some(Kind::Core(_)));
    from == to
        || match kind(from) {
            Some(Kind::Core(below)) => below.contains(&to),
            Some(Kind::Foundation(below)) => is_core(to) || below.contains(&to),
            Some(Kind::Edge) => is_core(to) || matches!(kind(to), Some(Kind::Foundation(_))),
            Some(Kind::Build) => is_core(to),
            Some(Kind::Engine) => to != "cli",
            Some(Kind::Cli(edges)) => is_core(to) || edges.contains(&to),
            None => from == "main" && MAIN_IMPORTS.contains(&to),
        }
}

/// Returns the module that a path leads into, if it starts at the crate's root.
///
/// Resolves `super` chains by the depth of the file, so that they cannot avoid the rule. Exported
/// macros are at the root, whichever module defines them, and are ignored.
fn target_module(file: &Path, path: &NamedPath) -> Option<String> {
    let segments: Vec<_> = path.segments.iter().map(String::as_str).collect();
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    let names_module = file.file_stem().is_some_and(|stem| stem != "mod" && stem != "lib" && stem != "main");
    let depth = file.components().count() - 1 + usize::from(names_module);
    match segments.as_slice() {
        ["crate" | "plywood", name] if name.ends_with('!') => None,
        ["crate" | "plywood", module, ..] => Some((*module).to_owned()),
        _ if supers > 0 && supers >= depth => segments.get(supers).map(|module| (*module).to_owned()),
        _ => None,
    }
}

fn import_violation(file: &Path, path: &NamedPath) -> Option<String> {
    let (from, to) = (module_of(file), target_module(file, path)?);
    match kind(&to) {
        _ if from == "lib" => None,
        None => Some(format!("`{to}` is not a module: import from the module that defines it")),
        Some(_) if may_import(&from, &to) => None,
        Some(_) => Some(format!("`{from}` may not import `{to}`")),
    }
}

fn effect_violation(file: &Path, path: &NamedPath) -> Option<String> {
    let module = module_of(file);
    let full = path.segments.join("::");
    let under = |prefix: &str| full == prefix || full.starts_with(&format!("{prefix}::"));
    let is_core = matches!(kind(&module), Some(Kind::Core(_)));
    if is_core && (EFFECTS.iter().any(|effect| under(effect)) || full == "std::time") {
        return Some(format!("`{module}` is a core module: values in, values out"));
    }
    if under("std::process::Command") && !["exec", "sandbox"].contains(&module.as_str()) {
        return Some("only `exec` and `sandbox` start programs".to_owned());
    }
    if module == "engine" && OF_FRONT_ENDS.iter().any(|name| under(name)) {
        return Some("front ends tell the engine what it works on".to_owned());
    }
    if PRINTING.contains(&full.as_str()) {
        return Some("it panics on a closed pipe: `cli` prints by `say!` and `remark!`".to_owned());
    }
    let exits = under("std::process::exit") && !["cli", "main"].contains(&module.as_str());
    exits.then(|| "only `cli` exits".to_owned())
}

/// Returns every place in `text`, the source of `src/<file>`, that breaks a rule.
fn violations(file: &Path, text: &str) -> Vec<Violation> {
    let paths = names(text).paths;
    let broken = paths.iter().filter_map(|path| {
        let rule = import_violation(file, path).or_else(|| effect_violation(file, path))?;
        Some(Violation { file: file.to_owned(), line: path.line, named: path.segments.join("::"), rule })
    });
    broken.collect()
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the Rust files below `dir`, without those of test modules.
fn source_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    entries.sort();
    let is_rust = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let test_modules: BTreeSet<String> =
        entries.iter().filter(is_rust).flat_map(|path| names(&read(path)).test_modules).collect();
    entries
        .into_iter()
        .filter(|path| !test_modules.contains(&*path.file_stem().unwrap_or_default().to_string_lossy()))
        .flat_map(|path| if path.is_dir() { source_files(&path) } else { vec![path] })
        .filter(|path| is_rust(&path))
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn imports_run_one_way_and_core_modules_stay_pure() {
    let root = source_root();
    let broken: Vec<String> = source_files(&root)
        .iter()
        .flat_map(|path| violations(path.strip_prefix(&root).expect("a file below src/"), &read(path)))
        .map(|violation| violation.to_string())
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_public_item_has_a_doc_comment() {
    let root = source_root();
    let mut found = Vec::new();
    for path in source_files(&root) {
        let file = path.strip_prefix(&root).expect("a file below src/").display();
        let items = undocumented(&read(&path));
        found.extend(items.iter().map(|item| format!("src/{file}:{}: `{}`", item.line, item.text)));
    }
    assert!(found.is_empty(), "no doc comment:\n{}\n", found.join("\n"));
}

#[test]
fn an_item_without_doc_comment_is_found_with_its_line() {
    let cases: &[(&str, &[usize])] = &[
        ("use std::fs;", &[1]),
        ("//! A module.\npub(crate) fn f() {}\npub const A: u8 = 1;", &[2, 3]),
        ("//! A module.\n\n/// A type.\n#[derive(\n    Debug,\n)]\npub struct S {\n    pub a: u8,\n}", &[]),
        (
            "//! A module.\n/// Ports.\npub trait T {\n    /// Runs.\n    fn run();\n    fn stop();\n}\nfn f() {}",
            &[6],
        ),
        ("//! A module.\n#[cfg(test)]\nmod tests {\n    pub fn f() {}\n}\npub(crate) enum E {}", &[6]),
        (
            "//! A module.\nimpl S {\n    // a note\n    pub const fn f() {}\n    pub(super) fn g() {}\n}",
            &[4],
        ),
    ];
    for (text, lines) in cases {
        let found: Vec<_> = undocumented(text).iter().map(|item| item.line).collect();
        assert_eq!(found, *lines, "{text}");
    }
}

#[test]
fn files_of_a_module_import_each_other_one_way() {
    let root = source_root();
    let files = source_files(&root).into_iter().map(|path| {
        let text = read(&path);
        (path.strip_prefix(&root).expect("a file below src/").to_owned(), text)
    });
    let found = circles::find(files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_module_of_the_crate_has_a_rule() {
    let declared: BTreeSet<String> = read(&source_root().join("lib.rs"))
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_owned))
        .collect();
    let ruled: BTreeSet<String> = MODULES.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(declared, ruled, "src/lib.rs on the left, the table of rules on the right");
}

/// Returns the modules that a file declares.
fn declared_modules(text: &str) -> impl Iterator<Item = &str> {
    let words = text.lines().filter_map(|line| line.strip_suffix(';'));
    words
        .filter_map(|line| line.rsplit_once("mod "))
        .filter(|(start, _)| !start.starts_with("//"))
        .map(|(_, name)| name)
}

#[test]
fn every_module_is_in_the_tables_that_list_modules() {
    let page = read(&source_root().join("../docs/architecture.md"));
    let header = read(&source_root().join("lib.rs"));
    for (name, kind) in MODULES {
        let kind = match kind {
            Kind::Core(_) => "core",
            Kind::Foundation(_) => "foundation",
            Kind::Edge => "edge",
            Kind::Build => "build",
            Kind::Engine => "engine",
            Kind::Cli(_) => "cli",
        };
        let row = format!("| `{name}` | {kind} | ");
        assert!(page.contains(&row), "docs/architecture.md lacks a row `{row}`");
        assert!(header.contains(&format!("[`{name}`]")), "the header of src/lib.rs lacks `{name}`");
    }
}

#[test]
fn the_header_of_element_names_every_module_of_it() {
    let text = read(&source_root().join("element/mod.rs"));
    let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let missing: Vec<_> =
        declared_modules(&text).filter(|name| !header.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "the header of src/element/mod.rs lacks {missing:?}");
}

/// Cases that the rules must refuse, with the line and the message.
#[test]
fn a_forbidden_name_is_found_with_its_line() {
    let cases: &[(&str, &str, usize, &str)] = &[
        ("oci/digest.rs", "use crate::layer::Entry;", 1, "`oci` may not import `layer`"),
        ("element/mod.rs", "use crate::plan::Plan;", 1, "`element` may not import `plan`"),
        ("plan/key.rs", "\n\nuse crate::{oci::Digest,\n port::BlobStore};", 4, "may not import `port`"),
        ("port/store.rs", "fn f() -> crate::store::Store {}", 1, "may not import `store`"),
        ("tree/dir.rs", "use crate::store::Store;", 1, "`tree` may not import `store`"),
        ("tree/dir.rs", "use crate::directory::Directory;", 1, "`tree` may not import `directory`"),
        ("exec/run.rs", "use crate::tree::Dir;", 1, "`exec` may not import `tree`"),
        ("store/mod.rs", "use crate::{exec, sandbox::{Child}};", 1, "may not import `sandbox`"),
        ("sandbox/run.rs", "use crate::build::Builder;", 1, "may not import `build`"),
        ("build/mod.rs", "use crate::exec::Program;", 1, "`build` may not import `exec`"),
        ("block/mod.rs", "use crate::cli;", 1, "may not import `cli`"),
        ("build/mod.rs", "use crate::engine::Failure;", 1, "`build` may not import `engine`"),
        ("cli/build.rs", "use crate::store::Store;", 1, "`cli` may not import `store`"),
        ("cli/build.rs", "use crate::build::Builder;", 1, "`cli` may not import `build`"),
        ("engine/mod.rs", "use crate::cli::Progress;", 1, "`engine` may not import `cli`"),
        ("engine/build.rs", "use clap::Parser;", 1, "front ends tell"),
        ("engine/build.rs", "fn f() { let _ = std::env::current_dir(); }", 1, "front ends tell"),
        ("engine/build.rs", "fn f() { eprintln!(\"built\"); }", 1, "closed pipe"),
        ("cli/key.rs", "fn f() { eprint!(\"made\"); }", 1, "closed pipe"),
        ("main.rs", "use plywood::store::Store;", 1, "`main` may not import `store`"),
        ("oci/mod.rs", "use super::layer::Entry;", 1, "`oci` may not import `layer`"),
        ("oci/digest.rs", "use super::super::layer::Entry;", 1, "`oci` may not import `layer`"),
        ("disk.rs", "use super::plan::Plan;", 1, "`disk` may not import `plan`"),
        ("oci/mod.rs", "macro_rules! m { () => { $crate::cli::run() } }", 1, "may not import `cli`"),
        ("store/mod.rs", "use crate::*;", 1, "`*` is not a module"),
        ("plan/mod.rs", "use std::{collections::BTreeMap, fs::File};", 1, "`plan` is a core module"),
        ("plan/mod.rs", "fn now() { let _ = std::time::SystemTime::now(); }", 1, "core module"),
        ("layer/mod.rs", "use std::time;", 1, "core module"),
        ("layer/mod.rs", "/* r\" */ fn f() {\n std::env::var(\"crate::cli\"); }", 2, "core module"),
        ("disk/mod.rs", "use rustix::fs::openat2;", 1, "core module"),
        ("store/mod.rs", "use std::process::Command;", 1, "start programs"),
        ("load/mod.rs", "fn f<'a>(c: char) { if c == '\"' { println!(\"{c}\") } }", 1, "closed pipe"),
        ("build/mod.rs", "#[cfg(not(test))] fn f() { std::process::exit(1) }", 1, "exits"),
    ];
    for (file, text, line, rule) in cases {
        let found = violations(Path::new(file), text);
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert_eq!(found[0].line, *line, "{file}: {text}");
        assert!(found[0].rule.contains(rule), "{file}: {text}: {}", found[0]);
    }
}

/// Cases that look forbidden but are allowed.
#[test]
fn an_allowed_name_passes() {
    let cases = [
        ("layer/tar.rs", "use crate::oci::DiffId; use super::Entry; use std::io::{self, Read};"),
        ("plan/mod.rs", "pub(crate) fn f() {} use crate::{oci, layer::entry, image::Image};"),
        ("store/gc.rs", "use crate::{exec, port::BlobStore}; use std::fs::File;"),
        ("tree/dir.rs", "use crate::layer::Kind; use crate::port::IoError; use rustix::fs::openat;"),
        ("exec/mod.rs", "use std::process::{Command, Stdio};"),
        ("cli/mod.rs", "use crate::engine::Session; use crate::exec::Run; fn f() { remark!(); }"),
        ("main.rs", "fn main() -> std::process::ExitCode { plywood::cli::main() }"),
        ("oci/mod.rs", "/// See [`crate::cli`].\n// crate::cli\n/* crate::cli /* */ std::fs */ fn f() {}"),
        ("oci/mod.rs", "const A: &str = \"crate::cli \\\" std::fs\"; const B: &[u8] = br#\"std::\"fs\"#;"),
        ("oci/mod.rs", "#[cfg(test)] mod tests { use crate::store::Store; use std::fs; }"),
        ("oci/mod.rs", "#[cfg(test)]\n#[path = \"x.rs\"]\nmod t;\n#[cfg(all(test, unix))] use std::fs;"),
        (
            "disk/mod.rs",
            "use std::time::Duration; fn f(file: File) { file.fs::<u8>(); let env = env!(\"X\"); }",
        ),
    ];
    for (file, text) in cases {
        let found = violations(Path::new(file), text);
        assert!(found.is_empty(), "{file}: {text}: {found:?}");
    }
}

#[test]
fn circles_of_files_are_found_through_names_that_are_passed_on() {
    let head = "mod a; mod b; mod c; pub use a::A; pub(super) use c::{self, C}; const LIMIT: u8 = 1;";
    let cases: [(&str, &str, &str, &[&str]); 6] = [
        ("use super::b::B;", "", "", &[]),
        // An item that `mod.rs` defines itself is not in a file beside it.
        ("use super::LIMIT;", "use super::{A, LIMIT};", "use crate::x::b::B;", &[]),
        ("use super::b::B;", "use super::a::A;", "", &["a.rs", "b.rs"]),
        ("use crate::x::C;", "", "fn f() -> super::A {}", &["a.rs", "c.rs"]),
        ("use super::b;", "use super::C;", "use super::{A, LIMIT};", &["a.rs", "b.rs", "c.rs"]),
        ("use super::b::B;", "#[cfg(test)] mod tests { use super::super::a::A; }", "", &[]),
    ];
    for (a, b, c, expected) in cases {
        let files = [("mod.rs", head), ("a.rs", a), ("b.rs", b), ("c.rs", c)];
        let files = files.map(|(name, text)| (Path::new("x").join(name), text.to_owned()));
        let found = circles::find(files).join("\n");
        let named: Vec<_> =
            ["a.rs", "b.rs", "c.rs"].into_iter().filter(|file| found.contains(*file)).collect();
        assert_eq!(named, expected, "{a} | {b} | {c}: {found}");
    }
}

#[test]
fn files_of_test_modules_are_known() {
    let found = names("#[cfg(test)]\nmod tests;\nmod model;\n#[cfg(test)] mod inline { }").test_modules;
    assert_eq!(found, ["tests"]);
}
