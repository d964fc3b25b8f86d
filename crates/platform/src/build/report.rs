//! What the user gets besides the image: `report.toml`, SBOM files, the outcome.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cnb::image::{ImageReport, Report};
use events::Phase;
use fs_err as fs;
use layer::CopyOptions;
use lifecycle::build::Built;
use lifecycle::export::Exported;
use oci::ImageName;

use super::outcome::{LayerReport, LayerState, Outcome};
use super::phases::{OURS, Run};
use super::{BuildError, resolve};

/// Writes a file in place of whatever has its name. The folder may be the app's, where somebody else put a link or a FIFO:
/// neither is written to.
fn replace(dir: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(dir.join(name))?;
    Ok(())
}

impl Run<'_> {
    /// Writes `report.toml` and SBOM files where they were asked for.
    pub(super) fn reports(&self, exported: &Exported) -> Result<(), BuildError> {
        if let Some(dir) = &self.request.report_output_dir {
            let pushed = resolve::registry_of(&self.request.destination).is_some();
            let image = ImageReport {
                tags: self.names().collect(),
                image_id: if pushed { String::new() } else { exported.image.id().to_string() },
                digest: if pushed { exported.image.digest().to_string() } else { String::new() },
                manifest_size: if pushed { exported.image.manifest_bytes.len() as i64 } else { 0 },
            };
            fs::create_dir_all(dir)?;
            replace(dir, "report.toml", &Report { image, ..Report::default() }.to_toml())?;
        }
        if let Some(dir) = &self.request.sbom_output_dir {
            fs::create_dir_all(dir)?;
            let sbom = self.layers.host.join("sbom");
            if sbom.is_dir() {
                let dest = dir.join("sbom");
                // A copy of before would mix with this one.
                if dest.exists() {
                    fs::remove_dir_all(&dest)?;
                }
                layer::copy_tree(&sbom, &dest, &CopyOptions { owner: OURS, ..CopyOptions::default() })?;
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.request.destination).chain(&self.request.tags).map(ImageName::to_string)
    }

    pub(super) fn outcome(
        &self,
        exported: &Exported,
        built: &Built,
        times: Vec<(Phase, std::time::Duration)>,
    ) -> Outcome {
        let base = self.run_image.image.layers().iter().map(|layer| LayerReport {
            name: "run image".to_owned(),
            size: layer.descriptor.size,
            state: LayerState::Base,
        });
        let new = exported.layers.iter().map(|it| LayerReport {
            name: it.id.clone(),
            size: it.layer.descriptor.size,
            state: if it.reused { LayerState::Reused } else { LayerState::New },
        });
        Outcome {
            names: self.names().collect(),
            digest: exported.image.digest(),
            id: exported.image.id(),
            layers: base.chain(new).collect(),
            processes: built.processes.iter().map(|process| process.r#type.clone()).collect(),
            default_process: exported.default_process.clone(),
            times,
        }
    }
}
