//! One Dockerfile after another, one instruction after another.

use std::collections::BTreeMap;

use events::{Event, Phase};
use layer::Digest;
use oci::Image;
use oci::image::MAX_DOCUMENT;
use oci::store::StepRecord;

use super::error::{Failed, StepError};
use super::key::Key;
use super::stack::Stack;
use super::state::{BUILD_ID, State, rebasable_label};
use super::step::{Inputs, Step};
use super::{
    Applied, ApplyError, Cached, Engine, Need, NewLayer, PlannedStep, REBASABLE, RunFailure, Source,
    StepReport, config, made, shown,
};
use crate::instruction::{CopySource, Instruction, InstructionKind};

/// The variables whose values are the numbers of the image's user.
const IDS: [&str; 2] = ["user_id", "group_id"];

/// What the instructions are gone through for.
pub(super) struct Drive<'a> {
    engine: &'a Engine<'a>,
    base: &'a Image,
    need: Need,
    stack: Stack<'a>,
    state: State,
    /// The image's user before this Dockerfile.
    user_before: String,
    /// The key of the last step; none in a plan in which something before was never made.
    chain: Option<Digest>,
    /// Whether there was a step.
    has_steps: bool,
    /// Whether all steps so far are kept.
    all_kept: bool,
    /// Whether a plan cannot tell any more: a file of a web server would have to be brought.
    unknown: bool,
    new_layers: Vec<NewLayer>,
    reports: Vec<StepReport>,
    rebasable: bool,
}

impl<'a> Drive<'a> {
    pub fn new(base: &'a Image, engine: &'a Engine<'a>, need: Need) -> Self {
        Self {
            engine,
            base,
            need,
            stack: Stack::new(engine, base),
            state: State::new(base.config.clone()),
            user_before: base.config.config.user.clone(),
            chain: Some(Key::of_base(base)),
            has_steps: false,
            all_kept: true,
            unknown: false,
            new_layers: Vec::new(),
            reports: Vec::new(),
            rebasable: true,
        }
    }

    /// Applies the Dockerfiles.
    pub fn apply(mut self, sources: &[Source<'_>]) -> Result<Applied, ApplyError> {
        for source in sources {
            let id = source.origin.as_str();
            let version = source.version.as_str();
            self.engine.events.event(Event::ModuleStarted { phase: Phase::Extend, id, version });
            let start = std::time::Instant::now();
            self.apply_one(source)?;
            let elapsed = start.elapsed();
            self.engine.events.event(Event::ModuleEnded { phase: Phase::Extend, id, elapsed });
        }
        self.applied(sources)
    }

    fn apply_one(&mut self, source: &Source<'_>) -> Result<(), ApplyError> {
        let before = (self.reports.len(), self.state.config.clone());
        let mut says_rebasable = false;
        self.begin(source);
        let inputs = Inputs::new(source, self.engine);
        for instruction in &source.dockerfile.instructions {
            self.ids_for(source, instruction, false)?;
            let expanded = self.state.expand(source.dockerfile, instruction)?;
            if let Some(says) = rebasable_label(&expanded.kind, REBASABLE) {
                says_rebasable = says;
            }
            let located = |failed| locate(failed, source, &expanded);
            if let Some(step) = self.instruct(&inputs, &expanded).map_err(located)? {
                self.make(source, &expanded, &step).map_err(located)?;
            }
        }
        self.take_user_back();
        let changed = self.reports[before.0..].iter().any(|report| report.entries > 0)
            || !same_config(&before.1, &self.state.config);
        self.rebasable &= says_rebasable || !changed;
        if changed {
            self.check_size(source)?;
        }
        self.tell_root(source, &before.1);
        Ok(())
    }

    /// Nobody could read an image with a larger configuration. The build image is no image afterwards.
    fn check_size(&self, source: &Source<'_>) -> Result<(), ApplyError> {
        let (origin, limit) = (source.origin.clone(), MAX_DOCUMENT);
        let size = serde_json::to_vec(&self.state.config).map_or(0, |bytes| bytes.len() as u64);
        match size > limit && self.need == Need::Image {
            true => Err(ApplyError::TooLarge { origin, size, limit }),
            false => Ok(()),
        }
    }

    /// Says what would be done, and makes nothing.
    pub fn plan(mut self, sources: &[Source<'_>]) -> Result<Vec<PlannedStep>, ApplyError> {
        let mut plan = Vec::new();
        for source in sources {
            self.begin(source);
            let inputs = Inputs::offline(source, self.engine);
            for instruction in &source.dockerfile.instructions {
                self.ids_for(source, instruction, true)?;
                let expanded = self.state.expand(source.dockerfile, instruction)?;
                let located = |failed| locate(failed, source, &expanded);
                let cached = match self.instruct(&inputs, &expanded) {
                    Ok(Some(step)) => self.look_up(&step).map_err(|error| located(error.into()))?,
                    Ok(None) => Cached::Config,
                    Err(Failed::Source(_)) if takes_urls(&expanded.kind) => {
                        (self.chain, self.unknown) = (None, true);
                        Cached::Unknown
                    }
                    Err(failed) => return Err(located(failed)),
                };
                plan.push(PlannedStep {
                    origin: source.origin.clone(),
                    line: expanded.line,
                    text: shown::whole(&expanded, &self.state),
                    cached,
                });
            }
        }
        Ok(plan)
    }

    /// Begins a Dockerfile with the values that every one is given (image_extension.md, "Phase: Extension").
    fn begin(&mut self, source: &Source<'_>) {
        let base = match self.chain.filter(|_| self.has_steps) {
            Some(chain) => chain,
            None => self.base.digest(),
        };
        let mut given: BTreeMap<String, String> = source.args.iter().cloned().collect();
        given.insert("base_image".to_owned(), format!("base@{base}"));
        given.insert(BUILD_ID.to_owned(), self.engine.build_id.clone());
        self.state.begin(given);
        self.user_before.clone_from(&self.state.config.config.user);
    }

    /// `USER ${user_id}:${group_id}` in the end means the user from before, whose name then stays, too.
    fn take_user_back(&mut self) {
        let ids = IDS.map(|name| self.state.given.get(name));
        if let [Some(uid), Some(gid)] = ids
            && self.state.config.config.user == format!("{uid}:{gid}")
        {
            self.state.config.config.user.clone_from(&self.user_before);
        }
    }

    /// Finds the numbers of the user from before this Dockerfile when the instruction declares a variable for them.
    fn ids_for(
        &mut self,
        source: &Source<'_>,
        instruction: &Instruction,
        plan: bool,
    ) -> Result<(), ApplyError> {
        let InstructionKind::Arg(args) = &instruction.kind else { return Ok(()) };
        if !args
            .iter()
            .any(|arg| IDS.contains(&arg.name.as_str()) && !self.state.given.contains_key(&arg.name))
        {
            return Ok(());
        }
        let located = |error: StepError| locate(error.into(), source, instruction);
        match self.user_ids(&self.user_before, plan).map_err(located)? {
            Some(ids) => {
                for (name, id) in IDS.iter().zip(ids) {
                    self.state.given.insert((*name).to_owned(), id);
                }
            }
            // They are looked up, and kept, whenever this is applied: so it never was, and what follows was never made.
            None => self.chain = None,
        }
        Ok(())
    }

    /// The numbers of a user of the image as it is now. Names are looked up in the image once, and then kept. `plan` asks
    /// for them only where nothing has to be unpacked.
    fn user_ids(&self, user: &str, plan: bool) -> Result<Option<[String; 2]>, StepError> {
        let numbers = if user.is_empty() { ("0", "0") } else { user.split_once(':').unwrap_or((user, "")) };
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        if is_number(numbers.0) && is_number(numbers.1) {
            return Ok(Some([numbers.0.to_owned(), numbers.1.to_owned()]));
        }
        let Some(chain) = &self.chain else { return Ok(None) };
        let kind = &self.engine.unpacker.kind;
        let mut key = Key::new("user", chain);
        key.text(user);
        let key = key.finish();
        if let Some(kept) = self.engine.store.step(kind, key, None)?
            && let (Some(uid), Some(gid)) = (kept.record.facts.get("uid"), kept.record.facts.get("gid"))
        {
            return Ok(Some([uid.clone(), gid.clone()]));
        }
        if plan && !(self.all_kept && self.stack.is_unpacked()?) {
            return Ok(None);
        }
        let found = self.stack.user(user)?;
        let ids = [found.uid.to_string(), found.gid.to_string()];
        let facts = BTreeMap::from([("uid".to_owned(), ids[0].clone()), ("gid".to_owned(), ids[1].clone())]);
        let record = StepRecord { instruction: format!("user {user}"), facts, ..StepRecord::default() };
        self.engine.store.keep_step(kind, key, std::path::Path::new(""), record)?;
        Ok(Some(ids))
    }

    /// What an expanded instruction does to the configuration and the variables; the step that it is, if it is one.
    fn instruct(&mut self, inputs: &Inputs<'_>, instruction: &Instruction) -> Result<Option<Step>, Failed> {
        match &instruction.kind {
            InstructionKind::Arg(args) => self.state.declare(args)?,
            InstructionKind::From(_) => self.state.from(),
            kind => {
                self.state.check_env(kind)?;
                let (config, has_cmd) = (&mut self.state.config, &mut self.state.has_cmd);
                let done =
                    config::apply(config, kind, has_cmd).map_err(|message| Failed::Message(message, None))?;
                if !done {
                    return Step::of(&mut self.state, inputs, instruction);
                }
            }
        }
        Ok(None)
    }

    fn look_up(&mut self, step: &Step) -> Result<Cached, StepError> {
        let Some(chain) = &self.chain else {
            return Ok(if self.unknown { Cached::Unknown } else { Cached::No });
        };
        let key = step.key(chain);
        self.chain = Some(key);
        self.has_steps = true;
        Ok(match made::kept(self.engine, key)? {
            Some(kept) => {
                if let Some(tree) = kept.tree() {
                    self.stack.push(tree);
                }
                Cached::Yes
            }
            None => {
                self.all_kept = false;
                Cached::No
            }
        })
    }

    fn make(&mut self, source: &Source<'_>, instruction: &Instruction, step: &Step) -> Result<(), Failed> {
        let parent = self.chain.unwrap_or_else(|| Key::of_base(self.base));
        let key = step.key(&parent);
        let (place, text) =
            (&format!("{}:{}", source.dockerfile.file(), instruction.line), shown::brief(instruction));
        let started = || self.engine.events.event(Event::StepStarted { place, text: &text });
        let made = made::find_or_make(self.engine, &self.stack, step, key, &instruction.text, &started)?;
        let (cached, elapsed) = (made.cached, made.elapsed);
        let StepRecord { entries, bytes, .. } = made.step.record;
        self.engine.events.event(Event::StepEnded { place, text: &text, cached, elapsed, entries, bytes });
        self.chain = Some(key);
        self.has_steps = true;
        self.reports.push(StepReport {
            origin: source.origin.clone(),
            line: instruction.line,
            text: instruction.text.clone(),
            cached,
            elapsed,
            entries,
            bytes,
        });
        let Some(tree) = made.step.tree() else { return Ok(()) };
        if self.need == Need::Image {
            let id = format!("{}:{}", source.origin, instruction.line);
            if let Some(layer) = made::layer(self.engine, &made.step, &id)? {
                let created_by =
                    format!("Layer: '{}', Created by extension: {}", instruction.text, source.origin);
                self.new_layers.push(NewLayer { layer, created_by, origin: source.origin.clone() });
            }
        }
        self.stack.push(tree);
        Ok(())
    }

    /// Warns of a Dockerfile of a run image that leaves root as its user: a later one may put that right.
    fn tell_root(&self, source: &Source<'_>, before: &oci::ImageConfig) {
        let user = &self.state.config.config.user;
        if self.need == Need::Image && *user != before.config.user && names_root(user) {
            self.engine.events.warning(&format!(
                "extension {} changes the user from `{}` to `{user}`, which a later one has to take back",
                source.origin, before.config.user
            ));
        }
    }

    fn applied(self, sources: &[Source<'_>]) -> Result<Applied, ApplyError> {
        let changed = !self.stack.is_empty() || !same_config(&self.base.config, &self.state.config);
        let trees = self.stack.trees();
        if !changed {
            return Ok(Applied {
                changed,
                config: self.base.config.clone(),
                trees,
                new_layers: Vec::new(),
                steps: self.reports,
                rebasable: true,
            });
        }
        let mut config = self.state.config.clone();
        if self.need == Need::Image {
            self.check_user(sources)?;
            config.config.labels.insert(REBASABLE.to_owned(), self.rebasable.to_string());
        }
        let was = &self.base.config.config.user;
        if config.config.user != *was {
            let now = &config.config.user;
            self.engine
                .events
                .warning(&format!("extensions change the image's user from `{was}` to `{now}`"));
        }
        Ok(Applied {
            changed,
            config,
            trees,
            new_layers: self.new_layers,
            steps: self.reports,
            rebasable: self.rebasable,
        })
    }

    /// A run image must not run as root.
    fn check_user(&self, sources: &[Source<'_>]) -> Result<(), ApplyError> {
        let user = self.state.config.config.user.clone();
        let name = user.split(':').next().unwrap_or_default();
        let located = |error: StepError| match last_user(sources) {
            Some((source, instruction)) => locate(error.into(), source, instruction),
            None => error.into(),
        };
        // Another name may be root's too.
        let is_root = names_root(&user)
            || user != self.base.config.config.user
                && name.parse::<u32>().is_err()
                && self.user_ids(&user, false).map_err(located)?.is_some_and(|ids| ids[0] == "0");
        match sources.last() {
            Some(last) if is_root => Err(ApplyError::RootUser { origin: last.origin.clone(), user }),
            _ => Ok(()),
        }
    }
}

/// Whether an `ADD` has a URL among its sources.
fn takes_urls(kind: &InstructionKind) -> bool {
    let InstructionKind::Add(add) = kind else { return false };
    add.copy.sources.iter().any(|source| matches!(source, CopySource::Path(word) if word.is_url()))
}

/// Where the user was changed last.
fn last_user<'s>(sources: &'s [Source<'_>]) -> Option<(&'s Source<'s>, &'s Instruction)> {
    let mut all =
        sources.iter().flat_map(|source| source.dockerfile.instructions.iter().map(move |it| (source, it)));
    all.rfind(|(_, instruction)| matches!(instruction.kind, InstructionKind::User(_)))
}

/// Whether the text of a user says root by itself.
fn names_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse::<u32>() == Ok(0)
}

/// Whether two configurations say the same of the image. That new layers can be rebased says nothing of old ones.
fn same_config(one: &oci::ImageConfig, other: &oci::ImageConfig) -> bool {
    let without = |config: &oci::ImageConfig| {
        let mut config = config.clone();
        config.config.labels.remove(REBASABLE);
        config
    };
    without(one) == without(other)
}

/// Says where in its file something failed.
fn locate(failed: Failed, source: &Source<'_>, instruction: &Instruction) -> ApplyError {
    let text = shown::brief(instruction);
    let at = |message: String| source.dockerfile.error(&instruction.span, message);
    match failed {
        Failed::Source(error) => ApplyError::Source(error),
        Failed::Message(message, None) => ApplyError::Source(at(format!("`{text}`: {message}"))),
        Failed::Message(message, Some(span)) => ApplyError::Source(source.dockerfile.error(&span, message)),
        Failed::Run { status, output, hint, disk } => ApplyError::Run(Box::new(RunFailure {
            at: at(format!("`{text}` of extension {} failed with {status}", source.origin)),
            status,
            output,
            hint,
            disk,
        })),
        Failed::Step(source_error) => {
            ApplyError::Step { at: at(format!("cannot apply `{text}`")), source: source_error }
        }
    }
}
