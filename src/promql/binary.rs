//! Operators between two values, and how elements of two vectors find one another.

use super::grouping::Grouping;

/// An arithmetic or comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

/// An operator between vectors as sets of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOperator {
    And,
    Or,
    Unless,
}

/// How elements of two vectors find one another.
#[derive(Debug)]
pub(super) struct Matching {
    /// `on` or `ignoring`.
    pub(super) by: Grouping,
    pub(super) many: Many,
    /// Labels taken over from the side that has one element per match.
    pub(super) include: Vec<String>,
}

/// Which side may have several elements per match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Many {
    Neither,
    /// `group_left`
    Left,
    /// `group_right`
    Right,
}

impl Operator {
    pub(super) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterOrEqual
                | Self::LessOrEqual
        )
    }

    /// Whether the result is no longer the metric that went in.
    pub(super) fn makes_another_metric(self) -> bool {
        !self.is_comparison()
    }

    /// The result between two numbers: comparisons give 1 or 0.
    pub(super) fn between(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
            _ => f64::from(u8::from(self.holds(left, right))),
        }
    }

    /// Whether a comparison holds.
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
            _ => false,
        }
    }
}
