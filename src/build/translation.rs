//! The tables that `pkg-map` and `svc-map` look names up in, once the distribution is known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::element::{Distribution, Element, Environment, Mapping, PackageDataError, PackageMap, ServiceMap};

/// Returns the distribution that these variables tell of.
pub(super) fn distribution(variables: &Environment) -> Distribution<'_> {
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    Distribution::new(value("DISTRO_NAME"), value("DIB_RELEASE"))
}

/// Returns the tables of `elements` by file name: `<element>.tsv` for packages, `svc-map.tsv` for services. Lines of a name,
/// a tab, and what it is here.
pub(super) fn tables(
    elements: &[Arc<Element>],
    variables: &Environment,
) -> Result<BTreeMap<String, String>, PackageDataError> {
    let distribution = distribution(variables);
    let mut tables = BTreeMap::new();
    let mut services = ServiceMap::default();
    for element in elements {
        if let Some(map) = element.package_map()? {
            tables.insert(format!("{}.tsv", element.name), package_table(&map, distribution));
        }
        if let Some(names) = element.service_names()? {
            services.add(&element.name, &names, distribution)?;
        }
    }
    let lines: String = services.iter().map(|(service, name)| format!("{service}\t{name}\n")).collect();
    if !lines.is_empty() {
        tables.insert("svc-map.tsv".to_owned(), lines);
    }
    Ok(tables)
}

fn package_table(map: &PackageMap, distribution: Distribution<'_>) -> String {
    map.names().into_iter().fold(String::new(), |mut table, name| {
        if let Mapping::To(names) = map.look_up(name, distribution) {
            let _ = writeln!(table, "{name}\t{}", names.join(" "));
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn names_are_translated_for_the_distribution_that_fragments_tell_of() {
        let web = element("web")
            .file(
                "pkg-map",
                r#"{ "family": { "debian": { "nginx": "nginx-light" } }, "default": { "x": "y z" } }"#,
            )
            .file("svc-map", "nginx: { default: nginx, fedora: httpd }\n");
        let elements = [Arc::new(web.build()), Arc::new(element("plain").build())];
        for (distro, packages, services) in [
            ("debian", "nginx\tnginx-light\nx\ty z\n", "nginx\tnginx\n"),
            ("fedora", "x\ty z\n", "nginx\thttpd\n"),
        ] {
            let variables = [("DISTRO_NAME".to_owned(), distro.to_owned())].into();
            let expected = [("svc-map.tsv", services), ("web.tsv", packages)];
            let expected = expected.map(|(name, table)| (name.to_owned(), table.to_owned()));
            assert_eq!(tables(&elements, &variables).unwrap(), expected.into(), "{distro}");
        }
    }
}
