//! Checks the book: each page is in the table of contents, links have valid targets, and commands
//! and examples are correct.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::file;
use super::page::{Block, Page, commands};

/// Pages outside of the book that link to it.
const OUTSIDE: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

/// Prefixes of the paths of pages whose blocks are all tested.
const TAUGHT: [&str; 3] = ["docs/tutorial.md", "docs/how-to/", "docs/troubleshooting.md"];

/// Returns the pages of the book, and the pages that link to it, sorted.
pub(crate) fn pages() -> Vec<String> {
    let mut paths: Vec<_> = OUTSIDE.map(str::to_owned).into();
    for directory in ["docs", "docs/how-to"] {
        let entries = fs::read_dir(file(directory)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
        paths.extend(names.map(|name| format!("{directory}/{name}")));
    }
    paths.sort();
    paths
}

fn taught() -> impl Iterator<Item = Page> {
    let paths = pages().into_iter().filter(|path| TAUGHT.iter().any(|start| path.starts_with(start)));
    paths.map(|path| Page::read(&path))
}

/// Returns the target of a link in a page: a path in the repository and a fragment. `None` for a
/// target outside the repository.
fn target(page: &str, link: &str) -> Option<(String, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) =
        link.split_once('#').map_or((link, None), |(path, fragment)| (path, Some(fragment)));
    let path = match path {
        "" => PathBuf::from(page),
        path => Path::new(page).parent().unwrap().join(path),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            other => parts.push(other.as_os_str().to_str().unwrap()),
        }
    }
    Some((parts.join("/"), fragment.map(str::to_owned)))
}

#[test]
fn every_link_leads_to_a_file_and_every_fragment_to_a_heading() {
    for path in pages() {
        for (line, link) in Page::read(&path).links() {
            let Some((to, fragment)) = target(&path, &link) else { continue };
            let place = format!("{path}:{line}: the link to {link}");
            assert!(file(&to).exists(), "{place} has a missing target");
            let stays = path.starts_with("docs/") <= to.starts_with("docs/");
            assert!(stays, "{place} leads out of docs/ and the book");
            let found = fragment.is_none_or(|fragment| Page::read(&to).anchors().contains(&fragment));
            assert!(found, "{place} names no heading there");
        }
    }
}

#[test]
fn the_table_of_contents_names_every_page_once() {
    let summary = "docs/SUMMARY.md";
    let links = Page::read(summary).links();
    let mut named: Vec<_> = links.iter().map(|(_, link)| target(summary, link).unwrap().0).collect();
    named.sort();
    let all = pages().into_iter().filter(|path| path.starts_with("docs/") && path != summary);
    assert_eq!(named, all.collect::<Vec<_>>(), "{summary} on the left, docs/ on the right");
}

#[test]
fn every_term_of_the_glossary_is_defined_once() {
    let page = Page::read("docs/glossary.md");
    let terms: Vec<_> = page.headings().into_iter().skip(1).map(str::to_lowercase).collect();
    let sorted: Vec<_> = terms.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(terms, sorted, "the terms are not in order, or one of them is there twice");
}

#[test]
fn every_page_leads_to_the_glossary() {
    let pages = pages().into_iter().filter(|path| path.starts_with("docs/") && path != "docs/glossary.md");
    let leads = |path: &String| Page::read(path).links().iter().any(|(_, link)| link.contains("glossary.md"));
    let lost: Vec<_> = pages.filter(|path| !leads(path)).collect();
    assert!(lost.is_empty(), "these pages have no link to the glossary: {lost:?}");
}

/// Returns the syntax error of an example.
fn fault(block: &Block) -> Option<String> {
    match block.language.as_str() {
        "yaml" => {
            serde_saphyr::from_str::<serde_json::Value>(&block.text).err().map(|error| error.to_string())
        }
        "json" => serde_json::from_str::<serde_json::Value>(&block.text).err().map(|error| error.to_string()),
        // Tested with the examples of all pages.
        "toml" => None,
        "dockerfile" => dockerfile_fault(&block.text),
        other => Some(format!("no test knows the syntax of `{other}`")),
    }
}

/// Returns the first line that is not an instruction. An instruction begins with a word in
/// capitals, and a backslash at the end of a line continues it.
fn dockerfile_fault(text: &str) -> Option<String> {
    let mut goes_on = false;
    let mut instructions = text.lines().filter(|line| {
        let is_instruction = !goes_on && !line.is_empty() && !line.starts_with('#');
        goes_on = line.ends_with('\\');
        is_instruction
    });
    let is_known = |line: &str| {
        let word = line.split(' ').next().unwrap_or_default();
        ["FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "LABEL"].contains(&word)
    };
    instructions.find(|line| !is_known(line)).map(|line| format!("`{line}` is not an instruction"))
}

#[test]
fn every_block_of_a_page_that_teaches_is_of_a_kind_that_is_tested() {
    for page in taught() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.path, block.line);
            let is_known = block.file().is_some()
                || block.is_example()
                || block.word.is_empty() && ["console", "text"].contains(&block.language.as_str());
            assert!(is_known, "{place}: see tests/common/page.rs for the words of a block: {block:?}");
            let fault = if block.is_example() { fault(&block) } else { None };
            assert_eq!(fault, None, "{place}");
        }
    }
}

/// Readers do not see the words after the backticks, so the page must name the file.
#[test]
fn the_name_of_a_file_stands_before_its_text() {
    for page in taught() {
        for block in page.blocks().iter().filter(|block| block.file().is_some()) {
            let before: Vec<_> = page.text.lines().take(block.line - 2).collect();
            let paragraphs = before.rsplit(|line| line.starts_with("```")).next().unwrap_or_default();
            let name = format!("`{}`", block.file().unwrap());
            let is_named = paragraphs.iter().any(|line| line.contains(&name));
            assert!(is_named, "{}:{}: the page does not say that this is {name}", page.path, block.line);
        }
    }
}

/// Readers trust the commands of a page, so a test must run them.
#[test]
fn every_page_with_commands_is_followed_by_a_test() {
    let tests =
        ["docs", "docs/tutorial"].map(|name| super::read(&format!("tests/system/{name}.rs"))).concat();
    for page in taught().filter(|page| !page.texts("console").is_empty()) {
        assert!(tests.contains(&format!("follow(\"{}\")", page.path)), "no test follows {}", page.path);
    }
}

/// Returns the words of a call of plywood in a line, if there is one. A call with `…` cannot be
/// checked.
fn call(line: &str) -> Option<Vec<String>> {
    let line = line.split(" #").next()?.split([';', '&', '>', '<']).next()?;
    let words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned());
    let words = words.skip_while(|word| leads_to_a_call(word));
    // The values of variables are known only in jobs. All of them are names in registries.
    let words: Vec<_> = words
        .map(|word| if word.contains('$') { "registry.example/name".to_owned() } else { word })
        .collect();
    // Two spaces after the name of the program mean a drawing.
    (words.first()? == "plywood" && !line.contains("plywood  ") && !line.contains('…')).then_some(words)
}

/// Returns true if a word may precede a command: a prompt, a key of YAML, `sudo` with its options,
/// a variable.
fn leads_to_a_call(word: &str) -> bool {
    ["$", "-", "run:", "cmd:", "sudo"].contains(&word)
        || word.starts_with("--preserve-env")
        || word.contains('=')
}

#[test]
fn every_call_of_plywood_has_options_that_exist() {
    let mut count = 0;
    for path in pages() {
        for (number, line) in Page::read(&path).code() {
            let Some(words) = call(line) else { continue };
            count += 1;
            let error = plywood::cli::command_line().try_get_matches_from(&words).err();
            assert!(error.is_none(), "{path}:{number}: `{line}`: {}", error.unwrap());
        }
    }
    assert!(count > 40, "{count} calls were found");
}

#[test]
fn calls_are_found_in_prompts_and_in_job_files() {
    for (line, expected) in [
        ("$ sudo plywood plan", Some("plywood plan")),
        ("        run: sudo --preserve-env=A plywood build -f oci", Some("plywood build -f oci")),
        ("    - plywood plan --json >plan.json", Some("plywood plan --json")),
        ("plywood push web $HOST/web:$TAG", Some("plywood push web registry.example/name")),
        ("    plywood build …", None),
        ("web: wrote out/web.qcow2", None),
        ("    plywood        a mount namespace", None),
    ] {
        assert_eq!(call(line).map(|words| words.join(" ")).as_deref(), expected, "{line}");
    }
}

#[test]
fn prose_of_the_pages_that_teach_has_at_most_100_columns() {
    for page in taught().chain([Page::read("docs/glossary.md")]) {
        let mut lines = page.prose().filter(|(_, line)| !line.starts_with(['|', '#']));
        let long = lines.find(|(_, line)| line.chars().count() > 100 && line.contains(' '));
        assert_eq!(long, None, "{}", page.path);
    }
}

#[test]
fn a_console_block_has_commands_with_what_they_print() {
    let text = "$ one \\\n> two\nprinted\n$ false\nerror: no\n";
    let found = commands(text);
    assert_eq!(found[0].text, "one \\\ntwo");
    assert_eq!((found[0].output.as_slice(), found[0].fails()), (["printed".to_owned()].as_slice(), false));
    assert!(found[1].fails());
}
