//! apk's database: `lib/apk/db/installed`, from apk 3 on in `usr/lib`.

use layer::Root;

use crate::read::{FILE_LIMIT, MAX_PACKAGES, ReadError};
use crate::set::{Manager, Package, Source};

const INSTALLED: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];

/// The packages that apk knows as installed; none when there is no database.
pub(crate) fn read(root: &Root) -> Result<Option<Vec<Package>>, ReadError> {
    let mut found: Option<Vec<Package>> = None;
    // Where `/lib` is a link to `usr/lib`, both are the same file: the set takes a package once.
    for path in INSTALLED.iter().filter(|path| root.is_file(path)) {
        let text = root.read(path, FILE_LIMIT)?;
        found.get_or_insert_default().extend(parse(&String::from_utf8_lossy(&text)));
    }
    Ok(found)
}

/// The packages of the database: paragraphs of `X:value`, where upper and lower case letters differ.
pub(crate) fn parse(text: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut package = Package::new(Manager::Apk, "", "");
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            let done = std::mem::replace(&mut package, Package::new(Manager::Apk, "", ""));
            if !done.name.is_empty() {
                packages.push(done);
            }
            if packages.len() > MAX_PACKAGES {
                break;
            }
        } else if let Some((name, value)) = line.split_once(':') {
            field(&mut package, name, value.trim());
        }
    }
    packages
}

fn field(package: &mut Package, name: &str, value: &str) {
    match name {
        "P" => value.clone_into(&mut package.name),
        "V" => value.clone_into(&mut package.version),
        "A" => value.clone_into(&mut package.arch),
        "L" => value.clone_into(&mut package.license),
        "p" => {
            let names =
                value.split_whitespace().map(|one| one.split(['=', '<', '>', '~']).next().unwrap_or(one));
            package.provides = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
        }
        "o" if !value.is_empty() => package.source = Some(Source { name: value.to_owned(), version: None }),
        _ => {}
    }
    // The name comes before the origin in all that is seen, but nothing says that it must.
    if package.source.as_ref().is_some_and(|source| source.name == package.name) {
        package.source = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:musl
V:1.2.4-r2
A:x86_64
S:383459
I:622592
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
m:Timo Teras
t:1695143327
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1

P:libcrypto3
V:3.1.4-r0
A:x86_64
L:Apache-2.0
o:openssl
p:so:libcrypto.so.3=3 cmd:openssl=3.1 bare
";

    #[test]
    fn reads_packages() {
        let packages = parse(TEXT);
        let [musl, crypto] = packages.as_slice() else { panic!("{packages:?}") };
        assert_eq!((musl.name.as_str(), musl.version.as_str()), ("musl", "1.2.4-r2"));
        assert_eq!((musl.arch.as_str(), musl.license.as_str()), ("x86_64", "MIT"));
        assert_eq!(musl.source, None);
        assert!(musl.provides.iter().eq(["so:libc.musl-x86_64.so.1"]));
        assert_eq!(crypto.source, Some(Source { name: "openssl".into(), version: None }));
        assert!(crypto.provides.iter().eq(["bare", "cmd:openssl", "so:libcrypto.so.3"]));
    }

    proptest! {
        #[test]
        fn takes_any_text(text in "([PVALop]:|[ =<~\n]|[a-z]|\\PC){0,60}") {
            for package in parse(&text) {
                prop_assert!(!package.name.is_empty());
            }
        }
    }
}
