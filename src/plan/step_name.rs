//! Names of steps.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::distro::BaseName;
use crate::element::ElementName;

/// The name of a step. As text, the own step of an element has the element's name. All other names
/// contain a colon, which names of elements cannot contain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, with = "String")]
pub enum StepName {
    /// `base:<name>`: the lowest step of an image on a base.
    Base(BaseName),
    /// `root:<operating system>`: the lowest step of an image without a base.
    Root(ElementName),
    /// `tools:dnf`: the root in which plywood runs dnf. It is in no image.
    Tools,
    /// `image:prepare`: hooks that must precede all installations.
    Prepare,
    /// The element's own step.
    Element(ElementName),
    /// `image:install`: all hooks of `install.d`, in phase order.
    Install,
    /// `image:post-install`: all hooks of `post-install.d`, in phase order.
    PostInstall,
    /// `image:packages`: the packages of the image definition.
    Packages,
    /// `image:late`: hooks that need all elements, and the removal of packages.
    Late,
    /// `image:final`: the final stage.
    Final,
}

/// The name of [`StepName::Tools`].
const TOOLS: &str = "tools:dnf";

/// A text that is not the name of a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a step: expected the name of an element, `base:NAME`, `root:ELEMENT`, `tools:dnf` or `image:STAGE`"
)]
pub struct StepNameError(String);

impl StepName {
    /// The steps that belong to the image as a whole, named `image:<stage>`.
    const STAGES: [(&str, Self); 6] = [
        ("prepare", Self::Prepare),
        ("install", Self::Install),
        ("post-install", Self::PostInstall),
        ("packages", Self::Packages),
        ("late", Self::Late),
        ("final", Self::Final),
    ];

    /// Returns the element, if this is an element's own step.
    pub const fn element(&self) -> Option<&ElementName> {
        match self {
            Self::Element(element) => Some(element),
            _ => None,
        }
    }

    /// Returns true for the lowest step of an image, which has no layer below.
    pub const fn is_lowest(&self) -> bool {
        matches!(self, Self::Base(_) | Self::Root(_) | Self::Tools)
    }

    /// Describes the step, for the history of an image.
    pub fn describe(&self) -> String {
        let kind = if self.element().is_some() { "element " } else { "" };
        format!("plywood {kind}{self}")
    }
}

impl From<&ElementName> for StepName {
    fn from(element: &ElementName) -> Self {
        Self::Element(element.clone())
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = |(_, known): &&(&str, Self)| known == self;
        match self {
            Self::Base(base) => f.pad(&format!("base:{base}")),
            Self::Root(element) => f.pad(&format!("root:{element}")),
            Self::Tools => f.pad(TOOLS),
            Self::Element(element) => f.pad(element.as_str()),
            _ => f.pad(&format!("image:{}", Self::STAGES.iter().find(stage).map_or("", |(name, _)| name))),
        }
    }
}

impl FromStr for StepName {
    type Err = StepNameError;

    fn from_str(text: &str) -> Result<Self, StepNameError> {
        let name = match text.split_once(':') {
            None => text.parse().ok().map(Self::Element),
            Some(("base", base)) => base.parse().ok().map(Self::Base),
            Some(("tools", _)) => (text == TOOLS).then_some(Self::Tools),
            Some(("root", element)) => element.parse().ok().map(Self::Root),
            Some(("image", stage)) => {
                Self::STAGES.iter().find(|(name, _)| *name == stage).map(|(_, stage)| stage.clone())
            }
            Some(_) => None,
        };
        name.ok_or_else(|| StepNameError(text.to_owned()))
    }
}

crate::serde_by_text!(StepName);

/// For names that users give. A text that is not the name of a step equals no step.
impl PartialEq<str> for StepName {
    fn eq(&self, text: &str) -> bool {
        text.parse().is_ok_and(|name: Self| name == *self)
    }
}

impl PartialEq<&str> for StepName {
    fn eq(&self, text: &&str) -> bool {
        self == *text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text_and_back() {
        for (text, kind) in [
            ("web", "plywood element web"),
            ("base:debian-12", "plywood base:debian-12"),
            ("root:debian-minimal", "plywood root:debian-minimal"),
            ("tools:dnf", "plywood tools:dnf"),
            ("image:prepare", "plywood image:prepare"),
            ("image:install", "plywood image:install"),
            ("image:post-install", "plywood image:post-install"),
            ("image:packages", "plywood image:packages"),
            ("image:late", "plywood image:late"),
            ("image:final", "plywood image:final"),
        ] {
            let name: StepName = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.describe().as_str()), (text, kind));
            assert_eq!(serde_json::to_value(&name).unwrap(), text);
            assert_eq!(
                name.is_lowest(),
                ["base:", "root:", "tools:"].iter().any(|kind| text.starts_with(kind))
            );
            assert!(name == *text);
        }
        for text in [
            "",
            "web:",
            "image:",
            "image:finale",
            "base:",
            "base:a/b",
            "root:-x",
            "tools:x",
            "other:x",
            "a b",
            "a:b:c",
        ] {
            assert_eq!(text.parse::<StepName>(), Err(StepNameError(text.to_owned())));
        }
    }
}
