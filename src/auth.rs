//! Who is asking, and may they: front-proxy headers, x509, TokenReview, SubjectAccessReview.
//!
//! The rules are those of a Go aggregated API server (k8s.io/apiserver, `authenticatorfactory/delegating.go`).
//! Nothing here listens, speaks to a cluster or writes an answer: the [`Reviewer`] asks the kube-apiserver,
//! and the server room turns [`Unauthenticated`] and [`Forbidden`] into responses. Only who watches the
//! authentication ConfigMap writes the [`Trust`]; requests read a snapshot of it.

mod attributes;
mod authenticator;
mod authorizer;
mod certificate;
mod headers;
mod metrics;
mod recent;
mod reviewer;
mod trust;
mod user;

pub use attributes::RequestAttributes;
pub use authenticator::{Authenticator, Cause, Unauthenticated};
pub use authorizer::{AuthorizationError, Authorizer, Forbidden, HEALTH_PATHS};
pub use certificate::CertificateFault;
pub use headers::NotText;
pub use metrics::register;
pub use reviewer::{Decision, ReviewError, Reviewer};
pub use trust::{Trust, TrustError};
pub use user::User;
