//! FilterError: what is wrong with a filter, and where.

use std::fmt;
use std::ops::Range;

/// Letters of a word that are repeated in words.
const WORD_LENGTH_MAX: usize = 30;

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    message: String,
    /// The part of the line around the place, the letters before it, and its width.
    place: Option<(String, usize, usize)>,
    /// The same place in words.
    told: String,
}

impl FilterError {
    /// An error at a place, given in octets of the text.
    pub(super) fn new(text: &str, place: Range<usize>, message: impl Into<String>) -> Self {
        let told = in_words(text, place.clone());
        Self { message: message.into(), place: Some(cut_out(text, place)), told }
    }

    /// An error of the filter as a whole, such as its length.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, told: String::new() }
    }

    /// What is wrong, in one line, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What is wrong and where, in one line for those who see no caret.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let Self { message, place: _, told } = self;
        if told.is_empty() { message.clone() } else { format!("{message} ({told})") }
    }
}

/// The message, and below it the place with a caret.
impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some((line, before, width)) = &self.place else {
            return Ok(());
        };
        write!(f, "\n  {line}\n  {:before$}{:^<width$}", "", "")
    }
}

impl std::error::Error for FilterError {}

/// A place as line and column, with the word that is there, or else the last one before it.
fn in_words(text: &str, place: Range<usize>) -> String {
    let before = text.get(..place.start.min(text.len())).unwrap_or_default();
    let inside = text.get(place).unwrap_or_default().trim();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let at =
        if line > 1 { format!("line {line}, column {column}") } else { format!("column {column}") };
    let (how, word) = match before.split_whitespace().next_back() {
        _ if !inside.is_empty() => ("at", inside),
        Some(word) => ("after", word),
        None => return at,
    };
    let shown: String = word.chars().take(WORD_LENGTH_MAX).map(visible).collect();
    format!("{at}, {how} `{shown}`")
}

/// The text around a place, at most some 70 letters of one line, control characters as blanks.
fn cut_out(text: &str, place: Range<usize>) -> (String, usize, usize) {
    const BEFORE_MAX: usize = 40;
    const AFTER_MAX: usize = 30;
    let place = place.start.min(text.len())..place.end.min(text.len());
    let before = text.get(..place.start).unwrap_or_default();
    let before = before.rsplit('\n').next().unwrap_or_default();
    let inside = text.get(place.clone()).unwrap_or_default();
    let after = text.get(place.end..).unwrap_or_default();
    let after = after.split('\n').next().unwrap_or_default();

    let count = before.chars().count();
    let skipped = count.saturating_sub(BEFORE_MAX);
    let mut line = String::new();
    let mut width_before = 0;
    if skipped > 0 {
        line.push_str("..");
        width_before = 2;
    }
    line.extend(before.chars().skip(skipped).map(visible));
    width_before += count - skipped;
    let width = inside.chars().take(AFTER_MAX).count();
    line.extend(inside.chars().take(AFTER_MAX).map(visible));
    let is_cut = inside.chars().nth(AFTER_MAX).is_some();
    if !is_cut {
        line.extend(after.chars().take(AFTER_MAX).map(visible));
    }
    if is_cut || after.chars().nth(AFTER_MAX).is_some() {
        line.push_str("..");
    }
    (line.trim_end().to_owned(), width_before, width.max(1))
}

/// A control character would move the caret, or the terminal.
fn visible(letter: char) -> char {
    if letter.is_control() { ' ' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let error = FilterError::new("src prot 80", 4..8, "unknown word `prot`");
        assert_eq!(error.to_string(), "unknown word `prot`\n  src prot 80\n      ^^^^");
        assert_eq!(error.in_one_line(), "unknown word `prot` (column 5, at `prot`)");
    }

    #[test]
    fn a_place_without_a_word_is_told_by_the_one_before() {
        let told = |text, place| FilterError::new(text, place, "m").in_one_line();
        assert_eq!(told("tcp and ", 8..8), "m (column 9, after `and`)");
        assert_eq!(told("tcp and\nudp ]", 12..13), "m (line 2, column 5, at `]`)");
        assert_eq!(told("", 0..0), "m (column 1)");
        assert_eq!(told("ä", 1..99), "m (column 1)");
        assert_eq!(FilterError::whole("m").in_one_line(), "m");
    }

    #[test]
    fn a_long_or_many_lined_filter_is_cut_to_its_place() {
        let text =
            format!("{}\n{} BAD {}\nmore", "x ".repeat(100), "y ".repeat(100), "z ".repeat(100));
        let start = text.find("BAD").unwrap();
        let shown = FilterError::new(&text, start..start + 3, "m").to_string();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].len() < 90, "{}", lines[1]);
        assert_eq!(lines[1].find("BAD"), lines[2].find('^'));
    }

    #[test]
    fn places_beyond_the_text_are_harmless() {
        assert_eq!(FilterError::new("ä", 1..99, "m").to_string(), "m\n  \n  ^");
    }
}
