//! temporary: forwards
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::future::Progress;
use crate::service::Endpoint;
use crate::shared::Shared;
use crate::store::Store;

pub(crate) async fn run<St, S, B, ResBody>(
    _endpoint: Endpoint,
    _shared: Arc<Shared<St>>,
    _progress: Arc<Progress>,
    mut inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await?;
    let response = inner.call(request.map(RequestBody::inner)).await?;
    Ok(response.map(ResponseBody::inner))
}
