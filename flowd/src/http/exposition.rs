//! The Prometheus text format 0.0.4: families of samples, each with its help and type.

use std::fmt::Write;

/// What the format is called in a `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// They only grow while the process lives.
    Counter,
    /// They rise and fall.
    Gauge,
}

/// A page of families.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family. Its samples follow before the next family begins.
    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    /// A family of one number.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: u64) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes all that is written");
    }
}

/// A family that takes samples.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut Exposition,
    name: &'a str,
}

impl Family<'_> {
    /// Adds a sample; no other of the family has these labels.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let Self { page, name } = self;
        page.write(format_args!("{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            page.write(format_args!("{open}{label}=\"{text}\""));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        page.write(format_args!("{close} {value}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_would_end_a_line_or_a_label_are_escaped() {
        let mut page = Exposition::default();
        let mut family = page.family("a_total", Kind::Counter, "one\\two\nthree");
        family.sample(&[("x", "a\"b\\c\nd"), ("y", "")], 7);
        page.single("b", Kind::Gauge, "b", 0);
        assert_eq!(
            page.into_text(),
            "# HELP a_total one\\\\two\\nthree\n# TYPE a_total counter\n\
             a_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 7\n# HELP b b\n# TYPE b gauge\nb 0\n"
        );
    }
}
