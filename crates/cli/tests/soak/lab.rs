//! A machine with all that the operations need, the operations themselves, and what must hold after each.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use testkit::machine::{Call, Output};
use testkit::{Base, Builder, Buildpack, Layout, Machine, Person, Registry, Tree};

use crate::support::{PANNIER, app, facts, web};

/// Numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A seed that nobody chose.
    pub fn any() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 % 1_000_000_007)
    }

    /// Below `limit`. SplitMix64.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }

    /// From 0 to 1.
    pub fn part(&mut self) -> f64 {
        self.below(1 << 30) as f64 / f64::from(1 << 30)
    }
}

/// Something that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// The first build on a machine: everything is unpacked.
    FirstBuild,
    /// A build whose layers come back.
    Rebuild,
    /// A build that pushes, with its cache in a registry.
    CacheImage,
    /// A build with extensions of both images.
    Extension,
    /// A build that pushes.
    Publish,
    BuilderCreate,
    CopyToArchive,
    CopyToLayout,
    CopyToRegistry,
    CopyIn,
    Prune,
}

pub const OPERATIONS: [Operation; 11] = [
    Operation::FirstBuild,
    Operation::Rebuild,
    Operation::CacheImage,
    Operation::Extension,
    Operation::Publish,
    Operation::BuilderCreate,
    Operation::CopyToArchive,
    Operation::CopyToLayout,
    Operation::CopyToRegistry,
    Operation::CopyIn,
    Operation::Prune,
];

impl Operation {
    /// Whether it begins on a machine that has nothing yet.
    pub fn is_first(self) -> bool {
        matches!(self, Self::FirstBuild | Self::Extension | Self::BuilderCreate)
    }
}

/// A machine, images on it, and a registry beside it.
pub struct Lab {
    pub machine: Machine,
    pub registry: Registry,
    app: PathBuf,
    builder: String,
    extended: String,
    config: PathBuf,
}

impl Lab {
    pub fn new(person: Person) -> Self {
        let machine = Machine::new(PANNIER, person);
        let layout = Layout::new(machine.path("images"));
        // Enough files for an unpacking that takes its time.
        let files = (0..600).fold(Tree::new().dir("many", 0o755), |tree, number| {
            tree.file(&format!("many/{number}"), 0o644, vec![b'x'; 2000])
        });
        let mark = machine.path("").display().to_string();
        let builder = Builder::of(Base::Small, &buildpacks());
        layout.add("builder", &builder.clone().image().layer(files.clone()).env("MARK", &mark));
        let run = "ARG base_image\nFROM ${base_image}\nARG user_id\nARG group_id\nUSER root\n\
            RUN mkdir -p /opt/new && for n in 1 2 3 4 5 6; do echo $n > /opt/new/$n; done\nRUN rm /opt/new/3\n\
            USER ${user_id}:${group_id}\n";
        let extension = ["build.Dockerfile", "run.Dockerfile"]
            .iter()
            .fold(Buildpack::extension("test/ext", "1.0.0"), |extension, name| {
                extension.file(&format!("generate/{name}"), 0o644, run)
            });
        let extended = builder.extension_group(&["test/ext"]).extension(extension);
        layout.add("extended", &extended.image().layer(files).env("MARK", &mark));
        let config = machine.write("work/builder.toml", builder_toml(&machine));
        let app = app(&machine);
        Self {
            builder: layout.reference("builder"),
            extended: layout.reference("extended"),
            registry: Registry::default(),
            machine,
            app,
            config,
        }
    }

    /// A call of `pannier` with its home at `home`.
    pub fn pannier<'a>(&self, home: &Path, words: impl IntoIterator<Item = &'a str>) -> Call {
        self.machine.pannier(words).env("PANNIER_HOME", home)
    }

    /// A build of this lab's app under any name.
    pub fn build_as(&self, home: &Path, name: &str) -> Call {
        self.build(home, name, &self.builder)
    }

    fn build(&self, home: &Path, name: &str, builder: &str) -> Call {
        self.pannier(home, ["build", name, "--builder", builder, "--path"]).arg(&self.app)
    }

    /// `registry/repository:tag` of what an operation pushes.
    pub fn published(&self, operation: Operation) -> String {
        format!("{}/soak/{}:1", self.registry.host(), format!("{operation:?}").to_lowercase())
    }

    /// The operation as a call. It can be repeated.
    pub fn call(&self, operation: Operation, home: &Path) -> Call {
        let published = self.published(operation);
        match operation {
            Operation::FirstBuild | Operation::Rebuild => self.build(home, "app", &self.builder),
            Operation::Extension => self.build(home, "app", &self.extended),
            Operation::Publish => self.build(home, &published, &self.builder).arg("--publish"),
            Operation::CacheImage => {
                let cache = format!("{}/soak/cache:1", self.registry.host());
                self.build(home, &published, &self.builder).args(["--publish", "--cache-image", &cache])
            }
            Operation::BuilderCreate => {
                let words = ["builder", "create", "made", "--config"];
                self.pannier(home, words).arg(&self.config)
            }
            Operation::CopyToArchive => {
                self.pannier(home, ["image", "copy", "app", "oci-archive:out/app.tar"])
            }
            Operation::CopyToLayout => self.pannier(home, ["image", "copy", "app", "oci:out/layout:app"]),
            Operation::CopyToRegistry => {
                self.pannier(home, ["image", "copy", "app", &format!("docker://{published}")])
            }
            Operation::CopyIn => self.pannier(home, ["image", "copy", &self.builder, "copied"]),
            Operation::Prune => self.pannier(home, ["prune"]),
        }
    }

    /// Makes ready what the operation begins with.
    pub fn prepare(&self, operation: Operation, home: &Path) {
        self.machine.make_dir("work/out");
        let named = |name: &str| self.pannier(home, ["image", "remove", name]).run();
        match operation {
            _ if operation.is_first() => {}
            Operation::CopyToArchive => drop(fs_err::remove_file(self.machine.path("work/out/app.tar"))),
            Operation::CopyToLayout => drop(fs_err::remove_dir_all(self.machine.path("work/out/layout"))),
            Operation::CopyIn => drop(named("copied")),
            Operation::Prune => {
                // Something to prune.
                self.pannier(home, ["image", "copy", &self.builder, "spare"]).ok();
                self.pannier(home, ["image", "remove", "spare"]).ok();
            }
            _ => {}
        }
    }

    /// A home on which everything but the first build can be done.
    pub fn warm_home(&self) -> PathBuf {
        let home = self.machine.make_dir("warm");
        self.call(Operation::FirstBuild, &home).ok();
        home
    }

    /// The digest of what the operation made; of a prune what is left.
    pub fn digest(&self, operation: Operation, home: &Path) -> Result<String, String> {
        let image = match operation {
            Operation::FirstBuild | Operation::Rebuild | Operation::Extension => "app".to_owned(),
            Operation::BuilderCreate => "made".to_owned(),
            Operation::CopyIn => "copied".to_owned(),
            Operation::CopyToArchive => "oci-archive:out/app.tar".to_owned(),
            Operation::CopyToLayout => "oci:out/layout:app".to_owned(),
            Operation::Publish | Operation::CacheImage | Operation::CopyToRegistry => {
                format!("docker://{}", self.published(operation))
            }
            Operation::Prune => "app".to_owned(),
        };
        if !image.contains(':') {
            return self.digest_of_name(&image, home);
        }
        // A copy reads and verifies all of it.
        let to = self.machine.path("digest.tar");
        let target = format!("oci-archive:{}", to.display());
        let words = ["image", "copy", &image, &target];
        let output = self.machine.pannier(words).env("PANNIER_HOME", home).run();
        drop(fs_err::remove_file(&to));
        let digest = output.stdout.split("sha256:").nth(1).and_then(|rest| rest.get(..64));
        match (output.status.success(), digest) {
            (true, Some(digest)) => Ok(digest.to_owned()),
            _ => Err(format!("{image} cannot be read: {output}")),
        }
    }

    /// The digest of an image in the store, which [`Lab::verify`] has read.
    fn digest_of_name(&self, name: &str, home: &Path) -> Result<String, String> {
        let output = self.pannier(home, ["image", "list", "--output", "json"]).run();
        let list: serde_json::Value =
            serde_json::from_str(&output.stdout).map_err(|error| format!("{error}: {output}"))?;
        let full = format!("docker.io/library/{name}:latest");
        let mut entries = list.as_array().into_iter().flatten();
        let entry = entries.find(|entry| entry["name"] == *full);
        let digest = entry.and_then(|entry| entry["digest"].as_str()?.strip_prefix("sha256:"));
        digest.map(str::to_owned).ok_or_else(|| format!("no image {name}: {output}"))
    }

    /// What must hold of a home, whatever happened: its store is whole.
    pub fn verify(&self, home: &Path) -> Result<(), String> {
        if !home.join("store/oci-layout").exists() {
            return Ok(());
        }
        if !self.machine.person().is_root() {
            let output = self.pannier(home, ["doctor", "--store"]).run();
            return if output.status.success() { Ok(()) } else { Err(format!("doctor: {output}")) };
        }
        let store = oci::Store::open(home.join("store")).map_err(|error| error.to_string())?;
        let report = store.verify().map_err(|error| error.to_string())?;
        match report.problems.as_slice() {
            [] => Ok(()),
            problems => Err(format!("the store is not whole: {problems:#?}")),
        }
    }

    /// What is left behind of what has ended, in a home and where images go.
    pub fn leftovers(&self, home: &Path) -> Vec<String> {
        let store = home.join("store");
        let mut found = names(&store.join("tmp"), |_| true);
        let mut places = vec![store.clone(), store.join("blobs/sha256"), self.machine.path("work")];
        places
            .extend(["", "layout", "layout/blobs/sha256"].map(|dir| self.machine.path("work/out").join(dir)));
        for place in places {
            found.extend(names(&place, |name| name.starts_with('.')));
        }
        for cache in names(&store.join("cache"), |_| true) {
            found.extend(names(&Path::new(&cache).join("scratch"), |_| true));
        }
        found.extend(names(&self.machine.path("tmp"), |_| true));
        found
    }

    /// Removes a home, whoever its files belong to.
    pub fn remove(&self, home: &Path) {
        let removed = sandbox::remove_tree(home);
        assert!(removed.is_ok(), "{}: {removed:?}", home.display());
    }
}

/// Paths of what is in a directory and has such a name.
fn names(dir: &Path, wanted: fn(&str) -> bool) -> Vec<String> {
    let entries = fs_err::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// A failure that a person can do something with: one line that says what it is, and no inside of ours.
pub fn is_clear(output: &Output) -> Result<(), String> {
    let errors = output.stderr.lines().filter(|line| line.starts_with("error:")).count();
    let all = output.all();
    let insides = ["panicked", "RUST_BACKTRACE", "Other(", "Custom {", "Os {"];
    match insides.iter().find(|inside| all.contains(**inside)) {
        Some(inside) => Err(format!("it says `{inside}`: {output}")),
        None if output.status.code().is_none() => Err(format!("it was killed: {output}")),
        None if errors != 1 => Err(format!("{errors} lines begin with `error:`: {output}")),
        None => Ok(()),
    }
}

/// Layers of every sort, the same in each build.
fn buildpacks() -> [Buildpack; 2] {
    let script = "layer data launch,cache; layer tools build,cache; for n in $(seq 20); do \
        seq $n 4000 > \"$CNB_LAYERS_DIR/data/$n\"; seq $n 2000 > \"$CNB_LAYERS_DIR/tools/$n\"; done";
    [web(), facts("test/data", script)]
}

/// A builder with a buildpack out of a directory.
fn builder_toml(machine: &Machine) -> String {
    facts("test/own", "layer own launch").write(&machine.make_dir("work/bp"));
    let base = Base::Small.layout().path().display();
    format!(
        "[[buildpacks]]\nuri = \"bp\"\n[[order]]\ngroup = [{{ id = \"test/own\" }}]\n\
         [build]\nimage = \"oci:{base}:build\"\n[[run.images]]\nimage = \"oci:{base}:run\"\n"
    )
}
