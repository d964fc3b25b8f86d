//! The same image, whoever builds it, cold and cached.

use testkit::{Base, Machine, Person};

use crate::fixture::*;
use crate::support::*;

#[test]
fn digests_for_everybody() {
    if !Base::Small.available() {
        return;
    }
    let run = "RUN mkdir -p /opt/x/y && echo 1 > /opt/x/file && ln -s file /opt/x/link && chmod 750 /opt/x/file\n\
        RUN rm /opt/x/link && mv /opt/x/file /opt/x/y/moved && rm /etc/group\n\
        WORKDIR /opt/new\nCOPY app.sh app.sh\nCOPY --chmod=600 app.sh /opt/other/\nRUN <<END\necho here > doc\nEND";
    let mut digests = Vec::new();
    for person in Person::all() {
        let machine = Machine::new(PANNIER, person);
        let builder = with_extensions(&machine, &[extension("test/ext", run, run)], &[web()]);
        for options in [&[][..], &[], &["--extend-cache-ttl", "0"], &["--clear-cache"]] {
            build(&machine, &builder).args(options).ok();
            digests.push((person, options, built(&machine).digest));
        }
        let script = "cat /opt/new/doc; ls /opt/x /etc/group";
        let found = machine.pannier(["run", OUT, "--entrypoint", "sh", "--", "-c", script]).run();
        let image = built(&machine);
        let moved = image.entry("/opt/x/y/moved").expect("it was moved there");
        assert_eq!((moved.mode, moved.uid, moved.gid), (0o750, 0, 0));
        assert_eq!(found.stdout, "here\n/opt/x:\ny\n", "{found}");
    }
    assert!(digests.iter().all(|(.., digest)| *digest == digests[0].2), "{digests:#?}");
}
