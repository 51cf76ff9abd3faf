//! A browser that follows redirects and fills in forms.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::StatusCode;
use test_support::http::{Answer, send};
use url::Url;

use super::Pairs;

/// A browser that only handles cookies. It does not follow redirects by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// Requests to the first URL are sent to the second.
    pub(crate) through: Option<(String, String)>,
}

impl Browser {
    pub(crate) async fn get(&mut self, url: &str) -> Answer {
        self.send("GET", url, &[], "").await
    }

    /// Posts a form as if from a page of the same origin.
    pub(crate) async fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.send("POST", url, &headers, body).await
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut url = url.to_owned();
        if let Some((public, local)) = &self.through
            && let Some(rest) = url.strip_prefix(public.as_str())
        {
            url = format!("{local}{rest}");
        }
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = headers.to_vec();
        headers.push(("user-agent", "Mozilla/5.0 (Test) Browser/1.0"));
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let answer = send(method, &url, &headers, body).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    /// Follows redirects until one leads to a URL that begins with `target`. Returns that URL.
    pub(crate) async fn follow(&mut self, answer: Answer, target: &str) -> String {
        let mut url = onward(&answer);
        for _ in 0..10 {
            if url.starts_with(target) {
                return url;
            }
            url = onward(&self.get(&url).await);
        }
        panic!("{target} was not reached: {url}");
    }

    /// Approves on the consent page to which the response leads. Returns the next response.
    pub(crate) async fn approve(&mut self, answer: &Answer) -> Answer {
        self.decide(answer, &[("decision", "approve")]).await
    }

    pub(crate) async fn decide(&mut self, answer: &Answer, fields: &[(&str, &str)]) -> Answer {
        let url = onward(answer);
        let page = self.get(&url).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        self.submit(&url, &page, fields).await
    }

    /// Submits the form of a page with its hidden fields and these fields.
    pub(crate) async fn submit(
        &mut self,
        url: &str,
        page: &Answer,
        fields: &[(&str, &str)],
    ) -> Answer {
        let (action, mut form) = form(page);
        form.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let action = Url::parse(url).unwrap().join(&action).unwrap();
        self.post(action.as_str(), &form).await
    }

    /// Logs in at the test's provider. Returns the URL to which the client is redirected.
    pub(crate) async fn log_in(&mut self, request: &str, redirect_uri: &str) -> String {
        let answer = self.get(request).await;
        let answer = self.approve(&answer).await;
        self.follow(answer, redirect_uri).await
    }
}

/// Returns the URL to which a response redirects the browser, with a redirect or a page.
pub(crate) fn onward(answer: &Answer) -> String {
    let header = |name| {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    match (header("location"), header("refresh")) {
        (Some(location), None) => {
            assert_eq!(answer.status, StatusCode::SEE_OTHER);
            location.to_owned()
        }
        (None, Some(refresh)) => refresh.strip_prefix("0;url=").unwrap().to_owned(),
        _ => panic!(
            "the response is not a redirect: {} {}",
            answer.status,
            answer.text()
        ),
    }
}

/// Returns the action and the hidden fields of the only form of a page.
pub(crate) fn form(page: &Answer) -> (String, Pairs) {
    let page = page.text();
    let attribute = |tag: &str, name: &str| {
        let (_, value) = tag.split_once(&format!("{name}=\""))?;
        Some(unescaped(value.split_once('"')?.0))
    };
    let (_, rest) = page.split_once("<form").expect("a form");
    let (tag, rest) = rest.split_once('>').unwrap();
    let inputs = rest
        .split("<input")
        .skip(1)
        .map(|input| input.split_once('>').unwrap().0);
    let hidden = inputs.filter(|input| input.contains("type=\"hidden\""));
    let fields = hidden
        .map(|input| {
            (
                attribute(input, "name").unwrap(),
                attribute(input, "value").unwrap(),
            )
        })
        .collect();
    (attribute(tag, "action").unwrap(), fields)
}

/// Decodes the value of an HTML attribute.
fn unescaped(value: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    pairs
        .iter()
        .fold(value.to_owned(), |value, (escape, character)| {
            value.replace(escape, character)
        })
}
