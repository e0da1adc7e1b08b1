//! The HorizontalPodAutoscaler's replica algorithm as a pure function.
