//! Forms that servers read in different ways.

use test_support::requests::{FORM, basic, form, full};

use super::{Row, refuse_all};

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_a_plain_form_is_rejected() {
    let rows: [Row; 16] = [
        ("a charset by RFC 2231", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset*=utf-8''utf-7")
        }),
        ("a charset after another", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset=\"utf-8''utf-7\"")
        }),
        ("no content type", |good| good.under(&[])),
        ("JSON", |good| good.typed(b"application/json")),
        ("parts", |good| {
            good.typed(b"multipart/form-data; boundary=x")
        }),
        ("text", |good| good.typed(b"text/plain")),
        ("a longer type", |good| {
            good.typed(b"application/x-www-form-urlencoded2")
        }),
        ("no type but a charset", |good| {
            good.typed(b"; charset=utf-8")
        }),
        ("a content type that is no text", |good| {
            good.typed(b"application/x-www-form-urlencoded\xff")
        }),
        ("a charset that is not ASCII", |good| {
            good.typed(b"application/x-www-form-urlencoded; charset=ibm037")
        }),
        ("a charset in quotes", |good| {
            good.typed(b"application/x-www-form-urlencoded;a=b; Charset = \"utf-16\"")
        }),
        ("two content types", |good| {
            good.under(&[
                ("content-type", FORM.as_bytes()),
                ("content-type", FORM.as_bytes()),
            ])
        }),
        ("compressed", |good| good.coded("gzip")),
        ("compressed after a harmless coding", |good| {
            good.coded("identity, br")
        }),
        ("compressed in capitals", |good| good.coded("GZIP")),
        ("compressed in a header of its own", |good| {
            let form = ("content-type", FORM.as_bytes());
            good.under(&[
                form,
                ("content-encoding", b"identity"),
                ("content-encoding", b"deflate"),
            ])
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_form_is_rejected() {
    let rows: [Row; 17] = [
        ("a percent sign at the end", |good| {
            good.with("&client_id=app&x=%")
        }),
        ("half an escape", |good| good.with("&client_id=app&x=%4")),
        ("an escape across a separator", |good| {
            good.with("&client_id=app&x=%4&y=1")
        }),
        ("an escape that is not hexadecimal", |good| {
            good.with("&client_id=app&x=%zz")
        }),
        ("half an escape in a name", |good| {
            good.with("&client_id=app&%4=x")
        }),
        ("an escape that is not UTF-8", |good| {
            good.with("&client_id=app&x=%ff")
        }),
        ("an overlong escape", |good| {
            good.with("&client_id=app&x=%c0%af")
        }),
        ("half a surrogate pair", |good| {
            good.with("&client_id=app&x=%ed%a0%80")
        }),
        ("a name that is not UTF-8", |good| {
            good.with("&client_id=app&%e4=x")
        }),
        ("an escaped NUL", |good| good.with("&client_id=app&x=%00")),
        ("an escaped NUL in a name", |good| {
            good.with("&client_id=app&client_id%00=x")
        }),
        ("a NUL", |good| good.with("&client_id=app&x=\0")),
        ("a line feed", |good| good.with("&client_id=app\n")),
        ("a tab", |good| good.with("&client_id=app&x=\t")),
        ("a letter that is not ASCII", |good| {
            good.with("&client_id=app&x=\u{e4}")
        }),
        ("a byte that is not UTF-8", |good| {
            good.with(b"&client_id=app&x=\xff")
        }),
        ("hundreds of parameters", |good| {
            good.with(format!("&client_id=app{}", "&".repeat(300)))
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

/// Another server may read these names as those of parameters, and then sees another client or
/// another scope.
#[tokio::test(start_paused = true)]
async fn a_parameter_that_some_server_reads_under_another_name_is_rejected() {
    let rows: [Row; 10] = [
        ("a bracket after", |good| {
            good.with("&client_id=app&client_id]=other")
        }),
        ("brackets around", |good| {
            good.with("&client_id=app&%5Bclient_id%5D=other")
        }),
        ("two brackets around a scope", |good| {
            good.with("&client_id=app&[[scope]]=admin")
        }),
        ("a long s", |good| {
            good.with("&client_id=app&%C5%BFcope=admin")
        }),
        ("two levels of encoding", |good| {
            good.with("&client_id=app&client%255Fid=other")
        }),
        ("brackets in the query", |good| {
            let path = format!("{}?[client_id]=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("a NUL in the query", |good| {
            let path = format!("{}?client_id%00=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("an escape of a code point in the query", |good| {
            let path = format!("{}?%u0063lient_id=other", good.path);
            form(&path)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("a blank that is not ASCII after Basic", |good| {
            let value = [b"Basic\xa0", &basic("other:s").as_bytes()["Basic ".len()..]].concat();
            form(good.path)
                .header("authorization", value)
                .body(full(good.bytes("&client_id=app")))
                .unwrap()
        }),
        ("another subject in capitals", |good| {
            good.asserted(
                r#"{"iss":"app","sub":"app","SUB":"other"}"#,
                "&client_id=app",
            )
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}

#[tokio::test(start_paused = true)]
async fn repeated_parameters_that_the_layer_reads_are_rejected() {
    let rows: [Row; 12] = [
        ("grant_type", |good| {
            good.with("&client_id=app&grant_type=refresh_token&grant_type=password")
        }),
        ("refresh_token", |good| {
            good.with("&client_id=app&refresh_token=a&refresh_token=b")
        }),
        ("token", |good| good.with("&client_id=app&token=a&token=b")),
        ("client_id", |good| {
            good.with("&client_id=app&client_id=other")
        }),
        ("client_id, twice the same", |good| {
            good.with("&client_id=app&client_id=app")
        }),
        ("client_id, once empty", |good| {
            good.with("&client_id=app&client_id=")
        }),
        ("client_id, once escaped", |good| {
            good.with("&client_id=app&client%5Fid=app")
        }),
        ("client_id, once without a value", |good| {
            good.with("&client_id&client_id=app")
        }),
        ("client_secret", |good| {
            good.with("&client_id=app&client_secret=a&client_secret=a")
        }),
        ("client_assertion", |good| {
            good.with("&client_id=app&client_assertion=a&client_assertion=a")
        }),
        ("client_assertion_type", |good| {
            good.with("&client_id=app&client_assertion_type=a&client_assertion_type=a")
        }),
        ("scope", |good| {
            good.with("&client_id=app&scope=read&scope=read")
        }),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}
