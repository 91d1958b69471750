//! Who may call the HTTP API, what each may do, and how often.

use super::reader::Reader;
use super::secrets::{Secret, SecretSource, Shown, secret_names};
use crate::http::{AllowList, Permission};

/// The value of `ENVIRONMENT` in which authentication may be off.
pub const DEVELOPMENT: &str = "development";
/// Shortest token, in characters: 96 bits when they are those of base64.
const LEAST_TOKEN: usize = 16;
/// Longest identity, in bytes.
const MOST_IDENTITY: usize = 200;

/// Settings of the HTTP API's callers.
#[derive(Debug, Clone)]
pub struct HttpApiConfig {
    /// `HTTP_API_AUTH`: whether callers must prove who they are.
    pub authenticated: bool,
    /// `HTTP_API_TOKEN`, its file, or Vault; `None`: nobody has a token.
    pub tokens: Option<ApiTokens>,
    /// `HTTP_API_ALLOW`: what each identity may do. Whoever is not in it may do nothing.
    pub allow: AllowList,
    /// `HTTP_API_RATE`: requests a second that one caller may make, for long; twice as many at once.
    pub rate: u32,
}

/// Static bearer tokens, each of an identity. An identity may have several, so that one can be replaced.
#[derive(Debug, Clone)]
pub struct ApiTokens(SecretSource);

impl ApiTokens {
    /// Identity and token, as they are now: a file may have changed, and what Vault has.
    ///
    /// # Errors
    /// When the file cannot be read, Vault has given nothing, or an entry is none. The sentence never holds what may be a token.
    pub fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let text = self.0.read()?;
        let entries = text.expose().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .enumerate()
            .map(|(at, entry)| token(entry).map_err(|error| format!("entry {}: {error}", at + 1)))
            .collect()
    }
}

fn token(entry: &str) -> Result<(String, Secret), String> {
    let (identity, token) = entry.split_once('=').ok_or("expected identity=token")?;
    let identity = self::identity(identity.trim())?;
    let token = token.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=');
    if token.chars().count() < LEAST_TOKEN || !token.chars().all(good) {
        // What stands in the identity's place may be a token that lacks one.
        return Err(format!("its token must have at least {LEAST_TOKEN} characters of A-Z a-z 0-9 - . _ ~ + / ="));
    }
    Ok((identity, Secret::new(token)))
}

fn identity(text: &str) -> Result<String, String> {
    let good = (1..=MOST_IDENTITY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(text.to_owned())
    } else {
        Err("an identity is 1 to 200 printable characters without blanks".to_owned())
    }
}

impl HttpApiConfig {
    pub(super) fn read(reader: &mut Reader<'_>, environment: &str) -> Self {
        let authenticated = reader.boolean(
            "HTTP_API_AUTH",
            true,
            "whether callers of the HTTP API must prove who they are; false with ENVIRONMENT=development only; added by this product",
        );
        if !authenticated && environment != DEVELOPMENT {
            reader.error(format!(
                "HTTP_API_AUTH=false lets anyone in reach cancel tickets; it needs ENVIRONMENT={DEVELOPMENT}, which is {environment:?}"
            ));
        }
        let tokens = tokens(reader);
        let allow = allow(reader);
        match &tokens {
            Some(_) if !authenticated => {
                reader.warn(
                    "HTTP_API_TOKEN has no effect with HTTP_API_AUTH=false: everyone may do everything".to_owned(),
                );
            }
            Some(_) if allow.is_empty() => {
                reader.warn("HTTP_API_TOKEN has no effect without HTTP_API_ALLOW: nobody may do anything".to_owned());
            }
            _ => {}
        }
        let rate = reader.number(
            "HTTP_API_RATE",
            50,
            1,
            "requests a second that one caller of the HTTP API may make, for long; twice as many at once; added by this product",
        );
        Self { authenticated, tokens, allow, rate: u32::try_from(rate).unwrap_or(u32::MAX) }
    }
}

fn tokens(reader: &mut Reader<'_>) -> Option<ApiTokens> {
    let source = reader.secret(
        &secret_names!(
            "HTTP_API_TOKEN",
            "bearer tokens of the HTTP API's callers",
            ", identity=token each; added by this product"
        ),
        Shown::Hidden,
    )?;
    let tokens = ApiTokens(source);
    // What is not there yet is asked for again and again; what is there must be tokens.
    if tokens.0.read().is_ok()
        && let Err(error) = tokens.read()
    {
        reader.error(format!("{}: {error}", tokens.0.setting()));
    }
    Some(tokens)
}

fn allow(reader: &mut Reader<'_>) -> AllowList {
    const NAME: &str = "HTTP_API_ALLOW";
    let entries = reader.list(
        NAME,
        "",
        "what each caller of the HTTP API may do: identity=verb|verb, or identity=* for all; added by this product",
    );
    let mut allow = AllowList::default();
    for entry in entries {
        match allowed(&entry) {
            Ok((identity, permissions)) => allow.add(identity, permissions),
            Err(error) => reader.error(format!("{NAME}: {entry:?}: {error}")),
        }
    }
    allow
}

fn allowed(entry: &str) -> Result<(String, Vec<Permission>), String> {
    let (identity, verbs) = entry.rsplit_once('=').ok_or("expected identity=verb|verb or identity=*")?;
    let identity = self::identity(identity.trim())?;
    if verbs.trim() == "*" {
        return Ok((identity, Permission::ALL.to_vec()));
    }
    let permissions = verbs.split('|').map(|verb| verb.trim().parse()).collect::<Result<_, _>>()?;
    Ok((identity, permissions))
}
