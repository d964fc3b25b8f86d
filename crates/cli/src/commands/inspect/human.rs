//! An inspection as text for people.

use cnb::group::OrderGroup;
use platform::inspect::{App, Builder, Inspection, LayerInfo, LayerKind, Module, ProcessInfo};

use crate::ui::{Style, bytes, escaped};

/// The text.
pub fn show(style: Style, name: &str, image: &Inspection) -> String {
    let mut text = Text { style, lines: Vec::new() };
    text.heading("Image");
    text.fact("name", name);
    text.fact("digest", &image.digest.to_string());
    text.fact("platform", &image.platform);
    text.fact("created", image.created.as_deref().unwrap_or_default());
    let layers = if image.layers.len() == 1 { "layer" } else { "layers" };
    text.fact("size", &format!("{} in {} {layers}", bytes(image.size), image.layers.len()));
    text.fact("user", &image.user);
    text.fact("folder", &image.working_dir);
    text.fact("entrypoint", &image.entrypoint.join(" "));
    text.fact("command", &image.cmd.join(" "));
    text.fact("base", image.base.id.as_deref().unwrap_or_default());
    text.fact("distro", image.base.distro.as_deref().unwrap_or_default());
    text.fact("stack", image.base.stack.as_deref().unwrap_or_default());
    if let Some(app) = &image.app {
        text.app(app);
    }
    if let Some(builder) = &image.builder {
        text.builder(builder);
    }
    if let Some(package) = &image.buildpackage {
        text.modules("Buildpack", std::slice::from_ref(package));
    }
    text.layers(&image.layers);
    if !image.labels.is_empty() {
        text.heading("Labels");
        let labels = image.labels.iter().map(|(key, value)| [key.clone(), value.clone()]);
        text.columns(labels.collect());
    }
    text.lines.join("\n")
}

/// The text about a builder alone.
pub fn show_builder(style: Style, name: &str, image: &Inspection, builder: &Builder) -> String {
    let mut text = Text { style, lines: Vec::new() };
    text.heading("Image");
    text.fact("name", name);
    text.fact("digest", &image.digest.to_string());
    text.fact("platform", &image.platform);
    text.fact("created", image.created.as_deref().unwrap_or_default());
    text.fact("distro", image.base.distro.as_deref().unwrap_or_default());
    text.fact("stack", image.base.stack.as_deref().unwrap_or_default());
    text.builder(builder);
    text.lines.join("\n")
}

struct Text {
    style: Style,
    lines: Vec<String>,
}

impl Text {
    fn heading(&mut self, title: &str) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
        self.lines.push(self.style.heading(title));
    }

    /// A line, unless there is nothing to say.
    fn fact(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.lines.push(format!("  {name:<11} {}", escaped(value)));
        }
    }

    fn columns<const N: usize>(&mut self, rows: Vec<[String; N]>) {
        let rows: Vec<[String; N]> =
            rows.into_iter().map(|row| row.map(|cell| escaped(&cell).into_owned())).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            self.lines.push(format!("  {}", cells.join("  ").trim_end()));
        }
    }

    fn app(&mut self, app: &App) {
        self.heading("Run image");
        self.fact("name", &app.run_image.image);
        self.fact("reference", &app.run_image.reference);
        self.fact("mirrors", &app.run_image.mirrors.join(", "));
        self.fact("rebasable", if app.rebasable { "yes" } else { "no" });
        self.modules("Buildpacks", &app.buildpacks);
        self.modules("Extensions", &app.extensions);
        if !app.processes.is_empty() {
            self.heading("Processes");
            self.columns(app.processes.iter().map(process).collect());
        }
        self.heading("Build");
        self.fact("launcher", &app.launcher);
        self.fact("environment", app.exec_env.as_deref().unwrap_or_default());
        self.fact(
            "SBOM",
            app.sbom.as_deref().map(|sha| format!("in layer {sha}")).unwrap_or_default().as_str(),
        );
        if !app.source.is_null() {
            self.fact("source", &app.source.to_string());
        }
    }

    fn builder(&mut self, builder: &Builder) {
        self.heading("Builder");
        self.fact("description", &builder.description);
        self.fact("made by", &builder.created_by);
        self.fact("lifecycle", builder.lifecycle.as_deref().unwrap_or_default());
        for (image, mirrors) in &builder.run_images {
            self.fact("run image", image);
            self.fact("mirrors", &mirrors.join(", "));
        }
        self.modules("Buildpacks", &builder.buildpacks);
        self.modules("Extensions", &builder.extensions);
        self.groups("Order", &builder.order);
        self.groups("Order of extensions", &builder.order_extensions);
    }

    fn groups(&mut self, title: &str, groups: &[OrderGroup]) {
        if groups.is_empty() {
            return;
        }
        self.heading(title);
        let rows = groups.iter().enumerate().map(|(n, group)| [(n + 1).to_string(), order(group)]);
        self.columns(rows.collect());
    }

    fn modules(&mut self, title: &str, modules: &[Module]) {
        if modules.is_empty() {
            return;
        }
        self.heading(title);
        self.columns(modules.iter().map(|m| [m.id.clone(), m.version.clone(), m.homepage.clone()]).collect());
    }

    fn layers(&mut self, layers: &[LayerInfo]) {
        if layers.is_empty() {
            return;
        }
        self.heading("Layers");
        let rows = layers.iter().map(|layer| {
            [kind(layer.kind).to_owned(), bytes(layer.size), layer.diff_id.short(), layer.name.clone()]
        });
        self.columns(rows.collect());
    }
}

fn process(process: &ProcessInfo) -> [String; 4] {
    let name = if process.default { format!("{} (default)", process.r#type) } else { process.r#type.clone() };
    let shell = if process.direct { "" } else { "shell" }.to_owned();
    let words: Vec<&str> = process.command.iter().chain(&process.args).map(String::as_str).collect();
    [name, words.join(" "), shell, process.buildpack.clone()]
}

fn order(group: &OrderGroup) -> String {
    let entries = group.group.iter().map(|entry| {
        let version = if entry.version.is_empty() { String::new() } else { format!("@{}", entry.version) };
        let optional = if entry.optional { " (optional)" } else { "" };
        format!("{}{version}{optional}", entry.id)
    });
    entries.collect::<Vec<_>>().join(", ")
}

fn kind(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Base => "base",
        LayerKind::Extension => "extension",
        LayerKind::Buildpack => "buildpack",
        LayerKind::App => "app",
        LayerKind::Sbom => "SBOM",
        LayerKind::Launcher => "launcher",
        LayerKind::Config => "config",
        LayerKind::ProcessTypes => "processes",
        LayerKind::Module => "module",
        LayerKind::Other => "-",
    }
}

#[cfg(test)]
mod tests {
    use platform::inspect::{Base, RunImage};

    use super::*;

    #[test]
    fn an_app() {
        let digest = oci::Digest::of(b"x");
        let layer = |kind, name: &str| LayerInfo {
            diff_id: digest,
            digest,
            size: 1_200_000,
            kind,
            name: name.to_owned(),
        };
        let process = |name: &str, default| ProcessInfo {
            r#type: name.to_owned(),
            default,
            command: vec!["bash".to_owned(), "-c\x1b[31m".to_owned()],
            args: vec!["serve".to_owned()],
            direct: default,
            working_dir: String::new(),
            buildpack: "samples/web".to_owned(),
        };
        let image = Inspection {
            digest,
            id: digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            platform: "linux/amd64".to_owned(),
            created: Some("1980-01-01T00:00:01Z".to_owned()),
            size: 2_400_000,
            user: "cnb".to_owned(),
            working_dir: "/workspace".to_owned(),
            entrypoint: vec!["/cnb/process/web".to_owned()],
            cmd: Vec::new(),
            base: Base { id: None, distro: Some("debian 12".to_owned()), stack: None },
            app: Some(App {
                run_image: RunImage {
                    image: "example/run".to_owned(),
                    reference: "example/run@sha256:1".to_owned(),
                    mirrors: Vec::new(),
                    top_layer: digest.to_string(),
                },
                rebasable: true,
                exec_env: Some("production".to_owned()),
                buildpacks: vec![Module {
                    id: "samples/web".to_owned(),
                    version: "0.1".to_owned(),
                    homepage: String::new(),
                }],
                extensions: Vec::new(),
                processes: vec![process("web", true), process("worker", false)],
                sbom: None,
                launcher: "1.0".to_owned(),
                source: serde_json::Value::Null,
            }),
            builder: None,
            buildpackage: None,
            layers: vec![layer(LayerKind::Base, ""), layer(LayerKind::Buildpack, "samples/web:deps")],
            labels: [("maintainer".to_owned(), "me\nyou".to_owned())].into(),
        };
        insta::assert_snapshot!(show(Style::default(), "app", &image), @r"
        Image
          name        app
          digest      sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
          platform    linux/amd64
          created     1980-01-01T00:00:01Z
          size        2.4 MB in 2 layers
          user        cnb
          folder      /workspace
          entrypoint  /cnb/process/web
          distro      debian 12

        Run image
          name        example/run
          reference   example/run@sha256:1
          rebasable   yes

        Buildpacks
          samples/web  0.1

        Processes
          web (default)  bash -c\x1b[31m serve         samples/web
          worker         bash -c\x1b[31m serve  shell  samples/web

        Build
          launcher    1.0
          environment production

        Layers
          base       1.2 MB  2d711642b726
          buildpack  1.2 MB  2d711642b726  samples/web:deps

        Labels
          maintainer  me\nyou
        ");
    }
}
