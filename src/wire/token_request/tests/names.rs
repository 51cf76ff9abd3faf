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
        ("a bracket before", "%5Bclient_id=a", true),
        ("a bracket after", "client_id]=a", true),
        ("brackets around", "[client_id]=a", true),
        ("two brackets around", "[[scope]]=a", true),
        ("an element of an array", "scope[0]=a", true),
        ("an array of objects", "[][grant_type]=a", true),
        ("a dot in brackets", "[client.secret]=a", true),
        ("quotes", "%22refresh_token%22=a", true),
        ("a space after", "token+=a", true),
        ("a tab after", "token%09=a", true),
        ("an equals sign in the name", "client_id%3Dx=a", true),
        ("an escape in an escape", "client%255Fid=a", true),
        ("a NUL in an escape", "client_id%2500x=a", true),
        ("a long s", "%C5%BFcope=a", true),
        ("a Kelvin sign", "to%E2%84%AAen=a", true),
        ("a dotless i", "cl%C4%B1ent_id=a", true),
        ("a wide letter", "client%EF%BC%BFid=a", true),
        ("an invisible character", "scope%E2%80%8B=a", true),
        (
            "a name that some servers give two parameters",
            "x%26scope=a",
            true,
        ),
        ("a requested type", "Requested_Token_Type=a", true),
        (
            "a requested type in brackets",
            "requested_token_type]=a",
            true,
        ),
        ("an object with such a member", "user[client_id]=a", false),
        ("an array with the first word", "client[id]=a", false),
        (
            "an array with the first word, escaped",
            "client%5Bid%5D=a",
            false,
        ),
        ("nothing but brackets", "[]=a", false),
        ("a token against request forgery", "_token=a", false),
        ("a name in camel case", "clientId=a", false),
        ("letters that are not ASCII", "gr%C3%B6%C3%9Fe=a", false),
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
}

#[test]
fn names_of_a_query_that_servers_decode_in_different_ways_are_rejected() {
    for (query, expected) in [
        ("tenant=a&x[]=1&y=%zz", Ok(())),
        ("a=client_id%00&=%u0063lient_id", Ok(())),
        ("client%5Fid=a", Err(FormError::InQuery)),
        ("%5Bclient_id%5D=a", Err(FormError::InQuery)),
        ("requested_token_type=a", Err(FormError::InQuery)),
        ("x;scope", Err(FormError::InQuery)),
        ("client_id%00=a", Err(FormError::Query)),
        ("%u0063lient_id=a", Err(FormError::Query)),
        ("client_id%=a", Err(FormError::Query)),
        ("client%zz_id", Err(FormError::Query)),
        ("client%ff_id=a", Err(FormError::Query)),
        ("state=x&%C0%AF=1", Err(FormError::Query)),
    ] {
        let mut form = parse("").unwrap();
        assert_eq!(form.check_query(query), expected, "{query}");
        assert_eq!(names_a_param(query), expected.is_err(), "{query}");
    }
}

#[test]
fn an_audience_counts_wherever_some_server_finds_one() {
    for (body, query, expected) in [
        ("audience=a&audience=b", "", true),
        ("Audience=a", "", true),
        ("audience[]=a&audience[]=b", "", true),
        ("audience]=a", "", true),
        ("x=1;%C3%A4udience=a;audience", "", true),
        ("", "audience=a", true),
        ("", "x&audience[0]=a", true),
        ("audiences=a&x=audience", "x=audience", false),
    ] {
        let mut form = parse(body).expect("an audience may have any spelling");
        form.check_query(query)
            .expect("a query may name an audience");
        assert_eq!(form.audience, expected, "{body} {query}");
    }
}

#[test]
fn every_parameter_that_is_read_is_rejected_in_another_spelling() {
    for known in known().filter(|known| *known != "audience") {
        assert!(parse(&format!("{known}=a")).is_ok(), "{known}");
        for name in [
            known.to_ascii_uppercase(),
            format!("{known}[]"),
            format!("{known}]"),
            format!("[{known}]"),
            format!("+{known}"),
        ] {
            assert_eq!(
                parse(&format!("{name}=a")).err(),
                Some(FormError::Lookalike),
                "{name}"
            );
        }
    }
}

#[test]
fn parameters_that_are_not_read_are_kept_unchanged() {
    let form = parse("grant_type=a&x=%41+b&resource=r&&client_id=c&y").unwrap();
    let others: Vec<_> = form.others().collect();
    assert_eq!(others, [&b"x=%41+b"[..], b"resource=r", b"y"]);
}
