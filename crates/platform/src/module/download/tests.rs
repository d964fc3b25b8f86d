use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use super::super::tests::Bench;
use super::*;

/// Answers each request with the next of these, and says what was asked on which condition.
fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let answer = |answer: &str| {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> =
                lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            let condition = lines.iter().find_map(|line| line.strip_prefix("if-none-match: "));
            condition.unwrap_or("none").to_owned()
        };
        answers.into_iter().map(answer).collect()
    });
    (format!("http://{address}/path/a.tgz?secret"), thread)
}

const ONE: &str = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 3\r\nConnection: close\r\n\r\none";
const TWO: &str = "HTTP/1.1 200 OK\r\nETag: \"2\"\r\nContent-Length: 3\r\nConnection: close\r\n\r\ntwo";
const SAME: &str = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";

fn get(bench: &Bench, url: &str) -> Result<String, ModuleError> {
    let path = bench.with(|loader| loader.download(url))?;
    assert_eq!(path.file_name().unwrap(), "a.tgz", "the name says what it is");
    let mut text = String::new();
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_file_that_did_not_change_is_not_sent_again() {
    let mut bench = Bench::new();
    let (url, thread) = server(vec![ONE, SAME, TWO]);
    bench.pull_policy = PullPolicy::Never;
    assert!(matches!(get(&bench, &url), Err(ModuleError::NotKept { name }) if name == "a.tgz"));
    bench.pull_policy = PullPolicy::Always;
    assert_eq!(get(&bench, &url).unwrap(), "one");
    assert_eq!(get(&bench, &url).unwrap(), "one");
    assert_eq!(get(&bench, &url).unwrap(), "two");
    assert_eq!(thread.join().unwrap(), ["none", "\"1\"", "\"1\""]);

    // The server is gone.
    assert!(matches!(get(&bench, &url), Err(ModuleError::Download(_))), "the policy is to ask");
    for policy in [PullPolicy::Never, PullPolicy::IfNotPresent] {
        bench.pull_policy = policy;
        assert_eq!(get(&bench, &url).unwrap(), "two");
    }
    let dir = bench.path("store/cache/downloads");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "the former file is gone");

    // What was cut short by a full disk, say, is as good as none.
    let entry = dir.join(format!("{}.json", Digest::of(url.as_bytes()).hex()));
    fs::write(dir.join(read(&dir, &entry).unwrap().file), "tw").unwrap();
    bench.pull_policy = PullPolicy::Never;
    assert!(get(&bench, &url).is_err());
}
