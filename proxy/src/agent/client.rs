//! HTTP or HTTPS to control: one connection, one request at a time, each with the token as its file holds it then. Where several
//! processes of control are named, it stays with the one that answers, and goes to the next when that one is away or in trouble.
//!
//! Promises that every request ends within the time it is given, that an answer has a bound, and that each failure is a
//! sentence that says what to do. The token is in no sentence and no log.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use memcloud_protocol::registration::{Assignment, Heartbeat, Register};
use memcloud_tls::Trust;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::machine::Answer;
use super::shown::Outcome;
use crate::config::{Control, Endpoint};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody is there, or says nothing in time.
    #[error("control at {address} cannot be reached: {reason}; it is tried again by itself")]
    Away { address: String, reason: String },
    /// There is no token to show.
    #[error("{file} holds no token: {reason}; put one there, it is read again by itself")]
    Token { file: String, reason: String },
    /// Another token is needed.
    #[error(
        "control does not take the token in {file}: {says}; put another one there, it is read again by itself"
    )]
    Unauthorized { file: String, says: String },
    /// Control says no.
    #[error("control refuses: {says}")]
    Refused { status: u16, says: String },
    /// Control is in trouble itself.
    #[error("control at {address} is in trouble: {says}; it is tried again by itself")]
    Trouble { address: String, says: String },
}

impl Failure {
    /// What control has said, if it was control.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unauthorized { .. } => Some(401),
            Self::Away { .. } | Self::Token { .. } | Self::Trouble { .. } => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { .. } | Self::Unauthorized { .. } => Outcome::Refused,
            Self::Away { .. } | Self::Token { .. } | Self::Trouble { .. } => Outcome::Failed,
        }
    }
}

pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    /// Which of them is asked.
    at: usize,
    trust: Trust,
    token_file: PathBuf,
    open: Option<SendRequest<Full<Bytes>>>,
    local: Option<IpAddr>,
}

/// An answer, read whole.
struct Read {
    status: StatusCode,
    etag: Option<String>,
    body: Bytes,
}

impl Client {
    pub(super) fn new(control: &Control) -> Self {
        Self {
            endpoints: control.endpoints.clone(),
            at: 0,
            trust: Trust { ca: control.ca.clone(), flag: "--control-ca" },
            token_file: control.token_file.clone(),
            open: None,
            local: None,
        }
    }

    /// Begins anew: the answer to a request that was given up is not waited for.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }

    /// Which control is asked.
    pub(super) fn url(&self) -> String {
        self.endpoints.get(self.at).map(ToString::to_string).unwrap_or_default()
    }

    /// The next one is asked from now on.
    fn move_on(&mut self) {
        self.open = None;
        self.at = (self.at + 1) % self.endpoints.len().max(1);
    }

    fn address(&self) -> String {
        self.endpoints.get(self.at).map(|endpoint| endpoint.address.clone()).unwrap_or_default()
    }

    /// The address from which control is reached.
    pub(super) async fn local(&mut self, within: Duration) -> Result<IpAddr, Failure> {
        let connected = match timeout(within, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(self.silent()),
        };
        if connected.is_err() {
            self.move_on();
        }
        connected?;
        self.local.ok_or_else(|| self.away("the connection has no address"))
    }

    /// What is said when control does not answer in time.
    fn silent(&self) -> Failure {
        self.away("it does not answer in time")
    }

    pub(super) async fn register(
        &mut self,
        register: &Register,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let body = serde_json::to_string(register).map_err(|error| self.nonsense(&error))?;
        let read = self.ask(Method::POST, "/v1/replicas", None, body, within).await?;
        self.parse(&read).map(Answer::Registered)
    }

    pub(super) async fn beat(
        &mut self,
        replica: u64,
        heartbeat: &Heartbeat,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let body = serde_json::to_string(heartbeat).map_err(|error| self.nonsense(&error))?;
        let path = format!("/v1/replicas/{replica}/heartbeat");
        let read = self.ask(Method::POST, &path, None, body, within).await?;
        self.parse(&read).map(Answer::Assigned)
    }

    /// What the replica is for, once that is not what `etag` names, and the tag of it. `None`: it still is, after `wait`.
    pub(super) async fn assignment(
        &mut self,
        replica: u64,
        etag: Option<&str>,
        wait: Duration,
    ) -> Result<Option<(Assignment, Option<String>)>, Failure> {
        let path = format!("/v1/replicas/{replica}/assignment?wait={}s", wait.as_secs());
        let read = self.ask(Method::GET, &path, etag, String::new(), wait + ANSWER_WITHIN).await?;
        if read.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let assignment = self.parse(&read)?;
        Ok(Some((assignment, read.etag)))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        etag: Option<&str>,
        body: String,
        within: Duration,
    ) -> Result<Read, Failure> {
        let request = (method, path, etag, body);
        let read = match timeout(within, self.exchange(&request)).await {
            Ok(read) => read,
            Err(_) => Err(self.silent()),
        };
        if !matches!(&read, Ok(read) if read.status.is_success() || read.status == StatusCode::NOT_MODIFIED) {
            // Whatever is left of an answer is not mistaken for the next one.
            self.open = None;
        }
        let judged = read.and_then(|read| self.judge(read));
        if matches!(judged, Err(Failure::Away { .. } | Failure::Trouble { .. })) {
            self.move_on();
        }
        judged
    }

    async fn exchange(
        &mut self,
        (method, path, etag, body): &(Method, &str, Option<&str>, String),
    ) -> Result<Read, Failure> {
        let token = self.token().await?;
        let request = || {
            let request = Request::builder().method(method).uri(*path).header(HOST, self.address());
            let request = request.header(AUTHORIZATION, &token).header(CONTENT_TYPE, "application/json");
            let request = match etag {
                Some(etag) => request.header(IF_NONE_MATCH, *etag),
                None => request,
            };
            request.body(Full::new(Bytes::from(body.clone())))
        };
        let (first, second) = (request(), request());
        let used = self.open.as_ref().is_some_and(|open| !open.is_closed());
        match self.send(first.map_err(|error| self.nonsense(&error))?).await {
            // A connection that was kept may have been closed meanwhile: then nothing was heard of this request, or it does no harm twice.
            Err(_) if used => {
                self.open = None;
                self.send(second.map_err(|error| self.nonsense(&error))?).await
            }
            read => read,
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Read, Failure> {
        self.connect().await?;
        let address = self.address();
        let away = |reason: String| Failure::Away { address: address.clone(), reason };
        let Some(open) = &mut self.open else { return Err(away("there is no connection".to_owned())) };
        open.ready().await.map_err(|error| away(error.to_string()))?;
        let response = open.send_request(request).await.map_err(|error| away(error.to_string()))?;
        let status = response.status();
        let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| away(format!("its answer broke off: {error}")))?.to_bytes();
        Ok(Read { status, etag, body })
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        if self.open.as_ref().is_some_and(|open| !open.is_closed()) {
            return Ok(());
        }
        let Some(endpoint) = self.endpoints.get(self.at).cloned() else {
            return Err(self.away("nobody is named"));
        };
        let stream = TcpStream::connect(endpoint.address.as_str()).await;
        let stream = stream.map_err(|error| self.away(&error.to_string()))?;
        let _ = stream.set_nodelay(true);
        self.local = stream.local_addr().ok().map(|address| address.ip());
        let open = if endpoint.is_secure {
            let secure = self.trust.connect(stream, endpoint.host()).await;
            begin(secure.map_err(|error| self.away(&error.to_string()))?).await
        } else {
            begin(stream).await
        };
        self.open = Some(open.map_err(|error| self.away(&error.to_string()))?);
        Ok(())
    }

    /// The words of the header; their value is never shown.
    async fn token(&self) -> Result<HeaderValue, Failure> {
        let file = self.token_file.clone();
        let none = |reason: String| Failure::Token { file: self.token_file.display().to_string(), reason };
        let read = spawn_blocking(move || read_token(&file)).await;
        let text = read.map_err(|error| none(error.to_string()))?.map_err(|error| none(error.to_string()))?;
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(none("a token is one word".to_owned()));
        }
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| none("it holds other bytes than those of a token".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    fn judge(&self, read: Read) -> Result<Read, Failure> {
        let status = read.status;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(read);
        }
        let problem: Option<Problem> = serde_json::from_slice(&read.body).ok();
        let says =
            problem.map_or_else(|| format!("status {status} without a reason"), |problem| problem.detail);
        Err(match status {
            StatusCode::UNAUTHORIZED => {
                Failure::Unauthorized { file: self.token_file.display().to_string(), says }
            }
            status if status.is_client_error() => Failure::Refused { status: status.as_u16(), says },
            _ => Failure::Trouble { address: self.address(), says },
        })
    }

    fn parse<Document: DeserializeOwned>(&self, read: &Read) -> Result<Document, Failure> {
        serde_json::from_slice(&read.body).map_err(|error| self.nonsense(&error))
    }

    fn nonsense(&self, error: &dyn std::error::Error) -> Failure {
        Failure::Trouble {
            address: self.address(),
            says: format!(
                "proxy and control do not understand each other ({error}): use the same version of both"
            ),
        }
    }

    fn away(&self, reason: &str) -> Failure {
        Failure::Away { address: self.address(), reason: reason.to_owned() }
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

/// What control says when it says no (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// A file that is no token's is not read to its end.
fn read_token(file: &std::path::Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// An assignment with 64 peers takes some kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const TOKEN_BYTES_MAX: u64 = 4096;
/// After a long poll has waited as long as it may.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
