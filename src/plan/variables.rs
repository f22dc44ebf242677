//! What hooks are told of the elements of their image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::step::ELEMENTS_ON_HOST;
use crate::element::Element;

/// Returns the variables (and the function, as bash exports it) that list the elements of an image.
///
/// Source: diskimage-builder, `element_dependencies.py`.
pub fn element_variables(elements: &[Arc<Element>]) -> BTreeMap<String, String> {
    let names: Vec<_> = elements.iter().map(|element| element.name.as_str()).collect();
    let joined = |separator: &str, pair: &dyn Fn(&str) -> String| {
        names.iter().map(|name| pair(name)).collect::<Vec<_>>().join(separator)
    };
    let place = |name: &str| format!("{ELEMENTS_ON_HOST}/{name}");
    let yaml = format!("{{{}}}", joined(", ", &|name| format!("{name}: {}", place(name))));
    let pairs = joined(" ", &|name| format!("[{name}]={}", place(name)));
    [
        ("IMAGE_ELEMENT", names.join(" ")),
        ("IMAGE_ELEMENT_YAML", yaml),
        ("BASH_FUNC_get_image_element_array%%", format!("() {{  echo \"{pairs} \"\n}}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Variables that say how a step is run and logged, and never what it makes. Hooks see them; no key has them.
const OF_THE_RUN: [&str; 6] =
    ["DIB_CHECKSUM", "DIB_DEBUG_TRACE", "DIB_MIN_TMPFS", "DIB_NO_TIMESTAMP", "DIB_NO_TMPFS", "DIB_OFFLINE"];

/// Says whether a variable is a part of keys.
pub(super) fn is_keyed(name: &str) -> bool {
    !OF_THE_RUN.contains(&name)
}

/// Returns the name by which a text mentions a variable: that of the function, if it is one.
pub(super) fn mentioned_name(variable: &str) -> &str {
    variable.strip_prefix("BASH_FUNC_").and_then(|name| name.strip_suffix("%%")).unwrap_or(variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn elements_are_listed_in_every_form_that_hooks_know() {
        let elements = ["a", "b-c"].map(|name| Arc::new(element(name).build()));
        let variables = element_variables(&elements);
        assert_eq!(variables["IMAGE_ELEMENT"], "a b-c");
        let yaml = "{a: /tmp/plywood/elements/a, b-c: /tmp/plywood/elements/b-c}";
        assert_eq!(variables["IMAGE_ELEMENT_YAML"], yaml);
        let function = "() {  echo \"[a]=/tmp/plywood/elements/a [b-c]=/tmp/plywood/elements/b-c \"\n}";
        assert_eq!(variables["BASH_FUNC_get_image_element_array%%"], function);
        assert_eq!(mentioned_name("BASH_FUNC_get_image_element_array%%"), "get_image_element_array");
    }
}
