//! Instructions that change the image's configuration (OCI image configuration, and what Docker adds to it).

use std::time::Duration;

use oci::{ImageConfig, RunConfig};
use serde_json::{Map, Value, json};

use crate::instruction::{Command, Healthcheck, InstructionKind};

/// What runs the shell form of programs when neither the Dockerfile nor the image says.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The shell that the configuration names, or the default one.
pub(super) fn shell(config: &RunConfig) -> Vec<String> {
    let named = config.extra.get("Shell").and_then(Value::as_array);
    let named: Option<Vec<String>> =
        named.and_then(|list| list.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    named.filter(|list| !list.is_empty()).unwrap_or_else(|| DEFAULT_SHELL.map(str::to_owned).to_vec())
}

/// Applies an expanded instruction; false for one that is no matter of the configuration alone. `has_cmd` says whether
/// this Dockerfile has had a `CMD`.
pub(super) fn apply(
    image: &mut ImageConfig,
    kind: &InstructionKind,
    has_cmd: &mut bool,
) -> Result<bool, String> {
    let config = &mut image.config;
    match kind {
        InstructionKind::Env(pairs) => pairs.iter().for_each(|pair| config.set_env(&pair.key, &pair.value)),
        InstructionKind::Label(pairs) => {
            config.labels.extend(pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone())));
        }
        InstructionKind::Shell(words) => {
            config.extra.insert("Shell".to_owned(), json!(words));
        }
        InstructionKind::User(user) => config.user.clone_from(&user.text),
        InstructionKind::Cmd(command) => {
            config.cmd = command_line(config, command);
            *has_cmd = true;
        }
        InstructionKind::Entrypoint(command) => {
            config.entrypoint = command_line(config, command);
            // The arguments that the base has are for the entrypoint that the base has.
            if !*has_cmd {
                config.cmd.clear();
            }
        }
        InstructionKind::Expose(ports) => {
            for port in ports {
                let ports = exposed(&port.text)?;
                config.exposed_ports.extend(ports.into_iter().map(|port| (port, json!({}))));
            }
        }
        InstructionKind::StopSignal(signal) => config.stop_signal = Some(signal.text.clone()),
        InstructionKind::Volume(paths) => {
            config.volumes.extend(paths.iter().map(|path| (path.text.clone(), json!({}))));
        }
        InstructionKind::Healthcheck(check) => {
            config.extra.insert("Healthcheck".to_owned(), healthcheck(check));
        }
        InstructionKind::Onbuild(text) => {
            let list = config.extra.entry("OnBuild").or_insert_with(|| json!([]));
            match list.as_array_mut() {
                Some(list) => list.push(json!(text)),
                None => *list = json!([text]),
            }
        }
        InstructionKind::Maintainer(name) => image.author = Some(name.clone()),
        InstructionKind::Add(_)
        | InstructionKind::Arg(_)
        | InstructionKind::Copy(_)
        | InstructionKind::From(_)
        | InstructionKind::Run(_)
        | InstructionKind::Workdir(_) => return Ok(false),
    }
    Ok(true)
}

fn command_line(config: &RunConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => {
            let mut words = shell(config);
            words.push(text.clone());
            words
        }
    }
}

/// The ports that `<port>[-<port>][/<protocol>]` means, each as `<port>/<protocol>`.
fn exposed(text: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("`{text}` is no port: expected `<port>[-<port>][/<protocol>]`");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = number(first).zip(number(last)).ok_or_else(invalid)?;
    if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut members = Map::new();
    let test = match &check.command {
        None => json!(["NONE"]),
        Some(Command::Shell(text)) => json!(["CMD-SHELL", text]),
        Some(Command::Exec(words)) => {
            json!(std::iter::once("CMD").chain(words.iter().map(String::as_str)).collect::<Vec<_>>())
        }
    };
    members.insert("Test".to_owned(), test);
    let times: [(&str, Option<Duration>); 4] = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            members.insert(name.to_owned(), json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
        }
    }
    if let Some(retries) = check.retries {
        members.insert("Retries".to_owned(), json!(retries));
    }
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Dockerfile;

    fn applied(lines: &str) -> ImageConfig {
        let mut config: ImageConfig = serde_json::from_value(json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"},
            "config": {"Env": ["PATH=/bin"], "Cmd": ["old"], "Entrypoint": ["/old"]},
        }))
        .unwrap();
        let dockerfile = Dockerfile::parse("Dockerfile", lines).unwrap();
        let mut has_cmd = false;
        for instruction in &dockerfile.instructions {
            let expanded = dockerfile.expand(instruction, &|_| None).unwrap();
            assert!(apply(&mut config, &expanded.kind, &mut has_cmd).unwrap(), "{}", instruction.text);
        }
        config
    }

    #[test]
    fn instructions_end_in_the_configuration() {
        let config = applied(
            "SHELL [\"/bin/bash\", \"-ec\"]\nENV A=1 PATH=/own\nLABEL a=b\nUSER 7:8\nENTRYPOINT run it\nCMD [\"x\"]\n\
             EXPOSE 80 90-91/udp\nSTOPSIGNAL SIGINT\nVOLUME /data\nONBUILD RUN a\nONBUILD RUN b\nMAINTAINER me\n\
             HEALTHCHECK --interval=30s --retries=2 CMD curl x",
        );
        assert_eq!(config.config.env[..], ["PATH=/own", "A=1"]);
        assert_eq!(config.config.entrypoint, ["/bin/bash", "-ec", "run it"]);
        assert_eq!(config.config.cmd, ["x"]);
        assert_eq!(config.config.user, "7:8");
        let ports: Vec<_> = config.config.exposed_ports.keys().map(String::as_str).collect();
        assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
        assert_eq!(config.author.as_deref(), Some("me"));
        let value = serde_json::to_value(&config.config).unwrap();
        assert_eq!(value["OnBuild"], json!(["RUN a", "RUN b"]));
        assert_eq!(
            value["Healthcheck"],
            json!({"Test": ["CMD-SHELL", "curl x"], "Interval": 30_000_000_000_u64, "Retries": 2})
        );
        assert_eq!(value["StopSignal"], "SIGINT");
        assert_eq!(shell(&config.config), ["/bin/bash", "-ec"]);
    }

    #[test]
    fn an_entrypoint_is_without_the_bases_arguments() {
        assert!(applied("ENTRYPOINT [\"/new\"]").config.cmd.is_empty());
        assert_eq!(applied("CMD [\"mine\"]\nENTRYPOINT [\"/new\"]").config.cmd, ["mine"]);
    }

    #[test]
    fn ports_are_checked() {
        for bad in ["0", "x", "9-8", "80/icmp", "70000", ""] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }
}
