//! The second build: what comes back, what is reused, and what a buildpack can't do to the cache.

use testkit::{Buildpack, Machine, ReadImage};

use crate::support::*;

/// Makes layers of every mix of types in the first build, and says in each build what it found of the last.
const EVERY_TYPE: &str = r#"
for types in launch cache build launch,cache launch,build build,cache launch,build,cache; do
    name=l-${types//,/-}
    toml=no; [ -e "$CNB_LAYERS_DIR/$name.toml" ] && grep -q 'mark = "1"' "$CNB_LAYERS_DIR/$name.toml" && toml=yes
    data=no; [ -e "$CNB_LAYERS_DIR/$name/file" ] && data=yes
    echo "found $types: metadata $toml, data $data"
    typed=no; grep -q types "$CNB_LAYERS_DIR/$name.toml" 2>/dev/null && typed=yes
    [ $typed = no ] || echo "types came back for $name"
    layer "$name" "$types"
    printf '[metadata]\nmark = "1"\n' >> "$CNB_LAYERS_DIR/$name.toml"
    if [ $data = no ]; then echo content > "$CNB_LAYERS_DIR/$name/file"; fi
done
"#;

everyone! {
    /// The specification's table of what is there in the next build.
    fn what_comes_back(machine: &Machine) {
        let builder = builder_of(machine, &[facts("test/types", EVERY_TYPE)]);
        let first = build(machine, &builder).ok();
        first.never_says("metadata yes").never_says("data yes");
        let image = built(machine);
        for restore in ["overlay", "copy"] {
            let output = build(machine, &builder).args(["--restore", restore]).run();
            if !output.status.success() && restore == "overlay" && output.all().contains("overlay") {
                testkit::needs::cannot("no overlay can be mounted by this person here");
                continue;
            }
            assert!(output.status.success(), "{output}");
            for (types, metadata, data) in [
                ("launch", "yes", "no"),
                ("cache", "yes", "yes"),
                ("build", "no", "no"),
                ("launch,cache", "yes", "yes"),
                ("launch,build", "no", "no"),
                ("build,cache", "yes", "yes"),
                ("launch,build,cache", "yes", "yes"),
            ] {
                output.says(&format!("found {types}: metadata {metadata}, data {data}\n"));
            }
            output.never_says("types came back");
            assert_eq!(built(machine).digest, image.digest, "--restore {restore}");
        }
        build(machine, &builder).arg("--clear-cache").ok().never_says("data yes").never_says("metadata yes");
    }
}

everyone! {
    /// Nothing changed: the same image, and nothing of it written anew.
    fn nothing_changed(machine: &Machine) {
        let script = r#"
layer deps launch,cache
echo "deps: $(cat "$CNB_LAYERS_DIR/deps/file" 2>/dev/null || echo none)"
if [ ! -e "$CNB_LAYERS_DIR/deps/file" ]; then echo installed > "$CNB_LAYERS_DIR/deps/file"; head -c 3000000 /dev/urandom > "$CNB_LAYERS_DIR/deps/big"; fi
# Opened for writing, and left as it was.
: >> "$CNB_LAYERS_DIR/deps/file"
"#;
        let builder = builder_of(machine, &[facts("test/deps", script)]);
        build(machine, &builder).ok().says("deps: none");
        let first = built(machine);
        let blobs = snapshot(&machine.path("work/out/blobs"));
        let again = build(machine, &builder).ok();
        again.says("deps: installed").says("reused");
        assert_eq!(built(machine).digest, first.digest);
        assert_eq!(snapshot(&machine.path("work/out/blobs")), blobs, "no blob was written again");
    }
}

everyone! {
    /// A layer that was changed, one that was emptied, one that went away.
    fn changed_layers(machine: &Machine) {
        let script = r#"
for name in changed emptied gone kept; do
    if [ "$name" = gone ] && [ -e "$CNB_LAYERS_DIR/kept/file" ]; then rm -rf "$CNB_LAYERS_DIR/gone" "$CNB_LAYERS_DIR/gone.toml"; continue; fi
    layer $name launch,cache
    [ -e "$CNB_LAYERS_DIR/$name/file" ] || { mkdir -p "$CNB_LAYERS_DIR/$name/sub"; echo first > "$CNB_LAYERS_DIR/$name/file"; echo first > "$CNB_LAYERS_DIR/$name/sub/file"; continue; }
    case $name in
    changed) echo second >> "$CNB_LAYERS_DIR/changed/sub/file"; ln -s file "$CNB_LAYERS_DIR/changed/link" 2>/dev/null || true ;;
    emptied) rm -rf "$CNB_LAYERS_DIR/emptied"; mkdir "$CNB_LAYERS_DIR/emptied"; echo new > "$CNB_LAYERS_DIR/emptied/new" ;;
    esac
done
"#;
        let builder = builder_of(machine, &[facts("test/layers", script)]);
        let layer = |image: &ReadImage, name: &str| {
            let made = format!("Layer: '{name}', Created by buildpack: test/layers@1.0.0");
            image.layer_by(&made).map(|layer| layer.diff_id.clone())
        };
        build(machine, &builder).ok();
        let first = built(machine);
        build(machine, &builder).ok();
        let second = built(machine);
        assert_eq!(layer(&second, "kept"), layer(&first, "kept"));
        assert_eq!(layer(&second, "gone"), None);
        assert_eq!(second.text("/layers/test_layers/changed/sub/file"), "first\nsecond\n");
        assert_eq!(second.text("/layers/test_layers/changed/file"), "first\n");
        assert_eq!(second.entry("/layers/test_layers/changed/link").map(|entry| entry.kind), Some('2'));
        let emptied = second.layer_by("Layer: 'emptied', Created by buildpack: test/layers@1.0.0").expect("a layer");
        assert_eq!(emptied.names().last(), Some(&"/layers/test_layers/emptied/new"));
        assert_eq!(emptied.entries.len(), 4, "{:?}", emptied.names());
        build(machine, &builder).ok();
        let third = built(machine);
        assert_eq!(third.text("/layers/test_layers/changed/sub/file"), "first\nsecond\nsecond\n");
    }
}

everyone! {
    /// What a failed build did to restored layers is gone: the next one finds what the last good one left.
    fn a_failed_build_harms_nothing(machine: &Machine) {
        let script = r#"
layer deps launch,cache
echo "deps: $(cat "$CNB_LAYERS_DIR/deps/file" 2>/dev/null || echo none)"
[ -e "$CNB_LAYERS_DIR/deps/file" ] || echo good > "$CNB_LAYERS_DIR/deps/file"
if [ -n "${FAIL-}" ]; then
    echo spoilt > "$CNB_LAYERS_DIR/deps/file"; chmod 0 "$CNB_LAYERS_DIR/deps/file"; ln "$CNB_LAYERS_DIR/deps/file" "$CNB_LAYERS_DIR/deps/other"
    rm -rf "$CNB_LAYERS_DIR/facts"; exit 9
fi
"#;
        let builder = builder_of(machine, &[facts("test/deps", script)]);
        build(machine, &builder).ok();
        let good = built(machine).digest;
        for restore in ["auto", "copy"] {
            build(machine, &builder).args(["--env", "FAIL=1", "--restore", restore]).fails().says("9");
            assert_eq!(built(machine).digest, good, "the image is as it was");
            build(machine, &builder).ok().says("deps: good");
            assert_eq!(built(machine).digest, good);
        }
        machine.pannier(["doctor", "--store"]).ok();
    }
}

everyone! {
    /// Whatever a buildpack does to the files it is given back, the cache keeps what it had: a build that fails after
    /// writing to every file in every way leaves them as they were.
    fn the_cache_can_not_be_written(machine: &Machine) {
        let script = r#"
layer deps launch,cache
cd "$CNB_LAYERS_DIR/deps"
if [ ! -e a ]; then for name in a b c d; do echo "$name" > $name; done; exit 0; fi
cat a b c d | tr -d '\n' | sed 's/^/restored: /'; echo
printf X | dd of=a conv=notrunc 2>/dev/null; echo >> b; truncate -s 0 c 2>/dev/null || : > c; chmod 777 d; touch -t 200001010000 d
ln a a2; echo Y >> a2
[ -z "${FAIL-}" ] || exit 1
"#;
        let builder = builder_of(machine, &[facts("test/deps", script)]);
        for restore in ["overlay", "copy"] {
            build(machine, &builder).arg("--clear-cache").ok();
            for _ in 0..2 {
                let call = build(machine, &builder).args(["--env", "FAIL=1", "--restore", restore]);
                call.fails().says("restored: abcd");
            }
        }
    }
}

#[test]
fn caches_by_name_and_folder() {
    let Some(machine) = machine() else { return };
    let script = "layer deps cache; echo \"deps: $(cat \"$CNB_LAYERS_DIR/deps/file\" 2>/dev/null || echo none)\"; echo there > \"$CNB_LAYERS_DIR/deps/file\"";
    let builder = builder_of(&machine, &[facts("test/deps", script)]);
    let named = |name: &str| format!("type=build;format=volume;name={name}");
    let bind = format!("type=build;format=bind;source={}", machine.path("work/cache").display());
    for cache in [named("one"), named("two"), bind] {
        build(&machine, &builder).args(["--cache", &cache]).ok().says("deps: none");
        build(&machine, &builder).args(["--cache", &cache]).ok().says("deps: there");
    }
    build(&machine, &builder).args(["--cache", "format=nonsense"]).fails().says("nonsense");
}

#[test]
fn another_app_has_another_cache() {
    let Some(machine) = machine() else { return };
    let script = "layer deps cache; echo \"deps: $(cat \"$CNB_LAYERS_DIR/deps/file\" 2>/dev/null || echo none)\"; echo there > \"$CNB_LAYERS_DIR/deps/file\"";
    let builder = builder_of(&machine, &[facts("test/deps", script)]);
    let app = app(&machine);
    let build = |name: &str| machine.pannier(["build", name, "--builder", &builder, "--path"]).arg(&app).ok();
    build("one").says("deps: none");
    build("two").says("deps: none");
    build("one").says("deps: there");
}

#[test]
fn two_builds_of_one_app_at_once() {
    let Some(machine) = machine() else { return };
    let script = "layer deps launch,cache; echo $RANDOM > \"$CNB_LAYERS_DIR/deps/file\"; sleep 0.3; echo x > \"$CNB_LAYERS_DIR/deps/other\"";
    let builder = builder_of(&machine, &[facts("test/deps", script), web()]);
    let app = app(&machine);
    let build = || machine.pannier(["build", "one-app", "--builder", &builder, "--path"]).arg(&app);
    build().ok();
    let children = [build().start(), build().start(), build().start()];
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    machine.pannier(["run", "one-app"]).ok().says("tool says hello");
    machine.pannier(["doctor", "--store"]).ok();
}

#[test]
fn previous_images() {
    let Some(machine) = machine() else { return };
    let script = r#"
if grep -q mark "$CNB_LAYERS_DIR/data.toml" 2>/dev/null; then echo "knows the last build"; else echo "knows nothing"; fi
layer data launch
echo x > "$CNB_LAYERS_DIR/data/file"
printf '[metadata]\nmark = 1\n' >> "$CNB_LAYERS_DIR/data.toml"
"#;
    let builder = builder_of(&machine, &[facts("test/data", script)]);
    let app = app(&machine);
    let build = |name: &str| machine.pannier(["build", name, "--builder", &builder, "--path"]).arg(&app);
    build("one").ok().says("knows nothing");
    build("two").ok().says("knows nothing");
    build("three").args(["--previous-image", "one"]).ok().says("knows the last build");
}

#[test]
fn a_launch_layer_of_the_last_image_is_kept_without_its_files() {
    let Some(machine) = machine() else { return };
    let script = r#"
if grep -q mark "$CNB_LAYERS_DIR/data.toml" 2>/dev/null; then
    [ ! -e "$CNB_LAYERS_DIR/data" ] || { echo "the files came back"; exit 1; }
    printf '[types]\nlaunch = true\n[metadata]\nmark = 1\n' > "$CNB_LAYERS_DIR/data.toml"
else
    layer data launch; echo precious > "$CNB_LAYERS_DIR/data/file"; printf '[metadata]\nmark = 1\n' >> "$CNB_LAYERS_DIR/data.toml"
fi
"#;
    let builder = builder_of(&machine, &[facts("test/data", script)]);
    build(&machine, &builder).ok();
    let first = built(&machine);
    build(&machine, &builder).ok();
    let second = built(&machine);
    assert_eq!(second.text("/layers/test_data/data/file"), "precious\n");
    assert_eq!(first.digest, second.digest);

    let promises = Buildpack::new("test/promises", "1")
        .build("printf '[types]\\nlaunch = true\\n' > \"$CNB_LAYERS_DIR/nothing.toml\"");
    build(&machine, &builder_of(&machine, &[promises])).fails().says("nothing");
}

#[test]
fn pruning_keeps_what_is_named() {
    let Some(machine) = machine() else { return };
    let builder = builder_of(&machine, &[web()]);
    let app = app(&machine);
    let build =
        |machine: &Machine| machine.pannier(["build", "kept", "--builder", &builder, "--path"]).arg(&app);
    build(&machine).ok();
    machine.write_script("work/app/app.sh", "#!/bin/sh\necho changed\n");
    build(&machine).ok();
    machine.pannier(["prune"]).ok();
    machine.pannier(["doctor", "--store"]).ok();
    machine.pannier(["run", "kept"]).ok().says("tool says hello");
    build(&machine).ok();
}

#[test]
fn another_environment_knows_nothing_of_this_one() {
    let Some(machine) = machine() else { return };
    let script = r#"
for name in data only; do
    if grep -q mark "$CNB_LAYERS_DIR/$name.toml" 2>/dev/null; then echo "$name: known"; else echo "$name: unknown"; fi
    layer $name launch
    echo x > "$CNB_LAYERS_DIR/$name/file"
    printf '[metadata]\nmark = 1\n' >> "$CNB_LAYERS_DIR/$name.toml"
done
printf 'exec-env = ["test"]\n' >> "$CNB_LAYERS_DIR/only.toml"
"#;
    let builder = builder_of(&machine, &[facts("test/data", script)]);
    let has_only = || built(&machine).entry("/layers/test_data/only/file").is_some();
    build(&machine, &builder).ok().says("data: unknown");
    assert!(!has_only(), "it is for tests");
    build(&machine, &builder).ok().says("data: known").says("only: unknown");
    let test = || build(&machine, &builder).args(["--exec-env", "test"]);
    test().ok().says("data: unknown").says("it is for production, not for test");
    assert!(has_only());
    test().ok().says("data: known").says("only: known");
    build(&machine, &builder).ok().says("data: unknown").says("only: unknown");
}
