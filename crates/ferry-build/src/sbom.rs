//! What is installed in a tree: the databases of dpkg, apk, pip, npm and cargo, read from the files themselves, as an
//! SPDX document. Never runs a program of the tree.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Largest database read: several times that of a full desktop.
pub const MAX_FILE: u64 = 256 << 20;

/// Where a package comes from; the words are those of package URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Deb,
    Apk,
    Pypi,
    Npm,
    Cargo,
}

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    kind: Kind,
    name: String,
    version: String,
    architecture: String,
    license: String,
}

/// Gathers packages from files.
#[derive(Debug, Default)]
pub struct Collector {
    packages: BTreeSet<Package>,
    distribution: String,
}

/// The reader for a file, by its path without a leading slash.
fn reader(path: &str) -> Option<fn(&mut Collector, &str)> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match path {
        "var/lib/dpkg/status" => return Some(Collector::dpkg),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => return Some(Collector::apk),
        "etc/os-release" | "usr/lib/os-release" => return Some(Collector::release),
        _ if path.starts_with("var/lib/dpkg/status.d/") && !name.ends_with(".md5sums") => {
            return Some(Collector::dpkg);
        }
        _ => {}
    }
    let python = path.ends_with(".dist-info/METADATA") || path.ends_with(".egg-info/PKG-INFO");
    match name {
        _ if python || path.ends_with(".egg-info") => Some(Collector::python),
        "package.json" if is_npm_package(path) => Some(Collector::npm),
        "Cargo.lock" => Some(Collector::cargo),
        _ => None,
    }
}

/// `../node_modules/NAME/package.json`, the name perhaps with a scope.
fn is_npm_package(path: &str) -> bool {
    let Some((_, below)) = path.rsplit_once("node_modules/") else { return false };
    let depth = below.split('/').count();
    depth == 2 || depth == 3 && below.starts_with('@')
}

impl Collector {
    /// Whether a file says what is installed.
    pub fn wants(path: &str) -> bool {
        reader(path).is_some()
    }

    /// Takes such a file. What cannot be understood in it is left out.
    pub fn add(&mut self, path: &str, bytes: &[u8]) {
        if let Some(read) = reader(path) {
            read(self, &String::from_utf8_lossy(bytes));
        }
    }

    fn push(&mut self, kind: Kind, name: &str, version: &str, architecture: &str, license: &str) {
        if name.is_empty() {
            return;
        }
        let [name, version, architecture, license] =
            [name, version, architecture, license].map(|text| text.trim().to_owned());
        self.packages.insert(Package { kind, name, version, architecture, license });
    }

    fn release(&mut self, text: &str) {
        let id = text.lines().find_map(|line| line.strip_prefix("ID="));
        if let Some(id) = id {
            id.trim().trim_matches('"').clone_into(&mut self.distribution);
        }
    }

    fn dpkg(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let field = |name: &str| field(paragraph, name);
            let status = field("Status");
            if status.is_empty() || status.ends_with(" installed") {
                self.push(Kind::Deb, field("Package"), field("Version"), field("Architecture"), "");
            }
        }
    }

    fn apk(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let field =
                |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            self.push(Kind::Apk, field("P:"), field("V:"), field("A:"), field("L:"));
        }
    }

    fn python(&mut self, text: &str) {
        // The head ends with the first empty line; a description follows.
        let head = text.split("\n\n").next().unwrap_or(text);
        let license = match field(head, "License-Expression") {
            "" => field(head, "License"),
            expression => expression,
        };
        self.push(Kind::Pypi, field(head, "Name"), field(head, "Version"), "", license);
    }

    fn npm(&mut self, text: &str) {
        let Ok(package) = serde_json::from_str::<Value>(text) else { return };
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        self.push(Kind::Npm, field("name"), field("version"), "", field("license"));
    }

    fn cargo(&mut self, text: &str) {
        for package in text.split("[[package]]").skip(1) {
            let value = |name: &str| {
                let line =
                    package.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
                line.unwrap_or_default().trim().trim_matches('"').to_owned()
            };
            self.push(Kind::Cargo, &value("name"), &value("version"), "", "");
        }
    }

    /// How many packages were found.
    pub fn len(&self) -> usize {
        self.packages.len()
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// The SPDX document of an image.
    pub fn document(&self, name: &str, id: &str, created: &str) -> Value {
        let packages: Vec<Value> =
            self.packages.iter().enumerate().map(|(index, package)| self.entry(index, package)).collect();
        let contained = |index: usize| {
            json!({
                "spdxElementId": "SPDXRef-Image",
                "relationshipType": "CONTAINS",
                "relatedSpdxElement": format!("SPDXRef-Package-{index}"),
            })
        };
        let image = json!({
            "SPDXID": "SPDXRef-Image",
            "name": name,
            "versionInfo": id,
            "primaryPackagePurpose": "CONTAINER",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
        });
        let describes = json!({
            "spdxElementId": "SPDXRef-DOCUMENT",
            "relationshipType": "DESCRIBES",
            "relatedSpdxElement": "SPDXRef-Image",
        });
        json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            "documentNamespace": format!("urn:ferry:sbom:{id}"),
            "creationInfo": {
                "created": created,
                "creators": [concat!("Tool: ferry-", env!("CARGO_PKG_VERSION"))],
            },
            "packages": std::iter::once(image).chain(packages).collect::<Vec<_>>(),
            "relationships":
                std::iter::once(describes).chain((0..self.packages.len()).map(contained)).collect::<Vec<_>>(),
        })
    }

    fn entry(&self, index: usize, package: &Package) -> Value {
        let license = if package.license.is_empty() { "NOASSERTION" } else { &package.license };
        json!({
            "SPDXID": format!("SPDXRef-Package-{index}"),
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            // What packages say of their licence is often no SPDX expression.
            "licenseDeclared": if is_expression(license) { license } else { "NOASSERTION" },
            "licenseComments": license,
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": self.address(package),
            }],
        })
    }

    /// The package URL.
    fn address(&self, package: &Package) -> String {
        let named = |default: &str| match self.distribution.as_str() {
            "" => default.to_owned(),
            id => id.to_owned(),
        };
        let place = match package.kind {
            Kind::Deb => format!("deb/{}", named("debian")),
            Kind::Apk => format!("apk/{}", named("alpine")),
            Kind::Pypi => "pypi".to_owned(),
            Kind::Npm => "npm".to_owned(),
            Kind::Cargo => "cargo".to_owned(),
        };
        let name = match package.kind {
            Kind::Pypi => package.name.to_lowercase().replace('_', "-"),
            _ => package.name.clone(),
        };
        let mut address = format!("pkg:{place}/{}@{}", encode(&name), encode(&package.version));
        if !package.architecture.is_empty() {
            address.push_str(&format!("?arch={}", encode(&package.architecture)));
        }
        address
    }
}

/// The value of `Name: value` in a paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> &'a str {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

/// Texts that look like SPDX expressions: `MIT`, `Apache-2.0 OR MIT`.
fn is_expression(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+()".contains(&byte))
    };
    let words: Vec<&str> = text.split(' ').collect();
    text != "UNKNOWN"
        && words.len() % 2 == 1
        && words.iter().enumerate().all(|(index, text)| match index % 2 {
            0 => word(text),
            _ => matches!(*text, "AND" | "OR" | "WITH"),
        })
}

/// Percent encoding of what has a meaning in package URLs.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_in_every_database() {
        let mut found = Collector::default();
        for (path, text) in [
            ("etc/os-release", "NAME=x\nID=debian\n"),
            (
                "var/lib/dpkg/status",
                "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u1\n\n\
                 Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
            ),
            ("lib/apk/db/installed", "C:x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:zlib\nV:1\n"),
            (
                "usr/lib/python3/dist-packages/Django-4.2.dist-info/METADATA",
                "Metadata-Version: 2.1\nName: Django\nVersion: 4.2\nLicense: BSD-3-Clause\n\nName: no\n",
            ),
            (
                "app/node_modules/@a/b/package.json",
                "{\"name\":\"@a/b\",\"version\":\"1.0.0\",\"license\":\"ISC\"}",
            ),
            ("src/Cargo.lock", "version = 4\n\n[[package]]\nname = \"libc\"\nversion = \"0.2.1\"\n"),
        ] {
            assert!(Collector::wants(path), "{path}");
            found.add(path, text.as_bytes());
        }
        let document = found.document("web", "sha256:00", "2020-01-01T00:00:00Z");
        let packages = document["packages"].as_array().unwrap();
        let addresses: Vec<&str> = packages
            .iter()
            .skip(1)
            .map(|package| package["externalRefs"][0]["referenceLocator"].as_str().unwrap())
            .collect();
        assert_eq!(
            addresses,
            [
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64",
                "pkg:apk/debian/musl@1.2.5-r0?arch=x86_64",
                "pkg:apk/debian/zlib@1",
                "pkg:pypi/django@4.2",
                "pkg:npm/%40a/b@1.0.0",
                "pkg:cargo/libc@0.2.1",
            ]
        );
        assert_eq!(document["relationships"].as_array().unwrap().len(), 7);
    }

    #[test]
    fn other_files_are_left_alone() {
        for path in
            ["app/package.json", "node_modules/a/lib/package.json", "var/lib/dpkg/status-old", "etc/passwd"]
        {
            assert!(!Collector::wants(path), "{path}");
        }
        let mut found = Collector::default();
        found.add("node_modules/a/package.json", b"{ not json");
        found.add("Cargo.lock", b"\xff\xfe");
        assert!(found.is_empty());
        assert!(is_expression("Apache-2.0 OR MIT") && !is_expression("BSD License") && !is_expression(""));
    }
}
