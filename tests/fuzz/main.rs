//! Feeds damaged inputs to parsers of foreign data. They must return a value or an error quickly,
//! and never panic.
//!
//! `tests/fuzz/corpus/TARGET` holds the inputs. Each case takes one of them, damages it in a few
//! places and parses it. A failing case is reduced and written to a file. A run takes seconds. For
//! a long run:
//!
//! ```text
//! PROPTEST_CASES=1000000 cargo test --release --test fuzz TARGET
//! ```
//!
//! Add an input that has failed to the corpus: every run also parses the inputs undamaged.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plywood::disk::{BlockDevices, RootParameters};
use plywood::element::{Element, ElementFile, FileKind, Mode};
use plywood::image::Project;
use plywood::layer::Decoder;
use plywood::oci::{Challenge, Digest, Reference, parse_challenges};
use plywood::share::SharedStep;
use plywood::trust::Policy;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestError, TestRunner};

/// The number of cases for each target, unless `PROPTEST_CASES` is set.
const CASES: u32 = 2000;

/// The time limit for an input of a few kilobytes.
const LIMIT: Duration = Duration::from_secs(10);

/// The part of the content of an archive member that is read. Sparse members may have any size.
const CONTENT_BYTES: u64 = 1 << 20;

/// One way to damage an input. Positions are relative to the length of the input.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
    /// Continues with the end of another input.
    Splice(Index, Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        4 => (place(), telling_byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (place(), prop::collection::vec(telling_byte(), 1..8)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (place(), 1..64usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => (place(), 1..64usize, 2..200usize).prop_map(|(at, count, times)| Damage::Repeat(at, count, times)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), place(), place()).prop_map(|(at, other, from)| Damage::Splice(at, other, from)),
    ]
}

/// Returns a byte. Bytes with a meaning for parsers are more frequent.
fn telling_byte() -> impl Strategy<Value = u8> {
    let marks = b"\0\n\r\t \"'\\/.,:;=@%#-_[]{}()<>0179aZ*&|!~\x7f\x80\xc3\xff";
    prop_oneof![any::<u8>(), prop::sample::select(marks.as_slice())]
}

fn spoil(mut input: Vec<u8>, damages: &[Damage], corpus: &[Vec<u8>]) -> Vec<u8> {
    for damage in damages {
        let place = |at: &Index| at.index(input.len().max(1)).min(input.len());
        match damage {
            Damage::Flip(at, bit) => change(&mut input, at, |byte| byte ^ (1 << bit)),
            Damage::Set(at, new) => change(&mut input, at, |_| *new),
            Damage::Insert(at, bytes) => {
                let at = place(at);
                input.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove(at, count) => {
                let at = place(at);
                input.drain(at..input.len().min(at + count));
            }
            Damage::Repeat(at, count, times) => {
                let at = place(at);
                let piece = input[at..input.len().min(at + count)].repeat(*times);
                input.splice(at..at, piece);
            }
            Damage::Cut(at) => input.truncate(place(at)),
            Damage::Splice(at, other, from) => {
                let other = &corpus[other.index(corpus.len())];
                input.truncate(place(at));
                input.extend_from_slice(&other[from.index(other.len().max(1)).min(other.len())..]);
            }
        }
    }
    input
}

fn change(input: &mut [u8], at: &Index, new: impl Fn(u8) -> u8) {
    if !input.is_empty() {
        let byte = &mut input[at.index(input.len())];
        *byte = new(*byte);
    }
}

/// Parses every input of the corpus of a target, first undamaged and then damaged. `parse` returns
/// true if it accepts the input, and panics if the result is wrong. At least one undamaged input
/// must be accepted. Otherwise the test would cover only refusals.
fn fuzz(target: &str, parse: impl Fn(&[u8]) -> bool) {
    let corpus: Vec<_> = inputs(target).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(corpus.iter().filter(|input| parse(input)).count() > 0, "no input of {target} is accepted");
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let case = (any::<Index>(), prop::collection::vec(damage(), 1..6));
    let spoiled =
        |(which, damages): &(Index, Vec<Damage>)| spoil(which.get(&corpus).clone(), damages, &corpus);
    let tried = TestRunner::new(config).run(&case, |case| {
        let started = Instant::now();
        parse(&spoiled(&case));
        prop_assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
        Ok(())
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
            fs::write(&path, spoiled(&case)).unwrap();
            panic!("{reason}; the input is in {}: fix the parser, and add it to the corpus", path.display());
        }
        Err(error) => panic!("{error}"),
    }
}

/// Returns the files of a corpus, in order.
fn inputs(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Parses inputs that are text. Refuses others before the parser.
fn text<T, E: Debug>(parse: impl Fn(&str) -> Result<T, E>) -> impl Fn(&[u8]) -> bool {
    move |input| std::str::from_utf8(input).is_ok_and(|text| parse(text).is_ok())
}

#[test]
fn tar() {
    fuzz("tar", |input| {
        let mut decoder = Decoder::new(input);
        loop {
            match decoder.next_entry() {
                Ok(Some((entry, content))) => {
                    let parts: Vec<_> = entry.path.split(|byte| *byte == b'/').collect();
                    let is_plain =
                        entry.path.is_empty() || !parts.iter().any(|part| part.is_empty() || *part == b"..");
                    assert!(is_plain && !entry.path.contains(&0), "{:?}", entry.path);
                    if content.take(CONTENT_BYTES).read_to_end(&mut Vec::new()).is_err() {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => return error.to_string().is_empty(),
            }
        }
    });
}

#[test]
fn challenge() {
    fuzz("challenge", |input| {
        let found = parse_challenges(&String::from_utf8_lossy(input));
        found.iter().any(|challenge| matches!(challenge, Challenge::Bearer { .. }))
    });
}

#[test]
fn reference() {
    fuzz(
        "reference",
        text(|text| {
            let parsed = text.parse::<Reference>();
            if let Ok(reference) = &parsed {
                assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(reference), "{text:?}");
            }
            parsed
        }),
    );
}

#[test]
fn shared_step() {
    let policy = Policy::default();
    fuzz("step", |input| match SharedStep::read(input, &policy) {
        Ok(step) => {
            let again = SharedStep::read(&step.to_manifest(None), &policy).unwrap();
            assert_eq!(again, step);
            true
        }
        Err(refusal) => refusal.to_string().is_empty(),
    });
}

#[test]
fn block_device() {
    fuzz("block-device", text(|text| BlockDevices::parse("disk.yaml", text, &RootParameters::default())));
}

#[test]
fn project() {
    fuzz("project", text(|text| toml::from_str::<Project>(text)));
}

#[test]
fn package_list() {
    fuzz(
        "packages",
        text(|text| {
            let kind = FileKind::File { digest: Digest::of(text), bytes: text.len() as u64 };
            let file = ElementFile { kind, mode: Mode::Plain, text: Some(Arc::from(text.as_bytes())) };
            let element = Element {
                name: "fuzz".parse().unwrap(),
                root: PathBuf::from("elements/fuzz"),
                deps: BTreeSet::new(),
                provides: BTreeSet::new(),
                files: [("package-installs.yaml".to_owned(), file)].into(),
                readme: None,
                restricted: Default::default(),
                slots: Vec::new(),
            };
            element.package_list()
        }),
    );
}
