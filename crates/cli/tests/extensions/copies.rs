//! Machines where no overlay can be mounted, as in a container whose own files are one: Dockerfiles are applied on copies.

use crate::fixture::*;
use crate::support::*;

everyone! {
    /// The image is the one that overlays give, first and when all is kept.
    fn the_same_image_without_overlays(machine: &Machine) {
        let built_by = "RUN echo tool > /etc/built && rm /etc/os-release\nRUN echo more >> /etc/built";
        let run = "RUN mkdir /opt && echo 1 > /opt/file && rm /bin/vi\nCOPY app.sh /opt/\nRUN echo 2 >> /opt/file";
        let seen = facts("test/seen", "fact file \"$(cat /etc/built; ls /etc/os-release 2>/dev/null || echo gone)\"");
        let builder = with_extensions(machine, &[extension("test/ext", built_by, run)], &[seen, web()]);
        build(machine, &builder).ok().never_says("No overlay can be mounted");
        let expected = built(machine);
        assert_eq!(fact(&expected, "test/seen", "file"), "tool\nmore\ngone");

        let build = || {
            let arguments = ["build", OUT, "--builder", &builder, "--path"];
            machine.pannier_on_overlay("work/copies", arguments).arg(app(machine))
        };
        build().ok().says("No overlay can be mounted here");
        assert_eq!(built(machine).digest, expected.digest);
        build().ok().says("kept from an earlier build");
        assert_eq!(built(machine).digest, expected.digest);
    }
}
