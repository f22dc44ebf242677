//! The output of `element-info`.
//!
//! Source: diskimage-builder, `element_dependencies.py`.

use crate::plan::elements_yaml;

/// An element by name and directory.
pub type Place<'a> = (&'a str, &'a str);

/// Returns the names of elements as one line.
pub fn names(elements: &[Place<'_>]) -> String {
    elements.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// Returns bash code that sets `IMAGE_ELEMENT` and `IMAGE_ELEMENT_YAML`, and defines the function
/// `get_image_element_array`, because bash cannot export arrays.
pub fn script(elements: &[Place<'_>]) -> String {
    let array: String = elements.iter().map(|(name, path)| format!("[{name}]={path} ")).collect();
    format!(
        "export IMAGE_ELEMENT='{}'\nexport IMAGE_ELEMENT_YAML='{}'\n\
         function get_image_element_array {{\n  echo \"{array}\"\n}};\nexport -f get_image_element_array;\n",
        names(elements),
        elements_yaml(elements.iter().map(|(name, path)| (*name, (*path).to_owned())))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_can_evaluate_it() {
        let elements = [("vm", "/elements/vm"), ("base", "/elements/base")];
        assert_eq!(names(&elements), "vm base");
        assert_eq!(
            script(&elements),
            "export IMAGE_ELEMENT='vm base'\n\
             export IMAGE_ELEMENT_YAML='base: /elements/base\nvm: /elements/vm\n'\n\
             function get_image_element_array {\n  echo \"[vm]=/elements/vm [base]=/elements/base \"\n};\n\
             export -f get_image_element_array;\n"
        );
    }
}
