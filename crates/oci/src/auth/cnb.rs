//! `CNB_REGISTRY_AUTH`: a JSON object of registries and header values (platform.md, "Registry Authentication").

use std::collections::BTreeMap;

use super::{Credential, Credentials, Error, Secret, bare_key, decode_basic, server_names};

/// The credentials of a `CNB_REGISTRY_AUTH` value: registry → `Basic …`, `Bearer …` or `X-Identity …`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAuth(BTreeMap<String, Credential>);

impl RegistryAuth {
    /// Parses the variable's value. Keys may have a scheme and a path, which do not count, as in the reference.
    /// Fails when it is not a JSON object of texts, or a text is none of the three forms.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Invalid { source_name: "CNB_REGISTRY_AUTH".to_owned(), reason };
        // The parser's own message may quote what it read, so only the place is told.
        let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            invalid(format!("expected a JSON object of registry and header (line {line}, column {column})"))
        })?;
        let mut found = BTreeMap::new();
        for (key, header) in map {
            let credential = parse_header(&header).ok_or_else(|| {
                invalid(format!("`{key}`: expected `Basic …`, `Bearer …` or `X-Identity …`"))
            })?;
            let host = bare_key(&key).split('/').next().unwrap_or_default().to_owned();
            found.insert(host, credential);
        }
        Ok(Self(found))
    }
}

impl Credentials for RegistryAuth {
    fn find(&self, registry: &str, _repository: &str) -> Result<Option<Credential>, Error> {
        Ok(server_names(registry).iter().find_map(|name| self.0.get(*name)).cloned())
    }
}

fn parse_header(header: &str) -> Option<Credential> {
    let (scheme, value) = header.trim().split_once(' ')?;
    let value = value.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            let (username, password) = decode_basic(value)?;
            Some(Credential::Basic { username, password })
        }
        "bearer" if !value.is_empty() => Some(Credential::Bearer(Secret::new(value))),
        "x-identity" if !value.is_empty() => Some(Credential::Identity(Secret::new(value))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms() {
        let auth = RegistryAuth::parse(
            r#"{"https://index.docker.io/v1/":"Basic bWU6cHc=","a.io":"bearer tok","b.io:5000/x":"X-IDENTITY id"}"#,
        )
        .unwrap();
        let basic = Credential::Basic { username: "me".to_owned(), password: Secret::new("pw") };
        assert_eq!(auth.find("docker.io", "library/x").unwrap(), Some(basic));
        assert_eq!(auth.find("a.io", "r").unwrap(), Some(Credential::Bearer(Secret::new("tok"))));
        assert_eq!(auth.find("b.io:5000", "r").unwrap(), Some(Credential::Identity(Secret::new("id"))));
        assert_eq!(auth.find("c.io", "r").unwrap(), None);
    }

    #[test]
    fn errors_name_the_variable_and_never_the_secret() {
        for text in [r#"{"a.io":"hunter2"}"#, r#"{"a.io":"Basic hunter2"}"#, r#"{"a.io":hunter2}"#, "hunter2"]
        {
            let error = RegistryAuth::parse(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("CNB_REGISTRY_AUTH") && !shown.contains("hunter2"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = RegistryAuth::parse(&text);
            let _ = parse_header(&text);
        }
    }
}
