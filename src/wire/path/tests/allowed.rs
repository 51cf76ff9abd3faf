//! Paths that may be ambiguous because a prefix allows them.

use super::*;

#[test]
fn an_allowed_path_may_be_ambiguous_but_not_guarded() {
    let allowed = || ["/api/v4/projects", "/oauth"].map(prefix);
    let rules = PathRules::new(
        ["/token", "/oauth/token", "/oauth/token-info/x"].map(prefix),
        allowed(),
    );
    let open = [
        "/api/v4/projects/group%2Fname/issues",
        "/api/v4/projects/group%2fname%5cx/files/100%25.txt",
        "/api/v4/projects/src%2Ftoken.rs",
        "/api/v4/projects/a%252fb",
        "/oauth/clients/a%2Fb",
    ];
    for path in open {
        assert_eq!(
            (rules.find(path), classify(path)),
            (PathMatch::Open, PathClass::Ambiguous),
            "{path}"
        );
    }
    let refused = [
        "/api/v4/other/a%2Fb",
        "/api/v4/projectsx/a%2Fb",
        "/API/v4/projects/a%2Fb",
        "//api/v4/projects/a%2Fb",
        "/api/v4/projects%2Fa",
        "/api/v4/projects/a%2F../../../../token",
        "/api/v4/projects/..%2F..%2F..%2Ftoken",
        "/api/v4/projects/..%252Ftoken",
        "/api/v4/projects/a%2f%252e%252e%2ftoken",
        "/api/v4/projects/a%2f%25252e%25252e%2ftoken",
        "/api/v4/projects/a%2f.;x%2fb",
        "/api/v4/projects/a%2fb%00",
        "/api/v4/projects/a%2fb%2500",
        "/api/v4/projects/a%2fb%zz",
        "/api/v4/projects/a%2fb%25u002f",
        "/api/v4/projects/%c0%af",
        "/api/v4/projects/%25c0%25af",
        "/api/v4/projects/a%2525252525252f",
        "/oauth/%2ftoken",
        "/oauth/%5ctoken",
        "/oauth/x%2ftoken",
        "/oauth/to%25%36%62en",
        "/oauth/%2574oken",
        "/oauth/%2f%252574oken.json",
        "/oauth/a;b%2ftoken",
        "/oauth/TOKEN-info%2fx",
    ];
    for path in refused {
        assert_eq!(rules.find(path), PathMatch::Refused, "{path}");
    }
    let rules_behind_scripts = PathRules::new(
        [prefix("/oauth/token")],
        ["/x/index.php", "/oauth", "/y", "/oauth.php/x"].map(prefix),
    );
    for path in [
        "/x/index.php/oauth%2ftoken",
        "/x/index.php/a%5c/oauth/token",
        "/oauth/a%2findex.php/token",
        "/y/a%2findex.php/oauth/token",
        "/y/a%252findex%2ephp/oauth%252ftoken",
        "/oauth.php/x/a%2ftoken",
        "/y/a%2f(S(x))/b",
        "/y/a%2f%2528S(x))/b",
    ] {
        assert_eq!(
            rules_behind_scripts.find(path),
            PathMatch::Refused,
            "{path}"
        );
    }
    for path in [
        "/x/index.php/oauth%2fclients",
        "/y/a%2findex.php",
        "/oauth/a%2findex.php",
    ] {
        assert_eq!(rules_behind_scripts.find(path), PathMatch::Open, "{path}");
    }
    assert_eq!(
        rules.find("/oauth/token/a"),
        PathMatch::Guarded(1),
        "an allowed prefix does not open a guarded path"
    );
    let rules = PathRules::new([prefix("/api")], allowed());
    assert_eq!(
        rules.find("/api/v4/projects/a%2Fb"),
        PathMatch::Refused,
        "an allowed prefix does not open a guarded prefix that encloses it"
    );
    let rules = PathRules::new([prefix("/token")], [prefix("/")]);
    assert_eq!(rules.find("/a%2fb"), PathMatch::Open);
    assert_eq!(rules.find("/a%2ftoken"), PathMatch::Refused);
}
