//! Names of images, with and without a transport, digests and platforms.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use pannier_oci::{Digest, ImageName, Platform, Reference};

/// What `input` names.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let reference = again::<Reference>(&text);
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.familiar().parse(), Ok(reference.clone()), "{text:?}");
        assert!(reference.tag().is_some() || reference.digest().is_some());
        let name = reference.without_digest().with_tag("t");
        assert_eq!(name.to_string(), format!("{}:t", reference.name()));
        // These become parts of paths and of requests.
        assert!(reference.repository().split('/').all(|it| !matches!(it, "" | "." | "..")));
        assert!(reference.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let name = again::<ImageName>(&text);
    let digest = again::<Digest>(&text);
    // Without one, the architecture is that of this machine.
    let platform = if text.contains('/') { again::<Platform>(&text) } else { "no architecture".to_owned() };
    format!("reference: {reference}; image: {name}; digest: {digest}; platform: {platform}")
}

/// The name as it is shown, which is read as the same name.
fn again<T: FromStr + Display + PartialEq + Debug>(text: &str) -> String
where
    T::Err: Display + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            match shown.parse::<T>() {
                Ok(read) => assert_eq!(read, value),
                Err(error) => panic!("{text:?} is shown as {shown:?}: {error}"),
            }
            shown.escape_default().to_string()
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            "none".to_owned()
        }
    }
}
