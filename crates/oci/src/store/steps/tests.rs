use std::io::Write as _;

use super::*;
use crate::model::media_type;
use crate::store::{PruneOptions, Sharing};

const KIND: &str = "test";

fn store() -> (tempfile::TempDir, Store) {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path().join("store")).unwrap();
    (temp, store)
}

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn keep(store: &Store, text: &str) -> KeptStep {
    let tree = store.scratch_dir().unwrap().join("upper");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), text).unwrap();
    let record = StepRecord { instruction: format!("RUN {text}"), entries: 1, ..StepRecord::default() };
    store.keep_step(KIND, key(text), &tree, record).unwrap()
}

fn prune(store: &Store, keep_steps: Option<Duration>) -> crate::store::Pruned {
    store.prune(&PruneOptions { keep_cache: &|_| true, keep_steps }).unwrap()
}

#[test]
fn a_step_is_found_again() {
    let (_temp, store) = store();
    assert!(store.step(KIND, key("a"), None).unwrap().is_none());
    let kept = keep(&store, "a");
    let found = store.step(KIND, key("a"), None).unwrap().unwrap();
    assert_eq!(found.tree(), kept.tree());
    assert_eq!(found.record, kept.record);
    assert_eq!(fs::read_to_string(kept.tree().unwrap().join("file")).unwrap(), "a");
    assert!(store.step("other", key("a"), None).unwrap().is_none());
}

#[test]
fn a_step_that_changed_nothing_has_no_tree() {
    let (_temp, store) = store();
    let record = StepRecord { instruction: "RUN true".to_owned(), ..StepRecord::default() };
    let tree = store.scratch_dir().unwrap().join("none");
    store.keep_step(KIND, key("b"), &tree, record).unwrap();
    assert_eq!(store.step(KIND, key("b"), None).unwrap().unwrap().tree(), None);
}

#[test]
fn an_old_step_is_none_and_the_new_one_takes_its_place() {
    let (_temp, store) = store();
    let old = keep(&store, "a");
    let path = old.dir.join(RECORD);
    let record = StepRecord { created: now() - 100, ..old.record.clone() };
    write_json(&path, &record).unwrap();
    let hour = Some(Duration::from_secs(3600));
    assert!(store.step(KIND, key("a"), hour).unwrap().is_some());
    assert!(store.step(KIND, key("a"), Some(Duration::from_secs(99))).unwrap().is_none());
    keep(&store, "a");
    assert!(store.step(KIND, key("a"), Some(Duration::from_secs(99))).unwrap().is_some());
    // The old one may be mounted somewhere, so it is there until a prune.
    assert_eq!(folders(&store.steps_dir().join(KIND)).unwrap().len(), 2);
    assert_eq!(prune(&store, hour).steps, 1);
    assert!(store.step(KIND, key("a"), None).unwrap().is_some());
}

#[test]
fn what_is_broken_is_none_and_is_told() {
    let (_temp, store) = store();
    for name in ["no tree", "bad record", "other boot", "spoilt", "good"] {
        keep(&store, name);
    }
    let at = |name: &str| store.step_path(KIND, key(name));
    fs::remove_dir_all(at("no tree").join("tree")).unwrap();
    fs::write(at("bad record").join(RECORD), "{").unwrap();
    fs::write(at("other boot").join("boot"), "another").unwrap();
    fs::write(at("spoilt").join("tree/file"), "longer than it was").unwrap();
    for (name, there) in [("no tree", false), ("bad record", false), ("other boot", false), ("good", true)] {
        assert_eq!(store.step(KIND, key(name), None).unwrap().is_some(), there, "{name}");
    }
    let report = store.verify().unwrap();
    assert_eq!((report.steps, report.problems.len()), (4, 3), "one of another boot is no problem");
    for problem in &report.problems {
        assert!(store.repair(problem).unwrap());
    }
    let report = store.verify().unwrap();
    assert_eq!((report.steps, report.problems.len()), (1, 0));
}

#[test]
fn a_layer_is_kept_as_long_as_its_step() {
    let (_temp, store) = store();
    let step = keep(&store, "a");
    assert!(store.step_layer(&step, "gzip").unwrap().is_none());
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"layer").unwrap();
    let blob = writer.commit(media_type::OCI_LAYER_GZIP).unwrap();
    store.keep_step_layer(&step, "gzip", blob.clone(), key("diff")).unwrap();
    let layer = store.step_layer(&step, "gzip").unwrap().unwrap();
    assert_eq!((layer.descriptor.digest, layer.diff_id), (blob.digest, key("diff")));
    assert!(store.step_layer(&step, "zstd").unwrap().is_none());

    let pruned = prune(&store, Some(Duration::from_secs(60)));
    assert_eq!((pruned.blobs, pruned.steps), (0, 0));
    assert!(store.has(&blob));
    let long_ago = SystemTime::now() - Duration::from_secs(120);
    let record = fs::OpenOptions::new().append(true).open(step.dir.join(RECORD)).unwrap();
    record.file().set_modified(long_ago).unwrap();
    let pruned = prune(&store, Some(Duration::from_secs(60)));
    assert_eq!((pruned.blobs, pruned.steps), (1, 1));
    assert!(pruned.bytes > 0);
    assert!(!store.has(&blob) && store.step(KIND, key("a"), None).unwrap().is_none());
}

#[test]
fn keepers_at_once_do_not_fail() {
    let (_temp, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let record = StepRecord { instruction: "user cnb".to_owned(), ..StepRecord::default() };
                    store.keep_step(KIND, key("same"), Path::new(""), record).unwrap();
                }
            });
        }
    });
    assert!(store.step(KIND, key("same"), None).unwrap().is_some());
}

#[test]
fn using_a_step_keeps_it() {
    let (_temp, store) = store();
    let step = keep(&store, "a");
    let record = fs::OpenOptions::new().append(true).open(step.dir.join(RECORD)).unwrap();
    record.file().set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    store.step(KIND, key("a"), None).unwrap().unwrap();
    assert_eq!(prune(&store, Some(Duration::from_secs(3600))).steps, 0);
    assert_eq!(prune(&store, None).steps, 1);
}

#[test]
fn one_makes_a_step_at_a_time() {
    let (_temp, store) = store();
    let lock = store.lock_step(KIND, key("a")).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let other = store.clone();
    let thread = std::thread::spawn(move || {
        let _lock = other.lock_step(KIND, key("a")).unwrap();
        send.send(()).unwrap();
    });
    let _another = store.lock_step(KIND, key("b")).unwrap();
    assert!(receive.recv_timeout(Duration::from_millis(100)).is_err());
    drop(lock);
    receive.recv_timeout(Duration::from_secs(10)).unwrap();
    thread.join().unwrap();
}

#[test]
fn cache_mounts_stay_and_are_shared_as_asked() {
    let (_temp, store) = store();
    let first = store.cache_mount(KIND, "apt", Sharing::Private).unwrap();
    assert!(first.is_new);
    fs::write(first.dir.join("kept"), "").unwrap();
    let second = store.cache_mount(KIND, "apt", Sharing::Private).unwrap();
    assert_ne!(first.dir, second.dir);
    let spare = second.dir.clone();
    drop(second);
    assert!(!spare.exists());
    drop(first);
    let again = store.cache_mount(KIND, "apt", Sharing::Shared).unwrap();
    assert!(!again.is_new && again.dir.join("kept").exists());
    let beside = store.cache_mount(KIND, "apt", Sharing::Shared).unwrap();
    assert_eq!(again.dir, beside.dir);
    drop((again, beside));
    assert_eq!(prune(&store, Some(Duration::from_secs(3600))).mounts, 0);
    assert_eq!(prune(&store, None).mounts, 1);
    assert!(store.cache_mount(KIND, "apt", Sharing::Locked).unwrap().is_new);
}
