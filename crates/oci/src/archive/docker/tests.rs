use fs_err as fs;

use super::*;
use crate::testing::{config, tar};

struct Saved(tar::Builder<Vec<u8>>);

impl Saved {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, bytes).unwrap();
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    fn open(self, compress: bool) -> Result<(tempfile::TempDir, DockerArchive)> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("saved.tar");
        let bytes = self.0.into_inner().unwrap();
        match compress {
            true => fs::write(&path, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap(),
            false => fs::write(&path, bytes).unwrap(),
        }
        DockerArchive::open(path, temp.path()).map(|archive| (temp, archive))
    }
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let mut config = config();
    config.rootfs.diff_ids = layers.iter().map(|tar| Digest::of(tar)).collect();
    to_json(&config, "test").unwrap()
}

const TWO_LAYERS: &str =
    r#"[{"Config":"c.json","RepoTags":["app:v1"],"Layers":["1/layer.tar","2/layer.tar"]}]"#;

#[test]
fn old_docker_links_equal_layers() {
    let layer = tar("a", b"1");
    for compress in [false, true] {
        let (_temp, archive) = Saved::new()
            .file("1/layer.tar", &layer)
            .link("2/layer.tar", "../1/layer.tar")
            .file("c.json", &config_of(&[&layer, &layer]))
            .file("manifest.json", TWO_LAYERS.as_bytes())
            .open(compress)
            .unwrap();
        let image = archive.image(Some(&"app:v1".parse().unwrap())).unwrap();
        assert_eq!(image.layers().len(), 2);
        let mut bytes = Vec::new();
        image.layers()[1].open().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, layer);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (one, two) = (tar("a", b"1"), tar("a", b"2"));
    let whole = || Saved::new().file("1/layer.tar", &one);
    let error = |saved: Saved| match saved.open(false).and_then(|(_temp, archive)| archive.image(None)) {
        Ok(_) => String::from("no error"),
        Err(error) => error.to_string(),
    };
    assert!(error(whole()).contains("it has no `manifest.json`"));
    assert!(error(whole().file("oci-layout", b"{}")).contains("expected the name `oci-archive:FILE`"));
    assert!(error(whole().file("manifest.json", b"{}")).contains("invalid manifest.json of archive"));
    assert!(error(whole().file("manifest.json", b"[]")).contains("it has no image"));
    assert!(error(whole().file("manifest.json", TWO_LAYERS.as_bytes())).contains("no file `c.json`"));
    let with_config = |layers: &[&[u8]]| {
        whole().file("c.json", &config_of(layers)).file("manifest.json", TWO_LAYERS.as_bytes())
    };
    assert!(error(with_config(&[&one])).contains("it has 2 layers, but `c.json` 1 diff_ids"));
    assert!(error(with_config(&[&one, &two])).contains("its layer `2/layer.tar` is missing"));

    // A layer that is not what the configuration says is found when it is read.
    let (_temp, archive) =
        with_config(&[&one, &two]).file("2/layer.tar", &tar("b", b"3")).open(false).unwrap();
    let image = archive.image(None).unwrap();
    let read = std::io::copy(&mut image.layers()[1].open().unwrap(), &mut std::io::sink());
    assert!(Error::from_io(read.unwrap_err()).is_corrupt_blob());
}

#[test]
fn several_images_need_a_name() {
    let layer = tar("a", b"1");
    let manifest = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l"]},{"Config":"c.json","RepoTags":null,"Layers":["l"]},{"Config":"c.json","RepoTags":["b:2"],"Layers":["l"]}]"#;
    let (_temp, archive) = Saved::new()
        .file("l", &layer)
        .file("c.json", &config_of(&[&layer]))
        .file("manifest.json", manifest.as_bytes())
        .open(false)
        .unwrap();
    let error = archive.image(None).unwrap_err().to_string();
    assert!(error.ends_with("has several images and none was named: expected one of a:1, b:2"), "{error}");
    assert!(archive.image(Some(&"b:2".parse().unwrap())).is_ok());
}
