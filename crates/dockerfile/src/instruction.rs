//! The instructions of a Dockerfile, typed.
//!
//! As parsed, variables are not expanded and quotes are still there; [`Dockerfile::expand`](crate::Dockerfile::expand)
//! makes the instruction that is to be done. Spans are bytes of the file's text. Not here: what an instruction does.

use std::ops::Range;
use std::time::Duration;

/// One instruction of a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it is, with its arguments.
    pub kind: InstructionKind,
    /// Where it is in the file, here-documents included.
    pub span: Range<usize>,
    /// The line it begins on, from 1.
    pub line: usize,
    /// It as one line: continuations joined, comments within left out, without the bodies of here-documents.
    pub text: String,
}

/// A piece of an instruction and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The piece.
    pub text: String,
    /// Where it is in the file; of an element of a JSON list, where the list is.
    pub span: Range<usize>,
}

/// What an instruction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`: files of the context, archives, or what is behind an URL.
    Add(Add),
    /// `ARG`: variables that are not kept in the image.
    Arg(Vec<Arg>),
    /// `CMD`: the default arguments.
    Cmd(Command),
    /// `COPY`: files of the context.
    Copy(Copy),
    /// `ENTRYPOINT`: the default program.
    Entrypoint(Command),
    /// `ENV`: variables that are kept in the image.
    Env(Vec<Pair>),
    /// `EXPOSE`: ports, `<port>[-<port>][/<protocol>]`.
    Expose(Vec<Word>),
    /// `FROM`: what is extended.
    From(From),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`: metadata of the image.
    Label(Vec<Pair>),
    /// `MAINTAINER`: who made it.
    Maintainer(String),
    /// `ONBUILD`: an instruction for whoever builds from this image, as it is written.
    Onbuild(String),
    /// `RUN`: a program.
    Run(Run),
    /// `SHELL`: what runs the shell form of programs.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `USER`: `<user>[:<group>]`, each a name or a number.
    User(Word),
    /// `VOLUME`: folders that are not part of a running container's image.
    Volume(Vec<Word>),
    /// `WORKDIR`: a path, relative to the one before.
    Workdir(Word),
}

impl InstructionKind {
    /// The instruction's keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::From(_) => "FROM",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A variable that `ARG` declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// Its value when nobody gives one.
    pub default: Option<String>,
    /// Where it is in the file.
    pub span: Range<usize>,
}

/// A key and a value of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// Where the pair is in the file.
    pub span: Range<usize>,
}

/// `FROM [--platform=…] <image> [AS <name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The image.
    pub image: Word,
    /// The platform of the image to take.
    pub platform: Option<Word>,
    /// The name of the stage.
    pub name: Option<Word>,
}

/// A command of `RUN`, `CMD` or `ENTRYPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The command as it is on the line; see [`Run::script`].
    pub command: Command,
    /// The here-documents that follow the line, in order.
    pub heredocs: Vec<Heredoc>,
    /// What is mounted while it runs.
    pub mounts: Vec<Mount>,
    /// The network it may use; none when it does not say.
    pub network: Option<Network>,
}

/// What a `RUN` is to execute, its here-documents put in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// A text for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A text that names its own interpreter (`#!`): a file to write where the image does not keep it, and to execute.
    File {
        /// The file's name, which is the here-document's.
        name: String,
        /// The text.
        content: String,
    },
}

/// Which network a `RUN` sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// That of the build.
    Default,
    /// That of the machine.
    Host,
    /// None.
    None,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; of `COPY` and `ADD` also the name of the file.
    pub name: String,
    /// Whether variables in it are expanded by `COPY` and `ADD`: the word was not quoted.
    pub expand: bool,
    /// Whether tabs that begin its lines are no part of it: `<<-`.
    pub strip_tabs: bool,
    /// Its lines as they are in the file.
    pub raw: String,
    /// Where the lines are in the file.
    pub span: Range<usize>,
}

impl Heredoc {
    /// What it says: its lines, without leading tabs when it began with `<<-`.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.raw.clone();
        }
        self.raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// `COPY`, and what `ADD` has in common with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What is copied, at least one thing.
    pub sources: Vec<CopySource>,
    /// Where to: a path, relative to the working directory; a folder when it ends with a slash.
    pub dest: Word,
    /// `--chown`: `<user>[:<group>]`, each a name or a number.
    pub chown: Option<Word>,
    /// `--chmod`: octal, or symbolic as chmod(1) has it.
    pub chmod: Option<Word>,
    /// `--exclude`: patterns of what not to copy.
    pub excludes: Vec<Word>,
    /// `--link`: the copy does not depend on what is there already. It never does here.
    pub link: bool,
}

/// A source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or a pattern beneath the context, or an URL (`ADD`).
    Path(Word),
    /// A file whose content is in the Dockerfile.
    Heredoc(Heredoc),
}

/// `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Sources, destination and flags.
    pub copy: Copy,
    /// `--checksum`: what the content behind an URL must be, `sha256:<hex>`.
    pub checksum: Option<Word>,
    /// `--unpack`: whether archives are unpacked; when it does not say, those of the context are.
    pub unpack: Option<bool>,
}

/// `RUN --mount=type=…`.
///
/// As long as a value has a variable in it, numbers and truths are those of an absent option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, relative to the working directory; empty when it does not say (secrets have a default).
    pub target: String,
    /// The option as it is written.
    pub text: String,
    /// Where it is in the file.
    pub span: Range<usize>,
}

/// What a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A part of the context.
    Bind {
        /// A path beneath the context; empty for all of it.
        source: String,
        /// Whether it cannot be written to; what is written otherwise is thrown away.
        read_only: bool,
    },
    /// A folder that stays between builds and is not part of the image.
    Cache {
        /// Which folder: the target when it does not say.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Whether it cannot be written to.
        read_only: bool,
        /// Permissions of the folder when it is made; 0755 when it does not say.
        mode: Option<u32>,
        /// Owner of the folder when it is made.
        uid: Option<u32>,
        /// Group of the folder when it is made.
        gid: Option<u32>,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// Its size at most, in bytes.
        size: Option<u64>,
    },
    /// A secret of whoever builds, as a file, as a variable, or both.
    Secret {
        /// Which secret; the last part of the target when it does not say.
        id: String,
        /// The variable to put it into.
        env: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// Permissions of the file; 0400 when it does not say.
        mode: Option<u32>,
        /// Owner of the file.
        uid: Option<u32>,
        /// Group of the file.
        gid: Option<u32>,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One; others get a folder of their own.
    Private,
    /// One; others wait.
    Locked,
}

/// `HEALTHCHECK`. Durations and retries that are absent are the image's own defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// The command; none for `NONE`.
    pub command: Option<Command>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Time a check may take.
    pub timeout: Option<Duration>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
}

impl Run {
    /// What to execute: a single here-document that is the whole command is the text itself, others stay with the
    /// line for the shell to read.
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(arguments) => return Script::Exec(arguments.clone()),
            Command::Shell(line) => line,
        };
        match &self.heredocs[..] {
            [] => Script::Shell(line.clone()),
            [only] if crate::parse::is_heredoc(line) => {
                let content = only.content();
                if content.starts_with("#!") {
                    Script::File { name: only.name.clone(), content }
                } else {
                    Script::Shell(content)
                }
            }
            several => {
                let mut text = line.clone();
                for heredoc in several {
                    text.push('\n');
                    text.push_str(&heredoc.raw);
                    text.push_str(&heredoc.name);
                }
                Script::Shell(text)
            }
        }
    }
}
