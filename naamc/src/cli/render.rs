//! Findings for people (through `miette`) and for programs (JSON).

use miette::{
    Diagnostic, GraphicalReportHandler, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};
use naamc::diagnostic::{Finding, SourceLine};
use std::fmt;
use std::io::{IsTerminal, Write};

/// Prints findings to standard error, and how many there were.
pub fn print(input: &str, findings: &[Finding]) {
    let theme = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        miette::GraphicalTheme::unicode()
    } else {
        miette::GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let mut out = String::new();
    for finding in findings {
        let mut text = String::new();
        match handler.render_report(&mut text, &Report::new(finding)) {
            Ok(()) => out.push_str(&text),
            Err(_) => out.push_str(&format!("{finding}\n")),
        }
        out.push('\n');
    }
    out.push_str(&format!("{input}: {}\n", naamc::quantity::counted(findings.len() as u64, "finding")));
    if let Some(first) = findings.first() {
        out.push_str(&format!("`naamc explain {}` says more\n", first.code));
    }
    // Who does not read them still has the exit code.
    let _ = std::io::stderr().write_all(out.as_bytes());
}

/// Findings as JSON.
pub fn json(findings: &[Finding]) -> serde_json::Value {
    let one = |finding: &Finding| {
        serde_json::json!({
            "code": finding.code.to_string(),
            "message": finding.message,
            "function": finding.place.function,
            "instruction": finding.place.instruction,
            "line": finding.place.line.as_ref().map(|line| serde_json::json!({
                "file": line.file, "line": line.line, "column": line.column, "text": line.text,
            })),
            "known": finding.known,
            "hint": finding.hint,
        })
    };
    findings.iter().map(one).collect()
}

/// A finding as `miette` wants it.
#[derive(Debug)]
struct Report<'a> {
    finding: &'a Finding,
    source: Option<Line>,
}

impl Report<'_> {
    fn new(finding: &Finding) -> Report<'_> {
        let line = finding.place.line.clone().filter(|line| !line.text.is_empty());
        Report { finding, source: line.map(Line) }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.finding.place.function {
            write!(f, "in `{function}`: ")?;
        }
        f.write_str(&self.finding.message)?;
        match (&self.source, &self.finding.place.line) {
            (None, Some(line)) => write!(f, " ({}:{})", line.file, line.line),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(self.finding.code))
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        let known = self.finding.known.iter().map(|fact| format!("known here: {fact}"));
        let lines: Vec<String> = known.chain(self.finding.hint.clone()).collect();
        if lines.is_empty() { None } else { Some(Box::new(lines.join("\n"))) }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|line| line as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Line(line) = self.source.as_ref()?;
        let length = line.text.trim_end().len();
        let indent = line.text.len() - line.text.trim_start().len();
        let start = (line.column as usize).saturating_sub(1).clamp(indent.min(length), length.saturating_sub(1));
        let label = self.finding.place.instruction.map(|instruction| format!("instruction {instruction}"));
        Some(Box::new(std::iter::once(LabeledSpan::new(label, start, length.saturating_sub(start).max(1)))))
    }
}

/// One C line, at its place in a file that need not be at hand.
#[derive(Debug)]
struct Line(SourceLine);

impl SourceCode for Line {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = self.0.text.as_bytes();
        if span.offset() + span.len() > text.len() {
            return Err(MietteError::OutOfBounds);
        }
        let whole = SourceSpan::from((0, text.len()));
        let line = (self.0.line as usize).saturating_sub(1);
        // Asked without the lines around it, it is where the finding is; else where the text begins.
        let column = if before == 0 { span.offset() } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(self.0.file.clone(), text, whole, line, column, 1)))
    }
}
