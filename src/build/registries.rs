//! Looks up steps in registries. Each key is looked up once.
//!
//! An answer is only a proposal. It is used if the policy trusts its signature, if it belongs to
//! the requested key, and if the step was built on the same stack. A layer is used only if it has
//! the DiffID in the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use schemars::JsonSchema;
use serde::Serialize;

use super::BuildError;
use super::evidence::misses;
use crate::oci::{ChainId, DiffId, Digest, Tag, TagOrDigest};
use crate::plan::{Found, Plan, Record, Step};
use crate::port::{Event, Events, HostFiles, Layer, LayerStore, RemoteCache, RemoteError, StoreError};
use crate::share::{Refusal, SharedStep, StepIndex, StepKey, image_tag};
use crate::trust::Policy;

/// The registries in which steps are looked up, and their answers.
pub struct Registries<'a> {
    from: Vec<&'a dyn RemoteCache>,
    policy: Policy,
    events: &'a dyn Events,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    answers: BTreeMap<StepKey, Answer>,
    /// Registries that did not answer, by their place. They are not asked again.
    silent: BTreeSet<usize>,
    /// Registries whose repository was looked up, by their place.
    looked_for: BTreeSet<usize>,
    /// True if the user interrupted a look-up.
    is_interrupted: bool,
    /// Layers that could not be fetched, with the place of their registry.
    useless: Vec<(usize, Vec<Layer>)>,
    /// Blobs that a registry holds in a damaged copy, with its place.
    damaged: BTreeSet<(usize, Digest)>,
}

/// The answers for one key.
#[derive(Clone, Default)]
struct Answer {
    offers: Vec<Offer>,
    refused: Vec<Refused>,
}

/// A step that a registry has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    /// The registry, by its place.
    pub(super) registry: usize,
    /// The key that it was found by.
    pub(super) key: StepKey,
    pub(super) step: SharedStep,
}

/// A published step that is not used, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// The repository.
    pub registry: String,
    /// The tag that names it there.
    pub tag: Tag,
    /// Why it is not used.
    pub why: Refusal,
}

impl Offer {
    /// Returns the layers, lowest first.
    pub(super) fn diff_ids(&self) -> Vec<DiffId> {
        self.step.record.diff_ids.clone()
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the step published in `{}` is not used: {}", self.registry, self.why)
    }
}

impl<'a> Registries<'a> {
    /// Looks up steps in these repositories, in order. `policy` decides which signatures are
    /// trusted; `events` receive failures.
    pub fn new(from: Vec<&'a dyn RemoteCache>, policy: Policy, events: &'a dyn Events) -> Self {
        Self { from, policy, events, known: Mutex::default() }
    }

    /// Looks up nothing.
    pub fn none(events: &'a dyn Events) -> Self {
        Self::new(Vec::new(), Policy::default(), events)
    }

    /// Asks for every step of `plan`, by its input key, that `store` does not have.
    pub(super) fn ask_for(&self, plan: &Plan, store: &dyn LayerStore) -> Result<(), BuildError> {
        let mut keys = Vec::new();
        for step in plan.all_steps() {
            if !self.from.is_empty() && store.by_input(step.input_key)?.is_none() {
                keys.push(StepKey::Input(step.input_key));
            }
        }
        self.ask(keys);
        if self.known().is_interrupted { Err(StoreError::Interrupted.into()) } else { Ok(()) }
    }

    /// Looks up all these keys at once, without those that were looked up before.
    pub(super) fn ask(&self, keys: impl IntoIterator<Item = StepKey>) {
        let known = self.known();
        let open = keys.into_iter().filter(|key| !known.answers.contains_key(key)).collect();
        drop(known);
        self.ask_from(0, open);
    }

    /// Asks one registry after the other, from the place `first` on. Each is asked for the keys
    /// that the registries before it did not have.
    fn ask_from(&self, first: usize, mut open: Vec<StepKey>) {
        let mut answers: BTreeMap<_, Answer> = open.iter().map(|key| (*key, Answer::default())).collect();
        for registry in first..self.from.len() {
            self.ask_one(registry, &open, &mut answers);
            open.retain(|key| answers[key].offers.is_empty());
        }
        let mut known = self.known();
        for (key, Answer { offers, refused }) in answers {
            let answer = known.answers.entry(key).or_default();
            answer.offers.extend(offers);
            answer.refused.extend(refused);
        }
    }

    fn ask_one(&self, registry: usize, keys: &[StepKey], answers: &mut BTreeMap<StepKey, Answer>) {
        if keys.is_empty() || self.known().silent.contains(&registry) {
            return;
        }
        let tags: Vec<_> = keys.iter().map(|key| TagOrDigest::from(key.tag())).collect();
        let given = self.from[registry].manifests(&tags);
        self.note_failures(registry, &given);
        if given.iter().all(|given| matches!(given, Ok(None))) {
            self.note_absence(registry);
        }
        for (key, given) in keys.iter().zip(given) {
            let Ok(Some(manifest)) = given else { continue };
            let answer = answers.entry(*key).or_default();
            match SharedStep::from_manifest(&manifest, key, &self.policy) {
                Ok(step) => answer.offers.push(Offer { registry, key: *key, step }),
                Err(why) => answer.refused.push(self.refused(registry, key, why)),
            }
        }
    }

    /// Warns once about a repository that does not exist, because a misspelled name looks like a
    /// miss. It is not asked again.
    fn note_absence(&self, registry: usize) {
        let is_first = self.known().looked_for.insert(registry);
        if is_first && matches!(self.from[registry].exists(), Ok(false)) {
            let name = self.from[registry].name();
            self.warn(&format!(
                "the repository `{name}` does not exist: nothing was published to it yet, or its name is wrong"
            ));
            self.known().silent.insert(registry);
        }
    }

    /// Warns about failures, once for each registry. A registry without any answer is not asked
    /// again.
    fn note_failures(&self, registry: usize, given: &[Result<Option<Vec<u8>>, RemoteError>]) {
        let mut failures = given.iter().filter_map(|given| given.as_ref().err());
        let Some(first) = failures.next() else { return };
        if matches!(first, RemoteError::Interrupted) {
            self.known().is_interrupted = true;
            return;
        }
        self.warn(&format!("{}; steps that it may have are built here", chain(first)));
        if failures.count() + 1 == given.len() {
            self.known().silent.insert(registry);
        }
    }

    /// Returns the step that a registry has for `step` above `stack`, and which key found it.
    ///
    /// The host files that its hooks read where it was built must be the same on this `host`.
    pub(super) fn find(&self, step: &Step, stack: &[DiffId], host: &dyn HostFiles) -> Option<(Offer, Found)> {
        if self.from.is_empty() {
            return None;
        }
        let content_key = step.content_key(ChainId::of(stack));
        let by_input = StepKey::Input(step.input_key);
        let by_content = StepKey::Content(content_key);
        for (key, found) in [(by_input, Found::Input), (by_content, Found::Content)] {
            self.ask([key]);
            // Only a base that came as layers may have several, and a config with them.
            let fits = |offer: &Offer| {
                offer.step.record.content_key == content_key
                    && offer.step.config.is_some() == step.imported_base().is_some()
            };
            for offer in self.offers(&key).into_iter().filter(fits) {
                match misses(step, &offer.step.record, host).first() {
                    None => return Some((offer, found)),
                    Some(miss) => drop(self.note_refusal(&offer, Refusal::Host { reason: miss.to_string() })),
                }
            }
        }
        None
    }

    /// Refuses an offer whose layer cannot be used. It is not offered again, and the registries
    /// after this one are asked.
    pub(super) fn refuse(&self, offer: &Offer, why: Refusal) {
        let refused = self.note_refusal(offer, why);
        self.warn(&format!("step `{}`: {refused}", offer.step.record.step));
        self.known().useless.push((offer.registry, offer.step.layers.clone()));
        self.ask_from(offer.registry + 1, vec![offer.key]);
    }

    /// Remembers that a registry holds a damaged copy of a blob.
    pub(super) fn note_damage(&self, registry: usize, blob: Digest) {
        self.known().damaged.insert((registry, blob));
    }

    /// Returns the blobs of which the repository `name` has served damaged copies to this process.
    pub fn damaged_in(&self, name: &str) -> BTreeSet<Digest> {
        let known = self.known();
        let there = known.damaged.iter().filter(|(place, _)| self.from[*place].name() == name);
        there.map(|(_, blob)| *blob).collect()
    }

    /// Records why an offer is refused, once for each reason.
    fn note_refusal(&self, offer: &Offer, why: Refusal) -> Refused {
        let refused = self.refused(offer.registry, &offer.key, why);
        let mut known = self.known();
        let all = &mut known.answers.entry(offer.key).or_default().refused;
        if !all.contains(&refused) {
            all.push(refused.clone());
        }
        refused
    }

    /// Returns the refused steps that registries have for `step` above `stack`, each reason of each
    /// registry once. The stack is `None` if it is unknown.
    pub(super) fn refusals(&self, step: &Step, stack: Option<&[DiffId]>) -> Vec<Refused> {
        let by_content = stack.map(|stack| StepKey::Content(step.content_key(ChainId::of(stack))));
        let keys = [Some(StepKey::Input(step.input_key)), by_content];
        let known = self.known();
        let answers = keys.iter().flatten().filter_map(|key| known.answers.get(key));
        let mut refused: Vec<Refused> = answers.flat_map(|answer| answer.refused.clone()).collect();
        refused.dedup_by(|later, earlier| later.registry == earlier.registry && later.why == earlier.why);
        refused
    }

    /// Returns the trusted steps with which `plan`'s image was last published. They explain misses.
    pub(super) fn records(&self, plan: &Plan) -> Vec<Record> {
        let places = (0..self.from.len()).filter(|place| !self.known().silent.contains(place));
        let from = places.map(|place| self.from[place]).collect::<Vec<_>>();
        from.into_iter().flat_map(|registry| self.last_published(registry, plan)).collect()
    }

    fn last_published(&self, registry: &dyn RemoteCache, plan: &Plan) -> Vec<Record> {
        let index = registry.manifests(&[image_tag(&plan.image).into()]).into_iter().next();
        let Some(Ok(Some(index))) = index else { return Vec::new() };
        // The index is not signed, and may name thousands of manifests. One for each step is enough
        // to explain a miss.
        let published: BTreeMap<_, _> =
            StepIndex::parse(&index).unwrap_or_default().steps.into_iter().collect();
        let named = plan.steps.iter().filter_map(|step| published.get(&step.name));
        let digests: Vec<_> = named.map(|digest| TagOrDigest::from(*digest)).collect();
        let manifests = registry.manifests(&digests).into_iter().filter_map(|given| given.ok().flatten());
        let believed = manifests.filter_map(|manifest| SharedStep::read(&manifest, &self.policy).ok());
        believed.map(|step| step.record).collect()
    }

    /// Returns the repository of that place.
    pub(super) fn registry(&self, place: usize) -> &'a dyn RemoteCache {
        self.from[place]
    }

    /// Returns the offers for a key, without those whose layers cannot be used.
    fn offers(&self, key: &StepKey) -> Vec<Offer> {
        let known = self.known();
        let offers = known.answers.get(key).map(|answer| answer.offers.as_slice()).unwrap_or_default();
        let is_useless = |offer: &Offer| {
            known
                .useless
                .iter()
                .any(|(registry, layers)| *registry == offer.registry && *layers == offer.step.layers)
        };
        offers.iter().filter(|offer| !is_useless(offer)).cloned().collect()
    }

    fn refused(&self, registry: usize, key: &StepKey, why: Refusal) -> Refused {
        Refused { registry: self.from[registry].name().to_owned(), tag: key.tag(), why }
    }

    fn warn(&self, message: &str) {
        self.events.emit(Event::Warning { message });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|held| held.into_inner())
    }
}

/// Returns an error with its causes, as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
