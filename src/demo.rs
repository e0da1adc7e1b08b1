//! A simulated GPU cluster around the real server.
