//! The attributes of calls that fail.

use test_support::{Act, Call, Plan, post, refresh_form};

use super::{Request, Tree, has, is_error, warmed_up};

#[tokio::test]
async fn failures_set_error_type() {
    let (app, token) = warmed_up().await;
    // The client is to blame: no error of the layer.
    let (request, _) = Request::run(app.refresh_as("other", &token)).await;
    let tree = request.tree();
    let layer = tree.only("oauth_refresh");
    has(
        layer,
        [("endpoint", "token"), ("error.type", "invalid_grant")],
    );
    assert!(!is_error(layer));

    for (plan, kind, code) in [
        (Plan::Lose, "store_unavailable", "temporarily_unavailable"),
        (Plan::Corrupt, "store_corrupt", "server_error"),
        (
            Plan::after(async { panic!("the store panics") }),
            "store_unavailable",
            "temporarily_unavailable",
        ),
    ] {
        app.store.once(|call| *call == Call::Claim, plan);
        let (request, _) = Request::run(app.refresh(&token)).await;
        app.layer.drain().await;
        app.store.unhook();
        let tree = request.tree();
        let claim = tree.only("claim");
        has(
            claim,
            [
                ("db.operation.name", "claim"),
                ("db.system.name", "hooked"),
                ("error.type", kind),
            ],
        );
        let layer = tree.only("oauth_refresh");
        has(layer, [("endpoint", "token"), ("error.type", code)]);
        assert!(is_error(claim) && is_error(layer));
    }

    app.upstream.then(Act::Answer(500, "text/plain", "down"));
    let (request, _) = Request::run(app.refresh(&token)).await;
    app.layer.drain().await;
    let tree = request.tree();
    let inner = tree.only("inner_service");
    has(
        inner,
        [
            ("error.type", "500"),
            ("http.request.method", "POST"),
            ("http.response.status_code", "500"),
            ("url.path", "/token"),
        ],
    );
    assert!(is_error(inner));

    app.upstream.then(Act::Break);
    let form = refresh_form("app", &token);
    let (request, answer) = Request::run(app.send(post("/token", &form))).await;
    answer.unwrap_err();
    app.layer.drain().await;
    let tree = request.tree();
    assert_no_response(&tree);
    let layer = tree.only("oauth_refresh");
    has(layer, [("endpoint", "token"), ("error.type", "_OTHER")]);
    assert!(is_error(layer));
}

/// Asserts that the call of the inner service has failed without a response.
fn assert_no_response(tree: &Tree) {
    let inner = tree.only("inner_service");
    has(
        inner,
        [
            ("error.type", "_OTHER"),
            ("http.request.method", "POST"),
            ("url.path", "/token"),
        ],
    );
    assert!(is_error(inner));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_is_an_error() {
    let (app, token) = warmed_up().await;
    app.upstream.then(Act::Hang);
    let (request, _) = Request::run(app.refresh(&token)).await;
    app.layer.drain().await;
    let tree = request.tree();
    assert_no_response(&tree);
}
