//! Eight ways in which servers read a path, implemented independently of the code under test.

use percent_encoding::percent_decode_str;

/// A reading of a path.
pub type Reading = (&'static str, String);

/// Returns how servers read `path`. `whatwg` is the pathname that a URL parser returns.
pub fn readings(path: &str, whatwg: Option<String>) -> Vec<Reading> {
    let mut readings = vec![
        ("RFC 3986 §5.2.4", remove_dot_segments(path)),
        (
            "decode, then normalize",
            normalize(&decode(path).replace('\\', "/")),
        ),
        ("normalize, then decode", decode(&normalize(path))),
        ("without matrix parameters", without_parameters(path)),
        ("prefix mount", path.to_owned()),
        ("without a script", without(path, is_script)),
        ("without a cookieless segment", without(path, is_cookieless)),
    ];
    readings.extend(whatwg.map(|path| ("WHATWG URL", path)));
    readings
}

/// Returns whether a server that has read a path as `reading` serves `guarded`, which is in lower
/// case, or a handler below it. It decodes the remaining escapes, and ignores case, empty segments
/// and a format.
pub fn is_served(reading: &str, guarded: &str) -> bool {
    let serves = |reading: &str| {
        let reading = format!("/{}", names(&reading.to_lowercase()).join("/"));
        let guarded = format!("/{}", names(guarded).join("/"));
        let after = reading.strip_prefix(&guarded);
        after.is_some_and(|after| {
            guarded == "/" || after.is_empty() || after.starts_with(['/', '.'])
        })
    };
    serves(reading) || serves(&decode(reading))
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty()).collect()
}

fn decode(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Applies the algorithm of RFC 3986 §5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut input = path.to_owned();
    let mut output = String::new();
    while !input.is_empty() {
        if let Some(rest) = input
            .strip_prefix("../")
            .or_else(|| input.strip_prefix("./"))
        {
            input = rest.to_owned();
        } else if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            input = "/".into();
        } else if input.starts_with("/../") || input == "/.." {
            let rest = if input == "/.." {
                "/".to_owned()
            } else {
                input.split_off(3)
            };
            input = rest;
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "." || input == ".." {
            input.clear();
        } else {
            let start = usize::from(input.starts_with('/'));
            let end = input
                .match_indices('/')
                .map(|(at, _)| at)
                .find(|at| *at >= start.max(1))
                .unwrap_or(input.len());
            let rest = input.split_off(end);
            output.push_str(&input);
            input = rest;
        }
    }
    output
}

/// Normalizes a path like Python's `posixpath.normpath`, which ignores empty segments.
fn normalize(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Reads a path like servlet containers: removes parameters, then decodes and resolves the path.
fn without_parameters(path: &str) -> String {
    let decoded = path
        .split('/')
        .map(|segment| decode(segment.split(';').next().unwrap_or_default()));
    normalize(&decoded.collect::<Vec<_>>().join("/"))
}

/// Reads a path like frameworks that ignore the name of a front controller or a session identifier.
fn without(path: &str, dropped: fn(&str) -> bool) -> String {
    let path = decode(&normalize(path));
    let kept = names(&path)
        .into_iter()
        .filter(|name| !dropped(&name.to_lowercase()));
    format!("/{}", kept.collect::<Vec<_>>().join("/"))
}

fn is_script(name: &str) -> bool {
    let name = name.split(';').next().unwrap_or_default();
    [
        ".php", ".php5", ".cgi", ".fcgi", ".pl", ".dll", ".exe", ".jsp", ".aspx", ".ashx",
    ]
    .iter()
    .any(|ending| name.ends_with(ending))
}

fn is_cookieless(name: &str) -> bool {
    ["(s(", "(a(", "(f("]
        .iter()
        .any(|begin| name.starts_with(begin))
}
