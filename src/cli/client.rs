//! Talking to the admin API of a relay: where it is, with which token, and what is wrong when it does not answer as it
//! should, each with what to do next. Knows nothing of what is asked.

mod problem;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

pub use problem::ApiError;

use super::given::{self, Misuse, VARIABLE_URL};
use crate::config::Scope;
use crate::secret::AdminSecret;

/// Holds an admin token.
pub const VARIABLE_TOKEN: &str = "CLERK_RELAY_TOKEN";
/// Where the admin API listens when nothing else is known.
const DEFAULT_URL: &str = "http://127.0.0.1:8081/";
/// To a relay on another continent, with a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than the relay's own deadline for a request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A stream says something at least every 15 s; two such silences and it is dead.
pub const STREAM_SILENCE_MAX: Duration = Duration::from_secs(40);
/// The longest answer that is read: above the largest payload that a relay takes (64 MiB), with its escapes as JSON.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The same of an answer that is no success: a relay says it in a sentence, and who knows what else may answer there.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Which relay to talk to.
#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// The relay's admin API [default: CLERK_RELAY_URL, else `admin.listen` of the configuration]
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    pub url: Option<String>,
    /// An admin token; others on this machine can see it, so better --token-file or the variable [default:
    /// CLERK_RELAY_TOKEN, else one of the configuration, where the address is from there too]
    // Not parsed by clap, which would repeat a wrong one.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file", help_heading = "Connection")]
    pub token: Option<String>,
    /// A file that holds an admin token
    #[arg(long, value_name = "PATH", help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
    /// The configuration file [default: CLERK_RELAY_CONFIG, CLERK_RELAY_YAML, else relay.yaml]
    #[arg(long, value_name = "PATH", help_heading = "Connection")]
    pub config: Option<PathBuf>,
}

/// Why there may be no token, or not the right one: what a 401 is explained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFrom {
    /// An option or variable named one.
    Given,
    /// The configuration held one.
    Configuration,
    /// The configuration was read and has none that fits: none at all, or only digests.
    NoneConfigured,
    /// The configuration could not be read.
    Unreadable,
    /// Nobody looked: the address was given, and the configuration's tokens go nowhere else than to its own.
    AddressGiven,
    /// There is no configuration here.
    NoConfiguration,
}

impl Connect {
    /// A client with a token that may do `needs`.
    ///
    /// # Errors
    /// [`Misuse`] where an address, a token or the configuration that was named cannot be used.
    pub fn client(&self, needs: Scope) -> Result<Client, Misuse> {
        let given = self.given_token()?;
        let (base, token, from) = match (&self.url, given::variable(VARIABLE_URL)) {
            (Some(text), _) => (address("--url", text)?, given, TokenFrom::AddressGiven),
            (None, Some(text)) => (address(VARIABLE_URL, &text)?, given, TokenFrom::AddressGiven),
            (None, None) => self.configured(needs, given)?,
        };
        let from = if self.has_given_token() { TokenFrom::Given } else { from };
        Client::new(base, token, from)
    }

    fn has_given_token(&self) -> bool {
        self.token.is_some() || self.token_file.is_some() || given::variable(VARIABLE_TOKEN).is_some()
    }

    fn given_token(&self) -> Result<Option<AdminSecret>, Misuse> {
        let (from, text) = match (&self.token, &self.token_file, given::variable(VARIABLE_TOKEN)) {
            (Some(token), _, _) => ("--token", token.clone()),
            (None, Some(path), _) => {
                let why = |why| Misuse::TokenFile { path: path.clone(), why };
                ("--token-file", std::fs::read_to_string(path).map_err(why)?)
            }
            (None, None, Some(token)) => (VARIABLE_TOKEN, token),
            (None, None, None) => return Ok(None),
        };
        AdminSecret::parse(&text).map(Some).ok_or(Misuse::Token { from })
    }

    /// Address and token by the configuration.
    fn configured(
        &self, needs: Scope, given: Option<AdminSecret>,
    ) -> Result<(Url, Option<AdminSecret>, TokenFrom), Misuse> {
        let default = || address("the default", DEFAULT_URL);
        let config = match given::load_if_any(self.config.as_deref()) {
            Ok(Some(config)) => config,
            Ok(None) => return Ok((default()?, given, TokenFrom::NoConfiguration)),
            // One that nobody named may lack here what the relay has, such as the variables with its secrets.
            Err(Misuse::Mistakes(_)) if self.config.is_none() => {
                return Ok((default()?, given, TokenFrom::Unreadable));
            }
            Err(misuse) => return Err(misuse),
        };
        let base = given::url_of(config.admin.listen)
            .map_err(|why| Misuse::Address { from: "admin.listen", why })?;
        // The one that may do the least of those that may do enough; else whichever there is: the relay says no.
        let mut tokens: Vec<_> = config.admin.tokens.iter().filter(|token| token.secret.is_some()).collect();
        tokens.sort_by_key(|token| (token.can < needs, token.can));
        let found = tokens.first().and_then(|token| token.secret.clone());
        let from = if found.is_some() { TokenFrom::Configuration } else { TokenFrom::NoneConfigured };
        Ok((base, given.or(found), from))
    }
}

/// The address `text`, as a folder that paths are put below.
fn address(from: &'static str, text: &str) -> Result<Url, Misuse> {
    let mut url: Url = text.trim().parse().map_err(|why| Misuse::Address { from, why })?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(Misuse::NoWebAddress { from });
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The parameters of a request, each with its value.
pub type Query = Vec<(&'static str, String)>;

/// A client of one relay's admin API.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<AdminSecret>,
    token_from: TokenFrom,
}

impl Client {
    fn new(base: Url, token: Option<AdminSecret>, token_from: TokenFrom) -> Result<Self, Misuse> {
        let is_loopback = base.host_str().is_some_and(|host| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        });
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STREAM_SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none()); // a token goes where it was meant to, or nowhere
        if is_loopback {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(Misuse::HttpClient)?;
        Ok(Self { http, base, token, token_from })
    }

    /// The error of a request that got no answer.
    fn unreachable(&self, why: reqwest::Error) -> ApiError {
        ApiError::unreachable(&self.base, self.token_from, why)
    }

    /// The address that is talked to.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Asks `path` below `/api/v1`, and reads the answer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &Query) -> Result<T, ApiError> {
        let value = self.ask(Method::GET, path, query, None).await?;
        serde_json::from_value(value).map_err(|why| ApiError::Strange { base: self.base.clone(), why })
    }

    /// Makes one request of the API; an empty answer is `null`.
    ///
    /// # Errors
    /// [`ApiError`], for any answer that is no success as well.
    pub async fn ask(
        &self, method: Method, path: &[&str], query: &Query, body: Option<Value>,
    ) -> Result<Value, ApiError> {
        let mut request = self.request(method, path, query).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = self.send(request).await?;
        let bytes = self.read(response).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|why| ApiError::Strange { base: self.base.clone(), why })
    }

    /// The answer to a `GET` as it comes: bytes, or a stream without end.
    ///
    /// # Errors
    /// [`ApiError`], for any answer that is no success as well.
    pub async fn open(&self, path: &[&str], query: &Query) -> Result<Response, ApiError> {
        self.send(self.request(Method::GET, path, query)).await
    }

    /// The bytes of an answer that has an end.
    ///
    /// # Errors
    /// [`ApiError`], where it breaks off.
    pub async fn read(&self, response: Response) -> Result<Vec<u8>, ApiError> {
        read(response, ANSWER_BYTES_MAX).await.map_err(|why| self.unreachable(why))
    }

    fn request(&self, method: Method, path: &[&str], query: &Query) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        for (name, value) in query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let request = self.http.request(method, url).header("accept", "application/json, text/event-stream");
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|why| self.unreachable(why))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = read(response, ERROR_BYTES_MAX).await.unwrap_or_default(); // the status alone says enough
        Err(problem::told(status, &bytes, &self.base, self.token_from))
    }
}

/// The first `bytes_max` bytes of an answer.
async fn read(mut response: Response, bytes_max: usize) -> reqwest::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(bytes)
}
