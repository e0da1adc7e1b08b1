//! Evaluation of a parsed PromQL query over a `SeriesReader`.
