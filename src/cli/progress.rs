//! Shows how a compilation goes, on standard error: bars on a terminal, one line per stage and note elsewhere.

use crate::escape;
use crate::pipeline::{Outcome, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How often a bar without news moves.
const TICK: Duration = Duration::from_millis(120);

/// Stages as they run.
pub struct Terminal {
    /// Whether somebody watches who can see a bar move.
    interactive: bool,
    bar: RefCell<ProgressBar>,
}

impl Terminal {
    /// Looks at what standard error is.
    pub fn new() -> Terminal {
        Terminal { interactive: io::stderr().is_terminal(), bar: RefCell::new(ProgressBar::hidden()) }
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        self.bar.borrow().suspend(|| super::say(text));
    }
}

impl Progress for Terminal {
    fn start(&self, stage: &str) {
        if self.interactive {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{spinner} {prefix:<12} {elapsed_precise}"));
            bar.set_prefix(stage.to_owned());
            bar.enable_steady_tick(TICK);
            self.bar.replace(bar);
        }
    }

    fn position(&self, done: u64, total: u64, text: &str) {
        let bar = self.bar.borrow();
        if bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_style(style("{spinner} {prefix:<12} [{bar:30}] {pos}/{len}, {per_sec}, {eta} left\n{msg}"));
            // What was done before the bar was there (a resumed run) says nothing about the speed.
            bar.reset_eta();
        }
        bar.set_position(done);
        // Under the bar, as far as the bar's name is indented.
        bar.set_message(text.lines().map(|line| format!("  {}", escape::line(line))).collect::<Vec<_>>().join("\n"));
    }

    fn note(&self, line: &str) {
        self.line(&format!("  {line}"));
    }

    fn finish(&self, stage: &str, outcome: Outcome) {
        self.bar.replace(ProgressBar::hidden()).finish_and_clear();
        self.line(&match outcome {
            Outcome::Ran { seconds } => format!("{stage:<14} {seconds:>8.1} s"),
            Outcome::Cached => format!("{stage:<14}   cached"),
            Outcome::Skipped => format!("{stage:<14}  skipped"),
        });
    }
}

impl Drop for Terminal {
    /// An error may end a stage in the middle; its bar must not stay on the screen.
    fn drop(&mut self) {
        self.bar.borrow().finish_and_clear();
    }
}

/// A bar's looks; the plain ones where the template is not understood.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_without_a_start_or_with_an_error_in_the_middle_leave_nothing_behind() {
        let terminal = Terminal { interactive: true, bar: RefCell::new(ProgressBar::hidden()) };
        terminal.position(1, 2, "");
        terminal.start("distill");
        terminal.position(3, 10, "loss 0.4");
        let bar = terminal.bar.borrow().clone();
        assert_eq!((bar.position(), bar.length(), bar.is_finished()), (3, Some(10), false));
        drop(terminal);
        assert!(bar.is_finished());
    }
}
