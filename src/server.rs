//! Listening: TLS and its reload, limits, drain.
