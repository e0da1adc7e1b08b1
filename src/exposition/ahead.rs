//! Asking for a page's bytes before they are read.

/// How far before the place that is read.
const DISTANCE: usize = 4096;

/// How many bytes are asked for together.
const STEP: usize = 256;

/// How many bytes an x86-64 processor fetches together.
const CACHE_LINE: usize = 64;

/// Asks for the bytes of a page some lines before they are read. A processor fetches ahead by itself, but only within a
/// page of memory and up to a branch that it guesses wrong, and few are harder to guess than where a line ends: a page
/// that is larger than the caches near by would be waited for at each line.
pub(super) struct Ahead<'a> {
    page: &'a [u8],
    /// The place for which enough of the page has been asked for.
    enough: usize,
}

impl<'a> Ahead<'a> {
    /// For a page that is read from `at` on.
    pub(super) fn new(page: &'a [u8], at: usize) -> Self {
        Self { page, enough: at }
    }

    /// Tells that the page is read at `at` now.
    #[inline]
    pub(super) fn reading(&mut self, at: usize) {
        while self.enough < at
            && let Some(rest) = self.page.get(self.enough + DISTANCE..)
            && let Some(step) = rest.first_chunk::<STEP>()
        {
            step.iter().step_by(CACHE_LINE).for_each(prefetch);
            self.enough += STEP;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch(byte: &u8) {
    safe_arch::prefetch_t0(byte);
}

/// The others have no such thing that safe code could ask for.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch(_: &u8) {}
