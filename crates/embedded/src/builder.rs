//! The default builder: a build image with two buildpacks and nothing else, and a run image without a shell or a libc.
//!
//! Labels that hold digests of layers are made when the digests are known: [`DefaultBuilder::build_labels`].

use std::collections::BTreeMap;

use cnb::builder::{
    ApiVersions, BUILDER_METADATA, BUILDPACK_LAYERS, BUILDPACK_ORDER, BuilderMetadata, BuilderRunImage,
    BuilderStack, CreatedBy, LifecycleApi, LifecycleApis, LifecycleMetadata, ModuleEntry, ModuleLayer,
    ModuleLayers, label_text,
};
use cnb::descriptor::ModuleDescriptor;
use cnb::group::{Kind, Order, OrderEntry, OrderGroup};
use cnb::image::{RunImageMirrors, RunToml, StackToml};
use cnb::label::{BASE_DISTRO_NAME, BASE_DISTRO_VERSION};
use cnb::launch::escape_id;
use cnb::{ApiVersion, ParseError};

use crate::tree::{Entry, Tree};

/// The name of the builder. `localhost` is no registry that anybody could put another image of this name into.
pub const BUILD_IMAGE: &str = "localhost/pannier/default-builder";

/// The name of its run image.
pub const RUN_IMAGE: &str = "localhost/pannier/default-run";

/// The user and the group that buildpacks and apps run as.
pub const USER_ID: u32 = 1000;

const DISTRO_NAME: &str = "pannier";
const DISTRO_VERSION: &str = "1";

const STATIC_SITE: &str = include_str!("../../../buildpacks/static-site/buildpack.toml");
const PROCFILE: &str = include_str!("../../../buildpacks/procfile/buildpack.toml");

macro_rules! program {
    ($name:literal) => {
        include_bytes!(concat!(env!("PANNIER_EMBEDDED"), "/", $name))
    };
}

/// A layer before it is one.
#[derive(Clone, Debug)]
pub struct LayerParts {
    /// What the image's history says about it.
    pub created_by: String,
    /// What is in it.
    pub tree: Tree,
    /// The buildpack that is in it, if one is.
    pub buildpack: Option<ModuleDescriptor>,
}

/// An image before it is one.
#[derive(Clone, Debug)]
pub struct ImageParts {
    /// The name without a tag: [`BUILD_IMAGE`] or [`RUN_IMAGE`].
    pub name: &'static str,
    /// The layers, lowest first.
    pub layers: Vec<LayerParts>,
    /// `User` of its configuration.
    pub user: String,
    /// `WorkingDir` of its configuration.
    pub working_dir: &'static str,
    /// `Env` of its configuration.
    pub env: Vec<(&'static str, String)>,
    /// Labels that do not depend on digests.
    pub labels: BTreeMap<String, String>,
}

/// The parts of the default builder.
#[derive(Clone, Debug)]
pub struct DefaultBuilder {
    /// The builder itself.
    pub build_image: ImageParts,
    /// What its apps run on.
    pub run_image: ImageParts,
}

/// The default builder for [`architecture`](crate::architecture). The same program always returns the same.
pub fn default_builder() -> DefaultBuilder {
    let user = format!("{USER_ID}:{USER_ID}");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let labels = BTreeMap::from([
        (BASE_DISTRO_NAME.to_owned(), DISTRO_NAME.to_owned()),
        (BASE_DISTRO_VERSION.to_owned(), DISTRO_VERSION.to_owned()),
    ]);
    let run_image = ImageParts {
        name: RUN_IMAGE,
        layers: vec![base_layer()],
        user: user.clone(),
        working_dir: "/",
        env: vec![("PATH", path.clone())],
        labels: labels.clone(),
    };
    let mut layers = vec![base_layer(), folders_layer()];
    layers.extend(buildpack_layers());
    layers.push(order_layer());
    let build_image = ImageParts {
        name: BUILD_IMAGE,
        layers,
        user,
        working_dir: "/layers",
        env: vec![
            ("PATH", path),
            ("CNB_USER_ID", USER_ID.to_string()),
            ("CNB_GROUP_ID", USER_ID.to_string()),
        ],
        labels,
    };
    DefaultBuilder { build_image, run_image }
}

impl DefaultBuilder {
    /// All labels of the build image. `diff_id` gives the diffID of each of its layers.
    pub fn build_labels(&self, diff_id: impl Fn(&LayerParts) -> String) -> BTreeMap<String, String> {
        let mut modules = ModuleLayers::new();
        for layer in &self.build_image.layers {
            if let Some(descriptor) = &layer.buildpack {
                modules
                    .entry(descriptor.info.id.clone())
                    .or_default()
                    .insert(descriptor.info.version.clone(), ModuleLayer::new(descriptor, diff_id(layer)));
            }
        }
        let mut labels = self.build_image.labels.clone();
        labels.insert(BUILDPACK_LAYERS.to_owned(), label_text(&modules));
        labels.insert(BUILDPACK_ORDER.to_owned(), label_text(&order().order));
        labels.insert(BUILDER_METADATA.to_owned(), label_text(&self.metadata()));
        labels
    }

    fn metadata(&self) -> BuilderMetadata {
        let descriptors = self.build_image.layers.iter().filter_map(|layer| layer.buildpack.as_ref());
        let version = env!("CARGO_PKG_VERSION");
        BuilderMetadata {
            description: "Static sites and Procfiles over prebuilt executables".to_owned(),
            buildpacks: Some(descriptors.map(|descriptor| ModuleEntry::from(&descriptor.info)).collect()),
            extensions: None,
            stack: BuilderStack { run_image: run_image_entry() },
            lifecycle: lifecycle(version),
            created_by: CreatedBy { name: "Pannier".to_owned(), version: version.to_owned() },
            run_images: Some(vec![run_image_entry()]),
        }
    }
}

fn run_image_entry() -> BuilderRunImage {
    BuilderRunImage { image: RUN_IMAGE.to_owned(), mirrors: None }
}

/// The lifecycle is Pannier itself: there is none in the image.
fn lifecycle(version: &str) -> LifecycleMetadata {
    let versions = |supported: Vec<ApiVersion>| ApiVersions { deprecated: Vec::new(), supported };
    LifecycleMetadata {
        version: Some(version.to_owned()),
        api: LifecycleApi {
            buildpack: Some(ApiVersion::BUILDPACK_OLDEST),
            platform: Some(ApiVersion::PLATFORM_OLDEST),
        },
        apis: LifecycleApis {
            buildpack: versions(ApiVersion::supported_buildpack().collect()),
            platform: versions(ApiVersion::supported_platform().collect()),
        },
    }
}

/// What both images begin with: as much of a system as programs expect that need no libc.
fn base_layer() -> LayerParts {
    let passwd = format!(
        "root:x:0:0:root:/root:/sbin/nologin\ncnb:x:{USER_ID}:{USER_ID}:cnb:/home/cnb:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    );
    let group = format!("root:x:0:\ncnb:x:{USER_ID}:\nnogroup:x:65534:\n");
    let release = format!(
        "ID={DISTRO_NAME}\nNAME=\"Pannier default\"\nPRETTY_NAME=\"Pannier default {DISTRO_VERSION}\"\nVERSION_ID=\"{DISTRO_VERSION}\"\n"
    );
    let tree = Tree::new(vec![
        Entry::directory("/dev"),
        Entry::file("/etc/group", group.into_bytes()),
        Entry::file("/etc/nsswitch.conf", &b"hosts: files dns\n"[..]),
        Entry::file("/etc/os-release", release.into_bytes()),
        Entry::file("/etc/passwd", passwd.into_bytes()),
        Entry::directory("/home/cnb").owned_by(USER_ID),
        Entry::directory("/proc"),
        Entry::directory("/root").with_mode(0o700),
        Entry::directory("/run"),
        Entry::directory("/sys"),
        Entry::directory("/tmp").with_mode(0o1777),
        Entry::directory("/var/tmp").with_mode(0o1777),
    ]);
    LayerParts { created_by: "Pannier default base".to_owned(), tree, buildpack: None }
}

/// The folders that the phases use (as `pack builder create` makes them).
fn folders_layer() -> LayerParts {
    let tree = Tree::new(vec![
        Entry::directory("/cnb/build-config/env"),
        Entry::directory("/cnb/buildpacks"),
        Entry::directory("/cnb/extensions"),
        Entry::directory("/layers").owned_by(USER_ID),
        Entry::directory("/platform/env"),
        Entry::directory("/workspace").owned_by(USER_ID),
    ]);
    LayerParts { created_by: "Pannier default builder folders".to_owned(), tree, buildpack: None }
}

fn buildpack_layers() -> [LayerParts; 2] {
    [
        buildpack_layer(
            PROCFILE,
            program!("pannier-buildpack-procfile"),
            ("procfile-run", program!("pannier-procfile-run")),
        ),
        buildpack_layer(
            STATIC_SITE,
            program!("pannier-buildpack-static-site"),
            ("static-server", program!("pannier-static-server")),
        ),
    ]
}

/// A buildpack with its program, which is `detect` and `build`, and what it puts into images.
fn buildpack_layer(
    toml: &'static str,
    program: &'static [u8],
    (helper_name, helper): (&str, &'static [u8]),
) -> LayerParts {
    let descriptor = descriptor(toml);
    let (id, version) = (&descriptor.info.id, &descriptor.info.version);
    let dir = format!("/cnb/buildpacks/{}/{version}", escape_id(id));
    let tree = Tree::new(vec![
        Entry::file(format!("{dir}/buildpack.toml"), toml.as_bytes()),
        Entry::program(format!("{dir}/bin/build"), program),
        Entry::symlink(format!("{dir}/bin/detect"), "build"),
        Entry::program(format!("{dir}/bin/{helper_name}"), helper),
    ]);
    LayerParts { created_by: format!("Buildpack {id}@{version}"), tree, buildpack: Some(descriptor) }
}

fn descriptor(toml: &str) -> ModuleDescriptor {
    let parsed: Result<_, ParseError> = ModuleDescriptor::parse(Kind::Buildpack, "buildpack.toml", toml);
    // A test reads both, so what is embedded is always good.
    parsed.unwrap_or_else(|error| panic!("embedded {error}"))
}

/// A Procfile says what its author wants, a folder `public` may be there for many reasons: so the Procfile comes first.
fn order() -> Order {
    let group = |toml: &str| {
        let info = descriptor(toml).info;
        let entry = OrderEntry { id: info.id, version: info.version, ..OrderEntry::default() };
        OrderGroup { group: vec![entry] }
    };
    Order { order: vec![group(PROCFILE), group(STATIC_SITE)], order_extensions: Vec::new() }
}

fn order_layer() -> LayerParts {
    let image = RunImageMirrors { image: RUN_IMAGE.to_owned(), mirrors: Vec::new() };
    let run = RunToml { images: vec![image.clone()] };
    let stack = StackToml { run_image: image };
    let tree = Tree::new(vec![
        Entry::file("/cnb/order.toml", order().to_toml().into_bytes()),
        Entry::file("/cnb/run.toml", run.to_toml().into_bytes()),
        Entry::file("/cnb/stack.toml", stack.to_toml().into_bytes()),
    ]);
    LayerParts { created_by: "Pannier default builder order".to_owned(), tree, buildpack: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    fn file<'a>(image: &'a ImageParts, path: &str) -> &'a [u8] {
        let entry = image.layers.iter().rev().find_map(|layer| layer.tree.get(path));
        match entry.map(|entry| &entry.content) {
            Some(Content::File(content)) => content,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_user_is_in_both_images() {
        let builder = default_builder();
        for image in [&builder.build_image, &builder.run_image] {
            assert_eq!(image.user, "1000:1000");
            let passwd = std::str::from_utf8(file(image, "/etc/passwd")).unwrap();
            assert!(passwd.contains("\ncnb:x:1000:1000:cnb:/home/cnb:"), "{passwd}");
            let tmp = image.layers[0].tree.get("/tmp").unwrap();
            assert_eq!((tmp.mode, tmp.uid), (0o1777, 0));
            assert_eq!(image.layers[0].tree.get("/home/cnb").unwrap().uid, 1000);
            assert_eq!(image.labels["io.buildpacks.base.distro.name"], "pannier");
        }
        assert!(builder.build_image.env.contains(&("CNB_USER_ID", "1000".to_owned())));
    }

    #[test]
    fn each_buildpack_of_the_order_is_there() {
        let builder = default_builder();
        let text = std::str::from_utf8(file(&builder.build_image, "/cnb/order.toml")).unwrap();
        let order = Order::parse("order.toml", text).unwrap();
        let ids: Vec<_> = order.order.iter().map(|group| group.group[0].id.as_str()).collect();
        assert_eq!(ids, ["pannier/procfile", "pannier/static-site"]);
        for entry in order.order.iter().flat_map(|group| &group.group) {
            let dir = format!("/cnb/buildpacks/{}/{}", entry.id.replace('/', "_"), entry.version);
            assert!(file(&builder.build_image, &format!("{dir}/bin/build")).starts_with(b"\x7fELF"));
            let toml =
                std::str::from_utf8(file(&builder.build_image, &format!("{dir}/buildpack.toml"))).unwrap();
            assert_eq!(descriptor(toml).info.version, env!("CARGO_PKG_VERSION"));
        }
    }

    #[test]
    fn labels_describe_the_builder() {
        let builder = default_builder();
        let labels = builder.build_labels(|layer| format!("sha256:{}", layer.created_by));
        assert_eq!(
            labels[BUILDPACK_ORDER],
            r#"[{"group":[{"id":"pannier/procfile","version":"0.1.0"}]},{"group":[{"id":"pannier/static-site","version":"0.1.0"}]}]"#
        );
        let layers: ModuleLayers =
            cnb::builder::parse_label(BUILDPACK_LAYERS, &labels[BUILDPACK_LAYERS]).unwrap();
        let site = &layers["pannier/static-site"]["0.1.0"];
        assert_eq!(site.layer_diff_id, "sha256:Buildpack pannier/static-site@0.1.0");
        let metadata: BuilderMetadata =
            cnb::builder::parse_label(BUILDER_METADATA, &labels[BUILDER_METADATA]).unwrap();
        assert_eq!(metadata.stack.run_image.image, RUN_IMAGE);
        assert_eq!(metadata.buildpacks.unwrap().len(), 2);
        assert_eq!(metadata.run_images.unwrap()[0].image, RUN_IMAGE);
    }

    #[test]
    fn the_run_image_has_no_program() {
        let entries = default_builder().run_image.layers.into_iter().flat_map(|layer| layer.tree.entries);
        let programs: Vec<_> = entries
            .filter(|entry| matches!(entry.content, Content::File(_)) && entry.mode & 0o111 != 0)
            .collect();
        assert_eq!(programs, []);
    }

    #[test]
    fn it_is_always_the_same() {
        let (one, two) = (default_builder(), default_builder());
        for (one, two) in one.build_image.layers.iter().zip(&two.build_image.layers) {
            assert_eq!(one.tree, two.tree);
        }
    }
}
