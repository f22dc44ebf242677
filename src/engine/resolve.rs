//! An image, resolved once: its base, its elements, its plan and its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk, DiskRules};
use super::failure::{Failure, Message};
use super::project::Project;
use super::redaction::redact;
use super::sources::{settings, sources};
use crate::distro::{BaseDefinition, BaseName};
use crate::element::{
    BaseNames, Element, HookOrder, NativeProvider, OPERATING_SYSTEM, Provider, Resolution, ResolveError,
    SLOT_FILE, preset_variables, resolve, sandwiches,
};
use crate::image::{ImageDefinition, ImageName};
use crate::plan::{Foundation, Plan, Request, Step, element_variables, plan_image, unread};
use crate::store::Store;

/// The base and the elements of an image.
pub(crate) struct Selection<'a> {
    pub(crate) name: &'a ImageName,
    pub(crate) definition: &'a ImageDefinition,
    pub(crate) foundation: Foundation,
    /// In the order of their layers.
    pub(crate) elements: Vec<Arc<Element>>,
    /// The elements that plywood replaces.
    pub(crate) native: BTreeSet<NativeProvider>,
}

/// An image, ready to be built or explained.
pub(crate) struct Resolved<'a> {
    pub(crate) name: &'a ImageName,
    pub(crate) definition: &'a ImageDefinition,
    /// The directory of the project that defines it.
    pub(crate) project: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) disk: Disk,
    /// Warnings about ignored files and variables, and about hooks that may run in the wrong order.
    pub(crate) warnings: Vec<String>,
}

impl Project {
    /// Returns the image of this name, resolved.
    pub(crate) fn resolved(&self, name: &str, store: &Store) -> Result<Resolved<'_>, Failure> {
        let (name, definition) = self.image(name)?;
        self.resolve(self.elements_of(name, definition)?, store)
    }

    /// Returns the base and the elements of an image.
    pub(crate) fn elements_of<'a>(
        &self,
        name: &'a ImageName,
        definition: &'a ImageDefinition,
    ) -> Result<Selection<'a>, Failure> {
        let (foundation, Resolution { elements, native, .. }) = match &definition.base {
            Some(base) => self.on_base(base, definition)?,
            None => self.without_base(name, definition)?,
        };
        Ok(Selection { name, definition, foundation, elements, native })
    }

    fn on_base(&self, name: &BaseName, image: &ImageDefinition) -> Result<(Foundation, Resolution), Failure> {
        let definition = self.base(name)?;
        let provides = definition.provided_names();
        let names = BaseNames { base: name.as_str(), provides: &provides };
        let resolution = resolve(&self.catalog, &image.elements, Some(names), image.order)?;
        Ok((Foundation::Base { name: name.clone(), definition: Box::new(definition) }, resolution))
    }

    fn without_base(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
    ) -> Result<(Foundation, Resolution), Failure> {
        if image.elements.is_empty() {
            return Err(Message::with_hint(
                format!("image `{name}` has no base"),
                "add `base = \"debian-bookworm\"`, or the name of another file of `layers/`",
            ));
        }
        let resolution = resolve(&self.catalog, &image.elements, None, image.order)?;
        match resolution.provided.get(OPERATING_SYSTEM) {
            Some(Provider::Element(provider)) => {
                Ok((Foundation::Elements { operating_system: provider.clone() }, resolution))
            }
            _ => Err(ResolveError::NoOperatingSystem.into()),
        }
    }

    /// Plans an image and its disk. Fetches the sources of its elements into the cache of `store`.
    pub(crate) fn resolve<'a>(
        &self,
        selection: Selection<'a>,
        store: &Store,
    ) -> Result<Resolved<'a>, Failure> {
        self.check_architecture(&selection.foundation)?;
        let mut variables = self.variables(&selection);
        let Selection { definition, elements, .. } = &selection;
        let disk = Disk::load(&definition.disk, &self.dir, elements, &variables, self.disk_rules)?;
        // The disk reads the variables of the image, and hooks read those of the disk.
        disk.add_variables(&mut variables);
        if self.offline {
            variables.insert("DIB_OFFLINE".to_owned(), "1".to_owned());
        }
        // Before planning, which runs fragments of `environment.d`: the trace shows their commands.
        redact(&variables);
        let plan = self.plan(&selection, &variables, store)?;
        let mut warnings = selection.warnings();
        // Callers of diskimage-builder's commands often have the variables of all their images in
        // one environment, so unread variables are normal there.
        if self.disk_rules == DiskRules::Plywood {
            let Selection { definition, elements, .. } = &selection;
            let unread = unread(&plan, elements, &definition.env, &definition.files);
            warnings.extend(unread.iter().map(ToString::to_string));
        }
        let Selection { name, definition, .. } = selection;
        Ok(Resolved { name, definition, project: self.dir.clone(), plan, disk, warnings })
    }

    fn check_architecture(&self, foundation: &Foundation) -> Result<(), Failure> {
        match foundation {
            Foundation::Base { name, definition }
                if !definition.architectures.contains(&self.architecture) =>
            {
                Err(Message::plain(format!(
                    "base `{name}` is not available for this host's architecture `{}`",
                    self.architecture.debian()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Returns all variables that hooks may see: the base's facts, the image's own settings, and
    /// diskimage-builder's variables about the image.
    fn variables(&self, selection: &Selection<'_>) -> BTreeMap<String, String> {
        let Selection { name, definition, foundation, elements, native } = selection;
        let names = elements.iter().map(|element| element.name.as_str());
        let names = names.chain(native.iter().map(|provider| provider.name()));
        let arch = [("ARCH".to_owned(), self.architecture.debian().to_owned())].into();
        let of_base = |base: &BaseDefinition| base.variables(self.architecture);
        let mut variables = foundation.base().map_or(arch, of_base);
        variables.insert("IMAGE_NAME".to_owned(), name.to_string());
        // The last value of a variable wins, so the settings of the image come last.
        variables.extend(element_variables(elements));
        variables.extend(preset_variables(names));
        variables.extend(definition.env.clone());
        variables
    }

    fn plan(
        &self,
        selection: &Selection<'_>,
        variables: &BTreeMap<String, String>,
        store: &Store,
    ) -> Result<Plan, Failure> {
        let Selection { name, definition, foundation, elements, native } = selection;
        let source_date_epoch = self.source_date_epoch()?;
        let settings = settings(elements, variables, source_date_epoch)?;
        redact(&settings);
        // Variables that fragments set may also name files.
        let named: BTreeMap<_, _> = settings.clone().into_iter().chain(variables.clone()).collect();
        Ok(plan_image(&Request {
            image: name.as_str(),
            architecture: self.architecture,
            source_date_epoch,
            packages_revision: &self.file.packages.revision,
            foundation,
            order: definition.order,
            elements,
            variables,
            settings: &settings,
            sources: &sources(elements, &settings, &self.environment, store)?,
            native,
            files: &self.input_files(definition)?,
            machine: &self.machine_files(elements, &named, store.path())?,
            packages: &definition.packages,
            seal: &store.seal()?,
        })?)
    }
}

impl Selection<'_> {
    fn warnings(&self) -> Vec<String> {
        let elements = &self.elements;
        let skipped = elements.iter().flat_map(|element| {
            element.skipped_hooks().into_iter().map(|hook| format!("element `{}`: {hook}", element.name))
        });
        let all = elements.iter().map(AsRef::as_ref);
        let strays = elements.iter().flat_map(|element| {
            let strays = element.strays(all.clone()).into_iter();
            strays.map(move |stray| format!("element `{}`: {stray}", element.name))
        });
        let widened = elements.iter().flat_map(|element| {
            element.widened().map(|widened| format!("element `{}`: {widened}", element.name))
        });
        let repeated = elements.iter().flat_map(|element| element.repeated_keys());
        let repeated = repeated.map(|repeated| repeated.to_string());
        // In phase order, slots have no effect, and no hook is in the wrong place.
        let by_element = match self.definition.order {
            HookOrder::Element => elements.as_slice(),
            HookOrder::Phase => &[],
        };
        let slots = by_element.iter().flat_map(|element| {
            let conflicts = element.slot_conflicts().into_iter();
            conflicts.map(move |conflict| format!("element `{}`: `{SLOT_FILE}`: {conflict}", element.name))
        });
        let wrapped = sandwiches(by_element);
        let wrapped = wrapped.iter().map(|sandwich| format!("{sandwich} (`--order phase` keeps them so)"));
        skipped.chain(strays).chain(widened).chain(repeated).chain(slots).chain(wrapped).collect()
    }
}

impl Resolved<'_> {
    /// Returns the step of this name. The final stage does not count as a step.
    ///
    /// # Errors
    /// A message with the steps that the image has.
    pub(crate) fn step(&self, name: &str) -> Result<&Step, Failure> {
        self.plan.steps.iter().find(|step| step.name == name).ok_or_else(|| unknown_step(&self.plan, name))
    }
}

/// Returns the error for an unknown step, with the list of steps.
pub(crate) fn unknown_step(plan: &Plan, name: &str) -> Failure {
    let names: Vec<_> = plan.steps.iter().map(|step| format!("`{}`", step.name)).collect();
    Message::with_hint(
        format!("image `{}` has no step `{name}`", plan.image),
        format!("its steps: {}", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::engine::failure::line;
    use crate::engine::session::{Process, Session};
    use crate::engine::{Look, Project};
    use crate::port::{Event, Events, SandboxError};

    /// Keeps warnings.
    #[derive(Default)]
    struct Warnings(std::sync::Mutex<Vec<String>>);

    impl Events for Warnings {
        fn emit(&self, event: Event<'_>) {
            if let Event::Warning { message } = event {
                self.0.lock().unwrap().push(message.to_owned());
            }
        }
    }

    /// A project in a temporary directory, with a base and an element that counts how often its
    /// environment is sourced.
    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new(image: &str) -> Self {
            let scratch = Self(tempfile::tempdir().unwrap());
            scratch.write("plywood.toml", &format!("[image.web]\nelements = ['web']\n{image}"));
            scratch.write(
                "layers/tiny.toml",
                "distro = 'debian'\nrelease = 'bookworm'\nfamily = 'debian'\nsource.mmdebstrap = { variant = 'minbase', suites = ['bookworm'] }",
            );
            let count = scratch.path().join("count");
            let fragment = format!("echo >>{}; [ -n \"$DISTRO_NAME\" ] || exit 1", count.display());
            scratch.write("elements/web/environment.d/10-web", &fragment);
            scratch.write("elements/web/install.d/50-web", "not executable");
            scratch
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn session<'a>(&self, process: &'a Process) -> Session<'a> {
            let environment = std::env::vars().filter(|(name, _)| name == "PATH").collect();
            let store = Some(self.path().join("store"));
            Session {
                process,
                project: self.path().to_owned(),
                store,
                data_dir: self.path().join("data"),
                environment,
            }
        }

        fn plan(&self) -> Result<Warnings, Failure> {
            let process = Process { mounts: Err(SandboxError::NotRoot), interrupted: Arc::default() };
            let (session, events) = (self.session(&process), Warnings::default());
            let project = Project::load(&session)?;
            let look = Look { session: &session, project: &project, cache_from: &[], events: &events };
            look.plan(&[]).map(|_| events)
        }
    }

    #[test]
    fn a_plan_resolves_each_image_once_and_warns_once() {
        let scratch = Scratch::new("base = 'tiny'\ndisk.firmware = []");
        let warnings = scratch.plan().unwrap().0.into_inner().unwrap();
        assert_eq!(fs::read_to_string(scratch.path().join("count")).unwrap().lines().count(), 1);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("element `web`: "), "{warnings:?}");
    }

    #[test]
    fn a_plan_warns_of_a_disk_that_nothing_will_boot() {
        let layout = "disk.layout = 'disk.yaml'";
        for (settings, is_warned_of) in [
            ("", true),
            ("outputs = ['tar', 'raw']", true),
            ("outputs = ['tar', 'oci']", false),
            ("disk.firmware = []", false),
            ("packages = ['grub-efi-amd64']", false),
            (layout, false),
        ] {
            let scratch = Scratch::new(&format!("base = 'tiny'\n{settings}"));
            scratch.write("disk.yaml", include_str!("../../tests/fixtures/block-device/mbr.yaml"));
            let warnings = scratch.plan().unwrap().0.into_inner().unwrap();
            let found = warnings.iter().any(|warning| warning.contains("seems to have no boot loader"));
            assert_eq!(found, is_warned_of, "{settings}: {warnings:?}");
        }
        let scratch = Scratch::new("base = 'tiny'");
        scratch.write("elements/web/package-installs.yaml", "grub-pc:\n");
        let warnings = scratch.plan().unwrap().0.into_inner().unwrap();
        assert!(!warnings.iter().any(|warning| warning.contains("boot loader")), "{warnings:?}");
    }

    #[test]
    fn a_plan_fails_for_a_layout_that_is_wrong() {
        let scratch = Scratch::new("base = 'tiny'\ndisk.layout = 'disk.yaml'");
        scratch.write("disk.yaml", "- nonsense: {}\n");
        let message = line(scratch.plan().err().unwrap().as_ref());
        assert!(message.contains("disk.yaml"), "{message}");
        assert!(!scratch.path().join("count").exists(), "nothing of an element has run");
    }

    #[test]
    fn an_image_needs_a_base_or_an_operating_system_element() {
        let cases = [("", "no element provides `operating-system`"), ("base = 'tiny'\norder = 'phase'", "")];
        for (image, expected) in cases {
            let found = Scratch::new(image).plan().err();
            let message = found.map(|failure| line(failure.as_ref())).unwrap_or_default();
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{message}");
        }
    }

    #[test]
    fn settings_of_the_image_override_facts_of_the_base() {
        let scratch = Scratch::new("base = 'tiny'\nenv = { DIB_RELEASE = 'mine' }");
        let process = Process { mounts: Err(SandboxError::NotRoot), interrupted: Arc::default() };
        let project = Project::load(&scratch.session(&process)).unwrap();
        let (name, definition) = project.image("web").unwrap();
        let variables: BTreeMap<_, _> = project.variables(&project.elements_of(name, definition).unwrap());
        let value = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!((value("DISTRO_NAME"), value("DIB_RELEASE")), (Some("debian"), Some("mine")));
        assert_eq!(value("IMAGE_NAME"), Some("web"));
    }
}
