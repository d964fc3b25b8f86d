//! A canary in every place where a secret can be, and everything that can go wrong with it: what is printed, at any
//! verbosity, what is reported and what is in the image never has it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use base64::Engine as _;
use testkit::{Base, Builder, Buildpack, Layout, Machine, Output};

use crate::support::*;

const CANARY: &str = "canary";

/// How the server that repeats everything is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// It wants a password.
    Basic,
    /// It sends to its token server.
    Bearer,
    /// Its token server lets nobody in.
    NoToken,
    /// It lets everybody in.
    Open,
}

/// A registry, token server, web server and proxy that refuses whatever it is asked, in words that repeat all it was
/// told. Where it redirects to, and where uploads go to, are URLs with signatures. Gives its `host:port`.
fn echo(door: Door, status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let own = own.clone();
            std::thread::spawn(move || answer(&stream, &own, door, status));
        }
    });
    address
}

fn answer(mut stream: &TcpStream, own: &str, door: Door, status: &str) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let length = header("content-length").and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (method, path) = lines.first()?.split_once(' ')?;
    let path = path.split(' ').next()?;

    let shown = [header("authorization"), header("proxy-authorization")].into_iter().flatten();
    let shown = shown.map(|(_, value)| value).collect::<Vec<_>>().join(" ");
    let plain =
        shown.rsplit(' ').next().and_then(|word| base64::engine::general_purpose::STANDARD.decode(word).ok());
    let words = format!(
        "{path} http://me:canary-url@{own}{path} {} {shown} {}",
        String::from_utf8_lossy(&plain.unwrap_or_default()),
        String::from_utf8_lossy(&body[..body.len().min(200)])
    );
    let failure = serde_json::json!({ "errors": [{ "code": "NO", "message": words }] }).to_string();
    let challenge = match door {
        Door::Basic => "WWW-Authenticate: Basic realm=\"canary-realm\"".to_owned(),
        _ => format!(
            "WWW-Authenticate: Bearer realm=\"http://u:canary-realm@{own}/token?k=canary-realm\",service=\"s\""
        ),
    };
    let needs = door != Door::Open && header("authorization").is_none() && !path.contains("signed");
    let (status, headers, body) = match (method, path) {
        ("CONNECT", _) => ("407 canary-status", String::new(), failure),
        (_, path) if path.starts_with("/token") && door == Door::Bearer => {
            ("200 OK", String::new(), r#"{"token":"canary-access-token"}"#.to_owned())
        }
        (_, path) if path.starts_with("/token") => ("400 Bad Request", String::new(), failure),
        _ if needs => ("401 Unauthorized", challenge, failure),
        (_, "/v2/") => ("200 OK", String::new(), String::new()),
        ("POST", path) if path.contains("/uploads/") && !status.starts_with("403") => {
            ("202 Accepted", "Location: /upload/signed?_state=canary-state&n=1".to_owned(), String::new())
        }
        ("GET", path) if path.contains("/redirected/") => (
            "307 Temporary Redirect",
            "Location: /signed?X-Amz-Signature=canary-signature".to_owned(),
            String::new(),
        ),
        ("HEAD", path) if path.contains("/blobs/") => ("404 Not Found", String::new(), String::new()),
        _ => (status, String::new(), failure),
    };
    let separator = if headers.is_empty() { "" } else { "\r\n" };
    let length = body.len();
    let body = if method == "HEAD" { String::new() } else { body };
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}{separator}Content-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()
}

fn silent(output: Output, what: &str) -> Output {
    let all = output.all();
    assert!(!all.contains(CANARY), "{what}: {output}");
    let encoded = base64::engine::general_purpose::STANDARD.encode("me:canary-password");
    assert!(!all.contains(&encoded), "{what}: {output}");
    output.never_says("panicked");
    output
}

/// A machine whose user has credentials for `host` in one of the places where they can be.
fn know(machine: &Machine, host: &str, place: &str) -> Vec<(&'static str, String)> {
    let basic = base64::engine::general_purpose::STANDARD.encode("me:canary-password");
    let config = |text: String| {
        machine.write("docker/config.json", text);
        vec![("DOCKER_CONFIG", machine.path("docker").display().to_string())]
    };
    match place {
        "password" => config(format!(r#"{{"auths":{{"{host}":{{"auth":"{basic}"}}}}}}"#)),
        "identity" => config(format!(r#"{{"auths":{{"{host}":{{"identitytoken":"canary-identity"}}}}}}"#)),
        "token" => config(format!(r#"{{"auths":{{"{host}":{{"registrytoken":"canary-token"}}}}}}"#)),
        "helper" => {
            let answer = r#"echo '{"Username":"me","Secret":"canary-password"}'; echo canary-stderr >&2"#;
            machine.write_script("bin/docker-credential-good", format!("#!/bin/sh\n{answer}\n"));
            let mut variables = config(format!(r#"{{"credHelpers":{{"{host}":"good"}}}}"#));
            variables
                .push(("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", machine.path("bin").display())));
            variables
        }
        "bad helper" => {
            machine.write_script("bin/docker-credential-bad", "#!/bin/sh\necho canary-helper; exit 1\n");
            let mut variables = config(format!(r#"{{"credHelpers":{{"{host}":"bad"}}}}"#));
            variables
                .push(("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", machine.path("bin").display())));
            variables
        }
        "broken" => config(format!(r#"{{"auths":{{"{host}":{{"auth":"canary-broken"}}}}}}"#)),
        "no JSON" => config(r#"{"auths": "canary-json", canary"#.to_owned()),
        "variable" => vec![("CNB_REGISTRY_AUTH", format!(r#"{{"{host}":"Basic {basic}"}}"#))],
        "bad variable" => vec![("CNB_REGISTRY_AUTH", format!(r#"{{"{host}":"canary-variable"}}"#))],
        "no variable" => vec![("CNB_REGISTRY_AUTH", "canary-variable".to_owned())],
        other => panic!("no place is called {other}"),
    }
}

#[test]
fn what_registries_are_told_does_not_come_back() {
    let Some(machine) = machine() else { return };
    let layout = Layout::new(machine.path("work/layout"));
    layout.add("it", &Base::Small.run());
    let places = [
        "password",
        "identity",
        "token",
        "helper",
        "bad helper",
        "broken",
        "no JSON",
        "variable",
        "bad variable",
        "no variable",
    ];
    for door in [Door::Basic, Door::Bearer, Door::NoToken, Door::Open] {
        let host = echo(door, "403 Forbidden");
        for place in places {
            let variables = know(&machine, &host, place);
            let calls = [
                vec!["inspect".to_owned(), format!("docker://{host}/plain/x:1")],
                vec!["inspect".to_owned(), "-v".to_owned(), format!("docker://{host}/redirected/x:1")],
                vec![
                    "image".into(),
                    "copy".into(),
                    "-v".into(),
                    "oci:layout:it".into(),
                    format!("docker://{host}/x:1"),
                ],
            ];
            for words in calls {
                let what = format!("{door:?}, {place}, {words:?}");
                let call = machine.pannier(words).env("REGISTRY_PASSWORD", "canary-process");
                let call = variables.iter().fold(call, |call, (name, value)| call.env(name, value));
                silent(call.fails(), &what);
            }
        }
        // An upload is begun, and refused where its state is needed.
        let host = echo(door, "400 Bad Request");
        let words = ["image", "copy", "-v", "oci:layout:it"];
        let call = machine.pannier(words).arg(format!("docker://{host}/x:1"));
        let variables = know(&machine, &host, "password");
        let call = variables.iter().fold(call, |call, (name, value)| call.env(name, value));
        silent(call.fails(), &format!("{door:?}, upload"));
    }
}

#[test]
fn urls_with_passwords_and_signatures() {
    let Some(machine) = machine() else { return };
    let host = echo(Door::Open, "403 Forbidden");
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    let build = |more: &[&str]| {
        machine.pannier(["build", "-v", OUT, "--builder", &builder, "--path"]).arg(&app).args(more)
    };
    let urls = [
        format!("http://me:canary-password@{host}/bp.tgz?X-Amz-Signature=canary-signature"),
        format!("http://canary-token@{host}/redirected/bp.tgz"),
        "http://me:canary-password@127.0.0.1:1/bp.tgz?sig=canary".to_owned(),
        "https://me:canary/password@127.0.0.1:1/bp.tgz".to_owned(),
        "ftp://me:canary-password@127.0.0.1/bp.tgz".to_owned(),
        format!("docker://me:canary-password@{host}/bp"),
        format!("me:canary-password@{host}/bp"),
        format!("https://me:canary-password@{host}/bp:1@latest"),
    ];
    for url in &urls {
        silent(build(&["--buildpack", url]).fails(), url);
        silent(build(&["--run-image", url]).fails(), url);
        silent(build(&["--tag", url]).fails(), url);
        silent(build(&["--cache-image", url]).fails(), url);
        silent(machine.pannier(["run", url]).fails(), url);
        silent(machine.pannier(["image", "copy", url, "oci:x:y"]).fails(), url);
        let text = format!("[_]\nschema-version = \"0.2\"\n[[io.buildpacks.group]]\nuri = \"{url}\"\n");
        machine.write("work/app/project.toml", &text);
        silent(build(&[]).fails(), url);
        machine.write("work/app/project.toml", format!("{text}id = 1\n"));
        silent(build(&[]).fails(), url);
        fs_err::remove_file(app.join("project.toml")).expect("it is there");
    }
    // Through a proxy, which needs a password, and has it in its own words.
    for proxy in [
        format!("http://me:canary-password@{host}"),
        "http://me:canary@127.0.0.1:1".into(),
        "canary:// x".into(),
    ] {
        for name in ["docker://registry.invalid/x", "docker://registry.invalid:5000/x"] {
            let call = machine.pannier(["inspect", "-v", name]);
            let call = call.env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy);
            silent(call.fails(), &format!("{proxy}, {name}"));
        }
    }
}

#[test]
fn options_that_hold_secrets() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    let build = |more: &[&str]| {
        machine.pannier(["build", "-v", OUT, "--builder", &builder, "--path"]).arg(&app).args(more)
    };
    machine.write("work/env", "KEY=-----BEGIN\ncanaryKEYofSEVERALlines\n");
    silent(build(&["--env-file", "env"]).ok(), "a line without a name").says("env:2");
    machine.write("work/env", "KEY=-----BEGIN\ncanary/KEY/of+several==\n");
    silent(build(&["--env-file", "env"]).fails(), "a line of base64").says("env:2");
    for secret in ["canary", "id=x,canary", "id=x,value=canary", "canary=x", "id=x,src=a,env=b,canary"] {
        silent(build(&["--secret", secret]).fails(), secret);
    }
    machine.write("work/token", "canary-secret");
    let extension = |run: &str| {
        let text = format!("ARG base_image\nFROM ${{base_image}}\nUSER root\n{run}\n");
        let extension =
            Buildpack::extension("test/ext", "1.0.0").file("generate/build.Dockerfile", 0o644, text);
        let parts = Builder::of(Base::Small, &[web()]).extension(extension).extension_group(&["test/ext"]);
        self::builder(&machine, &parts)
    };
    for run in [
        "RUN --mount=type=secret,id=token,required false",
        "RUN --mount=type=secret,id=token,env=TOKEN exit 3",
        "RUN --mount=type=secret,id=token,target=/no/place /no/such/program",
        "ADD https://me:canary@127.0.0.1:1/x?sig=canary /x",
    ] {
        let builder = extension(run);
        let words = ["build", "-v", OUT, "--builder", &builder, "--secret", "id=token,src=token", "--path"];
        silent(machine.pannier(words).arg(&app).fails(), run);
    }
}

#[test]
fn nothing_is_left_in_what_is_built() {
    let Some(machine) = machine() else { return };
    let app = app(&machine);
    let builder = builder_of(&machine, &[web()]);
    let text =
        "[_]\nschema-version = \"0.2\"\nsource-url = \"https://me:canary-password@git.example.com/x.git\"\n";
    machine.write("work/app/project.toml", text);
    machine.write("work/token", "canary-secret");
    let reports = machine.make_dir("work/reports");
    let words =
        ["build", "-v", OUT, "--builder", &builder, "--secret", "id=x,src=token", "--report-output-dir"];
    let build = machine.pannier(words).arg(&reports).arg("--path").arg(&app);
    let build = build
        .env("REGISTRY_PASSWORD", "canary-process")
        .env("CNB_REGISTRY_AUTH", r#"{"x.io":"Bearer canary"}"#);
    let build = build.env("HTTPS_PROXY", "http://me:canary-proxy@proxy.invalid:3128");
    silent(build.ok(), "a good build");
    let image = built(&machine);
    let metadata = image.json_label("io.buildpacks.project.metadata");
    assert_eq!(metadata["source"]["metadata"]["url"], "https://***@git.example.com/x.git");
    assert!(!image.config.to_string().contains(CANARY) && !image.manifest.to_string().contains(CANARY));
    let report = fs_err::read_to_string(reports.join("report.toml")).expect("there is one");
    assert!(!report.contains(CANARY), "{report}");
    silent(machine.pannier(["inspect", OUT]).ok(), "inspect");
    silent(machine.pannier(["doctor"]).env("HTTPS_PROXY", "http://me:canary@proxy.invalid").run(), "doctor");
}
