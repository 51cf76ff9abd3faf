//! Sends the figures of the overview as server-sent events, while a page shows them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Page, figures};

/// The interval between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// A body that sends the figures once a second, while the operator is signed in.
struct Figures {
    page: Page,
    headers: HeaderMap,
    interval: Interval,
    _permit: OwnedSemaphorePermit,
}

pub(super) async fn stream(State(page): State<Page>, headers: HeaderMap) -> Response {
    if page.0.signed_in.find(&headers).is_none() {
        // After this status, a browser does not reconnect.
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(permit) = page.0.live.clone().try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut interval = interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let figures = Figures {
        page,
        headers,
        interval,
        _permit: permit,
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::new(figures)).into_response()
}

impl http_body::Body for Figures {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.interval.poll_tick(cx));
        let inner = &self.page.0;
        if inner.signed_in.find(&self.headers).is_none() {
            return Poll::Ready(None);
        }
        let figures = figures::figures(&inner.console, &inner.scrape).into_string();
        // A line break would end the event. Text in the page has none: it is escaped.
        let event = format!("data: {}\n\n", figures.replace(['\r', '\n'], " "));
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
