//! An API as a source: a GET for each key, and what its response stands for.
//!
//! ```text
//!   200 and JSON       the document, and what its headers say of it
//!   304                not modified, if a validator was sent
//!   404, 410           there is none
//!   a redirect         followed, three at most, within scheme, host and port
//!   anything else      a failure: never kept, never NOT_FOUND
//! ```
//! Nothing of a client's request but the key reaches the API. Whose fault a status is says `blame`.

mod body;
mod directives;
mod freshness;
mod header;
mod pool;
mod reread;
#[cfg(not(feature = "https"))]
#[path = "no_signing.rs"]
mod signing;
#[cfg(feature = "https")]
mod signing;
pub(super) mod tags;
mod template;
#[cfg(not(feature = "https"))]
#[path = "no_tls.rs"]
mod tls;
#[cfg(feature = "https")]
mod tls;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, HOST, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{HeaderMap, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use self::body::{BodyError, Coding};
use self::header::Header;
pub use self::header::OriginHeader;
use self::pool::{Connection, Pool};
pub use self::signing::Bucket;
use self::signing::Signer;
#[cfg(feature = "https")]
pub use self::signing::{Credentials, Keys};
pub use self::template::{Template, TemplateError};
use self::tls::Tls;
use super::{Answering, Brought, Kind, Known, Source, Unmet, Validator, Wanted, answer};
use crate::blame::Fault;
use crate::net::LinkError;
use crate::net::link::Addresses;
use crate::pool as threads;
use crate::wire::document::DocumentError;
use crate::wire::{Document, MAX_DOCUMENT};

/// Redirects that are followed for one document.
const REDIRECTS: usize = 3;
/// The largest body beside a document's that is read to its end, so that the connection can be used again.
const SPARE: usize = 16 * 1024;
/// The pause after a 429 that names none.
const USUAL_WAIT: Duration = Duration::from_secs(1);

/// The settings of an API as a source.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The URLs of documents.
    pub template: Template,
    /// What it takes to read them, where they are objects of a bucket.
    pub bucket: Option<Bucket>,
    /// Headers of each request.
    pub headers: Vec<OriginHeader>,
    /// A file of root certificates in PEM, in place of the platform's.
    pub ca: Option<PathBuf>,
    /// A connection must be made within this time.
    pub connect_deadline: Duration,
    /// How often the name is looked up again.
    pub resolve_interval: Duration,
    /// The largest document in bytes, packed and unpacked.
    pub max_document: usize,
    /// The most idle connections that are kept.
    pub most_idle: usize,
    /// Whether documents are served while the API fails, whatever it says of validation.
    pub stale_if_error_always: bool,
}

impl ApiConfig {
    /// The defaults of the command line, for an API.
    pub fn new(template: Template) -> Self {
        Self {
            template,
            bucket: None,
            headers: Vec::new(),
            ca: None,
            connect_deadline: Duration::from_secs(3),
            resolve_interval: Duration::from_secs(10),
            max_document: MAX_DOCUMENT,
            most_idle: 64,
            stale_if_error_always: false,
        }
    }
}

/// An API, or a bucket.
pub struct HttpSource {
    template: Template,
    bucket: Option<Signer>,
    host: HeaderValue,
    headers: Vec<Header>,
    pool: Pool,
    max_document: usize,
    stale_if_error_always: bool,
}

impl HttpSource {
    /// Nothing is connected before the first document is wanted.
    ///
    /// # Errors
    /// In a sentence: a file of a header, of certificates or of credentials that cannot be used, or https in a build without
    /// it.
    pub fn new(config: ApiConfig) -> Result<Self, String> {
        let ApiConfig { template, ca, .. } = config;
        let peer = template.peer().clone();
        let tls = if template.is_https() { Some(Tls::new(&peer.host, ca.as_deref())?) } else { None };
        let host = HeaderValue::from_str(&template.authority()).map_err(|error| error.to_string())?;
        let headers = config.headers.into_iter().map(Header::open).collect::<Result<_, _>>()?;
        let addresses = Addresses::new(peer, config.resolve_interval);
        let bucket = config.bucket.map(Signer::open).transpose()?;
        Ok(Self {
            template,
            bucket,
            host,
            headers,
            pool: Pool::new(addresses, tls, config.connect_deadline, config.most_idle),
            max_document: config.max_document,
            stale_if_error_always: config.stale_if_error_always,
        })
    }

    async fn fetch(&self, wanted: Wanted<'_>) -> Result<Brought, Unmet> {
        if self.bucket.is_some() && wanted.key.query().is_some() {
            // No object has parameters.
            return Ok(Brought::Missing(Known::default()));
        }
        let mut target = self.template.target(wanted.key);
        for _ in 0..=REDIRECTS {
            let request = self.request(&target, wanted.validator).await?;
            let (response, connection) = self.send(&request, &wanted).await?;
            if !is_redirect(response.status()) {
                return self.read(response, connection, &wanted).await;
            }
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            if let Some(region) = response.headers().get("x-amz-bucket-region") {
                let why = format!("the bucket is in the region {}: set AWS_REGION", text(region));
                return Err(Unmet::Unfit { fault: Fault::Doubt, why: why.into(), wait: None });
            }
            let next = location.and_then(|location| self.template.redirected(&target, location));
            debug!(key = %wanted.key, from = target, ?location, "a redirect");
            target = next.ok_or(Unmet::unfit(Fault::Doubt, "the origin redirects to another host"))?;
            self.spare(response, connection, wanted.deadline).await;
        }
        Err(Unmet::unfit(Fault::Doubt, "the origin redirects more than three times"))
    }

    async fn request(
        &self,
        target: &str,
        validator: Option<&Validator<'_>>,
    ) -> Result<Request<Empty<Bytes>>, Unmet> {
        let request = Request::get(target).body(Empty::new());
        let mut request =
            request.map_err(|_| Unmet::unfit(Fault::Document, "there is no URL for this key"))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd, gzip"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("dproxy/", env!("CARGO_PKG_VERSION"))));
        for header in &self.headers {
            headers.insert(header.name().clone(), header.value().await);
        }
        if let Some(signer) = &self.bucket {
            signer.sign(&self.host, target, SystemTime::now(), headers).await;
        }
        let (name, text) = match validator {
            None => return Ok(request),
            Some(Validator::Etag(text)) => (IF_NONE_MATCH, text),
            Some(Validator::LastModified(text)) => (IF_MODIFIED_SINCE, text),
        };
        if let Ok(value) = HeaderValue::from_bytes(text) {
            headers.insert(name, value);
        }
        Ok(request)
    }

    /// Sends a request on an idle connection, or on a new one. A server may close an idle connection at any time: a request
    /// that ends with one was probably not read, and is sent once more (RFC 9112, section 9.3.1).
    async fn send(
        &self,
        request: &Request<Empty<Bytes>>,
        wanted: &Wanted<'_>,
    ) -> Result<(Response<Incoming>, Connection), Unmet> {
        let deadline = wanted.deadline;
        let mut idle = match wanted.is_again {
            true => None,
            false => timeout_at(deadline, self.pool.idle()).await.unwrap_or(None),
        };
        loop {
            let mut connection = match idle.take() {
                Some(connection) => connection,
                None => self.pool.dial(deadline).await?,
            };
            let error = match timeout_at(deadline, connection.sender.send_request(request.clone())).await {
                Ok(Ok(response)) => return Ok((response, connection)),
                Ok(Err(error)) => error,
                Err(_late) => return Err(Unmet::of(LinkError::Late)),
            };
            debug!(%error, is_used = connection.is_used, "a request brought no response");
            if !connection.is_used || error.is_parse() {
                return Err(Unmet::of(if error.is_parse() { LinkError::Garbage } else { LinkError::Broken }));
            }
        }
    }

    /// What a response stands for.
    async fn read(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        wanted: &Wanted<'_>,
    ) -> Result<Brought, Unmet> {
        let known = freshness::known(response.headers(), SystemTime::now(), self.stale_if_error_always);
        match response.status() {
            StatusCode::OK => {
                let document = self.document(response, connection, wanted.deadline).await?;
                Ok(Brought::Document(document, known))
            }
            StatusCode::NOT_MODIFIED if wanted.validator.is_some() => {
                self.spare(response, connection, wanted.deadline).await;
                Ok(Brought::NotModified(known))
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                self.spare(response, connection, wanted.deadline).await;
                Ok(Brought::Missing(known))
            }
            status => {
                let wait = wait(status, response.headers(), SystemTime::now());
                debug!(key = %wanted.key, %status, ?wait, "the API brought no document");
                self.spare(response, connection, wanted.deadline).await;
                let mut why = format!("the origin answered with the status {}", status.as_u16());
                if self.bucket.is_some() && status == StatusCode::FORBIDDEN {
                    why += ": the credentials are wrong, or may not get objects and list the bucket";
                }
                let why = Cow::Owned(why);
                Err(Unmet::Unfit { fault: Fault::of_http(status.as_u16()), why, wait })
            }
        }
    }

    async fn document(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        deadline: Instant,
    ) -> Result<Document, Unmet> {
        let limit = self.max_document;
        let coding = Coding::of(response.headers())
            .ok_or(Unmet::unfit(Fault::Document, "the origin sent a coding that it was not asked for"))?;
        let read = timeout_at(deadline, body::read(response.into_body(), limit)).await;
        let bytes = read.map_err(|_late| Unmet::of(LinkError::Late))?.map_err(|error| self.of_body(error))?;
        self.pool.keep(connection);
        let parse = move |bytes: &[u8]| Document::parse(bytes, limit);
        let parsed = match coding {
            Coding::Identity => parse(&bytes),
            // Unpacking a document may take milliseconds.
            Coding::Gzip | Coding::Zstd => {
                let unpack = move || body::unpack(&bytes, coding, limit).map(|bytes| parse(&bytes));
                let unpacked = threads::run(unpack).await;
                let unpacked = unpacked.unwrap_or(Err(BodyError::NotDecoded));
                unpacked.map_err(|error| self.of_body(error))?
            }
        };
        parsed.map_err(|error| match error {
            DocumentError::TooLarge(_) => self.of_body(BodyError::TooLarge),
            // A page of HTML for every key: the API is down for maintenance.
            error => Unmet::Unfit { fault: Fault::Doubt, why: error.to_string().into(), wait: None },
        })
    }

    fn of_body(&self, error: BodyError) -> Unmet {
        match error {
            BodyError::TooLarge => {
                Unmet::Unfit { fault: Fault::Document, why: answer::too_large(self.max_document), wait: None }
            }
            BodyError::Cut => Unmet::NoAnswer(
                LinkError::Broken,
                "the origin closed the connection within the document".into(),
            ),
            BodyError::NotDecoded => {
                Unmet::unfit(Fault::Document, "the document is not packed as its coding says")
            }
        }
    }

    /// Reads a body that says nothing, if it is short, so that its connection can be used again.
    async fn spare(&self, response: Response<Incoming>, connection: Connection, deadline: Instant) {
        if let Ok(Ok(_)) = timeout_at(deadline, body::read(response.into_body(), SPARE)).await {
            self.pool.keep(connection);
        }
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// For how long the API asks not to be asked (RFC 9110, section 10.2.3; RFC 6585, section 4).
fn wait(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = || headers.get(RETRY_AFTER)?.to_str().ok().map(str::trim);
    let said = text().and_then(|text| match directives::number(text.as_bytes()) {
        Some(seconds) => Some(Duration::from_secs(seconds.into())),
        None => {
            let at = httpdate::parse_http_date(text).ok()?;
            Some(at.duration_since(now).unwrap_or_default())
        }
    });
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(said.unwrap_or(USUAL_WAIT)),
        StatusCode::SERVICE_UNAVAILABLE => said,
        _ => None,
    }
}

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.template.fmt(f)
    }
}

impl Source for HttpSource {
    fn ask<'a>(&'a self, wanted: Wanted<'a>) -> Answering<'a> {
        Box::pin(self.fetch(wanted))
    }

    fn kind(&self) -> Kind {
        if self.bucket.is_some() { Kind::Bucket } else { Kind::Http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_asks_for_a_pause_gets_one() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_040_000);
        for (status, text, seconds) in [
            (429, Some("5"), Some(5)),
            (429, Some("Mon, 30 Nov 2026 12:00:09 GMT"), Some(9)),
            (429, Some("Mon, 30 Nov 2026 11:00:00 GMT"), Some(0)),
            (429, Some("soon"), Some(1)),
            (429, None, Some(1)),
            (503, Some(" 5 "), Some(5)),
            (503, Some("-5"), None),
            (503, None, None),
            (500, Some("5"), None),
            (404, Some("5"), None),
        ] {
            let mut headers = HeaderMap::new();
            text.map(|text| headers.insert(RETRY_AFTER, text.parse().unwrap()));
            let told = wait(StatusCode::from_u16(status).unwrap(), &headers, now);
            assert_eq!(told, seconds.map(Duration::from_secs), "{status} {text:?}");
        }
    }
}
