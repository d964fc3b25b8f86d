//! `pannier build --dry-run`: what a build would do, as text.

use clap::ValueEnum;
use platform::build::{DryDockerfile, DryRun, Fate, Participant, StepState};

use crate::error::CommandError;
use crate::ui::Ui;

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: lines that stay the same from version to version as far as possible.
    Text,
    /// For programs.
    Json,
}

/// Prints a plan.
pub fn print(ui: &Ui, found: &DryRun, format: Format) -> Result<(), CommandError> {
    match format {
        Format::Text => ui.results(human(found)),
        Format::Json => ui.json(&serde_json::to_string_pretty(found)?),
    }
    Ok(())
}

fn human(found: &DryRun) -> Vec<String> {
    let switched = if found.switched { "  (an extension switches to it)" } else { "" };
    let mut lines =
        vec![format!("builder    {}", found.builder), format!("run image  {}{switched}", found.run_image)];
    for (title, members) in [("extensions", &found.extensions), ("buildpacks", &found.buildpacks)] {
        if !members.is_empty() {
            lines.push(title.to_owned());
            lines.extend(members.iter().map(participant));
        }
    }
    if !found.plan.is_empty() {
        lines.push("plan".to_owned());
    }
    for line in &found.plan {
        let (provided, required) = (line.provided_by.join(", "), line.required_by.join(", "));
        lines.push(format!("  {}: provided by {provided}, required by {required}", line.name));
    }
    found.dockerfiles.iter().for_each(|file| dockerfile(file, &mut lines));
    lines
}

fn participant(member: &Participant) -> String {
    match &member.covered {
        Some(why) => format!("  {} {}  (not asked: {why})", member.id, member.version),
        None => format!("  {} {}", member.id, member.version),
    }
}

fn dockerfile(file: &DryDockerfile, lines: &mut Vec<String>) {
    let fate = match file.fate {
        Fate::Applied => "",
        Fate::OnlyFrom => "  (nothing to apply)",
        Fate::Ignored => "  (ignored: a later extension switches the run image)",
    };
    lines.push(format!("{}/{}.Dockerfile{fate}", file.extension, file.image));
    for step in &file.steps {
        let state = match step.state {
            StepState::Cached => "cached",
            StepState::New => "new",
            StepState::Unknown => "?",
            StepState::Config => "",
        };
        let mut text = step.instruction.lines();
        let first = text.next().unwrap_or_default();
        lines.push(format!("  {state:<6} {:>4}  {first}", step.line));
        lines.extend(text.map(|line| format!("{:15}{line}", "")));
    }
}

#[cfg(test)]
mod tests {
    use platform::build::{DryStep, PlanLine};

    use super::*;

    fn step(line: usize, state: StepState, instruction: &str) -> DryStep {
        DryStep { line, instruction: instruction.to_owned(), state }
    }

    #[test]
    fn a_plan_is_readable() {
        let member = |id: &str| Participant { id: id.to_owned(), version: "1.0.0".to_owned(), covered: None };
        let found = DryRun {
            builder: "example/builder:22".to_owned(),
            run_image: "example/run:22".to_owned(),
            switched: true,
            extensions: vec![
                member("example/apt"),
                Participant { covered: Some("libpq5 is in the run image".into()), ..member("example/pq") },
            ],
            buildpacks: vec![member("example/web")],
            plan: vec![PlanLine {
                name: "curl".to_owned(),
                provided_by: vec!["example/apt".to_owned()],
                required_by: vec!["example/web".to_owned()],
            }],
            dockerfiles: vec![
                DryDockerfile {
                    extension: "example/apt".to_owned(),
                    image: "build",
                    fate: Fate::Applied,
                    steps: vec![
                        step(2, StepState::Config, "FROM base"),
                        step(3, StepState::Cached, "RUN <<END\na\nEND"),
                        step(6, StepState::New, "RUN b"),
                        step(7, StepState::Unknown, "RUN c"),
                    ],
                },
                DryDockerfile {
                    extension: "example/apt".to_owned(),
                    image: "run",
                    fate: Fate::Ignored,
                    steps: vec![step(1, StepState::Config, "FROM other")],
                },
            ],
        };
        insta::assert_snapshot!(human(&found).join("\n"), @r"
        builder    example/builder:22
        run image  example/run:22  (an extension switches to it)
        extensions
          example/apt 1.0.0
          example/pq 1.0.0  (not asked: libpq5 is in the run image)
        buildpacks
          example/web 1.0.0
        plan
          curl: provided by example/apt, required by example/web
        example/apt/build.Dockerfile
                    2  FROM base
          cached    3  RUN <<END
                       a
                       END
          new       6  RUN b
          ?         7  RUN c
        example/apt/run.Dockerfile  (ignored: a later extension switches the run image)
                    1  FROM other
        ");
        assert!(serde_json::to_string(&found).unwrap().contains("\"state\":\"cached\""));
    }
}
