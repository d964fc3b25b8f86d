//! A disk that is full at any point: the operation says so, nothing is lost, and with room it goes on.

use std::path::Path;

use testkit::SmallDisk;

use crate::lab::{Lab, Operation, Random, is_clear};
use crate::{Limit, Tally};

const OPERATIONS: [Operation; 3] = [Operation::FirstBuild, Operation::Extension, Operation::BuilderCreate];
/// On a disk of this many KiB everything has room.
const ROOM: usize = 200 << 10;

pub fn run(lab: &Lab, random: &mut Random, limit: Limit) -> Tally {
    let mut tally = Tally::default();
    if !lab.machine.person().is_root() {
        println!("disk       skipped: only root can mount a small disk");
        return tally;
    }
    for operation in OPERATIONS {
        let home = lab.machine.make_dir("full");
        let needed = match needed(lab, operation, &home) {
            Ok(needed) => needed,
            Err(error) => {
                tally.add(Err(format!("{operation:?} with room: {error}")));
                continue;
            }
        };
        // From a disk that holds nothing to one that is just too small, evenly or anywhere.
        let points = if limit.short { 6 } else { 60 };
        for point in 0..points {
            let at = if limit.short { point as f64 / points as f64 } else { random.part() };
            let size = (needed.0 as f64 * at) as usize + 64;
            let found = on_a_disk_of(lab, operation, &home, size, &needed.1);
            tally.add(found.map_err(|lost| format!("{operation:?} on a disk of {size} KiB: {lost}")));
            if !limit.short && limit.is_over() {
                break;
            }
        }
    }
    tally
}

/// How many KiB the operation takes, and the digest of what it makes.
fn needed(lab: &Lab, operation: Operation, home: &Path) -> Result<(usize, String), String> {
    let disk = mount(home, ROOM)?;
    lab.call(operation, home).ok();
    let digest = lab.digest(operation, home)?;
    let stat = rustix::fs::statvfs(home).map_err(|error| error.to_string())?;
    let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024;
    disk.unmount();
    // While it is done it takes more than what stays.
    Ok((used as usize * 3 / 2, digest))
}

fn on_a_disk_of(
    lab: &Lab,
    operation: Operation,
    home: &Path,
    size: usize,
    expected: &str,
) -> Result<bool, String> {
    let disk = mount(home, size)?;
    let output = lab.call(operation, home).run();
    let survived = output.status.success();
    if !survived {
        is_clear(&output)?;
        let said = output.all();
        if !said.contains("No space left on device") && !said.contains("no space is left") {
            return Err(format!("it does not say that the disk is full: {output}"));
        }
    }
    let left = lab.leftovers(home);
    if !left.is_empty() {
        return Err(format!("files are left: {left:?}: {output}"));
    }

    if !disk.remount(&format!("size={ROOM}k")) {
        return Err("it cannot be made larger".to_owned());
    }
    lab.verify(home)?;
    let output = lab.call(operation, home).run();
    if !output.status.success() {
        return Err(format!("with room it fails: {output}"));
    }
    let digest = lab.digest(operation, home)?;
    if digest != expected {
        return Err(format!("with room it makes {digest}, expected {expected}"));
    }
    lab.verify(home)?;
    disk.unmount();
    Ok(survived)
}

fn mount(at: &Path, kib: usize) -> Result<SmallDisk, String> {
    SmallDisk::mount(at, &format!("size={kib}k")).ok_or_else(|| "no small disk can be mounted".to_owned())
}
