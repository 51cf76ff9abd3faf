//! Requests that the layer itself sends to the inner service, without a request of a client.
//!
//! [`DirectService`] is the service that the application has named for them, without its type.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tower::{BoxError, Service, ServiceExt as _};
use zeroize::Zeroizing;

use crate::body::ResponseBody;
use crate::client_credentials::ClientCredentials;
use crate::endpoint::inner::{self, Accept, Inner, InnerCall};

type Answer = Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

/// A service of the application, and the credentials of the layer there.
#[derive(Clone)]
pub(crate) struct DirectService {
    /// Sends a request, and reads a response of at most so many bytes.
    call: Arc<dyn Fn(Request<Bytes>, usize) -> Answer + Send + Sync>,
    pub(crate) credentials: ClientCredentials,
}

impl DirectService {
    pub(crate) fn new<S, ReqBody, ResBody>(service: S, credentials: ClientCredentials) -> Self
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>>,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ReqBody: From<Bytes> + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
    {
        let call = move |request: Request<Bytes>, limit| -> Answer {
            let service = service.clone();
            Box::pin(async move {
                let request = request.map(ReqBody::from);
                let response = service.oneshot(request).await.map_err(Into::into)?;
                match inner::read(response, limit).await {
                    Some((head, bytes)) => Ok(Response::from_parts(head, bytes)),
                    None => Err("the response is too large, compressed or incomplete".into()),
                }
            })
        };
        Self {
            call: Arc::new(call),
            credentials,
        }
    }

    /// Returns a request for `path` about a grant of this client.
    pub(crate) fn request(&self, path: &str, client_id: &str, limit: usize) -> Box<DirectRequest> {
        Box::new(DirectRequest {
            service: self.clone(),
            path: path.into(),
            authorization: self.credentials.header(client_id),
            limit,
        })
    }

    /// Returns a form with these parameters and the ones that name and authenticate the client.
    pub(crate) fn form<'a>(
        &'a self,
        client_id: &'a str,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Bytes {
        let named = self.credentials.names_client(client_id);
        let client_id_of = named.then_some(("client_id", client_id));
        let secret = self.credentials.secret(client_id);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(parameters)
            .extend_pairs(client_id_of)
            .extend_pairs(secret.map(|secret| ("client_secret", secret)));
        let form = Zeroizing::new(form.finish());
        Bytes::copy_from_slice(form.as_bytes())
    }
}

redacted_debug!(self: DirectService { credentials });

/// A request of the layer whose form is still missing.
#[derive(Clone)]
pub(crate) struct DirectRequest {
    service: DirectService,
    path: Box<str>,
    authorization: Option<HeaderValue>,
    /// The size limit of the response, in bytes.
    limit: usize,
}

impl Inner for DirectRequest {
    // The response has been read, so there is no other body.
    type ResBody = ResponseBody<String>;
    type Error = BoxError;

    fn to_path(mut self: Box<Self>, path: &str) -> Option<Box<Self>> {
        self.path = path.into();
        Some(self)
    }

    async fn send(
        self: Box<Self>,
        form: Bytes,
        accept: Accept,
    ) -> Result<Response<Self::ResBody>, BoxError> {
        let mut request = Request::post(&*self.path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(CONTENT_LENGTH, form.len());
        if matches!(accept, Accept::Json) {
            request = request.header(ACCEPT, "application/json");
        }
        if let Some(authorization) = self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(form)?;
        let call = InnerCall::new(&self.path);
        let response = call.run((self.service.call)(request, self.limit)).await?;
        Ok(response.map(ResponseBody::full))
    }
}
