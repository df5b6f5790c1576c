//! Escapes: what a terminal would act on, or show in another order, is written out.

use std::fmt::{self, Display, Write};

/// Text in which nothing moves the cursor, changes colours or turns the direction of writing.
pub(super) struct Visible<T>(pub(super) T);

impl<T: Display> Display for Visible<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter(f), "{}", self.0)
    }
}

struct Filter<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut letters = from.chars();
            if let Some(letter) = letters.next() {
                write!(self.0, "{}", letter.escape_unicode())?;
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Control characters of ASCII and of Unicode, the marks that turn the direction of writing, and
/// the separators of lines.
pub(super) fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_written_out() {
        let shown = Visible("a\u{1b}[31mb\u{9b}c\r\n\u{202e}d\u{7f}e").to_string();
        assert_eq!(shown, "a\\u{1b}[31mb\\u{9b}c\\u{d}\\u{a}\\u{202e}d\\u{7f}e");
        assert_eq!(Visible("plain ä 字").to_string(), "plain ä 字");
    }
}
