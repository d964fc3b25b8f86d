//! Processes of all buildpacks together, and `<layers>/config/metadata.toml`, which the launcher reads.

use std::collections::BTreeMap;
use std::path::Path;

use cnb::group::GroupElement;
use cnb::launch::Process;
use cnb::metadata::BuildMetadata;

use super::sbom::{remove, write as write_file};
use super::{BuildError, BuildInputs, Built};

/// The processes so far: a later buildpack's replace an earlier one's of the same type.
#[derive(Clone, Debug, Default)]
pub struct ProcessList {
    processes: BTreeMap<String, Process>,
    default: Option<String>,
}

impl ProcessList {
    /// Adds the processes of one buildpack. The last one that wants to be the default is; one of that type that
    /// does not want to be takes that away, which gives a warning.
    pub fn add(&mut self, processes: Vec<Process>) -> Option<String> {
        let mut warning = None;
        for process in processes {
            if process.is_default {
                self.default = Some(process.r#type.clone());
                warning = None;
            } else if self.default.as_ref() == Some(&process.r#type) {
                self.default = None;
                warning = Some(format!(
                    "redefining the following default process type with a process not marked as default: {}",
                    process.r#type
                ));
            }
            self.processes.insert(process.r#type.clone(), process);
        }
        warning
    }

    /// All processes, sorted by type, and the type of the default one. In metadata none is marked.
    pub fn finish(self) -> (Vec<Process>, Option<String>) {
        let processes = self.processes.into_values().map(|process| Process { is_default: false, ..process });
        (processes.collect(), self.default)
    }
}

impl Built {
    /// What `metadata.toml` and the label `io.buildpacks.build.metadata` are written from.
    pub fn metadata(&self, group: &[GroupElement], group_extensions: &[GroupElement]) -> BuildMetadata {
        BuildMetadata {
            bom: self.launch_bom.clone(),
            buildpacks: group.to_vec(),
            extensions: group_extensions.to_vec(),
            labels: self.labels.clone(),
            processes: self.processes.clone(),
            slices: self.slices.clone(),
            buildpack_default_process_type: self.default_process.clone().unwrap_or_default(),
        }
    }
}

/// Writes `config/metadata.toml`.
pub(super) fn write(inputs: &BuildInputs<'_>, built: &Built) -> Result<(), BuildError> {
    let config = inputs.layers.host.join("config");
    remove(&config)?;
    let text = built.metadata(inputs.group, inputs.group_extensions).to_toml(inputs.platform_api);
    write_file(inputs, &config, Path::new("metadata.toml"), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(r#type: &str, is_default: bool) -> Process {
        Process { r#type: r#type.to_owned(), is_default, ..Process::default() }
    }

    #[test]
    fn the_last_default_wins() {
        let mut list = ProcessList::default();
        assert_eq!(list.add(vec![process("web", true), process("a", false)]), None);
        assert_eq!(list.add(vec![process("worker", true)]), None);
        let (processes, default) = list.finish();
        let types: Vec<_> = processes.iter().map(|process| process.r#type.as_str()).collect();
        assert_eq!(types, ["a", "web", "worker"]);
        assert_eq!(default.as_deref(), Some("worker"));
    }

    #[test]
    fn redefining_the_default_takes_it_away() {
        let mut list = ProcessList::default();
        list.add(vec![process("web", true)]);
        assert!(list.add(vec![process("web", false)]).unwrap().contains("web"));
        assert_eq!(list.finish().1, None);
    }
}
