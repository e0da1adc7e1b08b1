//! The `Status` for a question without an answer.

use axum::response::Response;
use http::StatusCode;

use crate::provider::ProviderError;

use super::status::{Details, failure};

/// Says why there is no value. The code makes no difference to the HPA, the text does.
pub(super) fn refuse(about: &Details<'_>, error: &ProviderError) -> Response {
    let (code, reason) = match error {
        ProviderError::UnknownResource(_)
        | ProviderError::UnknownMetric(_)
        | ProviderError::NoObjects(_)
        | ProviderError::Missing(_) => (StatusCode::NOT_FOUND, "NotFound"),
        ProviderError::Selector(_) | ProviderError::NoNamespace(_) => {
            (StatusCode::BAD_REQUEST, "BadRequest")
        }
        ProviderError::Unusable { .. } | ProviderError::Engine { .. } => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
        }
        ProviderError::Objects(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        ProviderError::Deadline { .. } => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
    };
    failure(code, reason, &error.to_string(), Some(*about))
}
