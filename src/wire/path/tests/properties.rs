//! The rules for generated paths, against other readings of a path.

use super::*;

fn any_path() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/",
        "/",
        "/",
        "//",
        "\\",
        "%2f",
        "%2F",
        "%5c",
        "%5C",
        "..",
        "/../",
        "/..",
        "../",
        ".",
        "%2e",
        "%2E.",
        "token",
        "TOKEN",
        "%74oken",
        "%2574oken",
        "oauth",
        "oauth/token",
        "/oauth/token",
        ";",
        ";a=b",
        "%3b",
        "%",
        "%2",
        "%25",
        "%00",
        "%09",
        "\t",
        "x",
        "x/",
        ".json",
        "\u{e4}",
        "%c3%a4",
        "%c0%af",
        "\u{ff0f}",
        "?",
        "#",
        "%3f",
        "%20",
        "+",
        "@",
        ":80",
        "localhost",
        "index.php",
        "/index.php/",
        "/API.Aspx;a",
        "/x%2ecgi",
        ".php",
        "(S(x))",
        "/%28f(",
    ];
    let pieces = proptest::collection::vec(proptest::sample::select(PIECES), 0..10);
    pieces.prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_reading_of_an_open_path_is_guarded(path in any_path(), allowed in proptest::sample::select(&["", "/x", "/oauth"])) {
        // The path of a request ends at a query or a fragment.
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let allowed = (!allowed.is_empty()).then(|| prefix(allowed));
        for guarded in ["/oauth/token", "/token"] {
            let rules = PathRules::new([prefix(guarded)], allowed.clone());
            let found = rules.find(path);
            for (name, reading) in readings(path, whatwg(path)) {
                let served = is_served(&reading, guarded);
                prop_assert!(!(served && found == PathMatch::Open), "{name}: {path:?} is {reading:?}, below {guarded}");
            }
            if found == PathMatch::Guarded(0) && let Some(path) = rules.canonical(0, path) {
                prop_assert!(path.starts_with(guarded), "{path}");
                prop_assert_eq!(rules.canonical(0, &path), Some(path.clone()));
            }
        }
    }

    /// Such a path is not copied, so compare it with a path that is.
    #[test]
    fn a_path_of_plain_segments_is_canonical(rest in "(/[a-zA-Z0-9._~!$&'()*,=:@-]{1,6}){0,3}/?") {
        let rules = PathRules::new([prefix("/oauth/token")], []);
        let path = format!("/oauth/token{rest}");
        if let PathMatch::Guarded(_) = rules.find(&path) {
            let canonical = rules.canonical(0, &path);
            prop_assert!(matches!(canonical, Some(Cow::Borrowed(same)) if same == path));
            let respelled = format!("/{path}");
            prop_assert_eq!(rules.canonical(0, &respelled), canonical);
        }
    }

    #[test]
    fn no_server_resolves_an_accepted_path_outside_its_base(path in any_path()) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        if !leaves_base(path) {
            let whole = format!("/base/a{path}");
            for (name, reading) in readings(&whole, whatwg(&whole)) {
                prop_assert!(is_served(&reading, "/base/a"), "{name}: {whole:?} is {reading:?}");
            }
        }
    }

    #[test]
    fn arbitrary_texts_are_classified_without_panic(path in "\\PC{0,40}") {
        let rules = PathRules::new([prefix("/oauth/token")], [prefix("/")]);
        let _ = (classify(&path), leaves_base(&path), rules.find(&path), rules.canonical(0, &path));
    }
}
