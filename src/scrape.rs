//! When and how to scrape; writes the store.
//!
//! [`Scraping`] has each target scraped by one of a few workers. A target's scraper owns its writer, so that a target that goes away
//! takes its series with it; each scrape is a task, so that a slow or broken one costs no other anything but a place among the
//! scrapes in flight.
//!
//! A target is scraped once an interval, and [`Demand`] takes requests' wishes into account: when, not how often.

mod about;
mod connection;
mod demand;
mod error;
mod fetch;
mod http1;
mod ingest;
mod kept;
mod names;
mod pace;
mod pool;
mod request;
mod scraper;
mod series;
mod statistics;
mod threads;
mod worker;

pub use demand::Demand;
pub use error::ScrapeError;
pub use kept::KeptMetrics;
pub use pool::Scraping;
pub use statistics::{Counts, Statistics};
