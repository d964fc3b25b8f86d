//! Which steps are made again.

use std::time::{Duration, Instant};

use pannier_dockerfile::Cached;

use crate::Case;
use crate::lab::Lab;

pub const CASES: &[Case] = &[
    ("what_is_kept_is_not_made_again", kept),
    ("all_that_a_step_depends_on_counts", keys),
    ("the_build_id_busts_what_names_it", build_id),
    ("old_steps_are_made_again", ttl),
    ("a_plan_makes_nothing", plan),
    ("kept_steps_need_no_layers_of_the_base", nothing_of_the_base),
    ("two_builds_make_a_step_once", at_once),
];

fn cached(applied: &pannier_dockerfile::Applied) -> Vec<bool> {
    applied.steps.iter().map(|step| step.cached).collect()
}

fn kept(lab: &Lab) {
    lab.write("f", "1");
    let lines = "USER root\nRUN echo made; echo 1 > /etc/a\nCOPY f /f\nWORKDIR /srv\nRUN true\nUSER cnb";
    let first = lab.run(lines);
    assert_eq!(cached(&first), [false; 4]);
    let start = Instant::now();
    let again = lab.run(lines);
    let elapsed = start.elapsed();
    assert_eq!(cached(&again), [true; 4]);
    assert_eq!(lab.output(), "");
    assert!(lab.told().iter().any(|line| line.contains("kept from an earlier build")), "{:?}", lab.told());
    let ids = |applied: &pannier_dockerfile::Applied| {
        applied.new_layers.iter().map(|it| it.layer.descriptor.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&again));
    assert_eq!(first.config, again.config);
    assert!(elapsed < Duration::from_millis(200), "{elapsed:?}");
    // Not used, and so made again: with the same result.
    let forced = lab.run_with(lines, |engine| engine.use_cache = false);
    assert_eq!(cached(&forced), [false; 4]);
    assert_eq!(ids(&first), ids(&forced));
    // A blob that is gone is made of the tree.
    lab.store.discard(first.new_layers[0].layer.descriptor.digest).expect("discarded");
    assert_eq!(ids(&lab.run(lines)), ids(&first));
    assert!(lab.store.has(&first.new_layers[0].layer.descriptor));
    // A tree that is gone is made by its step.
    fs_err::remove_dir_all(&first.trees[0]).expect("removed");
    assert_eq!(cached(&lab.run(lines)).iter().filter(|cached| !**cached).count(), 1);
}

fn keys(lab: &Lab) {
    let is_kept = |lines: &str| {
        let applied = lab.run(&format!("USER root\n{lines}\nUSER cnb"));
        applied.steps.last().expect("a step").cached
    };
    assert!(!is_kept("RUN echo $A"));
    for lines in [
        "ENV A=1\nRUN echo $A",
        "ENV A=2\nRUN echo $A",
        "ARG A=1\nRUN echo $A",
        "ARG A=2\nRUN echo $A",
        "ARG B=2\nRUN echo $A",
        "USER cnb\nRUN echo $A",
        "SHELL [\"/bin/bash\", \"-c\"]\nRUN echo $A",
        "WORKDIR /etc\nRUN echo $A",
        "RUN true\nRUN echo $A",
        "RUN --network=none echo $A",
        "RUN --mount=type=tmpfs,target=/x echo $A",
        "RUN echo  $A",
    ] {
        assert!(!is_kept(lines), "{lines}");
        assert!(is_kept(lines), "{lines}");
    }
    // What a step cannot see does not count.
    assert!(is_kept("LABEL a=b\nCMD x\nEXPOSE 1\nRUN echo $A"));
    assert!(is_kept("RUN echo $A\nARG A=5"));
    lab.write("f", "1");
    let copy = "COPY f /f\nRUN cat /f";
    assert!(!is_kept(copy));
    lab.write("unused", "1");
    assert!(is_kept(copy));
    lab.write("f", "2");
    assert!(!is_kept(copy));
    assert_eq!(lab.output(), "2");
}

fn build_id(lab: &Lab) {
    let lines = "ARG build_id=0\nRUN echo first\nRUN echo $build_id\nRUN echo last";
    lab.run(lines);
    let next = lab.run_with(lines, |engine| engine.build_id = "second".to_owned());
    assert_eq!(cached(&next), [true, false, false]);
    assert_eq!(lab.output(), "second\nlast\n");
    assert_eq!(cached(&lab.run(lines)), [true; 3]);
}

fn ttl(lab: &Lab) {
    lab.run("RUN echo 1");
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(cached(&lab.run_with("RUN echo 1", |engine| engine.ttl = hour)), [true]);
    std::thread::sleep(Duration::from_millis(1100));
    let applied = lab.run_with("RUN echo 1", |engine| engine.ttl = Some(Duration::ZERO));
    assert_eq!(cached(&applied), [false]);
}

fn plan(lab: &Lab) {
    let lines = "ARG user_id\nENV A=1\nRUN echo $A\nLABEL a=$A\nWORKDIR /srv/$A\nUSER ${user_id}";
    let planned =
        |lab: &Lab| lab.plan(lines).into_iter().map(|step| (step.text, step.cached)).collect::<Vec<_>>();
    let before = planned(lab);
    assert_eq!(before[4], ("RUN echo $A".to_owned(), Cached::No));
    assert!(
        lab.heard_nothing() && fs_err::read_dir(lab.store.dir().join("steps")).expect("read").count() == 0
    );
    lab.run(lines);
    let after = planned(lab);
    let expected = [
        ("ARG base_image=base@sha256:", Cached::Config),
        ("FROM base@sha256:", Cached::Config),
        ("ARG user_id=1000", Cached::Config),
        ("ENV A=1", Cached::Config),
        ("RUN echo $A", Cached::Yes),
        ("LABEL a=1", Cached::Config),
        ("WORKDIR /srv/1", Cached::Yes),
        ("USER 1000", Cached::Config),
    ];
    for ((text, cached), (expected_text, expected)) in after.iter().zip(expected) {
        assert_eq!(*cached, expected, "{text}");
        // The digest is another one from build to build of the base.
        match expected_text.ends_with("sha256:") {
            true => assert!(text.starts_with(expected_text), "{text}"),
            false => assert_eq!(text, expected_text),
        }
    }
    let changed = lab.plan(&lines.replace("echo", "echo more"));
    assert_eq!((changed[4].cached, changed[6].cached), (Cached::No, Cached::No));
    let url = lab.plan("ADD http://127.0.0.1:1/x /x\nRUN cat /x");
    assert_eq!((url[2].cached, url[3].cached), (Cached::Unknown, Cached::Unknown));
    assert_eq!((changed[4].line, changed[4].origin.as_str()), (5, "test/ext"));
}

fn nothing_of_the_base(lab: &Lab) {
    let lines = "ARG user_id\nRUN echo 1 > /tmp/x\nCOPY <<E /tmp/y\n1\nE\nUSER ${user_id}";
    let first = lab.run(lines);
    sandbox::remove_tree(&lab.store.dir().join("rootfs")).expect("removed");
    // Nor can they be had from anywhere.
    let nowhere = oci::Store::open(lab.path("empty")).expect("a store");
    let image = lab.image.borrow().clone().with_blobs(&nowhere.blobs());
    *lab.image.borrow_mut() = image;
    let again = lab.run(lines);
    assert_eq!(cached(&again), [true, true]);
    assert_eq!(first.new_layers[1].layer.diff_id, again.new_layers[1].layer.diff_id);
    assert_eq!(again.config.config.user, "1000");
}

fn at_once(lab: &Lab) {
    let line = "RUN sleep 0.3; echo made > /tmp/x";
    let made = std::thread::scope(|scope| {
        let apply = |_| {
            let (store, image, unpacker) = (lab.store.clone(), lab.image.borrow().clone(), lab.unpacker());
            let ids = lab.ids;
            scope.spawn(move || crate::lab::apply_alone(&store, &image, &unpacker, ids, line))
        };
        let threads: Vec<_> = (0..3).map(apply).collect();
        threads.into_iter().map(|thread| thread.join().expect("applied")).collect::<Vec<_>>()
    });
    assert_eq!(made.iter().filter(|applied| !applied.steps[0].cached).count(), 1);
    let tree = &made[0].trees;
    assert!(made.iter().all(|applied| applied.trees == *tree));
}
