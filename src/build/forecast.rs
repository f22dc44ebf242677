//! What a build would do, without doing it.

use serde::Serialize;

use super::BuildError;
use crate::oci::{ChainId, DiffId};
use crate::plan::{InputKey, Miss, Plan, Step, explain_miss};
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
    let mut stack = Some(Vec::new());
    let mut lowest_miss: Option<&str> = None;
    let mut forecasts = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let outcome = prospect(step, stack.as_deref(), lowest_miss, store)?;
        match &outcome {
            Prospect::Hit { diff_ids } => {
                if let Some(stack) = &mut stack {
                    stack.extend_from_slice(diff_ids);
                }
            }
            Prospect::Miss { .. } | Prospect::Depends { .. } => {
                stack = None;
                lowest_miss.get_or_insert(&step.name);
            }
        }
        forecasts.push(Forecast { step: step.name.clone(), input_key: step.input_key, outcome });
    }
    Ok(forecasts)
}

/// Looks one step up; `stack` is what is below, if that is known.
fn prospect(
    step: &Step,
    stack: Option<&[DiffId]>,
    lowest_miss: Option<&str>,
    store: &dyn LayerStore,
) -> Result<Prospect, BuildError> {
    if let Some(record) = store.by_input(step.input_key)? {
        return Ok(Prospect::Hit { diff_ids: record.diff_ids });
    }
    if let Some(stack) = stack
        && let Some(record) = store.by_content(step.content_key(ChainId::of(stack)))?
    {
        return Ok(Prospect::Hit { diff_ids: record.diff_ids });
    }
    let reasons = explain_miss(step, &store.records()?);
    Ok(match lowest_miss {
        Some(below) if reasons == [Miss::Below] => Prospect::Depends { on: below.to_owned() },
        _ => Prospect::Miss { reasons },
    })
}
