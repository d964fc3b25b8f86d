//! What a buildpack can write: layers, slices, labels, processes, SBOMs, its store.

use serde_json::json;
use testkit::Buildpack;

use crate::support::*;

#[test]
fn layers_of_each_type() {
    let Some(machine) = machine() else { return };
    let script = r#"
for types in launch launch,cache launch,build build cache build,cache; do
    layer "l-${types//,/-}" "$types"
    echo "$types" > "$CNB_LAYERS_DIR/l-${types//,/-}/file"
done
mkdir "$CNB_LAYERS_DIR/no-toml"; echo x > "$CNB_LAYERS_DIR/no-toml/file"
mkdir "$CNB_LAYERS_DIR/no-types"; echo > "$CNB_LAYERS_DIR/no-types.toml"; echo x > "$CNB_LAYERS_DIR/no-types/file"
"#;
    let image = build_with(&machine, &[facts("test/layers", script)]);
    let metadata = image.json_label("io.buildpacks.lifecycle.metadata");
    let layers =
        metadata["buildpacks"][0]["layers"].as_object().expect("layers").keys().cloned().collect::<Vec<_>>();
    assert_eq!(layers, ["l-launch", "l-launch-build", "l-launch-cache"]);
    assert_eq!(image.text("/layers/test_layers/l-launch-cache/file"), "launch,cache\n");
    for absent in ["l-build", "l-cache", "l-build-cache", "no-toml", "no-types"] {
        assert!(image.entry(&format!("/layers/test_layers/{absent}/file")).is_none(), "{absent}");
    }
    let created = image.created_by();
    assert!(created.contains(&"Layer: 'l-launch', Created by buildpack: test/layers@1.0.0"), "{created:?}");
    let layer =
        image.layer_by("Layer: 'l-launch', Created by buildpack: test/layers@1.0.0").expect("a layer");
    assert_eq!(
        layer.names(),
        [
            "/layers",
            "/layers/test_layers",
            "/layers/test_layers/l-launch",
            "/layers/test_layers/l-launch/file"
        ]
    );
    assert!(layer.entries.iter().all(|entry| entry.mtime == 315_532_801));
    assert_eq!(metadata["buildpacks"][0]["layers"]["l-launch"]["sha"], layer.diff_id);
}

#[test]
fn metadata_keeps_its_types() {
    let Some(machine) = machine() else { return };
    let script = r#"
layer l launch
cat >> "$CNB_LAYERS_DIR/l.toml" <<END
[metadata]
whole = 3
broken = 1.5
yes = true
text = "a \"b\" ü"
list = ["x", 2]
[metadata.deep]
er = "est"
END
"#;
    let builder = builder_of(
        &machine,
        &[facts("test/meta", &format!("cat \"$CNB_LAYERS_DIR/l.toml\" 2>/dev/null || echo first; {script}"))],
    );
    build(&machine, &builder).ok().says("first");
    let image = built(&machine);
    let data = &image.json_label("io.buildpacks.lifecycle.metadata")["buildpacks"][0]["layers"]["l"]["data"];
    assert_eq!(data["whole"], json!(3));
    assert_eq!(data["deep"], json!({"er": "est"}));
    assert_eq!(data["text"], json!("a \"b\" ü"));
    let again = build(&machine, &builder).ok();
    again.says("whole = 3\n").says("broken = 1.5").says("yes = true").never_says("first");
}

#[test]
fn slices() {
    let Some(machine) = machine() else { return };
    for name in ["static/a.css", "static/deep/b.css", "lib/x.rb", "lib/y.rb", "other"] {
        machine.write(format!("work/app/{name}"), name);
    }
    let script = "printf '[[slices]]\npaths = [\"static\"]\n[[slices]]\npaths = [\"lib/*.rb\", \"static/*.css\"]\n[[slices]]\npaths = [\"nothing*\"]\n' > \"$CNB_LAYERS_DIR/launch.toml\"";
    let image = build_with(&machine, &[Buildpack::new("test/slices", "1").build(script)]);
    let names = |n: usize| image.layer_by(&format!("Application Slice: {n}")).expect("a slice").names();
    assert_eq!(
        names(1),
        [
            "/workspace",
            "/workspace/static",
            "/workspace/static/a.css",
            "/workspace/static/deep",
            "/workspace/static/deep/b.css"
        ]
    );
    assert_eq!(names(2), ["/workspace", "/workspace/lib", "/workspace/lib/x.rb", "/workspace/lib/y.rb"]);
    assert!(names(3).is_empty(), "a slice that matches nothing is an empty layer");
    assert_eq!(names(4), ["/workspace", "/workspace/app.sh", "/workspace/other"]);
    let app = image.json_label("io.buildpacks.lifecycle.metadata")["app"].as_array().map(Vec::len);
    assert_eq!(app, Some(4));
}

#[test]
fn labels_and_processes() {
    let Some(machine) = machine() else { return };
    let launch = |toml: &str| format!("cat > \"$CNB_LAYERS_DIR/launch.toml\" <<'END'\n{toml}\nEND");
    let first = "[[labels]]\nkey = \"a\"\nvalue = \"first\"\n[[labels]]\nkey = \"b\"\nvalue = \"only\"\n\
        [[processes]]\ntype = \"web\"\ncommand = [\"echo\", \"first web\"]\ndefault = true\n\
        [[processes]]\ntype = \"worker\"\ncommand = [\"pwd\"]\nworking-dir = \"/tmp\"";
    let second = "[[labels]]\nkey = \"a\"\nvalue = \"second\"\n[[processes]]\ntype = \"web\"\ncommand = [\"echo\"]\nargs = [\"second web\"]";
    let buildpacks = [
        Buildpack::new("test/one", "1").build(&launch(first)),
        Buildpack::new("test/two", "2").build(&launch(second)),
    ];
    build(&machine, &builder_of(&machine, &buildpacks)).ok();
    let image = built(&machine);
    assert_eq!((image.label("a"), image.label("b")), (Some("second"), Some("only")));
    // A later buildpack that redefines the default process, and does not make it the default, leaves none.
    assert_eq!(image.config["config"]["Entrypoint"], json!(["/cnb/lifecycle/launcher"]));
    let processes = image.json_label("io.buildpacks.build.metadata")["processes"].clone();
    let types =
        processes.as_array().into_iter().flatten().map(|process| process["type"].clone()).collect::<Vec<_>>();
    assert_eq!(types, ["web", "worker"]);
    assert_eq!(
        image.entry("/cnb/process/worker").map(|entry| entry.link.as_str()),
        Some("/cnb/lifecycle/launcher")
    );
    let run = |kind: &str| {
        machine.pannier(["run", OUT, "--entrypoint", &format!("/cnb/process/{kind}")]).ok().stdout
    };
    assert_eq!(run("web"), "second web\n");
    assert_eq!(run("worker"), "/tmp\n");
}

#[test]
fn wrong_processes() {
    let Some(machine) = machine() else { return };
    for (toml, said) in [
        ("[[processes]]\ntype = \"a/b\"\ncommand = [\"x\"]", "a/b"),
        (
            "[[processes]]\ntype = \"a\"\ncommand = [\"x\"]\ndefault = true\n[[processes]]\ntype = \"b\"\ncommand = [\"x\"]\ndefault = true",
            "default",
        ),
        ("[[processes]]\ntype = \"a\"\ncommand = [\"x\"]\ndirect = true", "direct"),
        ("[[processes]\ntype", "launch.toml"),
    ] {
        let script = format!("cat > \"$CNB_LAYERS_DIR/launch.toml\" <<'END'\n{toml}\nEND");
        let builder = builder_of(&machine, &[Buildpack::new("test/wrong", "1").build(&script)]);
        build(&machine, &builder).fails().says("test/wrong").says(said);
    }
}

#[test]
fn sboms() {
    let Some(machine) = machine() else { return };
    let script = r#"
layer l launch,cache
layer b build
for name in l b launch build; do
    echo "{\"of\":\"$name\"}" > "$CNB_LAYERS_DIR/$name.sbom.cdx.json"
    echo "{\"of\":\"$name\"}" > "$CNB_LAYERS_DIR/$name.sbom.spdx.json"
done
"#;
    let formats = "sbom-formats = [\"application/vnd.cyclonedx+json\", \"application/spdx+json\"]";
    let builder = builder_of(&machine, &[facts("test/sbom", script).keys(formats)]);
    build(&machine, &builder).args(["--sbom-output-dir", "sbom"]).ok();
    let image = built(&machine);
    let layer = image.layer_by("Software Bill-of-Materials").expect("an SBOM layer");
    for name in ["test_sbom/l/sbom.cdx.json", "test_sbom/sbom.spdx.json", "test_sbom/l/sbom.spdx.json"] {
        assert!(
            layer.names().contains(&format!("/layers/sbom/launch/{name}").as_str()),
            "{name} in {:?}",
            layer.names()
        );
    }
    assert!(layer.names().iter().all(|name| !name.contains("/sbom/build")));
    assert_eq!(image.json_label("io.buildpacks.lifecycle.metadata")["sbom"]["sha"], layer.diff_id);
    let written = snapshot(&machine.path("work/sbom"));
    assert!(
        written.iter().any(|(path, ..)| path.ends_with("build/test_sbom/b/sbom.cdx.json")),
        "{written:?}"
    );

    let builder = builder_of(&machine, &[facts("test/sbom", script)]);
    build(&machine, &builder).fails().says("test/sbom").says("sbom");
}

#[test]
fn the_store() {
    let Some(machine) = machine() else { return };
    let script = r#"
count=$(grep -o '[0-9][0-9]*' "$CNB_LAYERS_DIR/store.toml" 2>/dev/null || echo 0)
echo "count was $count"
printf '[metadata]\ncount = %s\n' $((count + 1)) > "$CNB_LAYERS_DIR/store.toml"
"#;
    let builder = builder_of(&machine, &[Buildpack::new("test/store", "1").build(script)]);
    for count in 0..3 {
        build(&machine, &builder).ok().says(&format!("count was {count}"));
    }
    assert_eq!(
        built(&machine).json_label("io.buildpacks.lifecycle.metadata")["buildpacks"][0]["store"]["metadata"]
            ["count"],
        3
    );
    build(&machine, &builder).arg("--clear-cache").ok().says("count was 3");
}

#[test]
fn modes_links_and_names_survive() {
    let Some(machine) = machine() else { return };
    let script = r#"
layer l launch
cd "$CNB_LAYERS_DIR/l"
echo x > plain; chmod 600 plain; echo x > run; chmod 755 run; echo x > setuid; chmod 4755 setuid; mkdir sticky; chmod 1777 sticky
ln -s plain to-plain; ln -s /etc/passwd absolute; ln -s nowhere dangling; ln plain hard
mkfifo pipe
long=$(printf 'n%.0s' $(seq 200)); echo long > "$long"; echo x > 'ümläut and space'
mkdir -p deep/$(printf 'd%.0s' $(seq 90))/$(printf 'e%.0s' $(seq 90)); d=$(echo deep/*/*); echo x > "$d/f"
mkdir a; echo x > a/b; echo x > a.txt
"#;
    let image = build_with(&machine, &[facts("test/files", script)]);
    let at = |name: &str| {
        image.entry(&format!("/layers/test_files/l/{name}")).unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!(at("plain").mode, 0o600);
    assert_eq!(at("run").mode, 0o755);
    assert_eq!(at("setuid").mode, 0o4755);
    assert_eq!(at("sticky").mode, 0o1777);
    assert_eq!(at("absolute").link, "/etc/passwd");
    assert_eq!(at("dangling").link, "nowhere");
    assert_eq!(
        (at("hard").kind, at("hard").content.as_slice()),
        ('0', b"x\n".as_slice()),
        "hard links are files of their own"
    );
    assert_eq!(at(&"n".repeat(200)).content, b"long\n");
    assert_eq!(at("ümläut and space").content, b"x\n");
    assert_eq!(at(&format!("deep/{}/{}/f", "d".repeat(90), "e".repeat(90))).content, b"x\n");
    let layer = image.layer_by("Layer: 'l', Created by buildpack: test/files@1.0.0").expect("a layer");
    let order = layer
        .names()
        .into_iter()
        .filter(|name| name.contains("/l/a") && !name.ends_with("absolute"))
        .collect::<Vec<_>>();
    assert_eq!(order, ["/layers/test_files/l/a", "/layers/test_files/l/a/b", "/layers/test_files/l/a.txt"]);
}
