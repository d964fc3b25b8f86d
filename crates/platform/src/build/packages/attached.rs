//! SBOMs that come with an image: those that refer to it in its registry, and the layer that a label of it names.

use std::io::Read as _;
use std::path::Path;

use cnb::output::SbomFormat;
use events::Events;
use layer::unpack::{Limits, Options, Owners, unpack};
use layer::{Kind, Root};
use oci::image::Verified;
use oci::{Descriptor, Image, ImageName, Index, Manifest, Origin, Reference};
use packages::PackageSet;

use super::{SBOM_LIMIT, chain};
use crate::build::request::{BuildRequest, PullPolicy};

/// Names the layer with the base image's SBOM by its diffID.
const LABEL: &str = "io.buildpacks.base.sbom";
/// Where the files are in that layer.
const DIR: &str = "cnb/sbom";
/// Files that are read of that layer.
const MAX_FILES: usize = 16;
/// SBOMs that are read of those that refer to an image.
const MAX_REFERRERS: usize = 4;
/// Media types of SBOMs besides those of the specification.
const OTHER_TYPES: [&str; 2] = ["text/spdx+json", "application/vnd.in-toto+json"];

/// What an SBOM that comes with the image says; none when it has none. Whatever is wrong with one costs no more than
/// a look at the databases.
pub(super) fn find(
    request: &BuildRequest,
    name: &ImageName,
    image: &Image,
    events: &dyn Events,
) -> Option<PackageSet> {
    let warn = |what: String| {
        events.warning(&what);
        None
    };
    let referred = remote(request, name, image).and_then(|reference| {
        referrer(request, &reference, image)
            .unwrap_or_else(|error| warn(format!("the SBOM that refers to {name} is not used: {error}")))
    });
    referred.or_else(|| {
        in_layer(request, image)
            .unwrap_or_else(|error| warn(format!("the SBOM layer of {name} is not used: {error}")))
    })
}

/// The image's name in its registry, when the registry is asked about it anyway: a build that has all images at hand
/// needs no network.
fn remote(request: &BuildRequest, name: &ImageName, image: &Image) -> Option<Reference> {
    match (image.origin(), name) {
        (Some(Origin::Registry(reference)), _) => Some(reference),
        (_, ImageName::Plain(reference) | ImageName::Registry(reference))
            if request.pull_policy == PullPolicy::Always =>
        {
            Some(reference.clone())
        }
        _ => None,
    }
}

type Found = Result<Option<PackageSet>, String>;

/// An SBOM among what refers to the image, or among the attestations beside it in its index, where BuildKit puts them.
fn referrer(request: &BuildRequest, reference: &Reference, image: &Image) -> Found {
    let kind = |one: &Descriptor| one.extra.get("artifactType").and_then(|it| it.as_str()).map(str::to_owned);
    // A registry that does not answer this question is none that has an answer.
    let mut candidates = request.client.referrers(reference, image.digest(), None).unwrap_or_default();
    candidates.retain(|one| kind(one).is_none_or(|kind| is_sbom(&kind)));
    if candidates.is_empty()
        && let Some(index) = image.index
        && let Ok(index) = request.client.manifest(&reference.with_digest(index))
    {
        candidates = attestations(&index.bytes, &image.digest().to_string());
    }
    for sbom in candidates.into_iter().take(MAX_REFERRERS) {
        if let Some(set) = read_artifact(request, &reference.with_digest(sbom.digest))? {
            return Ok(Some(set));
        }
    }
    Ok(None)
}

/// The entries of an index that are attestations about the image.
fn attestations(index: &[u8], image: &str) -> Vec<Descriptor> {
    let Ok(index) = serde_json::from_slice::<Index>(index) else { return Vec::new() };
    let says = |entry: &Descriptor, name: &str, value: &str| {
        entry.annotations.get(name).is_some_and(|found| found == value)
    };
    let about = |entry: &Descriptor| {
        says(entry, "vnd.docker.reference.type", "attestation-manifest")
            && says(entry, "vnd.docker.reference.digest", image)
    };
    index.manifests.into_iter().filter(about).collect()
}

fn is_sbom(media_type: &str) -> bool {
    let bare = media_type.split(';').next().unwrap_or(media_type).trim().to_ascii_lowercase();
    [SbomFormat::CycloneDx, SbomFormat::Spdx, SbomFormat::Syft].iter().any(|it| it.media_type() == bare)
        || OTHER_TYPES.contains(&bare.as_str())
}

/// The SBOM that an artifact has; none when it has something else.
fn read_artifact(request: &BuildRequest, reference: &Reference) -> Found {
    let manifest = request.client.manifest(reference).map_err(|error| chain(&error))?;
    let manifest: Manifest = serde_json::from_slice(&manifest.bytes).map_err(|error| chain(&error))?;
    let blobs = manifest.layers.into_iter().filter(|layer| is_sbom(&layer.media_type));
    for blob in blobs.take(MAX_REFERRERS) {
        if blob.size > SBOM_LIMIT {
            return Err(format!("it has {} bytes, expected at most {SBOM_LIMIT}", blob.size));
        }
        let reader = request.client.blob(reference, &blob, 0).map_err(|error| chain(&error))?;
        let mut bytes = Vec::new();
        Verified::new(reader, &blob, reference.to_string())
            .read_to_end(&mut bytes)
            .map_err(|error| chain(&error))?;
        match packages::sbom::read(&bytes) {
            Ok(set) => return Ok(Some(set)),
            // A statement about something else, such as how the image was built.
            Err(packages::sbom::SbomError::Unknown) => {}
            Err(error) => return Err(chain(&error)),
        }
    }
    Ok(None)
}

fn in_layer(request: &BuildRequest, image: &Image) -> Found {
    let diff_id = image.config.label(LABEL).and_then(|text| text.parse().ok());
    let Some(layer) = image.layers().iter().find(|layer| Some(layer.diff_id) == diff_id) else {
        return Ok(None);
    };
    let scratch = request.store.scratch_dir().map_err(|error| chain(&error))?;
    let work =
        tempfile::Builder::new().prefix("sbom-").tempdir_in(scratch).map_err(|error| error.to_string())?;
    let dir = work.path().join("tree");
    let options = Options {
        owners: Owners::Ours,
        limits: Limits { bytes: 1 << 30, entries: 100_000 },
        diff_id: Some(layer.diff_id),
        only: Some(&|path: &Path| path.starts_with(DIR) || Path::new(DIR).starts_with(path)),
        ..Options::default()
    };
    let reader = layer.open().map_err(|error| chain(&error))?;
    unpack(reader, &dir, &options).map_err(|error| chain(&error))?;
    let root = Root::open(&dir).map_err(|error| chain(&error))?;
    if !root.is_dir(DIR) {
        return Ok(None);
    }
    let files = root.read_dir(DIR).map_err(|error| chain(&error))?;
    let files = files
        .into_iter()
        .filter(|it| it.kind == Kind::File && it.name.as_encoded_bytes().ends_with(b".json"));
    for file in files.take(MAX_FILES) {
        let bytes = root.read(Path::new(DIR).join(file.name), SBOM_LIMIT).map_err(|error| chain(&error))?;
        if let Ok(set) = packages::sbom::read(&bytes) {
            return Ok(Some(set));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_sboms() {
        for sbom in ["application/spdx+json", "application/vnd.cyclonedx+json; version=1.5", "text/SPDX+json"]
        {
            assert!(is_sbom(sbom), "{sbom}");
        }
        assert!(is_sbom("application/vnd.in-toto+json"));
        assert!(!is_sbom("application/vnd.dev.cosign.simplesigning.v1+json"));
    }

    #[test]
    fn attestations_are_about_one_image() {
        let digest = |text: &str| layer::Digest::of(text.as_bytes()).to_string();
        let entry = |text: &str, kind: &str, about: &str| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(text), "size": 1,
                "annotations": {"vnd.docker.reference.type": kind, "vnd.docker.reference.digest": about},
            })
        };
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest("image"), "size": 1},
            entry("other", "attestation-manifest", &digest("other image")),
            entry("it", "attestation-manifest", &digest("image")),
            entry("what", "something", &digest("image")),
        ]});
        let found = attestations(index.to_string().as_bytes(), &digest("image"));
        let found: Vec<String> = found.iter().map(|entry| entry.digest.to_string()).collect();
        assert_eq!(found, [digest("it")]);
        assert!(attestations(b"not json", "").is_empty());
    }
}
