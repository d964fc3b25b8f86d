//! A hello app: three bash buildpacks and one file, on a warm store.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::{Base, Builder, Buildpack, Layout, Machine, Person};

use super::Bench;
use super::measure::{Figures, median, ms, timed};

const ROUNDS: usize = 11;

/// What the three do: one says hello, one reads its plan, one makes a layer and a process.
fn buildpacks() -> Vec<Buildpack> {
    let script = r#"
mkdir -p "$CNB_LAYERS_DIR/info/bin"
printf '#!/usr/bin/env bash\nexport\n' > "$CNB_LAYERS_DIR/info/bin/info"; chmod +x "$CNB_LAYERS_DIR/info/bin/info"
printf '[types]\nlaunch = true\ncache = true\n' > "$CNB_LAYERS_DIR/info.toml"
printf '[[processes]]\ntype = "web"\ncommand = ["info"]\ndefault = true\n' > "$CNB_LAYERS_DIR/launch.toml"
"#;
    vec![
        Buildpack::new("bench/world", "1")
            .build("echo hello; ls -al >/dev/null; export | sed 's/^/  /' >/dev/null"),
        Buildpack::new("bench/moon", "1").build("echo moon; cat \"$CNB_BP_PLAN_PATH\" >/dev/null"),
        Buildpack::new("bench/info", "1").build(script),
    ]
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    for person in Person::all() {
        println!("\n== hello, as {}", person.name());
        let machine = Machine::new(&bench.pannier, person);
        let layout = Layout::new(machine.path("images"));
        layout.add("builder", &Builder::of(Base::Debian, &buildpacks()).image());
        let builder = layout.reference("builder");
        machine.write_script("work/app/app.sh", "#!/bin/sh\necho app\n");
        let build = |name: &str| {
            let call = machine.pannier(["build", name, "--quiet", "--path", "app", "--builder", &builder]);
            let (time, output) = timed(|| Ok(call.run()))?;
            ensure!(output.status.success(), "{output}");
            Ok(time)
        };
        build("warm")?;
        let hand = by_hand(&machine)?;
        let mut round = 0;
        let first = median(ROUNDS, || {
            round += 1;
            build(&format!("first-{round}"))
        })?;
        let again = median(ROUNDS, || build("warm"))?;
        let detail =
            |time: Duration| format!("{:.0} ms, {:.0} ms of it the buildpacks' by hand", ms(time), ms(hand));
        let who = person.name();
        figures.add(
            format!("hello, first build, as {who}"),
            ms(first) - ms(hand),
            "ms",
            250.0,
            detail(first),
        );
        figures.add(
            format!("hello, nothing changed, as {who}"),
            ms(again) - ms(hand),
            "ms",
            60.0,
            detail(again),
        );
    }
    bench.peers.hello(&buildpacks(), figures)
}

/// The same scripts, run one after another with no more than they need.
fn by_hand(machine: &Machine) -> Result<Duration> {
    let mut line = String::from("set -e\n");
    for buildpack in buildpacks() {
        let name = buildpack.id().replace('/', "_");
        let folder = machine.path(format!("hand/{name}"));
        buildpack.write(&folder);
        machine.person().own_all(&machine.path("hand"));
        let folder = folder.display();
        line.push_str(&format!(
            "export CNB_LAYERS_DIR=$TMPDIR/layers/{name} CNB_BP_PLAN_PATH=/dev/null CNB_BUILD_PLAN_PATH=$TMPDIR/plan\n\
             mkdir -p $CNB_LAYERS_DIR\n{folder}/bin/detect\n{folder}/bin/build\n"
        ));
    }
    median(ROUNDS, || {
        let call = machine.call("bash", ["-c", &line]).current_dir(machine.path("work/app"));
        let (time, output) = timed(|| Ok(call.run()))?;
        ensure!(output.status.success(), "{output}");
        machine.call("rm", ["-rf".into(), machine.path("tmp/layers")]).run();
        Ok(time)
    })
}
