//! An inner service that is slow.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hanging_inner_service_times_out_and_the_grant_ends() {
    let app = App::new();
    let [_, token] = grant(&app).await;
    app.upstream.then(Act::Hang);
    let answer = send(&app, revocation(&token)).await;
    answer.assert_refused("it hangs", 503, "temporarily_unavailable", false);
    assert!(matches!(
        answer.head.extensions.get(),
        Some(RefreshError::UpstreamUnavailable)
    ));
    assert_ended("it hangs", &app, &token).await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_error_body_times_out_and_the_grant_ends() {
    use tower::ServiceExt as _;
    let app = App::new();
    let [_, token] = grant(&app).await;
    let inner = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
        let body = StreamingBody(b"{\"error\":");
        Ok::<_, Infallible>(Response::builder().status(400).body(body).unwrap())
    });
    let (head, body) = app
        .layer
        .layer(inner)
        .oneshot(revocation(&token))
        .await
        .unwrap()
        .into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Whole { head, body }.assert_refused("it stalls", 503, "temporarily_unavailable", false);
    assert_ended("it stalls", &app, &token).await;
}

/// A body that begins and never ends.
struct StreamingBody(&'static [u8]);

impl Body for StreamingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::take(&mut self.0) {
            [] => Poll::Pending,
            first => Poll::Ready(Some(Ok(Frame::data(first.into())))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_revocation_is_not_cut_short() {
    let app = App::new();
    let [_, token] = grant(&app).await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let opened = tokio::spawn(async move {
        sleep(Duration::from_secs(19)).await;
        gate.notify_one();
    });
    send(&app, revocation(&token))
        .await
        .assert_ok("after 19 seconds");
    opened.await.unwrap();
    assert_ended("slow", &app, &token).await;
}
