//! The server's front door over real TLS: who gets in as whom, and what changes without anyone noticing.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "tls/audit.rs"]
mod audit;
#[path = "tls/connections.rs"]
mod connections;
#[path = "tls/hostile.rs"]
mod hostile;
#[path = "tls/identity.rs"]
mod identity;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/site.rs"]
mod site;
