//! Requests to an API's own host that are made elsewhere: who asks, and when, is still the connection's affair.

use reqwest::RequestBuilder;
use url::Url;

use super::{HttpClient, auth};
use crate::error::Result;
use crate::model::hook::AuthStyle;
use crate::secret::ExposeSecret;

impl HttpClient {
    /// Whether an address is on the connection's own host and port: only there may its credentials go.
    pub(in crate::extract) fn is_own(&self, address: &Url) -> bool {
        Url::parse(self.url()).is_ok_and(|own| own.origin() == address.origin())
    }

    /// Waits for the connection's rate, and says who we are.
    pub(in crate::extract) async fn authorized(
        &self,
        style: Option<&AuthStyle>,
        mut request: RequestBuilder,
    ) -> Result<RequestBuilder> {
        self.inner.limits.turn().await;
        for (name, value) in &self.inner.settings.headers {
            request = request.header(name, value.expose_secret());
        }
        auth::authorize(&self.inner, style, request).await.map(|(request, _)| request)
    }
}
