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
#[path = "support/proc.rs"]
#[expect(dead_code, reason = "how much CPU is of no interest here")]
mod proc;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/site.rs"]
mod site;
