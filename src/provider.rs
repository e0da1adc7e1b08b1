//! Answers one metric question.
