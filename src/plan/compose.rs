//! Composes the steps of an image from its resolved parts.
//!
//! ```text
//! in element order                                        in phase order
//!
//! base, or root     the root file system                  base, or root
//! prepare           extra-data and pre-install of the     prepare        extra-data, pre-install
//!                   operating system's elements, and      install        install, packages of the image
//!                   hooks that must precede all others    post-install   post-install, post-root
//! element …         the other hooks of one element
//! packages          packages of the image definition
//! late              hooks that need all elements, removals
//! final             pre-finalise, finalise and cleanup of all elements: see [`Plan::finish`]
//! ```
//!
//! The hooks of a step see exactly what is in its key: the files of [`Tasks::hooks`], the variables
//! of [`Tasks::environment`], the files of [`Tasks::files`]. Both are made from the same values
//! here.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::dib_manifests::manifest_task;
use super::hooks::is_provider_data;
use super::key::variable_label;
use super::request::{Foundation, Request};
use super::step::{Action, Plan, Step, Task, Tasks, Work};
use super::tasks::{Removals, Share, check_data, extra_packages, task};
use super::variables::is_keyed;
use super::view::{final_view, late_view, root_view, view_of};
use super::{KeyFields, PlanError, Seal, StepName};
use crate::distro::{BaseDefinition, BaseSource, dnf};
use crate::element::{
    Element, ElementName, Family, HookOrder, NativeProvider, Phase, PhaseClass, Place, Slot, duplicate_hooks,
    needs_phase_order, run_parts_order,
};
use crate::oci::Digest;

/// The phases of a layer above the root file system.
const LAYER_PHASES: [Phase; 5] =
    [Phase::ExtraData, Phase::PreInstall, Phase::Install, Phase::PostInstall, Phase::PostRoot];

/// The phases before any installation, and the others.
const PREPARING: [Phase; 2] = [Phase::ExtraData, Phase::PreInstall];
const INSTALLING: [Phase; 3] = [Phase::Install, Phase::PostInstall, Phase::PostRoot];

/// Returns the plan of an image.
///
/// # Errors
/// [`PlanError`], if the elements cannot be built as layers on this foundation.
pub fn plan_image(request: &Request<'_>) -> Result<Plan, PlanError> {
    refuse_what_no_layer_can_hold(request)?;
    let mut composition = Composition::start(request)?;
    match request.order {
        HookOrder::Element => composition.add_elements()?,
        HookOrder::Phase => composition.add_phases()?,
    }
    let finish = composition.finish()?;
    Ok(Plan {
        image: request.image.to_owned(),
        architecture: request.architecture,
        source_date_epoch: request.source_date_epoch,
        foundation: request.foundation.clone(),
        steps: composition.steps,
        tools: tools(request),
        finish,
    })
}

/// Refuses elements that share a file of the hooks directory, that have hooks of phases that do not
/// run here, or that have unreadable data.
fn refuse_what_no_layer_can_hold(request: &Request<'_>) -> Result<(), PlanError> {
    if let Some(duplicate) = duplicate_hooks(request.elements.iter().map(Arc::as_ref)).into_iter().next() {
        return Err(duplicate.into());
    }
    let made_by_plywood: &[Phase] = match request.foundation {
        Foundation::Base { .. } => &[Phase::Root, Phase::BlockDevice],
        Foundation::Elements { .. } => &[Phase::BlockDevice],
    };
    // Here and not in the step that uses it, so that unreadable data is refused before any hook
    // runs.
    check_data(request.elements)?;
    for element in request.elements {
        if let Some(reason) = needs_phase_order(&element.name).filter(|_| request.order == HookOrder::Element)
        {
            return Err(PlanError::NeedsPhaseOrder { element: element.name.clone(), reason });
        }
        for &phase in made_by_plywood {
            if let Some(hook) = element.hooks(phase).first() {
                return Err(PlanError::Unplaceable {
                    element: element.name.clone(),
                    phase,
                    hook: hook.name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// The steps of an image, lowest first.
struct Composition<'a> {
    request: &'a Request<'a>,
    /// The elements that build the operating system.
    system: Vec<Arc<Element>>,
    steps: Vec<Step>,
}

impl<'a> Composition<'a> {
    fn start(request: &'a Request<'a>) -> Result<Self, PlanError> {
        let mut composition = Self { request, system: operating_system(request), steps: Vec::new() };
        let lowest = match request.foundation {
            Foundation::Base { name, definition } => {
                let mut fields = base_fields(request, definition);
                if matches!(definition.source, BaseSource::Dnf(_)) {
                    // The tools decide which packages are chosen, and write their database.
                    fields.push(("tools".to_owned(), dnf::tools().identity().to_string()));
                }
                base_step(StepName::Base(name.clone()), fields, (**definition).clone())
            }
            Foundation::Elements { operating_system } => {
                let name = StepName::Root(operating_system.clone());
                composition.step(name, composition.root_tasks()?)
            }
        };
        composition.steps.push(lowest);
        Ok(composition)
    }

    fn root_tasks(&self) -> Result<Tasks, PlanError> {
        // No providers: the root file system that they work on does not exist before these hooks
        // have run.
        let share = Share { served: &[], ..self.share(&[Phase::Root], &|_, _, _| true) };
        let mut list = share.tasks()?;
        list.push(task(Phase::Root, "set-resolver-aside", Action::SetResolverAside));
        Ok(Tasks { list, phases: vec![Phase::Root], ..root_view(self.request, &self.system) })
    }

    /// Adds one step for each element, and the steps before and after all of them.
    fn add_elements(&mut self) -> Result<(), PlanError> {
        self.add_preparation()?;
        for element in self.request.elements {
            self.add_element(element)?;
        }
        let packages = Tasks { list: extra_packages(self.request.packages), ..Tasks::default() };
        self.push(StepName::Packages, packages);
        let late = |element: &Element, phase, hook: &str| element.slot(phase, hook) == Slot::Late;
        let share = Share { removals: Removals::AtOnce, served: &[], ..self.share(&LAYER_PHASES, &late) };
        let list = share.tasks()?;
        let view = late_view(self.request, &self.owners(Slot::Late), &LAYER_PHASES);
        self.push(StepName::Late, Tasks { list, ..view });
        Ok(())
    }

    fn add_preparation(&mut self) -> Result<(), PlanError> {
        let first = |element: &Element, phase, hook: &str| match element.slot(phase, hook) {
            Slot::Own => self.is_of_system(element),
            slot => slot == Slot::Prepare,
        };
        let served: Vec<_> =
            self.request.elements.iter().filter(|element| self.is_prepared(element)).cloned().collect();
        let list = Share { served: &served, ..self.share(&PREPARING, &first) }.tasks()?;
        let mut owners = self.owners(Slot::Prepare);
        owners.extend(self.system.iter().cloned());
        let view = view_of(self.request, &owners, &PREPARING);
        self.push(StepName::Prepare, Tasks { list, phases: PREPARING.to_vec(), ..view });
        Ok(())
    }

    fn add_element(&mut self, element: &Arc<Element>) -> Result<(), PlanError> {
        let own = std::slice::from_ref(element);
        let phases: &[Phase] = if self.is_prepared(element) { &INSTALLING } else { &LAYER_PHASES };
        let takes = |element: &Element, phase, hook: &str| element.slot(phase, hook) == Slot::Own;
        let share = Share { elements: own, served: own, ..self.share(phases, &takes) };
        let list = share.tasks()?;
        let view = view_of(self.request, own, phases);
        self.push((&element.name).into(), Tasks { list, phases: phases.to_vec(), ..view });
        Ok(())
    }

    /// Adds one step for each phase, or for two phases together.
    fn add_phases(&mut self) -> Result<(), PlanError> {
        let steps: [(StepName, &[Phase]); 3] = [
            (StepName::Prepare, &PREPARING),
            (StepName::Install, &INSTALLING[..1]),
            (StepName::PostInstall, &INSTALLING[1..]),
        ];
        for (name, phases) in steps {
            let share = Share { removals: Removals::InEachPhase, ..self.share(phases, &|_, _, _| true) };
            let mut list = share.tasks()?;
            if name == StepName::Install {
                list.extend(extra_packages(self.request.packages));
            }
            let view = view_of(self.request, self.request.elements, phases);
            let tasks = Tasks { list, phases: phases.to_vec(), ..view };
            // Hooks on the host may add the first hooks of a phase at run time, so a step without
            // tasks stays in the plan if they might.
            match phases.iter().any(|&phase| self.may_get_hooks(phase)) {
                true => self.steps.push(self.step(name, tasks)),
                false => self.push(name, tasks),
            }
        }
        Ok(())
    }

    /// Returns true if hooks on the host may add hooks to a phase: if they mention its directory.
    fn may_get_hooks(&self, phase: Phase) -> bool {
        let makers =
            self.request.elements.iter().filter(|element| NativeProvider::of(&element.name).is_none());
        let mut hooks = makers.flat_map(|element| {
            let on_host = LAYER_PHASES.into_iter().filter(|phase| phase.place() == Place::Host);
            on_host.flat_map(|phase| element.hooks(phase))
        });
        hooks.any(|hook| {
            let text = hook.file.text.as_deref().unwrap_or_default();
            String::from_utf8_lossy(text).contains(&format!("/{phase}"))
        })
    }

    fn finish(&self) -> Result<Step, PlanError> {
        let put_off = |element: &Element, phase: Phase, hook: &str| match self.request.order {
            _ if phase.class() == PhaseClass::Final => true,
            HookOrder::Element => element.slot(phase, hook) == Slot::Final,
            HookOrder::Phase => false,
        };
        let phases: Vec<_> = LAYER_PHASES.into_iter().chain(Phase::of_class(PhaseClass::Final)).collect();
        let mut list = Share { served: &[], ..self.share(&phases, &put_off) }.tasks()?;
        list.retain(|task| task.action != Action::RefreshIndex);
        let hooks: Vec<_> = list.iter().map(|task| format!("{}/{}", task.phase, task.name)).collect();
        if let Some(task) = manifest_task(self.request) {
            list.insert(place_of(&task, &list), task);
        }
        list.push(task(Phase::Cleanup, "clean-up", Action::CleanUp));
        if self.request.foundation.base().is_none() {
            list.push(task(Phase::Cleanup, "put-resolver-back", Action::PutResolverBack));
        }
        let phases = Phase::of_class(PhaseClass::Final).collect();
        Ok(self.step(StepName::Final, Tasks { list, phases, ..final_view(self.request, &hooks)? }))
    }

    /// Returns the work of all elements in these phases, including that of providers.
    fn share<'b>(
        &'b self,
        phases: &'b [Phase],
        takes: &'b dyn Fn(&Element, Phase, &str) -> bool,
    ) -> Share<'b> {
        let elements = self.request.elements;
        Share {
            request: self.request,
            phases,
            elements,
            takes,
            served: elements,
            removals: Removals::Elsewhere,
        }
    }

    /// Returns the elements that have hooks in this slot.
    fn owners(&self, wanted: Slot) -> Vec<Arc<Element>> {
        let has = |element: &Element| {
            let hooks =
                LAYER_PHASES.into_iter().flat_map(|phase| element.chosen_hooks(phase, self.request.settings));
            hooks.into_iter().any(|hook| element.slot(hook.phase, hook.name) == wanted)
        };
        self.request.elements.iter().filter(|element| has(element)).cloned().collect()
    }

    /// Returns true if the prepare step already runs all hooks of an element that precede its
    /// installations.
    fn is_prepared(&self, element: &Element) -> bool {
        let hooks: Vec<_> = PREPARING.into_iter().flat_map(|phase| element.hooks(phase)).collect();
        let early = |hook: &crate::element::Hook<'_>| element.slot(hook.phase, hook.name) == Slot::Prepare;
        self.is_of_system(element) || (!hooks.is_empty() && hooks.iter().all(early))
    }

    fn is_of_system(&self, element: &Element) -> bool {
        self.system.iter().any(|member| member.name == element.name)
    }

    /// Adds a step, unless it has no tasks.
    fn push(&mut self, name: StepName, tasks: Tasks) {
        if !tasks.list.is_empty() {
            self.steps.push(self.step(name, tasks));
        }
    }

    fn step(&self, name: StepName, tasks: Tasks) -> Step {
        let fields = common_fields(self.request, "tasks").chain(task_fields(self.request.seal, &tasks));
        let parent = self.steps.last().map(|step| step.input_key);
        Step::new(name, KeyFields::new(fields), parent, Work::Tasks(tasks))
    }
}

/// Returns the position of a task among the tasks of its phase, by its number. Of equal numbers, it
/// comes last.
fn place_of(task: &Task, list: &[Task]) -> usize {
    let later = |other: &Task| {
        other.phase == task.phase && run_parts_order(&other.name, &task.name) == Ordering::Greater
    };
    list.iter().position(later).unwrap_or(list.len())
}

/// Returns the elements that build the operating system of an image without a base: the provider
/// and its dependencies, in order.
fn operating_system(request: &Request<'_>) -> Vec<Arc<Element>> {
    let Foundation::Elements { operating_system } = request.foundation else { return Vec::new() };
    let mut found = BTreeSet::from([operating_system]);
    let mut open = vec![operating_system];
    while let Some(name) = open.pop() {
        let element = request.elements.iter().find(|element| element.name == *name);
        open.extend(element.into_iter().flat_map(|element| &element.deps).filter(|&dep| found.insert(dep)));
    }
    request.elements.iter().filter(|element| found.contains::<ElementName>(&element.name)).cloned().collect()
}

/// Returns the step of the root in which plywood runs dnf, for an image of the rpm family.
fn tools(request: &Request<'_>) -> Option<Step> {
    let is_needed = request.foundation.base().is_some_and(|base| base.family == Family::Redhat);
    is_needed.then(|| {
        let definition = dnf::tools();
        base_step(StepName::Tools, base_fields(request, &definition), definition)
    })
}

fn base_step(name: StepName, fields: Vec<(String, String)>, definition: BaseDefinition) -> Step {
    Step::new(name, KeyFields::new(fields), None, Work::Base(definition))
}

fn base_fields(request: &Request<'_>, definition: &BaseDefinition) -> Vec<(String, String)> {
    let identity = ("definition".to_owned(), definition.identity().to_string());
    common_fields(request, "base").chain([identity]).collect()
}

fn common_fields(request: &Request<'_>, kind: &str) -> impl Iterator<Item = (String, String)> {
    [
        ("kind", kind.to_owned()),
        ("architecture", request.architecture.debian().to_owned()),
        ("source-date-epoch", request.source_date_epoch.to_string()),
        ("packages revision", request.packages_revision.to_owned()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into_iter()
}

/// Returns the fields for the work and the view of tasks. Destructures the value, so that the
/// compiler reports a forgotten field.
fn task_fields(seal: &Seal, tasks: &Tasks) -> Vec<(String, String)> {
    // Written files are no input: their content changes while a build runs.
    let Tasks { hooks, links, fragments, environment, files, machine, written: _, .. } = tasks;
    let Tasks { requesting, shown, list, phases, .. } = tasks;
    let hooks = hooks.iter().map(|(path, element)| (format!("file {path}"), element.files[path].identity()));
    let keyed = environment.iter().filter(|(name, _)| is_keyed(name));
    let variables = keyed.map(|(name, value)| (variable_label(name), seal.field_value(name, value)));
    let files = files.iter().map(|(name, file)| (format!("input file {name}"), file.digest.to_string()));
    let links = links.iter().map(|(path, target)| (format!("link {path}"), target.clone()));
    let machine =
        machine.iter().map(|(place, file)| (format!("machine file {place}"), file.digest.to_string()));
    let shown = shown.iter().map(|element| (format!("tree of {}", element.name), tree(element).to_string()));
    let lists =
        requesting.iter().map(|element| (format!("packages of {}", element.name), package_data(element)));
    let names: Vec<_> = requesting.iter().map(|element| element.name.as_str()).collect();
    // A later list may undo the request of an earlier one, and a later fragment may set a variable
    // again, so the order counts.
    let phases: Vec<_> = phases.iter().map(|phase| phase.dir()).collect();
    let orders = [
        ("environment.d", fragments.join(" ")),
        ("package lists", names.join(" ")),
        ("phases", phases.join(" ")),
    ];
    let orders = orders.map(|(label, value)| (label.to_owned(), value));
    let tasks = list.iter().enumerate().map(|(place, task)| (format!("task {place:03}"), task.to_string()));
    hooks
        .chain(links)
        .chain(variables)
        .chain(files)
        .chain(machine)
        .chain(shown)
        .chain(lists)
        .chain(orders)
        .chain(tasks)
        .collect()
}

/// Returns a digest of all files of an element.
fn tree(element: &Element) -> Digest {
    let declared = element.declarations().map(|(name, text)| format!("{name} {}\n", text.replace('\n', " ")));
    let files = element.identity().map(|(path, identity)| format!("{path} {identity}\n"));
    Digest::of(files.chain(declared).collect::<String>())
}

fn package_data(element: &Element) -> String {
    let files = element.identity().filter(|(path, _)| is_provider_data(element, path));
    files.map(|(path, identity)| format!("{path} {identity}")).collect::<Vec<_>>().join(", ")
}
