use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Polls two futures concurrently until both are complete, so that two round trips to the store
/// take the time of one.
pub(crate) async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(cx)
        {
            one = Some(output);
        }
        if other.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(cx)
        {
            other = Some(output);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            unfinished => {
                (one, other) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::both;

    #[tokio::test]
    async fn the_futures_run_concurrently() {
        let (to_first, first) = oneshot::channel();
        let (to_second, second) = oneshot::channel();
        let outputs = both(
            async {
                to_second.send(1).unwrap();
                first.await.unwrap()
            },
            async {
                let received = second.await.unwrap();
                to_first.send(received + 1).unwrap();
                "done"
            },
        );
        assert_eq!(outputs.await, (2, "done"));
    }
}
