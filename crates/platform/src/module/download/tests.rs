use std::io::{BufRead as _, BufReader, Write as _};
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
    Ok(fs_err::read_to_string(path)?)
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
}
