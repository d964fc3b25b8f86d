//! A buildpack written with `libcnb`, as others write them: a plan with metadata, a cached layer with an invalidation
//! rule, a layer's environment, an exec.d program, an SBOM, the store, a process. `bin/detect`, `bin/build` and the
//! exec.d program are all this one program.
#![expect(clippy::print_stdout, reason = "a buildpack talks on standard output")]

use std::collections::HashMap;
use std::io;

use libcnb::build::{BuildContext, BuildResult, BuildResultBuilder};
use libcnb::data::build_plan::{BuildPlanBuilder, Require};
use libcnb::data::launch::{LaunchBuilder, ProcessBuilder};
use libcnb::data::sbom::SbomFormat;
use libcnb::data::store::Store;
use libcnb::data::{layer_name, process_type};
use libcnb::detect::{DetectContext, DetectResult, DetectResultBuilder};
use libcnb::generic::{GenericMetadata, GenericPlatform};
use libcnb::layer::{CachedLayerDefinition, InvalidMetadataAction, LayerState, RestoredLayerAction};
use libcnb::layer_env::{LayerEnv, ModificationBehavior, Scope};
use libcnb::sbom::Sbom;
use libcnb::{Buildpack, Platform as _};
use serde::{Deserialize, Serialize};

struct Greeter;

/// What decides whether the cached layer still does.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Greeting {
    words: String,
}

#[derive(Debug)]
struct Failed(#[expect(dead_code, reason = "shown by Debug")] io::Error);

impl From<Failed> for libcnb::Error<Failed> {
    fn from(error: Failed) -> Self {
        libcnb::Error::BuildpackError(error)
    }
}

impl Buildpack for Greeter {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = Failed;

    fn detect(&self, _: DetectContext<Self>) -> libcnb::Result<DetectResult, Failed> {
        let mut require = Require::new("greeting");
        require.metadata(Greeting { words: "from the plan".into() }).expect("a table is TOML");
        DetectResultBuilder::pass()
            .build_plan(BuildPlanBuilder::new().provides("greeting").requires(require).build())
            .build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Failed> {
        let planned = context.buildpack_plan.entries.iter().find(|entry| entry.name == "greeting");
        let planned =
            planned.and_then(|entry| entry.metadata::<Greeting>().ok()).expect("the entry of our own plan");
        let words = context.platform.env().get("GREETING").map(|words| words.to_string_lossy().into_owned());
        let greeting = Greeting { words: words.unwrap_or(planned.words) };

        let layer = context.cached_layer(
            layer_name!("greeting"),
            CachedLayerDefinition {
                build: true,
                launch: true,
                invalid_metadata_action: &|_| InvalidMetadataAction::DeleteLayer,
                restored_layer_action: &|old: &Greeting, _| match *old == greeting {
                    true => RestoredLayerAction::KeepLayer,
                    false => RestoredLayerAction::DeleteLayer,
                },
            },
        )?;
        if let LayerState::Empty { .. } = layer.state {
            println!("making the layer for: {}", greeting.words);
            fs_err::write(layer.path().join("words"), &greeting.words).map_err(Failed)?;
            let env = LayerEnv::new()
                .chainable_insert(Scope::All, ModificationBehavior::Delimiter, "GREETINGS", "; ")
                .chainable_insert(Scope::All, ModificationBehavior::Append, "GREETINGS", &greeting.words);
            layer.write_env(env)?;
            let own = std::env::current_exe().map_err(Failed)?;
            layer.write_exec_d_programs([("greet", own)])?;
            layer.write_sboms(&[Sbom::from_bytes(
                SbomFormat::CycloneDxJson,
                r#"{"bomFormat":"CycloneDX"}"#,
            )])?;
            layer.write_metadata(greeting)?;
        } else {
            println!("keeping the layer for: {}", greeting.words);
        }

        let builds =
            context.store.as_ref().and_then(|store| store.metadata.get("builds")?.as_integer()).unwrap_or(0);
        println!("builds before this: {builds}");
        let mut store = Store::default();
        store.metadata.insert("builds".into(), (builds + 1).into());
        let command = ["bash", "-c", "echo \"$GREETINGS; $STARTED\""];
        let process = ProcessBuilder::new(process_type!("web"), command).default(true).build();
        BuildResultBuilder::new().launch(LaunchBuilder::new().process(process).build()).store(store).build()
    }
}

fn main() {
    let name = std::env::args_os().next().unwrap_or_default();
    if std::path::Path::new(&name).ends_with("greet") {
        libcnb::exec_d::write_exec_d_program_output(HashMap::from([(
            libcnb::data::exec_d_program_output_key!("STARTED"),
            "by exec.d".to_owned(),
        )]));
        return;
    }
    libcnb::libcnb_runtime(&Greeter);
}
