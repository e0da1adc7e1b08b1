//! The text and OpenMetrics parsers: bytes to borrowed samples. No I/O.
