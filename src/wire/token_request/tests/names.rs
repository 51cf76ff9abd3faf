//! Names of parameters.

use super::*;

#[test]
fn the_error_names_the_repeated_parameter() {
    for param in Param::ALL {
        let error = parse(&format!("{0}=a&{0}=a", param.name())).expect_err("it is repeated");
        assert_eq!(error, FormError::Repeated(param.name()));
        assert_eq!(
            error.description(),
            format!("the parameter {} is repeated", param.name())
        );
    }
}

#[test]
fn names_that_servers_read_in_different_ways_are_rejected() {
    let rows = [
        ("a dot", "client.id=a", true),
        ("a space", "client+id=a", true),
        ("a bracket", "client[id=a", true),
        ("an array", "client_id[]=a", true),
        ("a space before", "+client_id=a", true),
        ("a semicolon", "x=1;client_id=a", true),
        (
            "a semicolon before a name without a value",
            "x=1;scope",
            true,
        ),
        (
            "a semicolon before an escaped name",
            "x=1;client%5Fid=a",
            true,
        ),
        (
            "a semicolon after a name without a value",
            "client_id;x=1",
            true,
        ),
        (
            "a semicolon in a value that the layer reads",
            "scope=a;client_id=b",
            true,
        ),
        (
            "two semicolons in a value that the layer reads",
            "refresh_token=a;refresh_token=b",
            true,
        ),
        ("another case", "GRANT_TYPE=refresh_token", true),
        ("another case, in an array", "Resource[]=a", true),
        (
            "another case, behind a semicolon",
            "x=1;Client%5fID=a",
            true,
        ),
        ("another name", "client.ids=a", false),
        ("another name in another case", "Client-IDs=a", false),
        ("another array", "authorization_details[]=a", false),
        ("a semicolon before another name", "x=1;y=2", false),
        ("such a name in a value", "x=client.id", false),
    ];
    for (sentence, body, refused) in rows {
        assert_eq!(
            parse(body).err(),
            refused.then_some(FormError::Lookalike),
            "{sentence}"
        );
        assert_eq!(names_a_param(body), refused, "{sentence}, in a query");
    }
    assert!(
        parse("client_secret=a;b;c=d").is_ok(),
        "a secret may have a semicolon in it"
    );
    assert!(names_a_param("a=b&client%5Fid"));
    assert!(!names_a_param("%zz=1&state=x"));
}

#[test]
fn parameters_that_are_not_read_are_kept_unchanged() {
    let form = parse("grant_type=a&x=%41+b&resource=r&&client_id=c&y").unwrap();
    let others: Vec<_> = form.others().collect();
    assert_eq!(others, [&b"x=%41+b"[..], b"resource=r", b"y"]);
}
