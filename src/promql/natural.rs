//! The order in which people put names with numbers in them: `gpu2` before `gpu10`.

use std::cmp::Ordering;

/// Compares by runs of digits (as numbers) and runs of anything else, as `sort_by_label` does.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (of_a, of_b) = (run(a), run(b));
        let order = match (number(of_a), number(of_b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => of_a.cmp(of_b),
        };
        (a, b) = (&a[of_a.len()..], &b[of_b.len()..]);
        if order.is_ne() || a.is_empty() || b.is_empty() {
            return order.then_with(|| a.len().cmp(&b.len()));
        }
    }
}

/// The run of digits, or of anything else, that `text` starts with.
fn run(text: &str) -> &str {
    let is_digit = |c: char| c.is_ascii_digit();
    let first = text.starts_with(is_digit);
    let end = text.find(|c| is_digit(c) != first).unwrap_or(text.len());
    &text[..end]
}

fn number(text: &str) -> Option<i64> {
    text.parse()
        .ok()
        .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let mut names = ["gpu10", "gpu2", "gpu", "a10b2", "a10b10", "", "007"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            ["", "007", "a10b2", "a10b10", "gpu", "gpu2", "gpu10"]
        );
    }
}
