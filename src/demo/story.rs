//! What happened during a demo: changes of size, and how fast the metrics API answered.

use std::time::Duration;

/// So many changes of size and answer times are kept; later ones are only counted.
const KEPT: usize = 65_536;

/// A change of size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// When, since the demo began.
    pub at: Duration,
    /// The replicas before.
    pub from: i32,
    /// The replicas after.
    pub to: i32,
    /// The autoscaler's reason.
    pub reason: String,
}

/// The demo so far. Written by its loop, read by the view.
#[derive(Clone, Debug, Default)]
pub struct Story {
    rescales: Vec<Rescale>,
    answer_times: Vec<Duration>,
    answers: u64,
}

impl Story {
    /// Notes a change of size.
    pub fn rescaled(&mut self, rescale: Rescale) {
        if self.rescales.len() < KEPT {
            self.rescales.push(rescale);
        }
    }

    /// Notes that the metrics API answered, and how long that took.
    pub fn answered(&mut self, after: Duration) {
        self.answers += 1;
        if self.answer_times.len() < KEPT {
            self.answer_times.push(after);
        }
    }

    /// The changes of size, in their order.
    pub fn rescales(&self) -> &[Rescale] {
        &self.rescales
    }

    /// How many answers there were.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The middle of the answer times (of an even number, the upper one); `None` without an answer.
    pub fn median_answer(&self) -> Option<Duration> {
        let mut times = self.answer_times.clone();
        let middle = times.len() / 2;
        let (_, median, _) = (!times.is_empty()).then(|| times.select_nth_unstable(middle))?;
        Some(*median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let mut story = Story::default();
        assert_eq!(story.median_answer(), None);
        for millis in [900, 3, 1, 2, 4] {
            story.answered(Duration::from_millis(millis));
        }
        assert_eq!(story.median_answer(), Some(Duration::from_millis(3)));
        assert_eq!(story.answers(), 5);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_counted_is_not() {
        let mut story = Story::default();
        for _ in 0..KEPT + 10 {
            story.answered(Duration::ZERO);
        }
        assert_eq!((story.answer_times.len(), story.answers()), (KEPT, 65_546));
    }
}
