//! Listening: TLS and its reload, limits, drain.
//!
//! [`serve`] takes a finished router and keeps it reachable, [`serve_plain`] on loopback only; [`protected`] and [`guarded`] wrap the router before that,
//! [`pki`] makes certificates where no one else does. Nothing here knows what is served.
//!
//! A request passes, from the outside in: connection limit, handshake, [`observed`] (metrics, audit log), [`protected`] (panic, length of the URI, body,
//! requests in flight, deadline), [`guarded`] (who, may they), router.

mod audit;
mod certificate;
mod door;
mod identity;
mod listen;
mod metrics;
mod observation;
pub mod pki;
mod protection;
mod terms;

pub use audit::{Audit, AuditError, AuditLog};
pub use certificate::{CertificateError, CertificateFiles, ServingCertificate};
pub use identity::guarded;
pub use listen::{Admission, Drain, Listen, Running, ServeError, serve, serve_plain};
pub use metrics::{Refusal, ServerMetrics};
pub use observation::observed;
pub use protection::{Protection, protected};
pub use terms::TlsTerms;
