//! HTTP or HTTPS to control for the commands: one connection, one request after the other.
//!
//! Promises that each request ends within a time, that an answer has a bound, that lists are followed to their end, and that each
//! failure is one sentence. What can be asked twice without harm is asked again when the connection breaks: what only reads, and what
//! has an idempotency key. The token is in no sentence.

mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use memcloud_tls::{NoTls, Trust};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use server::Server;

use crate::api::problem::Problem;

/// An import of a large registry takes its time; everything else takes milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// An export of 100,000 apps has some 100 MB.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// How often what may be repeated is tried.
const TRIES: usize = 3;
/// Items asked for at once.
const PAGE: u32 = 1_000;
const TOKEN_BYTES_MAX: usize = 4_096;
/// Where the token is when no file is named.
const TOKEN_VARIABLE: &str = "MEMCLOUD_TOKEN";

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Flags(String),
    #[error("control at {server} cannot be reached: {reason}")]
    Away { server: String, reason: String },
    #[error(
        "control at {server} broke off ({reason}): whether it was done is not known, look before you repeat it"
    )]
    BrokeOff { server: String, reason: String },
    #[error("{0}")]
    Refused(String),
}

/// One control, and who asks.
pub struct Client {
    server: Server,
    trust: Trust,
    token: Option<HeaderValue>,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// What is asked.
struct Asked<'a> {
    method: &'a Method,
    path: &'a str,
    key: Option<&'a str>,
    body: Bytes,
}

impl Client {
    /// Asks nobody yet. With `https://` whoever `ca` has signed is believed, or whom the system knows.
    ///
    /// # Errors
    /// The address is none, or the file holds no token.
    pub fn new(server: &str, ca: Option<PathBuf>, token_file: Option<&Path>) -> Result<Self, Failure> {
        let token = token(token_file)?.map(|token| header(&token)).transpose()?;
        Ok(Self { server: Server::new(server)?, trust: Trust { ca, flag: "--ca" }, token, open: None })
    }

    /// # Errors
    /// Control is away or refuses.
    pub async fn get(&mut self, path: &str) -> Result<Value, Failure> {
        let bytes = self.get_bytes(path).await?;
        self.parse(&bytes)
    }

    /// # Errors
    /// Control is away or refuses.
    pub async fn get_bytes(&mut self, path: &str) -> Result<Bytes, Failure> {
        self.ask(Asked { method: &Method::GET, path, key: None, body: Bytes::new() }).await
    }

    /// All of a list, page by page. `path` has its other parameters behind a question mark already, or none.
    ///
    /// # Errors
    /// Control is away or refuses.
    pub async fn list(&mut self, path: &str) -> Result<Vec<Value>, Failure> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let from = after.map(|after: u64| format!("&after={after}")).unwrap_or_default();
            let mut page = self.get(&format!("{path}{joint}limit={PAGE}{from}")).await?;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => all.extend(items),
                _ => return Err(self.nonsense("a list without items")),
            }
            match page.get("next").and_then(Value::as_u64) {
                Some(next) if after.is_none_or(|after| after < next) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// A change that is no create: it is not repeated by itself.
    ///
    /// # Errors
    /// Control is away or refuses.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, Failure> {
        let body = self.encode(body)?;
        let bytes = self.ask(Asked { method: &method, path, key: None, body }).await?;
        self.parse(&bytes)
    }

    /// # Errors
    /// Control is away or refuses.
    pub async fn post(&mut self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// # Errors
    /// Control is away or refuses.
    pub async fn delete(&mut self, path: &str) -> Result<Value, Failure> {
        let bytes = self.ask(Asked { method: &Method::DELETE, path, key: None, body: Bytes::new() }).await?;
        self.parse(&bytes)
    }

    /// A create with an idempotency key: `key`, or one by chance.
    ///
    /// # Errors
    /// Control is away or refuses.
    pub async fn create(
        &mut self,
        path: &str,
        key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<Value, Failure> {
        let chosen = match key {
            Some(key) => key.to_owned(),
            None => by_chance()?,
        };
        let body = self.encode(body)?;
        let bytes = self.ask(Asked { method: &Method::POST, path, key: Some(&chosen), body }).await?;
        self.parse(&bytes)
    }

    async fn ask(&mut self, asked: Asked<'_>) -> Result<Bytes, Failure> {
        let repeatable = asked.key.is_some() || asked.method == Method::GET;
        let mut tries = 1;
        loop {
            let answer = match timeout(ANSWER_WITHIN, self.exchange(&asked)).await {
                Ok(answer) => answer,
                Err(_) => Err(self.broke_off(&format!("no answer within {ANSWER_WITHIN:?}"))),
            };
            match answer {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => return Err(self.refused(status, &body)),
                Err(Failure::BrokeOff { .. }) if repeatable && tries < TRIES => {
                    (self.open, tries) = (None, tries + 1);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn exchange(&mut self, asked: &Asked<'_>) -> Result<(StatusCode, Bytes), Failure> {
        let request = self.request(asked)?;
        let mut open = match self.open.take() {
            Some(open) if !open.is_closed() => open,
            _ => self.connect().await?,
        };
        let broke_off = |error: &dyn std::fmt::Display| self.broke_off(&error.to_string());
        open.ready().await.map_err(|error| broke_off(&error))?;
        let response = open.send_request(request).await.map_err(|error| broke_off(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broke_off(&error))?.to_bytes();
        self.open = Some(open);
        Ok((status, body))
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request =
            Request::builder().method(asked.method).uri(asked.path).header(HOST, &self.server.address);
        if !asked.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if let Some(key) = asked.key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(asked.body.clone()));
        request.map_err(|error| Failure::Flags(format!("this cannot be asked: {error}")))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let away = |reason: String| Failure::Away { server: self.server.url.clone(), reason };
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(self.server.address.as_str())).await;
        let stream = stream.map_err(|_| away(format!("nobody answers within {CONNECT_WITHIN:?}")))?;
        let stream = stream.map_err(|error| away(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        if !self.server.is_secure {
            return begin(stream).await.map_err(|error| away(error.to_string()));
        }
        let secure = timeout(CONNECT_WITHIN, self.trust.connect(stream, &self.server.host)).await;
        let secure = secure.map_err(|_| away(format!("no TLS handshake within {CONNECT_WITHIN:?}")))?;
        let secure = secure.map_err(|error| match error {
            error @ NoTls::Ca { .. } => Failure::Flags(error.to_string()),
            error => away(error.to_string()),
        })?;
        begin(secure).await.map_err(|error| away(error.to_string()))
    }

    fn encode(&self, body: &impl Serialize) -> Result<Bytes, Failure> {
        serde_json::to_vec(body).map(Bytes::from).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// No body is `null`.
    fn parse(&self, bytes: &[u8]) -> Result<Value, Failure> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(bytes).map_err(|error| self.nonsense(&error.to_string()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        if status == StatusCode::UNAUTHORIZED && self.token.is_none() {
            return Failure::Refused(format!("no token was given: use --token-file or set {TOKEN_VARIABLE}"));
        }
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Failure::Refused(problem.detail),
            Err(_) => {
                Failure::Refused(format!("{} answers {status}: is it memcloud-control?", self.server.url))
            }
        }
    }

    fn broke_off(&self, reason: &str) -> Failure {
        Failure::BrokeOff { server: self.server.url.clone(), reason: reason.to_owned() }
    }

    fn nonsense(&self, says: &str) -> Failure {
        Failure::Refused(format!("{} answers what is not understood here: {says}", self.server.url))
    }
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<SendRequest<Full<Bytes>>> {
    let (open, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with `open`.
    tokio::spawn(connection);
    Ok(open)
}

fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(std::env::var(TOKEN_VARIABLE).ok()) };
    let says = |why: String| Failure::Flags(format!("{} holds no token: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| says(error.to_string()))?;
    if text.len() > TOKEN_BYTES_MAX { Err(says("it is too large".into())) } else { Ok(Some(text)) }
}

fn header(token: &str) -> Result<HeaderValue, Failure> {
    let token = token.trim();
    let says = || Failure::Flags("a token is one word of letters, digits and signs".into());
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(says());
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| says())?;
    header.set_sensitive(true);
    Ok(header)
}

fn by_chance() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Flags(format!("no randomness: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        assert_eq!(header(" memcloud_1\n").map(|header| header.is_sensitive()), Ok(true));
        for bad in ["", "two words", "\u{7f}"] {
            let says = header(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !says.contains(bad));
        }
    }
}
