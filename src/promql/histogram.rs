//! Quantiles of classic histograms (`promql/quantile.go`, `BucketQuantile`).

/// A bucket: how many observations were at most `bound`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    pub(super) bound: f64,
    pub(super) count: f64,
}

/// Relative differences below this between neighbouring counts are rounding (`smallDeltaTolerance`).
const TOLERANCE: f64 = 1e-12;

/// The `q`-quantile, interpolated linearly within a bucket; `buckets` must not be empty and get sorted.
///
/// NaN without a bucket for +Inf, with less than two buckets, and without observations.
pub(super) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets
        .last()
        .is_none_or(|last| last.bound != f64::INFINITY)
    {
        return f64::NAN;
    }
    buckets.dedup_by(|later, first| {
        let is_same = later.bound == first.bound;
        if is_same {
            first.count += later.count;
        }
        is_same
    });
    make_monotonic(buckets);
    let [.., before_last, last] = buckets.as_slice() else {
        return f64::NAN;
    };
    if last.count == 0.0 {
        return f64::NAN;
    }
    let rank = q * last.count;
    let finite = &buckets[..buckets.len() - 1];
    // Not a partition point: with a NaN count, only this search finds what Prometheus finds.
    let place = first_index(finite.len(), |index| finite[index].count >= rank);
    if place == finite.len() {
        return before_last.bound;
    }
    let bucket = buckets[place];
    if place == 0 && bucket.bound <= 0.0 {
        return bucket.bound;
    }
    let (start, below) = match place.checked_sub(1) {
        Some(before) => (buckets[before].bound, buckets[before].count),
        None => (0.0, 0.0),
    };
    start + (bucket.bound - start) * ((rank - below) / (bucket.count - below))
}

/// Go's `sort.Search`.
fn first_index(len: usize, is_there: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_there(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Counts must not fall from one bucket to the next; what falls is scraped while it changes, or rounding.
fn make_monotonic(buckets: &mut [Bucket]) {
    let Some((first, later)) = buckets.split_first_mut() else {
        return;
    };
    let mut before = first.count;
    for bucket in later {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) || bucket.count < before {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
}

/// `util/almost` in Prometheus.
fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(q: f64, buckets: &[(f64, f64)]) -> f64 {
        let bucket = |&(bound, count): &(f64, f64)| Bucket { bound, count };
        quantile(q, &mut buckets.iter().map(bucket).collect())
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let inf = f64::INFINITY;
        let buckets = [(inf, 10.0), (1.0, 2.0), (2.0, 6.0), (4.0, 10.0)];
        assert_eq!(of(0.5, &buckets), 1.75);
        assert_eq!(of(0.1, &buckets), 0.5);
        assert_eq!(of(1.0, &buckets), 4.0);
        assert_eq!(of(0.9, &[(1.0, 2.0), (inf, 10.0)]), 1.0);
        assert_eq!(of(0.1, &[(-1.0, 2.0), (inf, 10.0)]), -1.0);
        assert_eq!(of(-0.1, &buckets), -inf);
        assert_eq!(of(1.1, &buckets), inf);
        assert!(of(f64::NAN, &buckets).is_nan());
        assert!(
            of(0.5, &[(1.0, 2.0), (2.0, 3.0)]).is_nan(),
            "nothing up to +Inf"
        );
        assert!(of(0.5, &[(inf, 3.0)]).is_nan(), "one bucket");
        assert!(
            of(0.5, &[(1.0, 0.0), (inf, 0.0)]).is_nan(),
            "no observation"
        );
        // A count that falls is raised to the one before.
        assert_eq!(of(0.5, &[(1.0, 4.0), (2.0, 3.0), (inf, 4.0)]), 0.5);
    }
}
