//! What was found out about images, kept in the store: a small file each in `packages/`.
//!
//! Databases go by the diffIDs of the layers, so that an image that was only extended has an entry too; SBOMs by the
//! image's digest, because they are about that image. An entry that nobody has used for a month goes with a prune.

use fs_err as fs;
use oci::{Digest, Image, Store};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Changes whenever what is read, or how it is written down, does.
const VERSION: u32 = 2;

#[derive(Deserialize, Serialize)]
struct Entry<T> {
    version: u32,
    known: T,
}

/// The name of the entry of what an SBOM says of an image.
pub(super) fn of_sbom(image: &Image) -> String {
    format!("sbom-{}", image.digest().hex())
}

/// The name of the entry of what the databases in these layers say.
pub(super) fn of_layers(diff_ids: impl IntoIterator<Item = Digest>) -> String {
    let text: Vec<String> = diff_ids.into_iter().map(|diff_id| diff_id.to_string()).collect();
    format!("layers-{}", Digest::of(text.join("\n").as_bytes()).hex())
}

/// The name of the entry of what extensions added to an image: the diffIDs of its layers, and of those of each.
pub(super) fn of_extensions<'a>(
    image: &Image,
    extensions: impl IntoIterator<Item = (&'a str, Vec<Digest>)>,
) -> String {
    let mut text = of_layers(image.layers().iter().map(|layer| layer.diff_id));
    for (id, layers) in extensions {
        text += &format!("\n{id}\n{}", of_layers(layers));
    }
    format!("added-{}", Digest::of(text.as_bytes()).hex())
}

/// What an entry says; none when there is none that is of use.
pub(super) fn read<T: DeserializeOwned>(store: &Store, name: &str) -> Option<T> {
    let path = store.packages_dir().join(format!("{name}.json"));
    let bytes = fs::read(&path).ok()?;
    let entry: Entry<T> = serde_json::from_slice(&bytes).ok()?;
    if entry.version != VERSION {
        return None;
    }
    // It is in use. Where the file cannot be touched, it is found out again some day.
    let _ = fs::File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
    Some(entry.known)
}

/// Keeps an entry. What cannot be kept is found out again.
pub(super) fn write<T: Serialize>(store: &Store, name: &str, known: &T) {
    let _ = try_write(store, name, known);
}

fn try_write<T: Serialize>(store: &Store, name: &str, known: &T) -> Result<(), oci::Error> {
    let dir = store.packages_dir();
    fs::create_dir_all(&dir)?;
    let bytes = serde_json::to_vec(&Entry { version: VERSION, known }).map_err(std::io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(store.scratch_dir()?)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    file.as_file().sync_all()?;
    let _permit = oci::publish::permit();
    file.persist(dir.join(format!("{name}.json"))).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use packages::{Manager, Package, PackageSet};

    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let name = of_layers([Digest::of(b"one"), Digest::of(b"two")]);
        assert_ne!(name, of_layers([Digest::of(b"two"), Digest::of(b"one")]));
        type Known = Option<PackageSet>;
        assert_eq!(read::<Known>(&store, &name), None);
        write(&store, &name, &None::<PackageSet>);
        assert_eq!(read::<Known>(&store, &name), Some(None));
        let set = PackageSet::new(None, vec![Package::new(Manager::Deb, "libpq5", "15")]);
        write(&store, &name, &Some(set.clone()));
        assert_eq!(read(&store, &name), Some(Some(set)));
    }

    #[test]
    fn what_another_version_or_nobody_wrote_is_of_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_dir_all(store.packages_dir()).unwrap();
        for text in [r#"{"version": 0, "known": {"packages": []}}"#, "{", r#"{"version": 1, "known": 3}"#] {
            fs::write(store.packages_dir().join("it.json"), text).unwrap();
            assert_eq!(read::<PackageSet>(&store, "it"), None, "{text}");
        }
    }
}
