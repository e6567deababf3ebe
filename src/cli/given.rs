//! What a command is given besides its own arguments: the configuration, secrets, variables and addresses. What is wrong
//! with any of it is the caller's mistake, and ends with [`super::EXIT_USAGE`].

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use url::Url;

use super::EXIT_USAGE;
use crate::config::keys::Kind;
use crate::config::text::{self, Named, NoText};
use crate::config::values::BadValue;
use crate::config::{self, Config, Mistakes, Paint, Warning};
use crate::secret::{BadSecret, SigningSecret};

/// Holds the signing secret of a Clerk endpoint, by the name that Clerk's own libraries read.
pub const VARIABLE_SECRET: &str = "CLERK_WEBHOOK_SIGNING_SECRET";
/// Holds the address of a relay that runs.
pub const VARIABLE_URL: &str = "CLERK_RELAY_URL";

/// A mistake on the command line, or in a variable that stands for an argument. `main` ends with
/// [`super::EXIT_USAGE`] where it meets one.
#[derive(Debug, thiserror::Error)]
pub enum Misuse {
    /// There is no text of a configuration.
    #[error(transparent)]
    NoText(#[from] NoText),
    /// The configuration has mistakes.
    #[error("the configuration has mistakes")]
    Mistakes(Mistakes),
    /// The arguments make no configuration. Its text is ours, so only the reasons are shown.
    #[error("the relay cannot run with these arguments: {}", reasons(.0))]
    Arguments(Mistakes),
    /// No signing secret.
    #[error("{from}")]
    Secret {
        /// The option or variable that it was given in.
        from: &'static str,
        /// Why not; does not repeat it.
        #[source]
        why: BadSecret,
    },
    /// No address of a store. Not repeated: it may hold a password.
    #[error("--store {0}; accepted: {accepted}", accepted = Kind::StoreUrl.accepted())]
    Store(BadValue),
    /// Nothing to sign with.
    #[error("there is nothing to sign with: give --secret, or set {VARIABLE_SECRET}")]
    NoSecret,
    /// The variable is not the address of a relay.
    #[error("{from} is not the address of a relay, such as http://127.0.0.1:8080")]
    Address {
        /// The option or variable that it was given in.
        from: &'static str,
        /// Why not.
        #[source]
        why: url::ParseError,
    },
    /// An address that is no web address.
    #[error("{from} is no web address, such as http://127.0.0.1:8081")]
    NoWebAddress {
        /// The option or variable that it was given in.
        from: &'static str,
    },
    /// Text that cannot be an admin token. Not repeated.
    #[error("{from} holds no admin token: letters, digits and -._~+/= only")]
    Token {
        /// The option or variable that it was given in.
        from: &'static str,
    },
    /// The file of an admin token cannot be read.
    #[error("--token-file {} cannot be read", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        why: std::io::Error,
    },
    /// No HTTP client can be made.
    #[error("no HTTP client can be made (are CA certificates installed?)")]
    HttpClient(#[source] reqwest::Error),
    /// A yes is needed, and nobody can be asked.
    #[error("this is no terminal, so nobody was asked: --yes does it, --dry-run only counts")]
    Unconfirmed,
    /// Neither one delivery nor a selection.
    #[error("which deliveries? Name an EVENT, or select by --target, --state, --type, --subject, --since")]
    NothingSelected,
    /// The event went to several targets.
    #[error("this event has several deliveries: name the TARGET, one of {}", .0.join(", "))]
    WhichTarget(Vec<String>),
    /// There is no sample of this type.
    #[error("there is no sample of `{wanted}`; did you mean `{near}`? `clerk-relay send --list` shows all")]
    NoSample {
        /// What was asked for.
        wanted: String,
        /// The type most like it.
        near: &'static str,
    },
    /// There is no such source.
    #[error("the configuration has no source `{0}`")]
    NoSource(String),
    /// Several sources, and none is named.
    #[error("the configuration has {0} sources: name one with --source")]
    WhichSource(usize),
}

impl Misuse {
    /// Prints it to standard error; the exit code to end with.
    pub fn tell(&self) -> ExitCode {
        match self {
            // Shown in their lines; anstream takes the colours out where the output is no terminal.
            Self::Mistakes(mistakes) => anstream::eprintln!("{}", mistakes.render(Paint::Colour)),
            Self::NoText(_)
            | Self::Arguments(_)
            | Self::Secret { .. }
            | Self::Store(_)
            | Self::NoSecret
            | Self::Address { .. }
            | Self::NoWebAddress { .. }
            | Self::Token { .. }
            | Self::TokenFile { .. }
            | Self::HttpClient(_)
            | Self::Unconfirmed
            | Self::NothingSelected
            | Self::WhichTarget(_)
            | Self::NoSample { .. }
            | Self::NoSource(_)
            | Self::WhichSource(_) => {
                let cause = self.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                anstream::eprintln!("error: {self}{cause}");
            }
        }
        ExitCode::from(EXIT_USAGE)
    }
}

fn reasons(mistakes: &Mistakes) -> String {
    mistakes.reasons().map(|(_, reason)| reason).collect::<Vec<_>>().join("; ")
}

/// The variable, where it is set to something.
pub fn variable(name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// Reads a secret that was given in the option or variable `from`, and prints what is odd about it.
///
/// # Errors
/// [`Misuse::Secret`].
pub fn secret(from: &'static str, text: &str) -> Result<SigningSecret, Misuse> {
    let (secret, odd) = SigningSecret::parse(text).map_err(|why| Misuse::Secret { from, why })?;
    for odd in odd {
        anstream::eprintln!("warning: {from}: {odd}");
    }
    Ok(secret)
}

/// Finds and reads the configuration for a command.
///
/// # Errors
/// [`Misuse`], where there is none or it has mistakes.
pub fn load(argument: Option<&Path>) -> Result<(Config, Vec<Warning>), Misuse> {
    let text = text::find(argument, &env)?;
    config::load(&text.content, &text.name, &env).map_err(Misuse::Mistakes)
}

/// The same, for a command that can do without: `None` where nobody named a configuration and there is none.
///
/// # Errors
/// [`Misuse`], where it has mistakes or the file that was named is not there.
pub fn load_if_any(argument: Option<&Path>) -> Result<Option<Config>, Misuse> {
    match load(argument) {
        Ok((config, _)) => Ok(Some(config)),
        Err(Misuse::NoText(NoText::Missing { from: Named::Nobody, .. })) => Ok(None),
        Err(misuse) => Err(misuse),
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints warnings to standard error.
pub fn tell(warnings: &[Warning]) {
    for warning in warnings {
        anstream::eprintln!("{}\n", warning.render(Paint::Colour));
    }
}

/// The address under which this machine reaches what listens on `listen`.
///
/// # Errors
/// None that an address can cause.
pub fn url_of(listen: SocketAddr) -> Result<Url, url::ParseError> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Url::parse(&format!("http://{}", SocketAddr::new(ip, listen.port())))
}
