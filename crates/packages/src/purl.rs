//! Package URLs of operating system packages (<https://github.com/package-url/purl-spec>), written and read.

use cnb::target::Distro;

use crate::set::{Manager, Package, Source};

/// `pkg:deb/debian/libpq5@15.3-0%2Bdeb12u1?arch=amd64&distro=debian-12`.
pub(crate) fn write(package: &Package, distro: Option<&Distro>) -> String {
    let manager = package.manager;
    let namespace = match distro.map(|distro| distro.name.as_str()) {
        None | Some("") => manager.usual_distro(),
        // What those who look up vulnerabilities call it.
        Some("rhel") => "redhat",
        Some(name) => name,
    };
    let (epoch, version) = match (manager, package.version.split_once(':')) {
        (Manager::Rpm, Some((epoch, version))) => (Some(epoch), version),
        _ => (None, package.version.as_str()),
    };
    let mut purl = format!("pkg:{manager}/{}/{}", encode(&namespace.to_lowercase()), encode(&package.name));
    if !version.is_empty() {
        purl += &format!("@{}", encode(version));
    }
    let distro =
        distro.filter(|distro| !distro.name.is_empty()).map(|distro| match distro.version.as_str() {
            "" => distro.name.clone(),
            version => format!("{}-{version}", distro.name),
        });
    let upstream = package.source.as_ref().map(|source| match &source.version {
        Some(version) => format!("{}@{version}", source.name),
        None => source.name.clone(),
    });
    let arch = Some(package.arch.clone()).filter(|arch| !arch.is_empty());
    // In the order of their names, as the specification wants.
    let qualifiers =
        [("arch", arch), ("distro", distro), ("epoch", epoch.map(str::to_owned)), ("upstream", upstream)];
    let mut sign = '?';
    for (name, value) in qualifiers {
        if let Some(value) = value {
            purl += &format!("{sign}{name}={}", encode(&value));
            sign = '&';
        }
    }
    purl
}

/// The package and the distribution that a package URL names; none when it is not one of an operating system package.
pub(crate) fn read(purl: &str) -> Option<(Package, Option<Distro>)> {
    let rest = purl.trim().strip_prefix("pkg:")?.trim_start_matches('/');
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let (kind, rest) = rest.split_once('/')?;
    let manager = match kind.to_ascii_lowercase().as_str() {
        "apk" => Manager::Apk,
        "deb" => Manager::Deb,
        "rpm" => Manager::Rpm,
        _ => return None,
    };
    let (path, version) = rest.rsplit_once('@').unwrap_or((rest, ""));
    let name = decode(path.trim_matches('/').rsplit('/').next()?)?;
    if name.is_empty() {
        return None;
    }
    let mut package = Package::new(manager, name, decode(version)?);
    let mut distro = None;
    for (name, value) in qualifiers.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decode(value)?;
        match name {
            "arch" => package.arch = value,
            "epoch" if manager == Manager::Rpm && value != "0" => {
                package.version = format!("{value}:{}", package.version);
            }
            "distro" => {
                let (name, version) = value.split_once('-').unwrap_or((&value, ""));
                distro = Some(Distro { name: name.to_owned(), version: version.to_owned() });
            }
            "upstream" if !value.is_empty() => {
                let (name, version) = value.split_once('@').unwrap_or((&value, ""));
                let version = Some(version.to_owned()).filter(|version| !version.is_empty());
                package.source = Some(Source { name: name.to_owned(), version });
            }
            _ => {}
        }
    }
    Some((package, distro))
}

/// Percent-encoded but for what package URLs write as it is.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            byte => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Distro {
        Distro { name: "debian".to_owned(), version: "12".to_owned() }
    }

    #[test]
    fn writes_what_others_write() {
        let libpq = Package {
            arch: "amd64".into(),
            source: Some(Source { name: "postgresql-15".into(), version: None }),
            ..Package::new(Manager::Deb, "libpq5", "1:15.3-0+deb12u1~x")
        };
        assert_eq!(
            write(&libpq, Some(&debian())),
            "pkg:deb/debian/libpq5@1:15.3-0%2Bdeb12u1~x?arch=amd64&distro=debian-12&upstream=postgresql-15"
        );
        let gcc =
            Package { arch: "x86_64".into(), ..Package::new(Manager::Rpm, "libstdc++", "1:13.2-1.fc39") };
        let fedora = Distro { name: "fedora".to_owned(), version: "39".to_owned() };
        assert_eq!(
            write(&gcc, Some(&fedora)),
            "pkg:rpm/fedora/libstdc%2B%2B@13.2-1.fc39?arch=x86_64&distro=fedora-39&epoch=1"
        );
        let musl = Package::new(Manager::Apk, "musl", "1.2.4-r2");
        assert_eq!(write(&musl, None), "pkg:apk/alpine/musl@1.2.4-r2");
    }

    #[test]
    fn reads_what_it_writes_and_what_others_do() {
        let package = Package {
            arch: "amd64".into(),
            source: Some(Source { name: "gcc/x".into(), version: Some("1&2".into()) }),
            ..Package::new(Manager::Deb, "g++", "4:12.2.0-3")
        };
        let (read_back, distro) = read(&write(&package, Some(&debian()))).unwrap();
        assert_eq!((read_back, distro), (package, Some(debian())));
        let rpm = Package { arch: "noarch".into(), ..Package::new(Manager::Rpm, "a", "3:1-2") };
        assert_eq!(read(&write(&rpm, None)).unwrap().0, rpm);
        let (syft, _) = read("pkg:deb/debian/attr@1%3A2.4.47-2?arch=amd64&distro=debian-10#sub").unwrap();
        assert_eq!((syft.name.as_str(), syft.version.as_str()), ("attr", "1:2.4.47-2"));
        for other in ["pkg:npm/foo@1", "deb/x", "pkg:deb", "pkg:deb/", "pkg:deb/a/%zz", "pkg:deb/a/b@%f", ""]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
