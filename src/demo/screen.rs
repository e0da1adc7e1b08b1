//! Where the demo is shown: a terminal, redrawn in place, or anything else, with one plain line per sync.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};

use super::story::Story;
use super::view::{self, Frame};

/// Where the demo is shown.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    live: bool,
    /// Lines that the next table overwrites.
    drawn: usize,
}

impl Screen<AutoStream<io::Stdout>> {
    /// Standard output: redrawn in place if it is a terminal that may have colours (`NO_COLOR`, `TERM`), else plain lines.
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let choice = AutoStream::choice(&stdout);
        let live = stdout.is_terminal() && choice != ColorChoice::Never;
        Self::new(AutoStream::new(stdout, choice), live)
    }
}

impl<W: Write> Screen<W> {
    /// A screen on `out`.
    pub const fn new(out: W, live: bool) -> Self {
        Self {
            out,
            live,
            drawn: 0,
        }
    }

    /// Whether it shows a table in place, and so wants a frame several times a second.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Shows the moment. Plain screens skip it.
    ///
    /// # Errors
    /// Where the output is closed.
    pub fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        let table = view::live(frame);
        let mut bytes = String::new();
        if self.drawn > 0 {
            let _ = write!(bytes, "\x1b[{}A", self.drawn);
        }
        for line in table.lines() {
            let _ = writeln!(bytes, "{line}\x1b[K");
        }
        bytes.push_str("\x1b[J");
        self.drawn = table.lines().count();
        self.out.write_all(bytes.as_bytes())?;
        self.out.flush()
    }

    /// Shows the moment after a sync, and on plain screens the first one too.
    ///
    /// # Errors
    /// Where the output is closed.
    pub fn synced(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if self.live {
            return self.draw(frame);
        }
        writeln!(self.out, "{}", view::line(frame))?;
        self.out.flush()
    }

    /// Shows the summary below everything else.
    ///
    /// # Errors
    /// Where the output is closed.
    pub fn finish(&mut self, story: &Story, elapsed: Duration) -> io::Result<()> {
        self.drawn = 0;
        let gap = if self.live { "\n" } else { "" };
        write!(self.out, "{gap}{}", view::summary(story, elapsed))?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;

    fn frame(story: &Story) -> Frame<'_> {
        Frame {
            elapsed: Duration::from_secs(37),
            load: Load::default(),
            pods: &[],
            metric: "m",
            average: Some(95_000),
            target: 50_000,
            current: 1,
            desired: 2,
            reason: "pods metric m above target",
            story,
        }
    }

    #[test]
    fn a_live_screen_overwrites_its_last_table() {
        let story = Story::default();
        let frame = frame(&story);
        let mut screen = Screen::new(Vec::new(), true);
        screen.draw(&frame).expect("memory");
        let first = screen.out.len();
        screen.synced(&frame).expect("memory");
        let text = String::from_utf8(screen.out.clone()).expect("text");
        let (one, two) = text.split_at(first);
        let lines = one.matches('\n').count();
        assert_eq!(format!("\x1b[{lines}A{one}"), two);
        screen
            .finish(&story, Duration::from_secs(120))
            .expect("memory");
        assert!(screen.out.ends_with(b"no answer yet\n"));
    }

    #[test]
    fn a_plain_screen_has_one_line_per_sync_and_no_escapes() {
        let story = Story::default();
        let frame = frame(&story);
        let mut screen = Screen::new(Vec::new(), false);
        screen.draw(&frame).expect("memory");
        assert!(screen.out.is_empty());
        screen.synced(&frame).expect("memory");
        screen
            .finish(&story, Duration::from_secs(120))
            .expect("memory");
        let text = String::from_utf8(screen.out).expect("text");
        assert_eq!(
            text,
            format!(
                "{}\n{}",
                view::line(&frame),
                view::summary(&story, Duration::from_secs(120))
            )
        );
        assert!(!text.contains('\x1b'));
    }
}
