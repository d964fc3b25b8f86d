//! Everything at hand: no network at all.

use testkit::registry::Registry;
use testkit::{Base, Machine};

use crate::fixture::*;
use crate::support::*;

/// `pannier` in a network namespace that has nothing, not even an address for itself.
fn without_network(machine: &Machine, arguments: &[&str]) -> testkit::machine::Call {
    machine.call("unshare", ["--net", "--"]).arg(machine.program()).args(arguments)
}

/// Builder and run image were fetched once. After that, no pull policy but `always` needs the network, whatever has to
/// be applied anew.
#[test]
fn nothing_is_asked_of_the_network() {
    testkit::needs!("unshare");
    let Some(machine) = machine() else { return };
    if !machine.person().is_root() {
        testkit::needs::cannot("only root can make a network namespace and keep its ids");
        return;
    }
    let registry = Registry::default();
    let host = registry.host();
    let (name, run) = (format!("{host}/test/builder:1"), format!("{host}/test/run:1"));
    machine.pannier(["image", "copy", &Base::Small.run_reference(), &format!("docker://{run}")]).ok();
    let ext = extension("test/ext", "RUN echo 1 > /etc/built", "RUN echo 1 > /etc/ran");
    let extended = extended_builder(&[ext], &[web()]).run_images(&[&run]);
    machine.pannier(["image", "copy", &builder(&machine, &extended), &format!("docker://{name}")]).ok();
    let app = app(&machine).display().to_string();
    let common = ["--builder", &name, "--path", &app];
    machine.pannier(["build", "first"]).args(common).ok();
    drop(registry);
    for policy in ["never", "if-not-present"] {
        for ttl in ["14d", "0"] {
            let options = ["build", "oci:out:app", "--pull-policy", policy, "--extend-cache-ttl", ttl];
            let output = without_network(&machine, &options).args(common).ok();
            assert_eq!(output.all().contains("kept from an earlier build"), ttl == "14d", "{output}");
            assert_eq!(built(&machine).text("/etc/ran"), "1\n");
        }
    }
    without_network(&machine, &["run", "first"]).arg("--network").arg("none").ok().says("tool says hello");
}
