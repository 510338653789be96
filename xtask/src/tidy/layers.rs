//! The layers of the project: a crate uses crates on lower layers only, never beside or above. Reads the manifests,
//! development and build dependencies too.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use crate::{Problems, shell};

/// What a folder may use of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// Everything on a lower layer.
    Number(u32),
    /// Everything, and nobody uses it.
    Top,
    /// Nothing, and nobody uses it.
    Alone,
}

/// `docs/ARCHITECTURE.md` shows this table; a new folder is entered in both.
const LAYERS: [(&str, Layer); 16] = [
    ("runtime", Layer::Number(1)),
    ("cluster", Layer::Number(2)),
    ("state", Layer::Number(2)),
    ("connectors", Layer::Number(2)),
    ("fraud", Layer::Number(2)),
    ("actors", Layer::Number(3)),
    ("config", Layer::Number(4)),
    ("sql", Layer::Number(4)),
    ("service", Layer::Number(5)),
    ("millstream", Layer::Number(6)),
    ("simulations", Layer::Top),
    ("benches", Layer::Top),
    ("examples", Layer::Top),
    ("deploy", Layer::Top),
    ("checker", Layer::Alone),
    ("xtask", Layer::Alone),
];

/// Dependencies against the layers, and folders without one.
pub fn check(root: &Path) -> Result<Problems, String> {
    let workspace = parse(&shell::read(&root.join("Cargo.toml"))?)?;
    let mut manifests = BTreeMap::new();
    let members = workspace.get("workspace").and_then(|table| table.get("members")).and_then(Value::as_array);
    for folder in members.into_iter().flatten().filter_map(Value::as_str) {
        manifests.insert(folder.to_string(), parse(&shell::read(&root.join(folder).join("Cargo.toml"))?)?);
    }
    Ok(problems(&manifests))
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error| format!("a manifest is not TOML: {error}"))
}

fn layer(folder: &str) -> Option<Layer> {
    let top = folder.split('/').next().unwrap_or(folder);
    LAYERS.iter().find(|(name, _)| *name == top).map(|(_, layer)| *layer)
}

fn problems(manifests: &BTreeMap<String, Table>) -> Problems {
    let mut problems = Problems::new();
    let mut folder_of = BTreeMap::new();
    for (folder, manifest) in manifests {
        let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        folder_of.insert(name.unwrap_or(folder).to_string(), folder.as_str());
        if layer(folder).is_none() {
            problems.push(format!("{folder}/ has no layer: enter it in xtask/src/tidy/layers.rs"));
        }
    }
    for (folder, manifest) in manifests {
        for package in dependencies(manifest) {
            let Some(used) = folder_of.get(&package) else { continue };
            let (Some(from), Some(to)) = (layer(folder), layer(used)) else { continue };
            let allowed = match (from, to) {
                (Layer::Number(from), Layer::Number(to)) => to < from,
                (Layer::Top, Layer::Number(_)) => true,
                _ => folder == used,
            };
            if !allowed {
                problems.push(format!("{folder}/Cargo.toml: {package} is beside or above {folder}/ in the layers"));
            }
        }
    }
    problems
}

/// The packages a manifest names in any of its dependency tables.
fn dependencies(table: &Table) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if !matches!(key.as_str(), "dependencies" | "dev-dependencies" | "build-dependencies") {
            if matches!(key.as_str(), "target") || key.starts_with("cfg(") {
                found.extend(dependencies(inner));
            }
            continue;
        }
        for (name, dependency) in inner {
            let renamed = dependency.get("package").and_then(Value::as_str);
            found.push(renamed.unwrap_or(name).to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifests: &[(&str, &str)]) -> String {
        let manifest = |(folder, dependencies): &(&str, &str)| {
            let text = format!("[package]\nname = \"m-{folder}\"\n{dependencies}");
            (folder.to_string(), parse(&text).expect("TOML"))
        };
        problems(&manifests.iter().map(manifest).collect()).join("\n")
    }

    #[test]
    fn only_lower_layers_may_be_used() {
        let runtime = ("runtime", "");
        let uses = |what: &str| format!("[dependencies]\nserde = \"1\"\n{what}.workspace = true\n");
        assert_eq!(found(&[runtime, ("state", &uses("m-runtime"))]), "");
        assert!(found(&[("state", ""), ("runtime", &uses("m-state"))]).contains("runtime/Cargo.toml: m-state"));
        assert!(found(&[("state", ""), ("connectors", &uses("m-state"))]).contains("connectors/Cargo.toml"));
        assert_eq!(found(&[runtime, ("benches", &uses("m-runtime"))]), "");
        assert!(found(&[("benches", ""), ("millstream", &uses("m-benches"))]).contains("millstream/Cargo.toml"));
        assert!(found(&[runtime, ("checker", &uses("m-runtime"))]).contains("checker/Cargo.toml"));
        assert!(found(&[("unheard-of", "")]).contains("has no layer"));
    }

    #[test]
    fn development_renamed_and_conditional_dependencies_count() {
        for table in [
            "[dev-dependencies]\nm-state.workspace = true",
            "[build-dependencies]\nx = { package = \"m-state\", path = \"../state\" }",
            "[target.'cfg(unix)'.dependencies]\nm-state.workspace = true",
        ] {
            assert!(found(&[("state", ""), ("runtime", table)]).contains("m-state"), "{table}");
        }
    }
}
