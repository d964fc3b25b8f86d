//! Which buildpacks and image extensions a build uses: the builder's order, changed by what the command line and the
//! project descriptor ask for.
//!
//! | asked for | the order that results |
//! |---|---|
//! | nothing | the builder's |
//! | `--buildpack`, else the descriptor's `group` | one group of these; `from=builder` stands for each group of the builder |
//! | `--pre-buildpack`, `--post-buildpack`, else the descriptor's `pre` and `post` | each group of the builder with these at its ends |
//! | `--extension` | the builder's buildpacks as above, and one group of these extensions |
//!
//! Modules that are not on the builder are brought here ([`crate::module`]) and become lowers of an overlay, to
//! lie on top of the builder's: nothing of the builder is copied. System buildpacks are added by the detect phase.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cnb::descriptor::ModuleDescriptor;
use cnb::group::{Kind, ModuleId, Order, OrderEntry, OrderGroup};
use fs_err as fs;
use layer::Root;

use crate::locator::{Locator, LocatorError, ModuleId as Wanted};
use crate::module::{self, Content, Loader, Module, ModuleError, NamedBy};
use crate::project::{Buildpack, BuildpackSource, Project};

/// The largest descriptor that is read, in bytes.
const DESCRIPTOR_LIMIT: u64 = 4 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// `--buildpack`: instead of the builder's order.
    pub buildpacks: &'a [String],
    /// `--pre-buildpack`: before each group of the builder.
    pub pre: &'a [String],
    /// `--post-buildpack`: after each group of the builder.
    pub post: &'a [String],
    /// `--extension`: instead of the builder's order of extensions.
    pub extensions: &'a [String],
    /// The project descriptor.
    pub project: &'a Project,
}

/// What a build uses.
#[derive(Debug)]
pub struct Selected {
    /// The order to detect with.
    pub order: Order,
    /// Trees to lay on top of the builder's, topmost first. Empty when the builder has all.
    pub lowers: Vec<PathBuf>,
    /// The modules in them.
    pub added: Vec<ModuleId>,
    /// Holds what is in the trees; removed when dropped.
    scratch: Option<tempfile::TempDir>,
}

/// What was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// `from=builder` twice.
    #[error("`from=builder` is given more than once")]
    Twice,
    /// An id that has several versions on the builder.
    #[error("the builder has several versions of the {kind} {id}: {}", versions.join(", "))]
    Versions {
        /// What it is.
        kind: Kind,
        /// The id.
        id: String,
        /// The versions.
        versions: Vec<String>,
    },
    /// A text that names nothing that there is.
    #[error("{source}")]
    Locator {
        /// Why.
        source: LocatorError,
        /// The modules of its kind that the builder has.
        on_builder: Vec<String>,
    },
    /// A plain name that is not on the builder and not an image either.
    #[error("the {kind} {text} is not on the builder, and no package of this name can be had")]
    Nowhere {
        /// What it was to name.
        kind: Kind,
        /// The name.
        text: String,
        /// The modules of its kind that the builder has.
        on_builder: Vec<String>,
        /// What became of looking for an image.
        #[source]
        source: ModuleError,
    },
    /// A module cannot be had.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// Files of ours.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Selection<'_> {
    /// True when the builder's order is used as it is.
    pub fn is_empty(&self) -> bool {
        let project = self.project;
        [self.buildpacks, self.pre, self.post, self.extensions].iter().all(|list| list.is_empty())
            && [&project.group, &project.pre, &project.post].iter().all(|list| list.is_empty())
    }
}

/// Finds the order, and brings the modules here that the builder does not have. `order` is the builder's, `root`
/// its root file system; `loader` makes what it needs in a folder that goes with the result.
///
/// # Errors
/// When something that was asked for is not there, or is no buildpack.
pub fn select(
    selection: &Selection<'_>,
    order: &Order,
    root: &Root,
    loader: &Loader<'_>,
) -> Result<Selected, SelectionError> {
    if selection.is_empty() {
        return Ok(Selected { order: order.clone(), lowers: Vec::new(), added: Vec::new(), scratch: None });
    }
    let scratch = tempfile::Builder::new().prefix("modules-").tempdir_in(loader.scratch)?;
    let loader = Loader { scratch: scratch.path(), ..*loader };
    let on_builder = OnBuilder::read(root);
    let mut selector = Selector { on_builder: &on_builder, loader: &loader, added: BTreeMap::new() };
    let mut selected = selector.order(selection, order)?;
    if !selection.extensions.is_empty() {
        selected.order_extensions = vec![selector.extensions(selection.extensions)?];
    }
    let added: Vec<Module> = selector.added.into_values().collect();
    let ids = added.iter().map(Module::id).collect();
    let lowers = lowers(&added, &on_builder, scratch.path())?;
    Ok(Selected { order: selected, lowers, added: ids, scratch: Some(scratch) })
}

impl Selected {
    /// The folder that holds what was made for this selection; none where nothing was.
    pub fn scratch(&self) -> Option<&Path> {
        self.scratch.as_ref().map(tempfile::TempDir::path)
    }
}

/// The modules whose files are on a builder, or in another tree.
#[derive(Debug)]
struct OnBuilder {
    buildpacks: Vec<Wanted>,
    extensions: Vec<Wanted>,
}

impl OnBuilder {
    fn read(root: &Root) -> Self {
        Self {
            buildpacks: Self::of_kind(root, Kind::Buildpack),
            extensions: Self::of_kind(root, Kind::Extension),
        }
    }

    fn of_kind(root: &Root, kind: Kind) -> Vec<Wanted> {
        let folder = Path::new(module::guest_folder(kind));
        let mut found = Vec::new();
        for id in root.read_dir(folder).unwrap_or_default() {
            let id = folder.join(id.name);
            for version in root.read_dir(&id).unwrap_or_default() {
                let file = id.join(version.name).join(module::descriptor_file(kind));
                // One that cannot be read counts when somebody wants to use it, not before.
                let Ok(text) = root.read_to_string(&file, DESCRIPTOR_LIMIT) else { continue };
                let Ok(parsed) = ModuleDescriptor::parse(kind, "", &text) else { continue };
                found.push(Wanted::new(parsed.info.id, parsed.info.version));
            }
        }
        found.sort();
        found
    }

    fn of(&self, kind: Kind) -> &[Wanted] {
        match kind {
            Kind::Buildpack => &self.buildpacks,
            Kind::Extension => &self.extensions,
        }
    }

    fn has(&self, module: &ModuleId) -> bool {
        self.of(module.kind).contains(&Wanted::new(module.id.as_str(), module.version.as_str()))
    }

    /// The names of those of a kind, for messages.
    fn names(&self, kind: Kind) -> Vec<String> {
        self.of(kind).iter().map(ToString::to_string).collect()
    }

    /// All of them.
    fn modules(&self) -> impl Iterator<Item = ModuleId> {
        let of = |kind| {
            let module = move |it: &Wanted| {
                let version = it.version.clone().unwrap_or_default();
                ModuleId { kind, id: it.id.clone(), version }
            };
            self.of(kind).iter().map(module)
        };
        of(Kind::Buildpack).chain(of(Kind::Extension))
    }
}

/// One thing that is asked for, and the folder that relative paths in it start from.
enum Asked<'a> {
    Text(&'a str, &'a Path),
    Descriptor(&'a Buildpack, &'a Project),
}

struct Selector<'a> {
    on_builder: &'a OnBuilder,
    loader: &'a Loader<'a>,
    /// What is brought along, each once.
    added: BTreeMap<ModuleId, Module>,
}

impl Selector<'_> {
    fn order(&mut self, selection: &Selection<'_>, builder: &Order) -> Result<Order, SelectionError> {
        let project = selection.project;
        let declared = either(selection.buildpacks, &project.group, project);
        let pre = either(selection.pre, &project.pre, project);
        let post = either(selection.post, &project.post, project);
        if !declared.is_empty() {
            if !pre.is_empty() || !post.is_empty() {
                self.loader.events.warning(
                    "buildpacks before and after the builder's groups are left out, because buildpacks were named",
                );
            }
            return self.declared(&declared, builder);
        }
        let (pre, post) = (self.entries(&pre)?, self.entries(&post)?);
        Ok(around(builder, &pre, &post))
    }

    /// The order of named buildpacks, with `from=builder` among them or not.
    fn declared(&mut self, declared: &[Asked<'_>], builder: &Order) -> Result<Order, SelectionError> {
        let is_order = |asked: &Asked<'_>| {
            let text = match asked {
                Asked::Text(text, _) => *text,
                Asked::Descriptor(buildpack, _) => match &buildpack.source {
                    BuildpackSource::Locator(text) => text.as_str(),
                    BuildpackSource::Inline(_) => return false,
                },
            };
            matches!(Locator::parse(text, Path::new(""), &()), Ok(Locator::BuilderOrder))
        };
        let mut parts = declared.split(is_order);
        let before = self.entries(parts.next().unwrap_or_default())?;
        let Some(after) = parts.next() else {
            let order = vec![OrderGroup { group: before }];
            return Ok(Order { order, order_extensions: builder.order_extensions.clone() });
        };
        if parts.next().is_some() {
            return Err(SelectionError::Twice);
        }
        let after = self.entries(after)?;
        Ok(around(builder, &before, &after))
    }

    /// The group of named extensions.
    fn extensions(&mut self, texts: &[String]) -> Result<OrderGroup, SelectionError> {
        let kind = Kind::Extension;
        let group =
            texts.iter().map(|text| self.located(kind, text, Path::new(""), NamedBy::Person).map(entry));
        Ok(OrderGroup { group: group.collect::<Result<_, _>>()? })
    }

    fn entries(&mut self, asked: &[Asked<'_>]) -> Result<Vec<OrderEntry>, SelectionError> {
        asked.iter().map(|asked| self.entry(asked)).collect()
    }

    fn entry(&mut self, asked: &Asked<'_>) -> Result<OrderEntry, SelectionError> {
        let id = match asked {
            Asked::Text(text, base) => self.located(Kind::Buildpack, text, base, NamedBy::Person)?,
            Asked::Descriptor(buildpack, project) => match &buildpack.source {
                BuildpackSource::Locator(text) => {
                    self.located(Kind::Buildpack, text, project.folder(), NamedBy::File)?
                }
                BuildpackSource::Inline(inline) => {
                    let place = format!("{}: script of {}", project.path.display(), inline.id);
                    self.add(vec![self.loader.inline(inline, &place)?])?
                }
            },
        };
        Ok(entry(id))
    }

    fn located(
        &mut self,
        kind: Kind,
        text: &str,
        base: &Path,
        by: NamedBy,
    ) -> Result<ModuleId, SelectionError> {
        let on_builder = self.on_builder;
        let failed = |source: LocatorError| SelectionError::Locator {
            source: LocatorError { kind, ..source },
            on_builder: on_builder.names(kind),
        };
        match Locator::parse(text, base, on_builder.of(kind)).map_err(failed)? {
            Locator::OnBuilder(wanted) => self.version_of(kind, wanted),
            Locator::BuilderOrder if kind == Kind::Extension => Err(failed(LocatorError {
                kind,
                text: text.to_owned(),
                reason: "it stands for the builder's buildpacks, not for its extensions".to_owned(),
                help: Some("leave --extension out to use the builder's extensions".to_owned()),
            })),
            locator => {
                let plain =
                    matches!(&locator, Locator::Image(name) if name.parse::<oci::Reference>().is_ok());
                let modules = match self.loader.load(kind, &locator, base, by) {
                    Err(source @ ModuleError::Image { .. }) if plain => {
                        let (text, on_builder) = (text.to_owned(), on_builder.names(kind));
                        return Err(SelectionError::Nowhere { kind, text, on_builder, source });
                    }
                    modules => modules?,
                };
                self.add(modules)
            }
        }
    }

    /// The version of an id on the builder: the one that is wanted, or the only one there.
    fn version_of(&self, kind: Kind, wanted: Wanted) -> Result<ModuleId, SelectionError> {
        if let Some(version) = wanted.version {
            return Ok(ModuleId { kind, id: wanted.id, version });
        }
        let versions = self.on_builder.of(kind).iter().filter(|known| known.id == wanted.id);
        let mut versions: Vec<String> = versions.filter_map(|known| known.version.clone()).collect();
        match versions.len() {
            1 => Ok(ModuleId { kind, id: wanted.id, version: versions.remove(0) }),
            _ => Err(SelectionError::Versions { kind, id: wanted.id, versions }),
        }
    }

    /// Notes modules that the builder is to have too; gives the name of the first.
    fn add(&mut self, modules: Vec<Module>) -> Result<ModuleId, SelectionError> {
        let main = modules.first().map(Module::id).unwrap_or_default();
        for module in modules {
            let id = module.id();
            if let Some(before) = self.added.get(&id)
                && !same(before, &module)
            {
                self.loader.events.warning(&format!(
                    "{id} comes from {} and from {}: the latter is used",
                    before.place, module.place
                ));
            }
            self.added.insert(id, module);
        }
        Ok(main)
    }
}

/// The entry of a group for a module.
fn entry(id: ModuleId) -> OrderEntry {
    OrderEntry { id: id.id, version: id.version, ..OrderEntry::default() }
}

/// What the command line says, else what the descriptor says.
fn either<'a>(texts: &'a [String], buildpacks: &'a [Buildpack], project: &'a Project) -> Vec<Asked<'a>> {
    if !texts.is_empty() {
        return texts.iter().map(|text| Asked::Text(text, Path::new(""))).collect();
    }
    buildpacks.iter().map(|buildpack| Asked::Descriptor(buildpack, project)).collect()
}

/// The builder's order with these entries at both ends of each group.
fn around(builder: &Order, before: &[OrderEntry], after: &[OrderEntry]) -> Order {
    let mut order = builder.clone();
    for OrderGroup { group } in &mut order.order {
        group.splice(0..0, before.iter().cloned());
        group.extend(after.iter().cloned());
    }
    order
}

/// True when two modules of one name have the same files for sure.
fn same(a: &Module, b: &Module) -> bool {
    match (&a.content, &b.content) {
        (Content::Layer { layer: a, .. }, Content::Layer { layer: b, .. }) => a.diff_id == b.diff_id,
        (Content::Folder { dir: a, .. }, Content::Folder { dir: b, .. }) => a == b,
        _ => false,
    }
}

/// Trees for an overlay with all of these modules: those in folders in a tree of their own on top, then the layers
/// of packages as they are, then a tree that hides what the builder has under the same names.
fn lowers(added: &[Module], on_builder: &OnBuilder, scratch: &Path) -> Result<Vec<PathBuf>, SelectionError> {
    let (top, bottom) = (scratch.join("top"), scratch.join("bottom"));
    let mut lowers = Vec::new();
    let mut trees: BTreeMap<&Path, Vec<&Module>> = BTreeMap::new();
    for module in added {
        match &module.content {
            Content::Folder { .. } => put(&top, &mut lowers, |tree| module::stage(module, tree))?,
            Content::Layer { tree, .. } => trees.entry(tree).or_default().push(module),
        }
    }
    // Of two packages with different modules of one name the last wins: it is copied to the top then, because the
    // layer of the other one may be needed all the same.
    let names: Vec<ModuleId> = added.iter().map(Module::id).collect();
    let mut hidden = Vec::new();
    for (tree, modules) in trees {
        let root = Root::open(tree).map_err(ModuleError::from)?;
        let all: Vec<ModuleId> = OnBuilder::read(&root).modules().collect();
        let wanted = |id: &ModuleId| modules.iter().any(|module| module.id() == *id);
        if all.iter().any(|id| !wanted(id) && names.contains(id)) {
            for module in modules {
                put(&top, &mut lowers, |tree| module::stage(module, tree))?;
            }
        } else {
            lowers.push(tree.to_owned());
            hidden.extend(modules.into_iter().map(Module::id));
        }
    }
    for id in hidden {
        if on_builder.has(&id) {
            let mut last = Vec::new();
            put(&bottom, &mut last, |tree| module::hide(&id, tree))?;
            lowers.retain(|lower| !last.contains(lower));
            lowers.append(&mut last);
        }
    }
    Ok(lowers)
}

/// Makes `tree` where it is not there yet, the topmost of `lowers`, and puts something in.
fn put(
    tree: &Path,
    lowers: &mut Vec<PathBuf>,
    fill: impl FnOnce(&Path) -> Result<(), ModuleError>,
) -> Result<(), SelectionError> {
    if !tree.exists() {
        fs::create_dir(tree)?;
        // It becomes the root of what programs see.
        fs::set_permissions(tree, std::fs::Permissions::from_mode(0o755))?;
    }
    if !lowers.iter().any(|lower| lower == tree) {
        lowers.insert(0, tree.to_owned());
    }
    Ok(fill(tree)?)
}
