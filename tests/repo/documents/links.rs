//! Links resolve, in the repository and in the built documentation.

use super::*;

/// The address of the API documentation, which is also that of the manual.
const DOCS_RS: &str = "https://docs.rs/tower-oauth-refresh/latest/tower_oauth_refresh/";

/// Returns the anchors of the headings, as rustdoc and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Returns the targets of the links and link definitions of a document.
fn links(text: &str) -> Vec<&str> {
    let inline = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let definitions = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| Some(line.split_once("]: ")?.1.trim()));
    inline.chain(definitions).collect()
}

/// Whether the crate exports an item of this kind and name.
fn is_exported(kind: &str, name: &str) -> bool {
    let sources: Vec<_> = files("src", ".rs")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let definition = format!("pub {kind} {name}");
    let defined = sources.iter().any(|source| {
        source
            .split(&definition)
            .skip(1)
            .any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    let root = code(&read("src/lib.rs"));
    let exported = root
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == name);
    defined && exported
}

/// Whether the built documentation has this page, given as the path behind [`DOCS_RS`].
fn is_in_the_docs(path: &str) -> bool {
    let (path, anchor) = path.split_once('#').unwrap_or((path, ""));
    if let Some(page) = path.strip_prefix("manual/") {
        let page = page.trim_end_matches('/').replace('_', "-");
        return pages().contains(&page)
            && (anchor.is_empty() || anchors(&read(&format!("docs/{page}.md"))).contains(anchor));
    }
    match path
        .strip_suffix(".html")
        .and_then(|item| item.split_once('.'))
    {
        Some((kind, name)) => {
            let method = anchor.strip_prefix("method.").unwrap_or(anchor);
            is_exported(kind, name)
                && (method.is_empty()
                    || files("src", ".rs").iter().any(|path| {
                        let source = fs::read_to_string(path).unwrap();
                        source.contains(&format!("fn {method}("))
                    }))
        }
        None => {
            let module = path.trim_end_matches('/');
            let names_it = |line: &str| {
                line == format!("pub mod {module};")
                    || (line.starts_with("pub use ") && line.ends_with(&format!("::{module};")))
            };
            module.is_empty() || read("src/lib.rs").lines().any(names_it)
        }
    }
}

#[test]
fn every_link_resolves() {
    let (mut local, mut documentation) = (0, 0);
    let mut wrong = Vec::new();
    for document in documents() {
        let text = read(&document);
        let here = root().join(&document);
        for link in links(&text) {
            if let Some(path) = link.strip_prefix(DOCS_RS) {
                documentation += 1;
                if !is_in_the_docs(path) {
                    wrong.push(format!("{document}: {link}"));
                }
                continue;
            }
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            local += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                here.clone()
            } else {
                here.with_file_name("").join(path)
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap_or_default()).contains(anchor));
            if !found {
                wrong.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(local > 20 && documentation > 40, "{local} {documentation}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The README and the manual are read on pages where a relative path leads nowhere.
#[test]
fn no_page_links_to_a_file_of_the_repository() {
    let pages = pages();
    let pages = pages.iter().map(|page| format!("docs/{page}.md"));
    for page in pages.chain(["README.md".to_owned()]) {
        let text = read(&page);
        let relative: Vec<_> = links(&text)
            .into_iter()
            .filter(|link| !link.contains("://") && !link.starts_with('#'))
            .filter(|link| !link.ends_with(".svg"))
            .collect();
        assert!(relative.is_empty(), "{page}: {relative:?}");
    }
}

#[test]
fn a_broken_link_to_the_docs_is_found() {
    for path in [
        "",
        "manual/threat_model/",
        "manual/operations/#events",
        "struct.ClientId.html",
        "trait.Store.html",
        "struct.RefreshLayer.html#method.drain",
        "path/",
    ] {
        assert!(is_in_the_docs(path), "{path}");
    }
    for path in [
        "manual/nowhere/",
        "manual/operations/#nowhere",
        "struct.Client.html",
        "enum.ClientId.html",
        "struct.RefreshLayer.html#method.nowhere",
        "grant/",
    ] {
        assert!(!is_in_the_docs(path), "{path}");
    }
}
