//! A store, a base image, a context, and what was heard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use events::{Event, Events};
use oci::{Image, Layout, Owners, Platform, Store, Unpacker};
use pannier_dockerfile::{Applied, ApplyError, Dockerfile, Engine, Need, PlannedStep, Source, apply, plan};
use sandbox::{Ids, Network};
use testkit::Base;

/// What programs wrote and what was told.
#[derive(Debug, Default)]
pub struct Heard(Mutex<(String, Vec<String>)>);

impl Events for Heard {
    fn event(&self, event: Event<'_>) {
        let mut heard = self.0.lock().expect("not poisoned");
        match event {
            Event::Output { bytes, .. } => heard.0.push_str(&String::from_utf8_lossy(bytes)),
            Event::Info { text } | Event::Warning { text } => heard.1.push(text.to_owned()),
            Event::StepEnded { place, cached: true, .. } => {
                heard.1.push(format!("{place} kept from an earlier build"));
            }
            _ => {}
        }
    }
}

/// A place to apply Dockerfiles in, for one case.
#[derive(Debug)]
pub struct Lab {
    temp: tempfile::TempDir,
    pub store: Store,
    pub image: RefCell<Image>,
    pub ids: Ids,
    pub heard: Heard,
    made: RefCell<Vec<String>>,
    /// On which no other overlay can be mounted.
    overlay: Option<sandbox::Mount>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.overlay.is_some() {
            let _ = sandbox::remove_tree(self.store.dir());
            self.overlay = None;
            let _ = sandbox::remove_tree(&self.temp.path().join("work"));
        }
        // Trees of other ids and work folders of mode 000.
        let _ = sandbox::remove_tree(&self.temp.path().join("store"));
    }
}

impl Lab {
    /// A new one; `copies` puts its store where no overlay can be mounted.
    pub fn new(ids: Ids, copies: bool) -> Self {
        let temp = tempfile::tempdir().expect("a folder");
        let place = temp.path().join("store");
        let overlay = copies.then(|| {
            let [lower, upper, work] = ["lower", "upper", "work"].map(|name| temp.path().join(name));
            for folder in [&lower, &upper, &work, &place] {
                fs_err::create_dir(folder).expect("made");
            }
            let overlay = sandbox::Overlay {
                lowers: vec![lower],
                upper: Some(upper),
                work: Some(work),
                read_only: false,
            };
            overlay.mount(&place).expect("an overlay")
        });
        let store = if copies { place.join("store") } else { place };
        let store = Store::open(store).expect("a store");
        fs_err::create_dir(temp.path().join("context")).expect("a context");
        let image = open(Base::Small.layout().path());
        Self {
            temp,
            store,
            image: RefCell::new(image),
            ids,
            heard: Heard::default(),
            made: RefCell::default(),
            overlay,
        }
    }

    /// A path of this case.
    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// Writes a file of the context.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path("context").join(name);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs_err::write(&path, content).expect("written");
        path
    }

    /// Uses another base image: that of the small one with this configuration.
    pub fn base(&self, image: &testkit::Image) {
        let layout = testkit::Layout::new(self.path("layout"));
        layout.add("run", image);
        *self.image.borrow_mut() = open(layout.path());
    }

    pub fn unpacker(&self) -> Unpacker {
        unpacker(self.ids)
    }

    /// Applies Dockerfiles, each with its origin, as the engine is after `set`.
    pub fn try_apply(
        &self,
        texts: &[(&str, &str)],
        need: Need,
        set: impl FnOnce(&mut Engine<'_>),
    ) -> Result<Applied, ApplyError> {
        *self.heard.0.lock().expect("not poisoned") = Default::default();
        let result =
            self.with_engine(texts, set, |image, sources, engine| apply(image, sources, engine, need));
        // Whatever happened, nothing is left.
        let scratch = self.store.scratch_dir().expect("a scratch folder");
        assert_eq!(
            fs_err::read_dir(scratch).expect("read").count(),
            0,
            "nothing is left in the scratch folder"
        );
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&*self.store.dir().join("tmp").to_string_lossy()), "no mount is left");
        if let Ok(applied) = &result {
            let layers = applied.new_layers.iter().map(|it| it.layer.diff_id.to_string());
            self.made.borrow_mut().extend(layers);
        }
        result
    }

    fn with_engine<T>(
        &self,
        texts: &[(&str, &str)],
        set: impl FnOnce(&mut Engine<'_>),
        work: impl FnOnce(&Image, &[Source<'_>], &Engine<'_>) -> T,
    ) -> T {
        let dockerfiles: Vec<_> = texts
            .iter()
            .map(|(_, text)| Dockerfile::parse("run.Dockerfile", text).expect("a Dockerfile"))
            .collect();
        let (context, path) = (self.path("context"), self.path("run.Dockerfile"));
        let source = |(text, dockerfile): (&(&str, &str), _)| Source {
            dockerfile,
            origin: text.0.to_owned(),
            version: "1".to_owned(),
            args: vec![("given".to_owned(), "by the extension".to_owned())],
            context: &context,
            path: Some(&path),
        };
        let sources: Vec<_> =
            texts.iter().zip(&dockerfiles).map(|(text, dockerfile)| source((text, dockerfile))).collect();
        let unpacker = self.unpacker();
        let mut engine = Engine {
            store: &self.store,
            unpacker: &unpacker,
            ids: self.ids,
            network: Network::None,
            compression: layer::Compression::DEFAULT,
            build_id: "first".to_owned(),
            ttl: None,
            use_cache: true,
            secrets: BTreeMap::new(),
            fetch: None,
            proxies: Vec::new(),
            forbidden: ["/layers", "/workspace", "/platform", "/cnb"].map(PathBuf::from).to_vec(),
            events: &self.heard,
        };
        set(&mut engine);
        work(&self.image.borrow(), &sources, &engine)
    }

    /// Applies what comes after `FROM`, for a run image.
    #[track_caller]
    pub fn run(&self, lines: &str) -> Applied {
        self.run_with(lines, |_| ())
    }

    #[track_caller]
    pub fn run_with(&self, lines: &str, set: impl FnOnce(&mut Engine<'_>)) -> Applied {
        self.try_apply(&[("test/ext", &from(lines))], Need::Image, set).unwrap_or_else(|error| {
            panic!("{error}: {:?}\n{}", std::error::Error::source(&error), self.output())
        })
    }

    /// [`Lab::run`] of what cannot be the same for everybody.
    #[track_caller]
    pub fn run_unlisted(&self, lines: &str) -> Applied {
        let before = self.made.borrow().len();
        let applied = self.run(lines);
        self.made.borrow_mut().truncate(before);
        applied
    }

    /// The error that it ends with.
    #[track_caller]
    pub fn fails(&self, lines: &str) -> ApplyError {
        match self.try_apply(&[("test/ext", &from(lines))], Need::Image, |_| ()) {
            Ok(_) => panic!("it worked: {lines}\n{}", self.output()),
            Err(error) => error,
        }
    }

    pub fn plan(&self, lines: &str) -> Vec<PlannedStep> {
        let text = from(lines);
        self.with_engine(&[("test/ext", &text)], |_| (), plan).expect("a plan")
    }

    /// What programs wrote.
    pub fn output(&self) -> String {
        self.heard.0.lock().expect("not poisoned").0.clone()
    }

    /// What was told, besides.
    pub fn told(&self) -> Vec<String> {
        self.heard.0.lock().expect("not poisoned").1.clone()
    }

    /// Whether nothing was said at all.
    pub fn heard_nothing(&self) -> bool {
        self.output().is_empty() && self.told().is_empty()
    }

    /// The diffIDs of all layers that this case made.
    pub fn layers(&self) -> Vec<String> {
        self.made.borrow().clone()
    }

    /// The entries of the new layers: mode, owner, name and link, as `tar` lists them.
    pub fn entries(&self, applied: &Applied) -> Vec<String> {
        let mut entries = Vec::new();
        for new in &applied.new_layers {
            let blob = self.store.blob_path(new.layer.descriptor.digest);
            let output =
                Command::new("tar").args(["--numeric-owner", "-tvzPf"]).arg(blob).output().expect("tar");
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            entries.extend(text.lines().map(entry));
        }
        entries
    }

    /// A file as the image shows it.
    pub fn read(&self, applied: &Applied, path: &str) -> Option<String> {
        applied.trees.iter().find_map(|tree| fs_err::read_to_string(tree.join(path)).ok())
    }
}

pub fn unpacker(ids: Ids) -> Unpacker {
    let owners = if ids == Ids::Single { Owners::Ours } else { Owners::Real };
    Unpacker { kind: "test".to_owned(), owners }
}

/// Applies one line with nobody listening.
pub fn apply_alone(store: &Store, image: &Image, unpacker: &Unpacker, ids: Ids, line: &str) -> Applied {
    let dockerfile = Dockerfile::parse("run.Dockerfile", &from(line)).expect("a Dockerfile");
    let source = Source {
        dockerfile: &dockerfile,
        origin: "test/ext".to_owned(),
        version: String::new(),
        args: Vec::new(),
        context: Path::new("/"),
        path: None,
    };
    let engine = Engine {
        store,
        unpacker,
        ids,
        network: Network::None,
        compression: layer::Compression::DEFAULT,
        build_id: String::new(),
        ttl: None,
        use_cache: true,
        secrets: BTreeMap::new(),
        fetch: None,
        proxies: Vec::new(),
        forbidden: Vec::new(),
        events: &events::Silent,
    };
    apply(image, &[source], &engine, Need::Image).expect("applied")
}

/// `-rw-r--r-- 0/0 3 1980-01-01 00:00 /etc/x` without size and time.
fn entry(line: &str) -> String {
    let mut fields = line.split_whitespace();
    let (mode, owner) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    // A device has its numbers in place of a size.
    let rest: Vec<_> = fields.skip(3).collect();
    format!("{mode} {owner} {}", rest.join(" "))
}

fn open(layout: &Path) -> Image {
    Layout::open(layout).expect("a layout").image(Some("run"), &Platform::host()).expect("an image")
}

fn from(lines: &str) -> String {
    format!("ARG base_image\nFROM ${{base_image}}\n{lines}\n")
}
