//! What a buildpack can't reach: the user's files, environment, credentials, the store, other processes.

use testkit::{Buildpack, Machine};

use crate::support::*;

everyone! {
    /// Files of the user, of the machine, of Pannier.
    fn files(machine: &Machine) {
        machine.write("home/.ssh/id_rsa", "PRIVATE KEY e2e-secret");
        machine.write("home/.docker/config.json", "{\"auths\":{\"registry.test\":{\"auth\":\"ZTJlLXNlY3JldDplMmUtc2VjcmV0\"}}}");
        let home = machine.path("home").display().to_string();
        let folder = machine.path("").display().to_string();
        let script = format!(
            r#"
fact home "$(ls -A {home} 2>&1 || true)"
fact folder "$(ls -A {folder} 2>&1 || true)"
fact store "$(find / -xdev \( -path /proc -o -path /sys \) -prune -o -name 'oci-layout' -print 2>/dev/null | head -n 3)"
fact secret "$(grep -rlsI e2e-secret / --exclude-dir=proc --exclude-dir=sys --exclude-dir=buildpacks --exclude-dir=facts 2>/dev/null | head -n 3)"
fact root "$(ls -A /root 2>&1 || true)"
fact shadow "$(cat /etc/shadow 2>&1 || true)"
fact mounts "$(grep -c "$(printf '%s' '{folder}')" /proc/self/mountinfo || true)"
fact old-root "$(ls -d /old* /.old* /oldroot /.pivot* 2>/dev/null || true)"
"#
        );
        let image = build_with(machine, &[facts("test/nosy", &script)]);
        let fact = |name| fact(&image, "test/nosy", name).to_owned();
        assert!(!fact("home").contains(".ssh"), "{}", fact("home"));
        assert!(!fact("folder").contains("home"), "{}", fact("folder"));
        assert_eq!(fact("store"), "");
        assert_eq!(fact("secret"), "");
        assert!(!fact("shadow").contains(":x:") && !fact("shadow").contains("root:"), "{}", fact("shadow"));
        assert_eq!(fact("old-root"), "");
    }
}

everyone! {
    /// Secrets in the environment and on the command line of the program outside.
    fn secrets(machine: &Machine) {
        let script = r#"
fact env "$(env)"
fact environ "$(cat /proc/*/environ 2>/dev/null | tr '\0' '\n' | grep -c "[e]2e-secret" || true)"
fact cmdline "$(cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n' | grep -c "[e]2e-password" || true)"
fact descriptors "$(for f in /proc/self/fd/*; do readlink $f; done | grep -v -e '^pipe' -e '^/dev/null' -e /proc -e "$0" | tr '\n' ' ' || true)"
"#;
        let builder = builder_of(machine, &[facts("test/nosy", script)]);
        let output = build(machine, &builder)
            .env("CNB_REGISTRY_AUTH", "{\"registry.test\":\"Bearer e2e-secret\"}")
            .env("AWS_SECRET_ACCESS_KEY", "e2e-secret")
            .args(["--verbose", "--tag", "e2e-password"])
            .ok();
        output.never_says("e2e-secret");
        let image = built(machine);
        let fact = |name| fact(&image, "test/nosy", name).to_owned();
        assert!(!fact("env").contains("e2e-secret"));
        assert_eq!((fact("environ"), fact("cmdline")), ("0".into(), "0".into()));
        assert!(!fact("descriptors").contains("/home"), "{}", fact("descriptors"));
    }
}

everyone! {
    /// Processes outside are neither seen nor signalled.
    fn processes(machine: &Machine) {
        let mut outside = machine.call("sleep", ["1000"]).start();
        let id = outside.id();
        let script = format!(
            r#"
fact seen "$(ls /proc | grep -c '^[0-9]*$')"
fact alive "$(kill -0 {id} 2>/dev/null && echo yes || echo no)"
kill -9 {id} 2>/dev/null || true
"#
        );
        let image = build_with(machine, &[facts("test/kills", &script)]);
        assert!(outside.try_wait().expect("it can be asked").is_none(), "the process outside lives");
        outside.kill().expect("it is there");
        outside.wait().expect("it ends");
        let seen = fact(&image, "test/kills", "seen").parse::<u32>().expect("a number");
        assert!(seen < 12, "{seen} processes are seen");
        assert_eq!(fact(&image, "test/kills", "alive"), "no");
    }
}

everyone! {
    /// The rights a buildpack has: none that it could use against the machine.
    fn rights(machine: &Machine) {
        let script = r#"
fact caps "$(grep CapEff /proc/self/status | awk '{print $2}')"
fact nnp "$(grep NoNewPrivs /proc/self/status | awk '{print $2}')"
fact seccomp "$(grep Seccomp: /proc/self/status | awk '{print $2}')"
fact mount "$(mount -t tmpfs none /mnt 2>/dev/null && echo yes || echo no)"
fact sysrq "$(echo h > /proc/sysrq-trigger 2>/dev/null && echo yes || echo no)"
fact kcore "$(head -c 1 /proc/kcore 2>/dev/null | wc -c)"
fact hostname "$(echo x > /proc/sys/kernel/hostname 2>/dev/null && echo yes || echo no)"
fact sysfs "$(touch /sys/x 2>/dev/null && echo yes || echo no)"
fact userns "$(unshare -U true 2>/dev/null && echo yes || echo no)"
fact chroot "$(chroot / true 2>/dev/null && echo yes || echo no)"
fact setuid "$(busybox su -c true root </dev/null 2>/dev/null && echo yes || echo no)"
fact disks "$(ls /dev | grep -c -e '^sd' -e '^vd' -e '^nvme' -e '^mem$' -e '^kmsg$' || true)"
"#;
        let image = build_with(machine, &[facts("test/rights", script)]);
        let fact = |name| fact(&image, "test/rights", name);
        assert_eq!(fact("caps"), "0000000000000000");
        assert_eq!(fact("nnp"), "1");
        assert_eq!(fact("seccomp"), "2");
        for no in ["mount", "sysrq", "hostname", "sysfs", "chroot", "setuid"] {
            assert_eq!(fact(no), "no", "{no}");
        }
        assert_eq!((fact("kcore"), fact("disks")), ("0", "0"));
    }
}

everyone! {
    /// Without a network there is a loopback of its own and nothing else; with the host's, its loopback is there.
    fn networks(machine: &Machine) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it has one").port();
        let script = format!(
            "fact reached \"$( (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo yes || echo no)\"\n\
             fact interfaces \"$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' ')\""
        );
        let builder = builder_of(machine, &[facts("test/net", &script)]);
        build(machine, &builder).args(["--network", "none"]).ok();
        let image = built(machine);
        assert_eq!(fact(&image, "test/net", "reached"), "no");
        assert_eq!(fact(&image, "test/net", "interfaces").trim(), "lo");
        build(machine, &builder).args(["--network", "host"]).ok();
        assert_eq!(fact(&built(machine), "test/net", "reached"), "yes");
    }
}

everyone! {
    /// A buildpack that writes a hundred thousand files is a build like any other.
    fn many_files(machine: &Machine) {
        let script = "layer many cache; cd \"$CNB_LAYERS_DIR/many\"; [ -e 0 ] && { echo \"found $(find . -type f | wc -l)\"; exit 0; }\n\
                      for d in $(seq 0 99); do mkdir $d; (cd $d; seq 0 999 | xargs touch); done";
        let builder = builder_of(machine, &[facts("test/many", script)]);
        build(machine, &builder).ok();
        build(machine, &builder).ok().says("found 100000");
    }
}

everyone! {
    /// Devices work, and those of the machine keep their mode, owner and times.
    fn devices_stay_as_they_are(machine: &Machine) {
        let before = devices();
        let spoils = facts("test/spoils", SPOIL).detect(SPOIL);
        build_with(machine, &[spoils]);
        assert_eq!(devices(), before);
    }
}

everyone! {
    /// What is the machine's on its network: packets of others, low ports, abstract sockets where the kernel can tell.
    fn the_machines_network(machine: &Machine) {
        let script = r#"
fact bounds "$(grep CapBnd /proc/self/status | awk '{print $2}')"
fact port "$( (timeout 1 nc -l -p 81 </dev/null) 2>&1 || true)"
fact packets "$( (timeout 1 arping -c 1 -I lo 127.0.0.1) 2>&1 || true)"
"#;
        let image = build_with(machine, &[facts("test/net", script)]);
        let fact = |name| fact(&image, "test/net", name);
        assert_eq!(fact("bounds"), "00000000a80401fb");
        assert!(fact("port").contains("Permission denied"), "{}", fact("port"));
        assert!(!fact("packets").contains("Unicast"), "{}", fact("packets"));
    }
}

/// What a bad buildpack tries on those after it.
const MEDDLE: &str = r#"
for file in /cnb/buildpacks/test_later/1.0.0/bin/build /cnb/buildpacks/test_later/1.0.0/bin/detect; do
    (echo 'echo meddled; exit 0' > $file) 2>/dev/null || true
    (rm -f $file; printf '#!/bin/sh\necho meddled\n' > $file; chmod 755 $file) 2>/dev/null || true
    chmod 000 $file 2>/dev/null || true
done
(mv /cnb/buildpacks/test_later /cnb/buildpacks/gone; mv /cnb /cnb-gone; rm -rf /cnb/buildpacks/test_later /cnb/order.toml) 2>/dev/null || true
(rm -f /usr/bin/env /bin/cat /bin/bash; printf '#!/bin/sh\necho meddled\n' > /usr/bin/env; chmod 755 /usr/bin/env) 2>/dev/null || true
(mv /usr/bin /usr/gone; mv /bin /gone; touch /usr/bin/meddled /etc/meddled; echo meddled >> /etc/passwd) 2>/dev/null || true
"#;

/// A bad buildpack, and two that come after it.
pub fn meddled_with() -> [Buildpack; 3] {
    let leave = "mkdir -p $HOME/.tool && echo mine > $HOME/.tool/file; echo yours > /tmp/left";
    let first = Buildpack::new("test/first", "1.0.0").detect(MEDDLE).build(&format!("{leave}\n{MEDDLE}"));
    let script = r#"
fact id "$(id -u)"
fact link "$(readlink /usr/bin/env)"
fact meddled "$(ls -d /usr/bin/meddled /etc/meddled /usr/gone /gone /cnb-gone /cnb/buildpacks/gone 2>/dev/null || true)"
fact passwd "$(grep -c meddled /etc/passwd || true)"
fact home "$(cat $HOME/.tool/file)"
fact tmp "$(cat /tmp/left)"
fact own "$(touch "$CNB_BUILDPACK_DIR/new" 2>&1 && echo written || true)"
"#;
    [first, facts("test/later", script), web()]
}

/// Looks at what those after it found.
pub fn check_that_it_did_nothing(machine: &Machine) {
    let image = built(machine);
    let fact = |name| fact(&image, "test/later", name);
    let facts = ["id", "link", "meddled", "passwd", "home", "tmp"].map(fact);
    assert_eq!(facts, ["1000", "/bin/busybox", "", "0", "mine", "yours"]);
    assert!(fact("own").contains("Read-only file system"), "{}", fact("own"));
    assert_eq!(participants(&image), ["test/first", "test/later", "test/web"]);
}

everyone! {
    /// A buildpack changes neither those after it nor the builder's programs, but leaves files where everybody may.
    fn buildpacks_after_one(machine: &Machine) {
        build(machine, &builder_of(machine, &meddled_with())).ok();
        check_that_it_did_nothing(machine);
        machine.pannier(["run", OUT]).ok().says("tool says hello");
    }
}

everyone! {
    /// A program for another kind of processor than the sandbox knows calls of is ended, and that is said.
    fn a_denied_call_is_named(machine: &Machine) {
        for (script, how) in [("kill -31 $$", "signal 31 (SIGSYS"), ("exit 159", "exit code 159 (SIGSYS")] {
            let output = build(machine, &builder_of(machine, &[facts("test/old", script)])).fails();
            output.says(how).says("32-bit");
        }
    }
}
