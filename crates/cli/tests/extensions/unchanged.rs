//! Dockerfiles that change nothing.

use testkit::{Base, ReadImage};

use crate::fixture::*;
use crate::support::*;

const FROM: &str = "ARG base_image\nFROM ${base_image}\n";

/// The diffIDs of the run image.
fn base() -> Vec<String> {
    let image = ReadImage::from_layout(Base::Small.layout().path(), Some("run"));
    image.layers.iter().map(|layer| layer.diff_id.clone()).collect()
}

#[test]
fn leave_the_run_image_as_it_is() {
    let Some(machine) = machine() else { return };
    let path = ReadImage::from_layout(Base::Small.layout().path(), Some("run"));
    let path = path.env("PATH").unwrap_or_default().to_owned();
    let dockerfiles = [
        ("ARG x=1".to_owned(), false),
        (format!("ENV PATH={path}"), true),
        ("USER root\nRUN true\nUSER cnb".to_owned(), true),
        ("USER root\nRUN touch /tmp/x && rm /tmp/x\nUSER cnb".to_owned(), true),
        ("USER root\nRUN chmod 644 /etc/passwd && cat /etc/passwd > /dev/null\nUSER cnb".to_owned(), true),
        ("ARG user_id\nARG group_id\nUSER root\nRUN true\nUSER ${user_id}:${group_id}".to_owned(), true),
        ("LABEL io.buildpacks.rebasable=true".to_owned(), true),
    ];
    for (text, applied) in dockerfiles {
        let ext = exactly("run.Dockerfile", &format!("{FROM}{text}\n"));
        let output = build(&machine, &with_extensions(&machine, &[ext], &[web()])).ok();
        assert_eq!(output.all().contains("change nothing in the run image"), applied, "{text}: {output}");
        let image = built(&machine);
        let found: Vec<String> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        assert_eq!(found[..base().len()], base(), "{text}");
        assert_eq!(image.label("io.buildpacks.rebasable"), None, "{text}");
        assert!(!image.created_by().iter().any(|line| line.contains("extension")), "{text}");
        let _ = fs_err::remove_dir_all(machine.path("work/out"));
        let _ = fs_err::remove_dir_all(machine.path("images"));
    }
}

#[test]
fn no_layer_for_what_changes_no_file() {
    let Some(machine) = machine() else { return };
    let run =
        "RUN true\nRUN echo 1 > /etc/one\nENV A=1\nRUN cat /etc/one\nLABEL io.buildpacks.rebasable=true";
    let builder = with_extensions(&machine, &[extension("test/ext", "RUN true", run)], &[web()]);
    build(&machine, &builder).ok().says("change nothing in the build image");
    let image = built(&machine);
    let created = image.created_by();
    let of_extensions: Vec<_> = created.iter().filter(|line| line.contains("Created by extension")).collect();
    assert_eq!(of_extensions, [&"Layer: 'RUN echo 1 > /etc/one', Created by extension: test/ext"]);
    assert_eq!(image.layer_by(of_extensions[0]).expect("it is there").names(), ["/etc/one"]);
    assert_eq!(image.label("io.buildpacks.rebasable"), Some("true"));
    assert_eq!(image.env("A"), Some("1"));
}

#[test]
fn rebasable_is_what_every_dockerfile_says() {
    let Some(machine) = machine() else { return };
    let says = extension("test/says", "", "RUN echo 1 > /etc/one\nLABEL io.buildpacks.rebasable=true");
    let silent = extension("test/silent", "", "RUN echo 2 > /etc/two");
    for (extensions, expected) in [(vec![says.clone()], "true"), (vec![says, silent], "false")] {
        let layout = testkit::Layout::new(machine.path("run-images"));
        // What the run image says of itself does not count.
        layout.add("labelled", &Base::Small.run().label("io.buildpacks.rebasable", "true"));
        let builder = with_extensions(&machine, &extensions, &[web()]);
        build(&machine, &builder).args(["--run-image", &layout.reference("labelled")]).ok();
        assert_eq!(built(&machine).label("io.buildpacks.rebasable"), Some(expected));
        let _ = fs_err::remove_dir_all(machine.path("images"));
    }
}
