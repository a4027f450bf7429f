//! Figures beside their targets.

use anyhow::{Result, bail};
use std::fmt;

/// The figures of one line.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    figure: String,
    target: String,
    met: Option<bool>,
}

impl Report {
    /// A figure that must be `target` or more.
    pub fn at_least(&mut self, what: &str, figure: f64, target: f64) {
        self.add(what, number(figure), format!("≥ {}", number(target)), Some(figure >= target));
    }

    /// A figure that must be `target` or less.
    pub fn at_most(&mut self, what: &str, figure: f64, target: f64) {
        self.add(what, number(figure), format!("≤ {}", number(target)), Some(figure <= target));
    }

    /// A figure that must be below `target`.
    pub fn below(&mut self, what: &str, figure: f64, target: f64) {
        self.add(what, number(figure), format!("< {}", number(target)), Some(figure < target));
    }

    /// A count that must be exactly `target`.
    pub fn equals(&mut self, what: &str, figure: u64, target: u64) {
        self.add(what, figure.to_string(), format!("= {target}"), Some(figure == target));
    }

    /// Something that must be so.
    pub fn must(&mut self, what: &str, holds: bool) {
        let figure = if holds { "yes" } else { "no" };
        self.add(what, figure.into(), "yes".into(), Some(holds));
    }

    /// Something that had to go well and did not.
    pub fn failed(&mut self, what: &str, error: &anyhow::Error) {
        self.add(what, format!("{error:#}"), "no error".into(), Some(false));
    }

    /// Something that must go well.
    pub fn must_succeed(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.must(what, true),
            Err(error) => self.failed(what, &error),
        }
    }

    /// A figure without a target.
    pub fn note(&mut self, what: &str, figure: impl ToString) {
        self.add(what, figure.to_string(), String::new(), None);
    }

    /// An error if a target was missed.
    pub fn verdict(&self) -> Result<()> {
        let missed = self.rows.iter().filter(|row| row.met == Some(false)).count();
        if missed > 0 {
            bail!("{missed} of {} targets missed", self.rows.iter().filter(|row| row.met.is_some()).count());
        }
        Ok(())
    }

    fn add(&mut self, what: &str, figure: String, target: String, met: Option<bool>) {
        let target_shown =
            if target.is_empty() { String::new() } else { format!(" ({target}: {})", mark(met)) };
        eprintln!("  {what}: {figure}{target_shown}");
        self.rows.push(Row { what: what.to_owned(), figure, target, met });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| | measured | target | |\n|---|---|---|---|\n")?;
        for Row { what, figure, target, met } in &self.rows {
            // A figure of many lines (an error) must stay in its cell.
            let figure = figure.replace('\n', " ").replace('|', "/");
            writeln!(f, "| {what} | {figure} | {target} | {} |", mark(*met))?;
        }
        Ok(())
    }
}

fn mark(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    }
}

/// Three or more significant digits.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_target_fails_the_line() {
        let mut report = Report::default();
        report.at_least("rate", 10.0, 5.0);
        assert!(report.verdict().is_ok());
        report.at_most("latency", 10.0, 5.0);
        assert!(report.verdict().is_err());
    }

    #[test]
    fn a_figure_that_is_not_a_number_misses_its_target() {
        let mut report = Report::default();
        report.at_least("rate", f64::NAN, 5.0);
        assert!(report.verdict().is_err());
    }
}
