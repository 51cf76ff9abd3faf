use super::super::BodyCheck;
use super::super::tests::checked;
use super::*;

/// Returns the bytes that the upstream receives of a body that arrives in chunks of this size,
/// and the verdict.
fn streamed(body: &str, size: usize) -> (Vec<u8>, Result<(), Refusal>) {
    checked(
        BodyCheck::Multipart(MultipartCheck::default()),
        body.as_bytes().chunks(size),
    )
}

#[test]
fn parts_named_like_an_inspected_parameter_are_refused() {
    for (header, refusal) in [
        (
            "Content-Disposition: form-data; name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "content-disposition:form-data;name=response_type",
            Refusal::ResponseType,
        ),
        (
            "CONTENT-DISPOSITION : form-data; NAME = \"Response_Type\"; filename=x",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data;\r\n name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data;\n\tname='response_type'",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name*=utf-8''response%5Ftype",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name*0=response_type",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=\"response\\_type\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=\"response_type[]\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=\"response_type\0x\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=request_uri%00x",
            Refusal::RequestUri,
        ),
        (
            "Content-Disposition: form-data; name name 1 * = response_type",
            Refusal::ResponseType,
        ),
        (
            "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"request_uri\"",
            Refusal::RequestUri,
        ),
        (
            "Content-Disposition: form-data; name=\"re\u{17f}ponse_type\"",
            Refusal::ResponseType,
        ),
        // Other headers that name a part for some servers.
        ("Content-ID: response_type", Refusal::ResponseType),
        ("content-id :\t<Request_URI>", Refusal::RequestUri),
        (
            "Content-Disposition: form-data\r\nContent-ID:\r\n response_type",
            Refusal::ResponseType,
        ),
        ("Content-Type: response_type", Refusal::ResponseType),
        ("X-Content-ID: response_type", Refusal::ResponseType),
        ("Content-ID: response\r\n _type", Refusal::ResponseType),
        ("Content-ID: response_type\r\nA: b", Refusal::ResponseType),
        (
            &format!("Content-ID: response_type{}", " ".repeat(600)),
            Refusal::ResponseType,
        ),
        (
            "Content-Type: Content-ID: response_type",
            Refusal::ResponseType,
        ),
        // Headers that do not begin at the start of a line.
        (
            "X-Content-Disposition: form-data; name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            " Content-Disposition: form-data; name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "\x0bContent-Disposition: form-data; name=response_type",
            Refusal::ResponseType,
        ),
        (
            "Content-Type: Content-Disposition: form-data; name=response_type",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition\x0b: form-data; name=response_type",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition\0: form-data; name\x1f=\x0bresponse_type",
            Refusal::ResponseType,
        ),
        (
            &format!(
                "Content-Disposition{}: form-data; name=response_type",
                " ".repeat(90)
            ),
            Refusal::ResponseType,
        ),
        // Lines that continue a header without a blank, or after another header.
        (
            "Content-Disposition: form-data\r\n; name=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data;\r\nname=\"response_type\"; x=\":\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data;\n\nname=response_type\r\nA: it's",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data;\r\n\x0bname=\"response_type\"",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data\r\nA: b\r\n\x0c; name=\"request_uri\"",
            Refusal::RequestUri,
        ),
        (
            "Content-Disposition: form-data; name=resp\r\nonse_\r\ntype\r\nA: b",
            Refusal::ResponseType,
        ),
        (
            "Content-Disposition: form-data; name=\"response_type\r\nA: b",
            Refusal::ResponseType,
        ),
        // Encoded words.
        (
            "Content-Disposition: form-data; name=\"=?utf-8?B?cmVzcG9uc2VfdHlwZQ==?=\"",
            Refusal::Encoding,
        ),
        (
            "Content-Disposition: form-data; name==?utf-8?Q?response=5ftype?=",
            Refusal::Encoding,
        ),
        // Names in sections.
        (
            "Content-Disposition: form-data; name*0=response_; name*1=type",
            Refusal::Encoding,
        ),
        (
            "Content-Disposition: form-data; NAME * 1 =\"type\"; name*0*=utf-8''response%5F",
            Refusal::Encoding,
        ),
    ] {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x\r\n{header}\r\n\r\ntoken\r\n--x--"
        );
        for size in [1, 2, 3, 7, 1000] {
            let (passed, verdict) = streamed(&body, size);
            assert_eq!(verdict, Err(refusal), "{header} by {size}");
            assert!(passed.len() < body.len(), "{header} by {size}");
        }
    }
}

#[test]
fn other_bodies_pass_unchanged() {
    let long = format!(
        "--x\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{}\r\n--x--",
        "c".repeat(100_000)
    );
    for body in [
        "",
        "\r\n\r\n\n",
        "--x\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\nresponse_type=token\r\n--x--\r\n",
        "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"response_type\"\r\n\r\nname=\"response_type\"\n--x--",
        "--x\r\nContent-Type:\r\n\r\nresponse_type\r\n--x--",
        "--x\r\nContent-Disposition: form-data; name=a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nb\r\n--x--",
        "headers[\"Content-Disposition\"] = 'name=response_type'",
        "--x\r\nContent-Type: application/json; charset=UTF-8; name=\"=?utf-8?B?YQ==?=\"\r\nContent-ID: <request@a>\r\n\r\n{}\r\n--x--",
        "--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"=?utf-8?B?YQ==?=\"\r\n\r\n\r\n--x--",
        "content-identity is response_type\r\ncontent-types: response_type",
        "Content-Dispo",
        "Content-Disposition: form-data; name=f\r\n\r\n\r\n\n\n name=response_type",
        "Content-Disposition: form-data; name=",
        &long,
    ] {
        for size in [1, 5, 4096] {
            let (passed, verdict) = streamed(body, size);
            assert_eq!(
                (passed.len(), verdict),
                (body.len(), Ok(())),
                "{body:.80} by {size}"
            );
            assert!(passed == body.as_bytes(), "{body:.80} by {size}");
        }
    }
}

#[test]
fn a_long_block_is_checked_in_pieces() {
    // A message in a file, with other line ends than those of headers.
    let mail = format!(
        "Content-Disposition: inline; filename=a\n\n{}",
        "line\n".repeat(9000)
    );
    let ids = "content-id:".repeat(9000);
    for body in [mail, format!("Content-Disposition: {ids}"), ids] {
        for size in [1, 4096] {
            let (passed, verdict) = streamed(&body, size);
            assert_eq!(verdict, Ok(()), "{body:.40} by {size}");
            assert!(passed == body.as_bytes(), "{body:.40} by {size}");
        }
    }
    for header in ["name=\"response_type\"", "Content-ID: response_type"] {
        let cuts = [
            LONGEST - OVERLAP - 2 * MOST_BLANKS,
            LONGEST - OVERLAP,
            LONGEST,
        ];
        for before in cuts.into_iter().flat_map(|cut| cut - 60..cut + 20) {
            let body = format!(
                "Content-Disposition: {}\n{header}\r\n\r\n",
                ".".repeat(before)
            );
            let (_, verdict) = streamed(&body, 4096);
            assert_eq!(verdict, Err(Refusal::ResponseType), "{header} at {before}");
        }
    }
}

#[test]
fn a_header_with_many_or_long_names_is_refused() {
    for (value, verdict) in [
        ("name=a;".repeat(MOST_NAMES), Ok(())),
        ("name=a;".repeat(MOST_NAMES + 1), Err(Refusal::TooLong)),
        ("name=".repeat(LONGEST / 8), Err(Refusal::TooLong)),
        ("name=\"".repeat(LONGEST / 8), Err(Refusal::TooLong)),
        (format!("name=\"{}\"", "a".repeat(SHORT_NAME)), Ok(())),
        (
            format!("name=\"{}\"", "a".repeat(SHORT_NAME + 1)),
            Err(Refusal::TooLong),
        ),
        (
            format!("name={}response_type", ".".repeat(SHORT_NAME)),
            Err(Refusal::TooLong),
        ),
        (
            format!("name=\"{}response_type\"", " ".repeat(SHORT_NAME)),
            Err(Refusal::TooLong),
        ),
        (
            format!("name=\"{}response_type\"", "\\".repeat(SHORT_NAME)),
            Err(Refusal::ResponseType),
        ),
        (format!("filename=\"{}\"", "a".repeat(2000)), Ok(())),
        ("name ".repeat(LONGEST / 8), Ok(())),
        ("name=r\r\n".repeat(MOST_NAMES), Ok(())),
        (
            format!("name=r{}", "\r\n.".repeat(MOST_LINES)),
            Err(Refusal::TooLong),
        ),
    ] {
        let header = format!("Content-Disposition: form-data; {value}\r\n\r\n");
        for size in [1, 4096] {
            assert_eq!(streamed(&header, size).1, verdict, "{value:.80} by {size}");
        }
    }
}
