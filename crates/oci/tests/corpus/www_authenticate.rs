//! What a registry says in `WWW-Authenticate`: a header a line.

use pannier_oci::registry::Challenge;

/// What comes of reading the headers of `input`.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let best = Challenge::best(text.lines());
    match &best {
        Some(Challenge::Bearer { realm, service, scope }) => {
            let parts = [Some(realm), service.as_ref(), scope.as_ref()];
            assert!(parts.iter().flatten().all(|part| part.len() <= text.len()));
            assert!(
                text.to_ascii_lowercase().contains("bearer") && text.to_ascii_lowercase().contains("realm")
            );
            // Written as a server should write it, it says the same.
            assert_eq!(Challenge::best([written(parts)].iter().map(String::as_str)), best);
        }
        Some(Challenge::Basic) => assert!(text.to_ascii_lowercase().contains("basic")),
        None => (),
    }
    match best {
        None => "nothing".to_owned(),
        Some(Challenge::Basic) => "basic".to_owned(),
        Some(Challenge::Bearer { realm, service, scope }) => {
            let [service, scope] = [service, scope].map(|it| it.map_or("none".to_owned(), |it| quoted(&it)));
            format!("bearer: realm {}, service {service}, scope {scope}", quoted(&realm))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

fn written(parts: [Option<&String>; 3]) -> String {
    let names = ["realm", "service", "scope"].into_iter().zip(parts);
    let params = names.filter_map(|(name, value)| {
        let value = value?.replace('\\', r"\\").replace('"', "\\\"");
        Some(format!("{name}=\"{value}\""))
    });
    format!("Bearer {}", params.collect::<Vec<_>>().join(", "))
}
