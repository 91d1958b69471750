//! The access key of the settings, read each time that a request is signed. Without one the SDK has AWS's default chain:
//! environment, web identity, profile, container, machine.

use std::fmt;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use crate::config::AccessKeys;

/// Gives the SDK the access key.
pub(super) struct Keys(AccessKeys);

impl Keys {
    pub(super) fn new(keys: AccessKeys) -> Self {
        Self(keys)
    }

    fn read(&self) -> Result<Credentials, CredentialsError> {
        let access_key = self.0.access_key.read().map_err(CredentialsError::provider_error)?;
        let secret_key = self.0.secret_key.read().map_err(CredentialsError::provider_error)?;
        Ok(Credentials::new(access_key.expose(), secret_key.expose(), None, None, "settings"))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read())
    }
}
