//! Flags: the ways of asking for TCP's flags.

use super::ast::{Comparison, Expr, FLAG_LETTERS, Term};
use super::error::FilterError;
use super::lexer::TokenKind;
use super::parser::Parser;
use crate::query::quantity::{parse_count, shortened};

impl Parser<'_> {
    /// `flags SA`, `flags =S`, `flags S/SA`, `flags > 3`.
    pub(super) fn flags(&mut self) -> Result<Expr, FilterError> {
        self.take();
        let comparison = self.take_comparison();
        let token = self.peek();
        if comparison.is_none() && token.kind == TokenKind::Slash {
            let mask = self.flag_mask()?;
            return Ok(Expr::Term(Term::Flags { mask, bits: 0 }));
        }
        let TokenKind::Word(word) = token.kind else {
            return Err(
                self.error(token, "expected flags here, such as `flags SA` or `flags S/SA`")
            );
        };
        let Some(bits) = flag_bits(word) else {
            return self.flags_number(comparison.unwrap_or(Comparison::Equal), word);
        };
        self.take();
        let term = match comparison {
            None if self.peek().kind == TokenKind::Slash => {
                let mask = self.flag_mask()?;
                if bits & !mask != 0 {
                    return Err(
                        self.error(token, "the flags before `/` must be among those after it")
                    );
                }
                Term::Flags { mask, bits }
            }
            None => Term::Flags { mask: bits, bits },
            Some(Comparison::Equal) => Term::Flags { mask: u8::MAX, bits },
            Some(Comparison::NotEqual) => Term::FlagsNumber(Comparison::NotEqual, u64::from(bits)),
            Some(_) => {
                return Err(self.error(token, "letters of flags compare with `=` or `!=` only"));
            }
        };
        Ok(Expr::Term(term))
    }

    fn flag_mask(&mut self) -> Result<u8, FilterError> {
        self.take();
        let token = self.take();
        let mask = match token.kind {
            TokenKind::Word(word) => flag_bits(word),
            _ => None,
        };
        mask.ok_or_else(|| {
            self.error(token, "expected the flags to look at here, as in `flags S/SA`")
        })
    }

    fn flags_number(&mut self, comparison: Comparison, word: &str) -> Result<Expr, FilterError> {
        const FLAGS_MAX: u64 = 0xfff;
        let token = self.take();
        match parse_count(word) {
            Some(number) if number <= FLAGS_MAX => {
                Ok(Expr::Term(Term::FlagsNumber(comparison, number)))
            }
            Some(_) => Err(self.error(token, format!("flags are at most {FLAGS_MAX}"))),
            None => {
                let message = format!(
                    "`{}` is not a set of flags: the letters are F S R P A U E C, and X for the first six",
                    shortened(word)
                );
                Err(self.error(token, message))
            }
        }
    }
}

/// The bits of flags' letters; none if another letter is among them.
fn flag_bits(letters: &str) -> Option<u8> {
    const ALL_SIX: u8 = 0x3f;
    letters.chars().try_fold(0, |bits, letter| {
        let letter = letter.to_ascii_uppercase();
        if letter == 'X' {
            return Some(bits | ALL_SIX);
        }
        let bit = FLAG_LETTERS.iter().position(|&known| known == letter)?;
        Some(bits | 1 << bit)
    })
}
