//! What the environment of a buildpack or a process is made of (buildpack.md, "Environment").
//!
//! Pure rules over a map: the caller reads the folders and hands over what is in them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::launch::HIDDEN_VARIABLES;

/// Which of the two environments the layers contribute to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// That of the buildpacks that follow in the group.
    Build,
    /// That of the processes of the app image.
    Launch,
}

/// A folder in a layer that is put in front of variables that are lists of folders (buildpack.md, "Layer Paths").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RootDir {
    /// `bin`.
    Bin,
    /// `lib`.
    Lib,
    /// `include`, for builds only.
    Include,
    /// `pkgconfig`, for builds only.
    Pkgconfig,
}

impl RootDir {
    /// Those that matter in this scope.
    pub fn of(scope: Scope) -> &'static [Self] {
        match scope {
            Scope::Build => &[Self::Bin, Self::Lib, Self::Include, Self::Pkgconfig],
            Scope::Launch => &[Self::Bin, Self::Lib],
        }
    }

    /// Its name in the layer.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Lib => "lib",
            Self::Include => "include",
            Self::Pkgconfig => "pkgconfig",
        }
    }

    /// The variables that it is put in front of.
    pub fn variables(self, scope: Scope) -> &'static [&'static str] {
        match (self, scope) {
            (Self::Bin, _) => &["PATH"],
            (Self::Lib, Scope::Build) => &["LD_LIBRARY_PATH", "LIBRARY_PATH"],
            (Self::Lib, Scope::Launch) => &["LD_LIBRARY_PATH"],
            (Self::Include, Scope::Build) => &["CPATH"],
            (Self::Pkgconfig, Scope::Build) => &["PKG_CONFIG_PATH"],
            (Self::Include | Self::Pkgconfig, Scope::Launch) => &[],
        }
    }
}

/// Variables of the lifecycle's own environment that reach buildpacks, beside the path variables.
pub const BUILD_VARIABLES: [&str; 9] = [
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// What stands between the entries of a path variable.
const PATH_SEPARATOR: &str = if cfg!(windows) { ";" } else { ":" };

/// The files of an environment folder: names with the action as a suffix, contents taken as they are.
///
/// Files are applied in the order of their names, whatever order they were given in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EnvDir(BTreeMap<String, OsString>);

impl EnvDir {
    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says which of the variables no program could be given, if so, and why: Linux has no names that are empty or have
    /// a `=`, and no zero bytes at all.
    ///
    /// # Errors
    /// A lower-case fragment that names the file.
    pub fn check(&self) -> Result<(), String> {
        for (file, value) in self.iter() {
            let (name, suffix) = match file.split_once('.') {
                Some((name, suffix)) => (name, Some(suffix)),
                None => (file, None),
            };
            // What nobody reads may have any name.
            if action_of(suffix, Action::Override).is_none() && suffix != Some("delim") {
                continue;
            }
            let file = file.escape_debug();
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("`{file}` has no name of a variable, expected one without `=`"));
            }
            if value.as_encoded_bytes().contains(&0) {
                return Err(format!("`{file}` has a zero byte, expected text"));
            }
        }
        Ok(())
    }

    /// The files in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_os_str()))
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for EnvDir {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(files: I) -> Self {
        Self(files.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What an environment file does to its variable (buildpack.md, "Environment Variable Modification Rules").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Append,
    Default,
    Override,
    Prepend,
    /// Prepend with the path separator where there is no delimiter file: an empty suffix, for the reference's sake.
    PrependPath,
}

/// An environment: names and values, none of them special to this type.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
}

impl Env {
    /// Exactly these variables.
    pub fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { vars: vars.into_iter().collect() }
    }

    /// What reaches a buildpack of the environment of the lifecycle (buildpack.md, "Provided by the Lifecycle").
    pub fn for_build(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let passes = |name: &OsStr| {
            BUILD_VARIABLES.iter().any(|allowed| name == *allowed) || is_path_variable(name, Scope::Build)
        };
        Self::new(vars.into_iter().filter(|(name, _)| passes(name)))
    }

    /// What a process starts with: the container's environment without the lifecycle's own variables, and without
    /// the two given folders (of process links and of the lifecycle) in `PATH`.
    pub fn for_launch(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
        process_dir: &Path,
        lifecycle_dir: &Path,
    ) -> Self {
        let hidden = |name: &OsStr| HIDDEN_VARIABLES.iter().any(|hidden| name == *hidden);
        let mut env = Self::new(vars.into_iter().filter(|(name, _)| !hidden(name)));
        if let Some(path) = env.vars.get_mut(OsStr::new("PATH")) {
            let kept: Vec<_> = std::env::split_paths(&*path)
                .filter(|entry| entry.as_os_str() != process_dir && entry.as_os_str() != lifecycle_dir)
                .collect();
            // Entries that were split at the separator can not contain it, so joining does not fail.
            if let Ok(joined) = std::env::join_paths(kept) {
                *path = joined;
            }
        }
        env
    }

    /// The value of a variable.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.vars.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Gives a variable a value.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.vars.insert(name.into(), value.into());
    }

    /// Takes a variable away.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.vars.remove(name.as_ref());
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// All variables, sorted by name.
    pub fn into_vars(self) -> BTreeMap<OsString, OsString> {
        self.vars
    }

    /// Puts a layer's folder `bin`, `lib`, … (`path` is its whole path) in front of the variables that list such
    /// folders. The caller knows that it exists.
    pub fn add_root_dir(&mut self, scope: Scope, dir: RootDir, path: &Path) {
        for name in dir.variables(scope) {
            self.prepend(OsStr::new(name), path.as_os_str(), OsStr::new(PATH_SEPARATOR));
        }
    }

    /// Applies one of a layer's environment folders: `env`, `env.build`, `env.launch` or `env.launch/<process>`.
    /// A file without a suffix overrides; one with a suffix nobody knows is ignored.
    pub fn add_env_dir(&mut self, dir: &EnvDir) {
        self.apply(dir, Action::Override);
    }

    /// What a buildpack runs with: this environment, then the user's variables (`<platform>/env`; `None` when the
    /// buildpack wants a clear environment), then the operator's (`<build-config>/env`), whose files without a suffix
    /// are defaults.
    #[must_use]
    pub fn with_overrides(&self, platform: Option<&EnvDir>, build_config: Option<&EnvDir>) -> Self {
        let mut env = self.clone();
        for (name, value) in platform.into_iter().flat_map(EnvDir::iter) {
            if is_path_variable(OsStr::new(name), Scope::Build) {
                env.prepend(OsStr::new(name), value, OsStr::new(PATH_SEPARATOR));
            } else {
                env.set(name, value);
            }
        }
        if let Some(dir) = build_config {
            env.apply(dir, Action::Default);
        }
        env
    }

    fn apply(&mut self, dir: &EnvDir, bare: Action) {
        for (file, value) in dir.iter() {
            let (name, suffix) = match file.split_once('.') {
                Some((name, suffix)) => (name, Some(suffix)),
                None => (file, None),
            };
            let Some(action) = action_of(suffix, bare) else { continue };
            let delimiter = dir.0.get(&format!("{name}.delim")).map(OsString::as_os_str);
            let name = OsStr::new(name);
            match action {
                Action::Append => self.append(name, value, delimiter.unwrap_or_default()),
                Action::Default if self.is_set(name) => {}
                Action::Default | Action::Override => self.set(name, value),
                Action::Prepend => self.prepend(name, value, delimiter.unwrap_or_default()),
                Action::PrependPath => {
                    self.prepend(name, value, delimiter.unwrap_or(OsStr::new(PATH_SEPARATOR)));
                }
            }
        }
    }

    /// A variable without content counts as not set, so that no delimiter stands alone.
    fn is_set(&self, name: &OsStr) -> bool {
        self.vars.get(name).is_some_and(|value| !value.is_empty())
    }

    fn prepend(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr) {
        let mut joined = value.to_owned();
        if self.is_set(name) {
            joined.push(delimiter);
            joined.push(&self.vars[name]);
        }
        self.set(name, joined);
    }

    fn append(&mut self, name: &OsStr, value: &OsStr, delimiter: &OsStr) {
        let mut joined = OsString::new();
        if self.is_set(name) {
            joined.push(&self.vars[name]);
            joined.push(delimiter);
        }
        joined.push(value);
        self.set(name, joined);
    }
}

/// The action of a file's suffix; `None` for those that mean nothing, as `delim` alone does.
fn action_of(suffix: Option<&str>, bare: Action) -> Option<Action> {
    match suffix {
        None => Some(bare),
        Some("") => Some(Action::PrependPath),
        Some("append") => Some(Action::Append),
        Some("default") => Some(Action::Default),
        Some("override") => Some(Action::Override),
        Some("prepend") => Some(Action::Prepend),
        Some(_) => None,
    }
}

fn is_path_variable(name: &OsStr, scope: Scope) -> bool {
    RootDir::of(scope).iter().any(|dir| dir.variables(scope).iter().any(|variable| name == *variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(vars: &[(&str, &str)]) -> Env {
        Env::new(vars.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    fn dir(files: &[(&str, &str)]) -> EnvDir {
        files.iter().copied().collect()
    }

    #[test]
    fn variables_that_no_program_can_have_are_named() {
        assert_eq!(
            dir(&[("A", "x"), ("B.append", ""), ("B.delim", ":"), ("C.", "y"), (".keep", "\0")]).check(),
            Ok(())
        );
        for (name, value, said) in [
            ("A=B", "x", "`A=B` has no name"),
            (".append", "x", "`.append` has no name"),
            ("A\n=B.default", "x", "`A\\n=B.default` has no name"),
            ("A.append", "x\0y", "`A.append` has a zero byte"),
            ("A.delim", "\0", "`A.delim` has a zero byte"),
        ] {
            let error = dir(&[(name, value)]).check().unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn only_the_listed_variables_reach_a_buildpack() {
        let all = env(&[
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("CNB_REGISTRY_AUTH", "x"),
            ("HOME", "/home/cnb"),
            ("PATH", "/bin"),
            ("PKG_CONFIG_PATH", "p"),
            ("https_proxy", "http://proxy"),
        ]);
        let kept = Env::for_build(all.into_vars());
        let names: Vec<_> = kept.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "PATH", "PKG_CONFIG_PATH", "https_proxy"]);
    }

    #[test]
    fn a_process_does_not_see_the_lifecycle() {
        let vars = env(&[
            ("CNB_APP_DIR", "/workspace"),
            ("CNB_EXEC_ENV", "test"),
            ("CNB_PLATFORM_API", "0.15"),
            ("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin::/cnb/process:/bin"),
        ]);
        let seen = Env::for_launch(vars.into_vars(), Path::new("/cnb/process"), Path::new("/cnb/lifecycle"));
        assert_eq!(seen, env(&[("CNB_EXEC_ENV", "test"), ("PATH", "/usr/bin::/bin")]));
    }

    #[test]
    fn layer_folders_come_first_in_their_variables() {
        let mut build = env(&[("PATH", "/bin"), ("CPATH", "")]);
        for root in RootDir::of(Scope::Build) {
            build.add_root_dir(Scope::Build, *root, &Path::new("/layers/a/b").join(root.name()));
        }
        assert_eq!(
            build,
            env(&[
                ("PATH", "/layers/a/b/bin:/bin"),
                ("LD_LIBRARY_PATH", "/layers/a/b/lib"),
                ("LIBRARY_PATH", "/layers/a/b/lib"),
                ("CPATH", "/layers/a/b/include"),
                ("PKG_CONFIG_PATH", "/layers/a/b/pkgconfig"),
            ])
        );
        let mut launch = Env::default();
        for root in RootDir::of(Scope::Launch) {
            launch.add_root_dir(Scope::Launch, *root, Path::new("/l"));
        }
        assert_eq!(launch, env(&[("PATH", "/l"), ("LD_LIBRARY_PATH", "/l")]));
    }

    #[test]
    fn every_suffix_does_its_own() {
        let mut vars = env(&[
            ("APPENDED", "old"),
            ("DEFAULTED", "old"),
            ("EMPTY", ""),
            ("OVERRIDDEN", "old"),
            ("PREPENDED", "old"),
            ("BARE", "old"),
        ]);
        vars.add_env_dir(&dir(&[
            ("APPENDED.append", "new\n"),
            ("APPENDED.delim", ", "),
            ("BARE", "new"),
            ("DEFAULTED.default", "new"),
            ("EMPTY.default", "new"),
            ("FRESH.append", "new"),
            ("FRESH.delim", ":"),
            ("LONE.delim", ":"),
            ("OVERRIDDEN.override", "new"),
            ("PREPENDED.prepend", "new"),
            ("UNKNOWN.suffix", "new"),
            ("UNKNOWN.x.append", "new"),
        ]));
        assert_eq!(
            vars,
            env(&[
                ("APPENDED", "old, new\n"),
                ("BARE", "new"),
                ("DEFAULTED", "old"),
                ("EMPTY", "new"),
                ("FRESH", "new"),
                ("OVERRIDDEN", "new"),
                ("PREPENDED", "newold"),
            ])
        );
    }

    #[test]
    fn an_empty_suffix_prepends_a_path() {
        let mut vars = env(&[("X", "b")]);
        vars.add_env_dir(&dir(&[("X.", "a")]));
        assert_eq!(vars, env(&[("X", "a:b")]));
        vars.add_env_dir(&dir(&[("X.", "z"), ("X.delim", "-")]));
        assert_eq!(vars, env(&[("X", "z-a:b")]));
    }

    #[test]
    fn the_user_and_then_the_operator_have_their_say() {
        let vars = env(&[("VAR_EMPTY", ""), ("VAR_EXIST", "value"), ("PATH", "/bin")]);
        let platform = dir(&[
            ("PATH", "/user"),
            ("VAR.NAME", "dots stay"),
            ("VAR_CHANGE", "user"),
            ("VAR_EXIST", "user"),
            ("VAR_OVERRIDE", "user"),
        ]);
        let operator = dir(&[
            ("VAR_CHANGE.append", "operator"),
            ("VAR_CHANGE.delim", ":"),
            ("VAR_EMPTY", "operator"),
            ("VAR_EXIST", "operator"),
            ("VAR_NEW", "operator"),
            ("VAR_OVERRIDE.override", "operator"),
        ]);
        assert_eq!(
            vars.with_overrides(Some(&platform), Some(&operator)),
            env(&[
                ("PATH", "/user:/bin"),
                ("VAR.NAME", "dots stay"),
                ("VAR_CHANGE", "user:operator"),
                ("VAR_EMPTY", "operator"),
                ("VAR_EXIST", "user"),
                ("VAR_NEW", "operator"),
                ("VAR_OVERRIDE", "operator"),
            ])
        );
        let clear = vars.with_overrides(None, Some(&dir(&[("VAR_EXIST.default", "operator")])));
        assert_eq!(clear, vars);
    }
}
