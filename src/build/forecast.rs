//! What a build would do, without doing it.

use serde::Serialize;

use super::BuildError;
use super::stack::find;
use crate::oci::{ChainId, DiffId};
use crate::plan::{InputKey, Miss, Plan, Record, Step, explain_miss};
use crate::port::LayerStore;

/// What a build would do with one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The step's name.
    pub step: String,
    /// Its key.
    pub input_key: InputKey,
    /// What would happen.
    pub outcome: Prospect,
}

/// What would happen to one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Prospect {
    /// Its layers are there.
    Hit {
        /// Lowest first.
        diff_ids: Vec<DiffId>,
    },
    /// It has to be built.
    Miss {
        /// Why, most similar earlier build first. Never empty.
        reasons: Vec<Miss>,
    },
    /// It is unchanged itself, but a step below has to be built: unless that comes out the same, so has this one.
    Depends {
        /// The lowest step that has to be built.
        on: String,
    },
}

/// Says for each step of `plan` what a build would do. Reads the store, runs nothing, writes nothing.
pub fn forecast(plan: &Plan, store: &dyn LayerStore) -> Result<Vec<Forecast>, BuildError> {
    let mut below = Below { stack: Vec::new(), missing: None };
    let mut records = None;
    let mut forecasts = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let outcome = match below.find(step, store)? {
            Some(diff_ids) => Prospect::Hit { diff_ids },
            None => {
                let records = match &mut records {
                    Some(records) => records,
                    unread => unread.insert(store.records()?),
                };
                below.prospect(step, records)
            }
        };
        below.add(step, &outcome);
        forecasts.push(Forecast { step: step.name.clone(), input_key: step.input_key, outcome });
    }
    Ok(forecasts)
}

/// What is below a step.
struct Below<'a> {
    /// The layers, as long as no step is missing.
    stack: Vec<DiffId>,
    /// The lowest step that has to be built.
    missing: Option<&'a str>,
}

impl<'a> Below<'a> {
    /// Returns the layers of `step`, if it is known what is below, and that it was built on that.
    fn find(&self, step: &Step, store: &dyn LayerStore) -> Result<Option<Vec<DiffId>>, BuildError> {
        if self.missing.is_some() {
            return Ok(None);
        }
        Ok(find(store, step, &self.stack)?.map(|(record, _)| record.diff_ids))
    }

    fn prospect(&self, step: &Step, records: &[Record]) -> Prospect {
        let chain = ChainId::of(&self.stack);
        let content_key = self.missing.is_none().then(|| step.content_key(chain));
        let reasons = explain_miss(step, content_key, records);
        match self.missing {
            Some(on) if reasons == [Miss::Below] => Prospect::Depends { on: on.to_owned() },
            _ => Prospect::Miss { reasons },
        }
    }

    fn add(&mut self, step: &'a Step, outcome: &Prospect) {
        match outcome {
            Prospect::Hit { diff_ids } => self.stack.extend_from_slice(diff_ids),
            Prospect::Miss { .. } | Prospect::Depends { .. } => drop(self.missing.get_or_insert(&step.name)),
        }
    }
}
