//! What `RUN` does, and what of it is in the layer.

use sandbox::Ids;

use crate::lab::Lab;
use crate::{Case, has_owners};

pub const CASES: &[Case] = &[
    ("a_run_leaves_what_it_changed", changes),
    ("a_run_that_changes_nothing_is_no_layer", nothing),
    ("programs_see_their_variables", variables),
    ("forms_of_programs", forms),
    ("here_documents", heredocs),
    ("users", users),
    ("the_user_is_put_back", user_put_back),
    ("owners", owners),
    ("links_and_deletions", links),
    ("devices_are_data", devices),
    ("mount_points_are_no_change", mount_points),
    ("cache_mounts", cache_mounts),
    ("bind_mounts", bind_mounts),
    ("tmpfs_and_secrets", secrets),
    ("the_network_can_be_taken_away", network),
    ("a_daemon_ends_with_its_step", daemon),
    ("instructions_of_the_configuration", configuration),
    ("dockerfiles_that_change_nothing", unchanged),
    ("rebasable", rebasable),
    ("trees_for_a_build_image", trees),
];

/// Those that are tried where no overlay can be mounted, too.
pub const ON_COPIES: &[Case] = &[
    ("on_copies_a_run_leaves_what_it_changed", changes),
    ("on_copies_a_run_that_changes_nothing_is_no_layer", nothing),
    ("on_copies_mount_points_are_no_change", mount_points),
    ("on_copies_users", users),
    ("on_copies_links_and_deletions", links),
    ("on_copies_it_is_said", copies),
];

fn changes(lab: &Lab) {
    let applied = lab.run("USER root\nRUN echo hello; mkdir -p /opt/a && echo 1 > /opt/a/file && touch /etc/os-release\nUSER cnb");
    assert_eq!(lab.output(), "hello\n");
    assert_eq!(
        lab.entries(&applied),
        ["drwxr-xr-x 0/0 /opt", "drwxr-xr-x 0/0 /opt/a", "-rw-r--r-- 0/0 /opt/a/file"]
    );
    let new = &applied.new_layers[0];
    assert!(new.created_by.starts_with("Layer: 'RUN echo hello;"), "{}", new.created_by);
    assert!(new.created_by.ends_with("', Created by extension: test/ext"), "{}", new.created_by);
    assert_eq!((applied.steps[0].line, applied.steps[0].entries, applied.steps[0].cached), (4, 3, false));
    assert_eq!(lab.read(&applied, "opt/a/file").as_deref(), Some("1\n"));
    assert!(applied.changed);
    // What is in /tmp is the image's own, as with Docker.
    assert_eq!(lab.entries(&lab.run("RUN echo 1 > /tmp/left")), ["-rw-r--r-- 1000/1000 /tmp/left"]);
    // The next step sees the one before, and a change of it is a layer of its own.
    let applied =
        lab.run("USER 0\nRUN echo 1 > /etc/new\nRUN grep -q 1 /etc/new && echo 2 >> /etc/new\nUSER cnb");
    assert_eq!(lab.entries(&applied), ["-rw-r--r-- 0/0 /etc/new", "-rw-r--r-- 0/0 /etc/new"]);
}

fn nothing(lab: &Lab) {
    for script in [
        "true",
        "touch /etc/os-release /bin",
        "cat /etc/os-release > /root/x; cat /root/x > /etc/os-release; rm /root/x",
        "mkdir -p /a/b/c; rm -r /a",
        "chmod 600 /etc/os-release; chmod 644 /etc/os-release",
        "ls /etc/hosts /etc/resolv.conf /dev/null /proc/self /sys",
    ] {
        let applied = lab.run(&format!("USER root\nRUN {script}\nUSER cnb"));
        assert_eq!(lab.entries(&applied), Vec::<String>::new(), "{script}");
        assert!(!applied.changed && applied.trees.is_empty(), "{script}");
        assert_eq!(applied.config, lab.image.borrow().config);
    }
}

fn variables(lab: &Lab) {
    let show = "RUN echo \"A=$A B=$B C=$C given=$given HOME=$HOME PATH=$PATH base=${base_image:-none}\"";
    lab.run(&format!("ARG A=arg\nARG B=arg\nENV B=env=1\nARG given\nARG C\n{show}"));
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        lab.output(),
        format!("A=arg B=env=1 C= given=by the extension HOME=/home/cnb PATH={path} base=none\n")
    );
    lab.run("USER root\nRUN echo $HOME; env | sort\nUSER 1000");
    let output = lab.output();
    assert!(output.starts_with("/root\n"), "{output}");
    // Nothing of the host's.
    let names: Vec<_> = output.lines().skip(1).filter_map(|line| line.split('=').next()).collect();
    assert!(names.iter().all(|name| ["HOME", "PATH", "PWD", "SHLVL", "_"].contains(name)), "{names:?}");
    lab.run("ARG base_image\nARG build_id=0\nARG user_id\nARG group_id\nRUN echo ${base_image%%:*} $build_id $user_id:$group_id");
    assert_eq!(lab.output(), "base@sha256 first 1000:1000\n");
    let applied = lab.run("ENV multi=\"a b=c\\\nd\" two=\"x\\n\"\nRUN printf '%s' \"$multi\"");
    assert_eq!(lab.output(), "a b=cd");
    assert!(applied.config.config.env.contains(&"multi=a b=cd".to_owned()));
    lab.run_with("RUN echo $http_proxy", |engine| {
        engine.proxies.push(("http_proxy".to_owned(), "http://proxy:1".to_owned()));
    });
    assert_eq!(lab.output(), "http://proxy:1\n");
}

fn forms(lab: &Lab) {
    lab.run("RUN [\"/bin/echo\", \"$HOME\", \"a b\"]");
    assert_eq!(lab.output(), "$HOME a b\n");
    lab.run("SHELL [\"/bin/bash\", \"-ec\"]\nRUN [[ abc == a* ]] && echo bash $BASH_VERSION | cut -c1-4\nUSER 1000");
    assert_eq!(lab.output(), "bash\n");
    let applied = lab.run("WORKDIR /srv/x\nWORKDIR ../y\nUSER root\nRUN pwd; touch here\nUSER cnb");
    assert_eq!(lab.output(), "/srv/y\n");
    assert_eq!(applied.config.config.working_dir, "/srv/y");
    assert_eq!(
        lab.entries(&applied),
        [
            "drwxr-xr-x 1000/1000 /srv",
            "drwxr-xr-x 1000/1000 /srv/x",
            "drwxr-xr-x 1000/1000 /srv/y",
            "-rw-r--r-- 0/0 /srv/y/here"
        ]
    );
}

fn heredocs(lab: &Lab) {
    lab.run("RUN <<EOF\necho one $HOME\nif true; then\n  echo two\nfi\nEOF");
    assert_eq!(lab.output(), "one /home/cnb\ntwo\n");
    lab.run("RUN cat <<A - <<B\nfrom $0\nA\nnot this\nB");
    assert_eq!(lab.output(), "not this\n");
    let applied = lab.run("RUN <<EOF\n#!/bin/bash\necho script ${BASH_VERSION%%.*}\nEOF");
    assert!(lab.output().starts_with("script 5"), "{}", lab.output());
    assert!(!applied.changed, "a script that is mounted is no change: {:?}", lab.entries(&applied));
}

fn users(lab: &Lab) {
    lab.run("RUN id -u; id -g");
    assert_eq!(lab.output(), "1000\n1000\n");
    lab.run("USER 0\nRUN id -u\nUSER cnb:cnb");
    assert_eq!(lab.output(), "0\n");
    // What earlier steps put into /etc/passwd counts.
    let applied = lab.run(
        "ARG user_id\nARG group_id\nUSER root\nRUN echo 'app:x:1234:0::/srv:/bin/sh' >> /etc/passwd\n\
         USER app\nRUN id -u; echo $HOME\nARG user_id\nUSER ${user_id}:${group_id}",
    );
    assert_eq!(lab.output(), "1234\n/srv\n");
    // The same user as before, by the name it had.
    assert_eq!(applied.config.config.user, "cnb");
    assert_eq!(lab.entries(&applied), ["-rw-r--r-- 0/0 /etc/passwd"]);
}

/// The numbers are those from before the Dockerfile, wherever they are declared; the name stays.
fn user_put_back(lab: &Lab) {
    let back = "ARG user_id\nARG group_id\nUSER ${user_id}:${group_id}";
    let applied = lab.run(&format!("USER root\nRUN echo 1 > /etc/new\n{back}\nRUN id -u"));
    assert_eq!(lab.output(), "1000\n");
    assert_eq!(applied.config.config.user, "cnb");
    assert!(lab.told().iter().all(|line| !line.contains("user")), "{:?}", lab.told());
    assert!(!lab.run(&format!("USER root\nRUN true\n{back}")).changed);
}

fn devices(lab: &Lab) {
    if lab.ids != Ids::Host {
        return; // The kernel makes none in a user namespace.
    }
    let made = "USER root\nRUN mkdir /etc/d; mknod -m 640 /etc/d/mem c 1 1; mknod /etc/d/disk b 8 17; chgrp 6 /etc/d/disk";
    let applied = lab.run_unlisted(&format!("{made}\nUSER cnb"));
    let nodes = ["brw-r--r-- 0/6 /etc/d/disk", "crw-r----- 0/0 /etc/d/mem"];
    assert_eq!(lab.entries(&applied), [&["drwxr-xr-x 0/0 /etc/d"], &nodes[..]].concat());
    // No tree has a node that would open a device of the machine to whoever can reach it.
    for tree in &applied.trees {
        for name in ["etc/d/mem", "etc/d/disk"] {
            let found = fs_err::symlink_metadata(tree.join(name)).expect("something stands for it");
            assert!(found.is_file() && found.len() == 0, "{name}: {found:?}");
        }
    }
    // A later step that leaves them alone has none of it in its layer; what it writes over one is a file.
    let applied = lab.run_unlisted(&format!("{made}\nRUN echo 1 > /etc/d/mem; rm /etc/d/disk\nUSER cnb"));
    let after = ["-rw-r--r-- 0/0 /etc/d/.wh.disk", "-rw-r----- 0/0 /etc/d/mem"];
    assert_eq!(lab.entries(&applied)[3..], after);
}

fn owners(lab: &Lab) {
    // Whose a file is does not depend on who builds.
    let applied = lab.run(
        "USER root\nRUN echo 1 > /etc/roots\nUSER cnb\n\
         RUN echo 1 > /home/cnb/mine; mkdir /home/cnb/d; ln -s mine /home/cnb/link; echo 1 > /tmp/t",
    );
    assert_eq!(
        lab.entries(&applied),
        [
            "-rw-r--r-- 0/0 /etc/roots",
            "drwxr-xr-x 1000/1000 /home/cnb/d",
            "lrwxrwxrwx 1000/1000 /home/cnb/link -> mine",
            "-rw-r--r-- 1000/1000 /home/cnb/mine",
            "-rw-r--r-- 1000/1000 /tmp/t",
        ]
    );
    // A file of another keeps its owner when root writes to it, or to its mode.
    let applied = lab.run(
        "USER cnb\nRUN echo 1 > /home/cnb/x; echo 1 > /home/cnb/y\nUSER root\n\
         RUN echo 2 >> /home/cnb/x; chmod 600 /home/cnb/y; chmod 700 /home/cnb\nUSER cnb",
    );
    assert_eq!(
        lab.entries(&applied)[2..],
        [
            "drwx------ 1000/1000 /home/cnb",
            "-rw-r--r-- 1000/1000 /home/cnb/x",
            "-rw------- 1000/1000 /home/cnb/y",
        ]
    );
    if has_owners(lab.ids) {
        let applied =
            lab.run_unlisted("USER root\nRUN touch /etc/x; chown 12:34 /etc/x; chmod 4755 /etc/x\nUSER cnb");
        assert_eq!(lab.entries(&applied), ["-rwsr-xr-x 12/34 /etc/x"]);
    }
}

fn links(lab: &Lab) {
    let applied = lab.run(
        "USER root\nRUN echo 1 > /opt-a; ln /opt-a /opt-b; ln -s /opt-a /opt-c; rm /etc/os-release; rm /bin/vi; \
         rm -r /usr; mkdir /usr; mkfifo /pipe\nUSER cnb",
    );
    let mut entries = lab.entries(&applied);
    entries.sort();
    assert_eq!(
        entries,
        [
            "-rw-r--r-- 0/0 /bin/.wh.vi",
            "-rw-r--r-- 0/0 /etc/.wh.os-release",
            "-rw-r--r-- 0/0 /opt-a",
            "-rw-r--r-- 0/0 /usr/.wh..wh..opq",
            "drwxr-xr-x 0/0 /usr",
            "hrw-r--r-- 0/0 /opt-b link to /opt-a",
            "lrwxrwxrwx 0/0 /opt-c -> /opt-a",
            "prw-r--r-- 0/0 /pipe",
        ]
    );
}

fn mount_points(lab: &Lab) {
    // An image that has hardly anything, and a link to nowhere where the sandbox mounts a file.
    let tree = testkit::Tree::new()
        .dir("bin", 0o755)
        .file(
            "bin/busybox",
            0o755,
            fs_err::read(testkit::needs::find("busybox").expect("busybox")).expect("read"),
        )
        .symlink("bin/sh", "busybox")
        .symlink("bin/mkdir", "busybox")
        .symlink("bin/rm", "busybox")
        .dir("etc", 0o755)
        .symlink("etc/resolv.conf", "../run/resolve/stub");
    lab.base(&testkit::Image::new().layer(tree).user("1000").field("WorkingDir", "/none/such".into()));
    let run =
        |lines: &str| lab.entries(&lab.run_with(lines, |engine| engine.network = sandbox::Network::Host));
    assert_eq!(run("RUN echo hi"), Vec::<String>::new());
    assert_eq!(
        run("RUN --mount=type=tmpfs,target=/var/cache/x echo 1 > /var/cache/x/y"),
        Vec::<String>::new()
    );
    assert_eq!(
        run("USER 0\nRUN --mount=type=cache,target=/var/cache/y echo 1 > /var/cache/own\nUSER 1000"),
        ["drwxr-xr-x 0/0 /var", "drwxr-xr-x 0/0 /var/cache", "-rw-r--r-- 0/0 /var/cache/own"]
    );
    assert_eq!(
        run("USER 0\nRUN echo 1 > /run/mine\nUSER 1000"),
        ["drwxr-xr-x 0/0 /run", "-rw-r--r-- 0/0 /run/mine"]
    );
}

fn copies(lab: &Lab) {
    let applied =
        lab.run("USER root\nRUN echo 1 > /etc/a\nRUN echo 2 >> /etc/a\nCOPY <<E /etc/b\nb\nE\nUSER cnb");
    let said = lab.told().iter().filter(|line| line.contains("No overlay can be mounted here")).count();
    assert_eq!(said, 1, "{:?}", lab.told());
    assert_eq!(
        lab.entries(&applied),
        ["-rw-r--r-- 0/0 /etc/a", "-rw-r--r-- 0/0 /etc/a", "-rw-r--r-- 0/0 /etc/b"]
    );
    assert_eq!(lab.read(&applied, "etc/a").as_deref(), Some("1\n2\n"));
}

fn cache_mounts(lab: &Lab) {
    let add = "USER root\nRUN --mount=type=cache,target=/var/cache/apt,id=apt echo one >> /var/cache/apt/list; \
               wc -l < /var/cache/apt/list";
    let applied = lab.run(&format!("{add}\nUSER cnb"));
    assert_eq!(lab.output().trim(), "1");
    assert!(applied.new_layers.is_empty());
    lab.run(&format!("{add}; true\nUSER cnb"));
    assert_eq!(lab.output().trim(), "2");
    lab.run("USER root\nRUN --mount=type=cache,target=/c,id=apt,ro cat /c/list; ! touch /c/x 2>/dev/null\nUSER cnb");
    assert!(lab.output().starts_with("one\none\n"), "{}", lab.output());
    lab.run(
        "USER root\nRUN --mount=type=cache,target=/c,id=other,mode=0700,sharing=locked ls -ld /c\nUSER cnb",
    );
    assert!(lab.output().starts_with("drwx------"), "{}", lab.output());
}

fn bind_mounts(lab: &Lab) {
    lab.write("files/a", "content");
    let applied = lab.run(
        "USER root\nRUN --mount=type=bind,source=files,target=/src cat /src/a; ! touch /src/b 2>/dev/null\n\
         RUN --mount=type=bind,source=files,target=/src,rw echo 1 > /src/a; cat /src/a\n\
         RUN --mount=source=files/a,target=/one cat /one\nUSER cnb",
    );
    assert_eq!(lab.output(), "content1\ncontent");
    assert!(applied.new_layers.is_empty(), "{:?}", lab.entries(&applied));
    assert_eq!(fs_err::read_to_string(lab.path("context/files/a")).expect("read"), "content");
    // What is bound counts.
    let line = "RUN --mount=source=files,target=/src cat /src/a\nUSER cnb";
    assert!(!lab.run(line).steps[0].cached);
    assert!(lab.run(line).steps[0].cached);
    lab.write("files/a", "other");
    assert!(!lab.run(line).steps[0].cached);
    assert_eq!(lab.output(), "other");
}

fn secrets(lab: &Lab) {
    let give = |engine: &mut pannier_dockerfile::Engine<'_>| {
        engine.secrets.insert("token".to_owned(), b"s3cr3t-value".to_vec());
    };
    let lines = "USER root\nRUN --mount=type=tmpfs,target=/t --mount=type=secret,id=token cp /run/secrets/token /t/x; \
                 wc -c < /t/x; ls -l /run/secrets/token | cut -c1-10\n\
                 RUN --mount=type=secret,id=token,env=TOKEN echo ${#TOKEN}\n\
                 RUN --mount=type=secret,id=token,target=/etc/tok,mode=0444 wc -c < /etc/tok\n\
                 RUN --mount=type=secret,id=absent ! test -e /run/secrets/absent\nUSER cnb";
    let applied = lab.run_with(lines, give);
    assert_eq!(lab.output().split_whitespace().collect::<Vec<_>>(), ["12", "-r--------", "12", "12"]);
    assert!(applied.new_layers.is_empty(), "{:?}", lab.entries(&applied));
    // Nothing of it in the store, and another value changes no key.
    let grep = std::process::Command::new("grep").args(["-rl", "s3cr3t-value"]).arg(lab.store.dir()).output();
    assert_eq!(String::from_utf8_lossy(&grep.expect("grep").stdout), "");
    let applied = lab.run_with(lines, |engine| {
        engine.secrets.insert("token".to_owned(), b"another".to_vec());
    });
    assert!(applied.steps.iter().all(|step| step.cached));
    let error = lab.fails("RUN --mount=type=secret,id=absent,required true");
    assert!(error.to_string().starts_with("run.Dockerfile:3:"), "{error}");
    assert!(error.to_string().contains("secret `absent` is required"), "{error}");
}

fn network(lab: &Lab) {
    let count =
        "RUN ls /sys/class/net /proc/sys/net/ipv4/conf 2>/dev/null | wc -l; cat /proc/net/dev | wc -l";
    lab.run(&format!("{count}; cat /etc/hosts"));
    assert!(lab.output().contains("localhost"));
    lab.run_with("RUN --network=none cat /proc/net/dev | tail -n +3 | cut -d: -f1", |engine| {
        engine.network = sandbox::Network::Host;
    });
    assert_eq!(lab.output().trim(), "lo");
}

fn daemon(lab: &Lab) {
    let start = std::time::Instant::now();
    lab.run("RUN (sleep 600; echo late > /tmp/late) & echo started");
    assert_eq!(lab.output(), "started\n");
    assert!(start.elapsed().as_secs() < 60);
}

fn configuration(lab: &Lab) {
    let applied = lab
        .run("ENV A=1\nLABEL a.b=c\nCMD [\"x\"]\nEXPOSE 80\nSTOPSIGNAL SIGINT\nVOLUME /data\nONBUILD RUN x");
    assert!(applied.changed && applied.new_layers.is_empty() && applied.steps.is_empty());
    let config = &applied.config.config;
    assert_eq!((config.env_var("A"), config.labels["a.b"].as_str()), (Some("1"), "c"));
    // Not a single layer was needed for it.
    assert_eq!(fs_err::read_dir(lab.store.dir().join("rootfs")).expect("read").count(), 0);
}

fn unchanged(lab: &Lab) {
    lab.base(&testkit::Base::Small.run().env("HAS", "it").label("is", "so"));
    for lines in ["", "ARG x=1", "ENV HAS=it\nLABEL is=so\nUSER cnb", "LABEL io.buildpacks.rebasable=true"] {
        let applied = lab.run(lines);
        assert!(!applied.changed, "{lines}");
        assert_eq!(applied.config, lab.image.borrow().config, "{lines}");
    }
    assert!(lab.run("ENV HAS=more").changed);
    assert!(lab.run("WORKDIR /srv").changed);
    assert!(!lab.run("COPY <<E /bin/../etc/os-release\nID=small\nVERSION_ID=1\nE").changed);
}

fn rebasable(lab: &Lab) {
    use pannier_dockerfile::Need;
    let says = "FROM x\nLABEL io.buildpacks.rebasable=true\nENV A=1\n";
    let silent = "FROM x\nENV B=1\n";
    let nothing = "FROM x\nARG c\n";
    let apply = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| ("e", *text)).collect();
        lab.try_apply(&texts, Need::Image, |_| ()).expect("applied")
    };
    for (texts, expected) in [
        (&[says][..], "true"),
        (&[silent], "false"),
        (&[says, silent], "false"),
        (&[silent, says], "false"),
        (&[says, nothing], "true"),
    ] {
        let applied = apply(texts);
        assert_eq!(applied.config.config.labels["io.buildpacks.rebasable"], expected, "{texts:?}");
        assert_eq!(applied.rebasable.to_string(), expected);
    }
    // A label that the base has says nothing of new layers.
    lab.base(&testkit::Base::Small.run().label("io.buildpacks.rebasable", "true"));
    assert!(!apply(&[silent]).rebasable);
}

fn trees(lab: &Lab) {
    use pannier_dockerfile::Need;
    let text = "FROM x\nUSER root\nRUN echo 1 > /a\nRUN true\nRUN echo 2 > /a\n";
    let applied = lab.try_apply(&[("e", text)], Need::Tree, |_| ()).expect("a build image may end as root");
    assert!(applied.new_layers.is_empty());
    assert_eq!(applied.trees.len(), 2);
    assert_eq!(lab.read(&applied, "a").as_deref(), Some("2\n"));
    assert!(applied.config.label("io.buildpacks.rebasable").is_none());
    assert_eq!(lab.ids == Ids::Single, !has_owners(lab.ids));
    // The layers are made when somebody wants them, without running anything.
    let text = format!("{text}USER cnb\n");
    let applied = lab.try_apply(&[("e", &text)], Need::Image, |_| ()).expect("applied");
    assert!(applied.steps.iter().all(|step| step.cached));
    assert_eq!(applied.new_layers.len(), 2);
}
