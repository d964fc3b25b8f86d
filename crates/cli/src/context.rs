//! What the environment says, read once: where the store and the configuration are.
//!
//! The libraries never look at the environment or the home directory; verbs give them what this holds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use events::Events as _;
use oci::registry::Listener;
use platform::config::{Config, ConfigError};
use sandbox::{EnterOptions, Entered};

use crate::cli::Global;
use crate::error::CommandError;
use crate::ui::Ui;

/// What every verb needs to know of the world.
#[derive(Debug)]
pub struct Context<'a> {
    /// Where output goes.
    pub ui: &'a Ui,
    /// The folder of the store, an OCI layout.
    pub store_dir: PathBuf,
    /// The user's configuration file; it need not exist.
    pub config_file: PathBuf,
    /// Where clients of registries say that they wait.
    pub told: Listener,
    /// What is in it, once a verb has asked.
    config: OnceLock<Config>,
}

impl Context<'static> {
    /// Reads the environment.
    ///
    /// Everything is in `--home` or `PANNIER_HOME` where that is given, else the store is in
    /// `$XDG_DATA_HOME/pannier` and the configuration in `$XDG_CONFIG_HOME/pannier`.
    pub fn from_environment(global: &Global, ui: &'static Ui) -> Result<Self, CommandError> {
        // Not by clap: its usage lines would show the option as if it had to be given.
        let variable = || std::env::var_os("PANNIER_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        if let Some(home) = global.home.clone().or_else(variable) {
            let home = std::path::absolute(home)?;
            return Ok(Self::new(ui, home.join("store"), home.join("config.toml")));
        }
        let data = xdg("XDG_DATA_HOME", ".local/share")?;
        let config = xdg("XDG_CONFIG_HOME", ".config")?;
        Ok(Self::new(ui, data.join("store"), config.join("config.toml")))
    }

    fn new(ui: &'static Ui, store_dir: PathBuf, config_file: PathBuf) -> Self {
        Self { ui, store_dir, config_file, told: Listener(Arc::new(ui)), config: OnceLock::new() }
    }
}

impl Context<'_> {
    /// The user's configuration, read when the first verb asks: one that needs none works with a broken file.
    pub fn config(&self) -> Result<&Config, CommandError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::load(&self.config_file).map_err(|error| match &error {
            ConfigError::Document(document) => {
                let detail = document.render(false);
                CommandError::new(error).detail(detail)
            }
            ConfigError::Read { .. } => CommandError::new(error),
        })?;
        config.warnings.iter().for_each(|warning| self.ui.warning(warning));
        Ok(self.config.get_or_init(|| config))
    }

    /// Puts this process into its namespaces. Must come before the first thread.
    pub fn enter(&self) -> Result<Entered, CommandError> {
        let entered = sandbox::enter(&EnterOptions::default()).map_err(|error| {
            let hint = error.hint();
            let mut error = CommandError::new(error).hint("`pannier doctor` says what this machine can do");
            error.hints.extend(hint);
            error
        })?;
        crate::signals::install()?;
        Ok(entered)
    }

    /// Opens the store; it is made where there is none.
    pub fn store(&self) -> Result<oci::Store, CommandError> {
        let store = oci::Store::open(&self.store_dir)?;
        crate::signals::on_signal(store.on_interrupt(|dir| {
            let _ = sandbox::unmount_below(dir);
        }));
        Ok(store)
    }
}

/// `$variable/pannier`, else `~/fallback/pannier`. A relative value is ignored, as the XDG specification asks.
fn xdg(variable: &str, fallback: &str) -> Result<PathBuf, CommandError> {
    let set = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match set {
        Some(dir) => Ok(dir.join("pannier")),
        None => Ok(home_dir()?.join(fallback).join("pannier")),
    }
}

/// The user's home directory.
pub fn home_dir() -> Result<PathBuf, CommandError> {
    std::env::home_dir().filter(|home| home.is_absolute() && home != Path::new("/")).ok_or_else(|| {
        CommandError::new("no home directory is known for this user")
            .hint("set PANNIER_HOME to a folder that you can write to")
    })
}
