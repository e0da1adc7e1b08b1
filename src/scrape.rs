//! When and how to scrape; writes the store.
