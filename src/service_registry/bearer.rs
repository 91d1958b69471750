//! The JWT-SVID of a call.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Adds `authorization: Bearer <JWT-SVID>` to a call; the default adds nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    pub(super) fn of(token: &str) -> Self {
        // A JWT is base64url and dots.
        let value = format!("Bearer {token}").parse().ok().map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        });
        Self(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
