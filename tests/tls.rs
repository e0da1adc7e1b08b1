//! The server's front door over real TLS: who gets in as whom, and what changes without anyone noticing.

#[path = "tls/connections.rs"]
mod connections;
#[path = "tls/identity.rs"]
mod identity;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/site.rs"]
mod site;
