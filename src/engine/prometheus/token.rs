//! Tokens by OAuth 2.0's client credentials (RFC 6749, section 4.4), kept until shortly before they expire.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Client;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::prometheus::OAuth2;
use crate::config::scrape::http::HttpConfig;
use crate::transport::{CONNECT, Clients, root_cause, secret};

use super::error::{Fault, cut};

/// How long a token may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long before its end a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a token is used that does not say how long it is good for.
const UNKNOWN: Duration = Duration::from_secs(60);

/// The largest answer that is read.
const MOST_BYTES: usize = 256 << 10;

pub(super) struct Tokens {
    config: OAuth2,
    http: Arc<HttpConfig>,
    clients: Clients,
    current: Mutex<Option<(HeaderValue, Instant)>>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<f64>,
}

impl Tokens {
    pub(super) fn new(config: OAuth2) -> Self {
        Self {
            http: Arc::new(config.http()),
            config,
            clients: Clients::default(),
            current: Mutex::default(),
        }
    }

    /// The header with a token that is still good.
    pub(super) async fn header(&self) -> Result<HeaderValue, Fault> {
        let now = Instant::now();
        if let Some((value, until)) = &*self.current.lock()
            && *until > now
        {
            return Ok(value.clone());
        }
        // Two who find none at the same time get one each, and use both.
        let answer = self.fetch().await?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", answer.access_token))
            .map_err(|_| Fault::Token("it is none for a header".to_owned()))?;
        value.set_sensitive(true);
        let seconds = answer.expires_in;
        let good = seconds.and_then(|it| Duration::try_from_secs_f64(it).ok());
        let good = good.unwrap_or(UNKNOWN);
        let until = now + good.saturating_sub(MARGIN);
        *self.current.lock() = Some((value.clone(), until));
        Ok(value)
    }

    /// Has the next request get a new one.
    pub(super) fn forget(&self) {
        *self.current.lock() = None;
    }

    async fn fetch(&self) -> Result<Answer, Fault> {
        let config = &self.config;
        let secret = secret(&config.client_secret, &config.client_secret_file).await?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !config.scopes.is_empty() {
            form.push(("scope", config.scopes.join(" ")));
        }
        let further = config.endpoint_params.iter();
        form.extend(further.map(|(name, value)| (name.as_str(), value.clone())));
        let tls = self.clients.get(&self.http).await?;
        // Tokens are fetched rarely: a connection is not worth keeping.
        let client = Client::builder()
            .tls_backend_preconfigured((*tls.config).clone())
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Fault::Token(root_cause(&error)))?;
        let request = client
            .post(&config.token_url)
            .basic_auth(&config.client_id, secret.as_ref().map(|it| it.expose()))
            .form(&form);
        let failed = |error: reqwest::Error| {
            Fault::Token(if error.is_timeout() {
                format!("{} does not answer in time", config.token_url)
            } else {
                format!(
                    "{} cannot be reached ({})",
                    config.token_url,
                    root_cause(&error)
                )
            })
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let text = format!("{} answers {}", config.token_url, status.as_u16());
            return Err(Fault::Token(text));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > MOST_BYTES {
                return Err(Fault::Token("the answer is too long".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|error| {
            let reason = cut(&error.to_string());
            Fault::Token(format!("{} gives none ({reason})", config.token_url))
        })
    }
}
