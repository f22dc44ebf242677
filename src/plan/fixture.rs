//! A small image in memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Foundation, InputFile, MachineFile, Plan, PlanError, Request, ResolvedSource, Seal, Tasks, Work,
    plan_image,
};
use crate::distro::{Architecture, BaseDefinition};
use crate::element::fixture::element;
use crate::element::{Element, ElementName, HookOrder, NativeProvider};
use crate::oci::Digest;

/// Everything that a request borrows.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) architecture: Architecture,
    pub(crate) epoch: i64,
    pub(crate) revision: String,
    pub(crate) foundation: Foundation,
    pub(crate) order: HookOrder,
    pub(crate) elements: Vec<Element>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) sources: BTreeMap<ElementName, Vec<ResolvedSource>>,
    pub(crate) native: BTreeSet<NativeProvider>,
    pub(crate) files: BTreeMap<String, InputFile>,
    pub(crate) machine: Vec<MachineFile>,
    pub(crate) packages: Vec<String>,
    pub(crate) seal: Seal,
}

impl Image {
    /// Returns an image without elements.
    pub(crate) fn bare() -> Self {
        let base: BaseDefinition = toml::from_str(BASE).unwrap();
        Self {
            name: "vm".to_owned(),
            architecture: Architecture::Amd64,
            epoch: 1_700_000_000,
            revision: "1".to_owned(),
            variables: base.variables(Architecture::Amd64),
            foundation: Foundation::Base {
                name: "debian-bookworm".parse().unwrap(),
                definition: Box::new(base),
            },
            order: HookOrder::Element,
            elements: Vec::new(),
            sources: BTreeMap::new(),
            native: BTreeSet::new(),
            files: BTreeMap::new(),
            machine: Vec::new(),
            packages: Vec::new(),
            seal: Seal::new([7; 32]),
        }
    }

    /// Returns an image with one of everything that a key can depend on.
    pub(crate) fn full() -> Self {
        let mut image = Self::bare();
        image.elements = vec![tools(), web(), leaf()];
        image.set(&[
            ("DIB_TOOL", "t"),
            ("DIB_WEB_FILES", "web.conf, absent.conf"),
            ("DIB_WEB_PASSWORD", "hunter2"),
            ("DIB_FINAL", "f"),
            ("DIB_UNUSED", "u"),
        ]);
        image.files = ["web.conf", "other.conf"]
            .map(|name| {
                let path = PathBuf::from("project").join(name);
                (
                    name.to_owned(),
                    InputFile { path, digest: Digest::of(name), is_executable: false, content: None },
                )
            })
            .into();
        image.packages = vec!["vim".to_owned(), "git".to_owned()];
        image
    }

    /// Returns an image whose operating system is built by the element `system` and its
    /// dependencies.
    pub(crate) fn of_elements(system: &str, elements: Vec<Element>) -> Self {
        let foundation = Foundation::Elements { operating_system: system.parse().unwrap() };
        let variables = [("ARCH".to_owned(), "amd64".to_owned())].into();
        Self { foundation, elements, variables, ..Self::bare() }
    }

    /// Returns the base's definition.
    pub(crate) fn base_mut(&mut self) -> &mut BaseDefinition {
        match &mut self.foundation {
            Foundation::Base { definition, .. } => definition,
            Foundation::Elements { .. } => panic!("the image has no base"),
        }
    }

    pub(crate) fn set(&mut self, variables: &[(&str, &str)]) {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.variables.extend(owned);
    }

    pub(crate) fn try_plan(&self) -> Result<Plan, PlanError> {
        let elements: Vec<_> = self.elements.iter().cloned().map(Arc::new).collect();
        plan_image(&Request {
            image: &self.name,
            architecture: self.architecture,
            source_date_epoch: self.epoch,
            packages_revision: &self.revision,
            foundation: &self.foundation,
            order: self.order,
            elements: &elements,
            variables: &self.variables,
            settings: &self.variables,
            sources: &self.sources,
            native: &self.native,
            files: &self.files,
            machine: &self.machine,
            packages: &self.packages,
            seal: &self.seal,
        })
    }

    pub(crate) fn plan(&self) -> Plan {
        self.try_plan().unwrap()
    }
}

/// Returns the tasks of the step called `name`.
pub(crate) fn tasks<'a>(plan: &'a Plan, name: &str) -> &'a Tasks {
    match plan.all_steps().find(|step| step.name == name).map(|step| &step.work) {
        Some(Work::Tasks(tasks)) => tasks,
        other => panic!("{name}: {other:?}"),
    }
}

const BASE: &str = "
distro = 'debian'
release = 'bookworm'
family = 'debian'
source.mmdebstrap = { variant = 'minbase', suites = ['bookworm'] }
";

fn tools() -> Element {
    element("tools")
        .hook("bin/tool", "echo $DIB_TOOL")
        .hook("install.d/10-tools", "echo tools")
        .file("environment.d/10-tools", "export DIB_SHARED=${DIB_SHARED:-1}")
        .readme("Tools.")
        .build()
}

fn web() -> Element {
    element("web")
        .hook("pre-install.d/20-sources", "echo deb >/etc/apt/sources.list.d/web.list")
        .hook("install.d/50-web", "apt-get -y install $DIB_SHARED $DIB_WEB_FILES $DIB_WEB_PASSWORD")
        .hook("finalise.d/80-web", "echo $DIB_FINAL")
        .file("package-installs.yaml", "nginx:\ngcc: { build-only: true }\n")
        .file("pkg-map", r#"{ "family": { "debian": { "nginx": "nginx-light" } } }"#)
        .file("svc-map", "nginx: { default: nginx, fedora: httpd }\n")
        .file("static/etc/motd", "hello\n")
        .build()
}

fn leaf() -> Element {
    element("leaf")
        .hook("install.d/60-leaf", "echo leaf")
        .file("environment.d/60-leaf", "export DIB_LEAF=1")
        .build()
}
