//! What a build would do, without doing it.

use schemars::JsonSchema;
use serde::Serialize;

use super::BuildError;
use super::registries::{Refused, Registries};
use super::stack::{Hit, Sources, find, host_misses};
use crate::oci::{ChainId, DiffId};
use crate::plan::{InputKey, Miss, Plan, Record, Step, StepName, explain_miss};
use crate::port::{HostFiles, LayerStore};

/// What a build would do with one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Forecast {
    /// The step's name.
    pub step: StepName,
    /// Its key.
    pub input_key: InputKey,
    /// What would happen.
    pub outcome: Prospect,
}

/// What would happen to one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Prospect {
    /// Its layers exist.
    Hit {
        /// Lowest first.
        diff_ids: Vec<DiffId>,
        /// The repository that has them, if it is not the store.
        #[serde(skip_serializing_if = "Option::is_none")]
        registry: Option<String>,
    },
    /// It has to be built.
    Miss {
        /// What differs from the most similar step that was built before. Never empty.
        reasons: Vec<Miss>,
        /// What registries have for it and is not used.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        refused: Vec<Refused>,
    },
    /// It is unchanged itself, but a step below has to be built: unless that comes out the same, so
    /// has this one.
    Depends {
        /// The lowest step that has to be built.
        on: StepName,
    },
}

/// Returns the forecast of each step of `plan`. Reads the store and asks registries. Runs nothing
/// and writes nothing.
///
/// A miss is explained by comparison with the records in the store and with the last published
/// build of the image.
pub fn forecast(
    plan: &Plan,
    store: &dyn LayerStore,
    host: &dyn HostFiles,
    registries: &Registries<'_>,
) -> Result<Vec<Forecast>, BuildError> {
    registries.ask_for(plan, store)?;
    let sources = Sources { store, host, registries };
    let mut below = Below { sources, stack: Vec::new(), missing: None };
    let mut records = None;
    let mut forecasts = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let outcome = match below.find(step)? {
            Some(hit) => hit,
            None => {
                let records = match &mut records {
                    Some(records) => records,
                    unread => unread.insert([store.all_records()?, registries.records(plan)].concat()),
                };
                below.prospect(step, records)?
            }
        };
        below.add(step, &outcome);
        forecasts.push(Forecast { step: step.name.clone(), input_key: step.input_key, outcome });
    }
    Ok(forecasts)
}

/// What is below a step.
struct Below<'a> {
    sources: Sources<'a>,
    /// The layers, as long as no step is missing.
    stack: Vec<DiffId>,
    /// The lowest step that has to be built.
    missing: Option<&'a StepName>,
}

impl<'a> Below<'a> {
    /// Returns a hit for `step`, if the layers below are known and the step was built on them.
    fn find(&self, step: &Step) -> Result<Option<Prospect>, BuildError> {
        if self.missing.is_some() {
            return Ok(None);
        }
        let hit = find(&self.sources, step, &self.stack)?;
        Ok(hit.map(|Hit { record, offer, found: _ }| Prospect::Hit {
            diff_ids: record.diff_ids,
            registry: offer.map(|offer| self.sources.registries.registry(offer.registry).name().to_owned()),
        }))
    }

    fn prospect(&self, step: &Step, records: &[Record]) -> Result<Prospect, BuildError> {
        let Sources { store, host, registries } = self.sources;
        let chain = ChainId::of(&self.stack);
        let content_key = self.missing.is_none().then(|| step.content_key(chain));
        let host = match self.missing {
            Some(_) => Vec::new(),
            None => host_misses(store, host, step, &self.stack)?,
        };
        let reasons = if host.is_empty() { explain_miss(step, content_key, records) } else { host };
        Ok(match self.missing {
            Some(on) if reasons == [Miss::Below] => Prospect::Depends { on: on.clone() },
            _ => {
                let stack = self.missing.is_none().then_some(self.stack.as_slice());
                Prospect::Miss { reasons, refused: registries.refusals(step, stack) }
            }
        })
    }

    fn add(&mut self, step: &'a Step, outcome: &Prospect) {
        match outcome {
            Prospect::Hit { diff_ids, .. } => self.stack.extend_from_slice(diff_ids),
            Prospect::Miss { .. } | Prospect::Depends { .. } => drop(self.missing.get_or_insert(&step.name)),
        }
    }
}
