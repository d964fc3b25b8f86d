//! Every file and label that people, buildpacks and builders write: one text, read as each of them.

use std::fmt::Display;

use cnb::ApiVersion;
use cnb::builder::{self, BuilderMetadata, BuildpackageMetadata, LifecycleMetadata, ModuleLayers};
use cnb::descriptor::ModuleDescriptor;
use cnb::group::{Group, GroupElement, Kind, Order, System};
use cnb::image::{Analyzed, Report, RunToml, StackToml};
use cnb::label::{CacheMetadata, LayersMetadata, ProjectMetadata};
use cnb::launch::LaunchMetadata;
use cnb::layer::{LayerToml, Store};
use cnb::metadata::{BuildLabel, BuildMetadata};
use cnb::output::{BuildToml, ExtendConfig, LaunchToml};
use cnb::plan::{BuildPlan, BuildpackPlan, Plan};
use pannier_platform::builder_toml::BuilderToml;
use pannier_platform::config::Config;
use pannier_platform::document::{Document, DocumentError};
use pannier_platform::project::Project;

/// What `input` can be read as: the names of the files and labels, or of those as which it cannot.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let mut read = Read::default();
    specified(&text, &mut read);
    labels(&text, &mut read);
    documents(&text, &mut read);
    let Read { good, bad } = read;
    match (good.len(), bad.len()) {
        (0, _) => "nothing".to_owned(),
        // Few keys of most files must be there, so that most texts can be most files.
        (many, few) if few < many => format!("{many}, not {}", bad.join(", ")),
        _ => good.join(", "),
    }
}

/// What a text could be read as so far.
#[derive(Default)]
struct Read {
    good: Vec<&'static str>,
    bad: Vec<&'static str>,
}

/// Remembers whether `result` is good; an error can be shown whatever it is about.
fn note<T, E: Display>(read: &mut Read, name: &'static str, result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => {
            read.good.push(name);
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            read.bad.push(name);
            None
        }
    }
}

/// What is written of a value is read as that value: it is written the same again. (No value is equal to itself that
/// has a number which is none.)
fn again<T, E: Display>(
    value: Option<T>,
    write: impl Fn(&T) -> String,
    parse: impl Fn(&str) -> Result<T, E>,
) {
    if let Some(value) = value {
        let text = write(&value);
        match parse(&text) {
            Ok(read) => assert_eq!(write(&read), text),
            Err(error) => panic!("{error}: {text}"),
        }
    }
}

/// The TOML files of the specification.
fn specified(text: &str, read: &mut Read) {
    let element = GroupElement { id: "a/b".to_owned(), version: "1".to_owned(), ..GroupElement::default() };
    let asked = BuildpackPlan::default();
    for (kind, name) in [(Kind::Buildpack, "buildpack.toml"), (Kind::Extension, "extension.toml")] {
        if let Some(descriptor) = note(read, name, ModuleDescriptor::parse(kind, name, text)) {
            descriptor.targets(|_| true);
            assert_eq!(descriptor.module().kind, kind);
        }
    }
    for (kind, name) in [(Kind::Buildpack, "plan"), (Kind::Extension, "plan of an extension")] {
        note(read, name, BuildPlan::parse(kind, name, text));
    }
    for (api, name) in
        [(ApiVersion::new(0, 7), "old launch.toml"), (ApiVersion::BUILDPACK_LATEST, "launch.toml")]
    {
        note(read, name, LaunchToml::parse(name, text, api, &element));
    }
    note(read, "build.toml", BuildToml::parse("build.toml", text, &asked, &element));
    note(read, "extend-config.toml", ExtendConfig::parse("extend-config.toml", text));
    note(read, "LAYER.toml", LayerToml::parse("layer.toml", text));
    note(read, "metadata.toml for the launcher", LaunchMetadata::parse("metadata.toml", text));
    note(read, "lifecycle.toml", LifecycleMetadata::parse("lifecycle.toml", text));

    let parse = |text: &str| Store::parse("store.toml", text);
    again(note(read, "store.toml", parse(text)), Store::to_toml, parse);
    let parse = |text: &str| Order::parse("order.toml", text);
    again(note(read, "order.toml", parse(text)), Order::to_toml, parse);
    let parse = |text: &str| System::parse("system.toml", text);
    again(note(read, "system.toml", parse(text)), System::to_toml, parse);
    let parse = |text: &str| Group::parse("group.toml", text);
    again(note(read, "group.toml", parse(text)), Group::to_toml, parse);
    let parse = |text: &str| Plan::parse("plan.toml", text);
    again(note(read, "plan.toml", parse(text)), Plan::to_toml, parse);
    let parse = |text: &str| RunToml::parse("run.toml", text);
    again(note(read, "run.toml", parse(text)), RunToml::to_toml, parse);
    let parse = |text: &str| StackToml::parse("stack.toml", text);
    again(note(read, "stack.toml", parse(text)), StackToml::to_toml, parse);
    let parse = |text: &str| Analyzed::parse("analyzed.toml", text);
    again(note(read, "analyzed.toml", parse(text)), Analyzed::to_toml, parse);
    let parse = |text: &str| Report::parse("report.toml", text);
    again(note(read, "report.toml", parse(text)), Report::to_toml, parse);
    if let Some(metadata) = note(read, "metadata.toml", BuildMetadata::parse("metadata.toml", text)) {
        metadata.to_toml(ApiVersion::PLATFORM_LATEST);
    }
}

/// The labels of images, which are JSON, and `project-metadata.toml`, which becomes one.
fn labels(text: &str, read: &mut Read) {
    let parse = |text: &str| LayersMetadata::parse("label", text);
    again(note(read, "label of layers", parse(text)), LayersMetadata::to_json, parse);
    let parse = |text: &str| CacheMetadata::parse("label", text);
    again(note(read, "label of a cache", parse(text)), CacheMetadata::to_json, parse);
    note(read, "label of a build", BuildLabel::parse("label", text));
    note(read, "label of a builder", builder::parse_label::<BuilderMetadata>("label", text));
    note(read, "label of a package", builder::parse_label::<BuildpackageMetadata>("label", text));
    note(read, "label of modules", builder::parse_label::<ModuleLayers>("label", text));
    let parse = |text: &str| ProjectMetadata::parse("project-metadata.toml", text);
    let project = note(read, "project-metadata.toml", parse(text));
    if let Some(project) = &project {
        project.to_json();
    }
    again(project, ProjectMetadata::to_toml, parse);
}

/// What people write.
fn documents(text: &str, read: &mut Read) {
    let document = Document::new("/app/project.toml", text);
    if let Some(mut project) = note(read, "project.toml", shown(text, Project::parse(&document))) {
        project.select_exec_env("test");
        project.source_metadata();
    }
    note(read, "builder.toml", shown(text, BuilderToml::parse(&document)));
    note(read, "config.toml", shown(text, Config::parse(&document)));
}

/// An error points into the text, and can be drawn.
fn shown<T>(text: &str, result: Result<T, DocumentError>) -> Result<T, DocumentError> {
    if let Err(error) = &result {
        assert!(error.span().is_none_or(|span| span.start <= span.end && span.end <= text.len()));
        assert!(error.render(false).contains("project.toml"));
        assert!(error.line_column().is_none_or(|(line, column)| line > 0 && column > 0));
    }
    result
}
