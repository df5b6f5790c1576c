//! Parser: tokens -> Expr. Here: how terms are joined. `term` reads conditions, `value` what
//! they compare with.

use super::ast::{Comparison, Expr, Subject};
use super::error::FilterError;
use super::lexer::{self, Token, TokenKind};
use super::{FILTER_DEPTH_MAX, FILTER_SIZE_MAX, FILTER_TERMS_MAX, Filter};
use crate::model::time::UnixMillis;

pub(super) fn parse(text: &str, now: UnixMillis) -> Result<Filter, FilterError> {
    if text.len() > FILTER_SIZE_MAX {
        return Err(FilterError::whole(format!(
            "the filter is {} octets long: the most is {FILTER_SIZE_MAX}",
            text.len()
        )));
    }
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text)?,
        at: 0,
        now,
        depth: 0,
        terms: 0,
        shared: None,
        has_value_list: false,
        notes: Vec::new(),
    };
    if parser.peek().kind == TokenKind::End {
        return Ok(Filter { expr: Expr::all(Vec::new()), notes: Vec::new() });
    }
    let expr = parser.expression()?;
    let token = parser.peek();
    match token.kind {
        TokenKind::End => Ok(Filter { expr, notes: parser.notes }),
        TokenKind::Close => Err(parser.error(token, "this parenthesis closes nothing")),
        _ => Err(parser.unexpected_after_term(token)),
    }
}

/// The state of one parse.
pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    pub(super) now: UnixMillis,
    depth: usize,
    terms: usize,
    /// The subject of the last term, which a bare value after `and` takes over:
    /// `host A and B` asks for both.
    pub(super) shared: Option<Subject>,
    /// Did the last term take several values joined by `or`?
    pub(super) has_value_list: bool,
    pub(super) notes: Vec<String>,
}

/// How many notes one filter can give rise to.
const NOTES_MAX: usize = 8;

impl<'a> Parser<'a> {
    /// Terms joined by `or`; `and` binds tighter.
    fn expression(&mut self) -> Result<Expr, FilterError> {
        let mut members = Vec::new();
        let mut has_and = false;
        let mut has_value_list = false;
        loop {
            let (member, joins) = self.conjunction()?;
            has_and |= joins.is_and;
            has_value_list |= joins.is_and && joins.has_value_list;
            members.push(member);
            if self.peek().kind != TokenKind::Or {
                break;
            }
            self.take();
        }
        let is_mixed = has_and && members.len() > 1;
        let expr = Expr::any(members);
        if is_mixed {
            self.note_reading("`and` binds tighter than `or`", &expr);
        } else if has_value_list {
            self.note_reading("values joined by `or` belong together", &expr);
        }
        Ok(expr)
    }

    /// Terms joined by `and`.
    fn conjunction(&mut self) -> Result<(Expr, Joins), FilterError> {
        let mut members = Vec::new();
        let mut has_value_list = false;
        loop {
            self.has_value_list = false;
            members.push(match self.shared_value()? {
                Some(term) => term,
                None => self.unary()?,
            });
            has_value_list |= self.has_value_list;
            if self.peek().kind != TokenKind::And {
                break;
            }
            self.take();
        }
        self.shared = None;
        self.has_value_list = false;
        let joins = Joins { is_and: members.len() > 1, has_value_list };
        Ok((Expr::all(members), joins))
    }

    /// A value that stands alone after `and` belongs to the subject before it.
    fn shared_value(&mut self) -> Result<Option<Expr>, FilterError> {
        let Some(subject) = self.shared else {
            return Ok(None);
        };
        if !self.is_bare_value(subject, 0) {
            return Ok(None);
        }
        self.count_term()?;
        self.test(subject, false).map(Some)
    }

    /// A term, perhaps behind any number of `not`.
    fn unary(&mut self) -> Result<Expr, FilterError> {
        let mut is_negated = false;
        while self.peek().kind == TokenKind::Not {
            self.take();
            is_negated = !is_negated;
        }
        let start = self.at;
        let expr = self.primary()?;
        if !is_negated {
            return Ok(expr);
        }
        self.note_negated_flags(start);
        Ok(expr.negated())
    }

    fn primary(&mut self) -> Result<Expr, FilterError> {
        self.shared = None;
        let token = self.peek();
        if token.kind != TokenKind::Open {
            self.count_term()?;
            return self.term();
        }
        self.take();
        self.depth += 1;
        if self.depth > FILTER_DEPTH_MAX {
            let message = format!("parentheses lie more than {FILTER_DEPTH_MAX} deep here");
            return Err(self.error(token, message));
        }
        let expr = self.expression()?;
        if self.peek().kind != TokenKind::Close {
            let next = self.peek();
            return Err(if next.kind == TokenKind::End {
                self.error(token, "this parenthesis is never closed")
            } else {
                self.unexpected_after_term(next)
            });
        }
        self.take();
        self.depth -= 1;
        self.shared = None;
        self.has_value_list = false;
        Ok(expr)
    }

    fn count_term(&mut self) -> Result<(), FilterError> {
        self.terms += 1;
        if self.terms <= FILTER_TERMS_MAX {
            return Ok(());
        }
        let message = format!(
            "the filter has more than {FILTER_TERMS_MAX} conditions: put values into one `[..]`"
        );
        Err(FilterError::whole(message))
    }

    fn note_reading(&mut self, note: &str, expr: &Expr) {
        const READING_SIZE_MAX: usize = 300;
        let reading = expr.to_string();
        self.note(if reading.len() <= READING_SIZE_MAX {
            format!("{note}: read as {reading}")
        } else {
            format!("{note}: use parentheses to say what belongs together")
        });
    }

    /// nfdump's manual has `flags S and not flags AFRPU` for "only SYN", yet several flags mean
    /// all of them at once.
    fn note_negated_flags(&mut self, start: usize) {
        let (Some(first), Some(second)) = (self.tokens.get(start), self.tokens.get(start + 1))
        else {
            return;
        };
        let (TokenKind::Word(word), TokenKind::Word(letters)) = (first.kind, second.kind) else {
            return;
        };
        let is_flags = word.eq_ignore_ascii_case("flags") && self.at == start + 2;
        if is_flags && letters.len() > 1 && letters.bytes().all(|it| it.is_ascii_alphabetic()) {
            self.note(format!(
                "`not flags {letters}` leaves out records that have all of these flags; \
                 for none of them write `flags /{letters}`"
            ));
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The next token; the last is `End` for ever.
    pub(super) fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    /// The token `ahead` of the next one.
    pub(super) fn peek_at(&self, ahead: usize) -> Token<'a> {
        let token = self.tokens.get(self.at + ahead).or_else(|| self.tokens.last());
        token.copied().unwrap_or(Token {
            kind: TokenKind::End,
            start: self.text.len(),
            end: self.text.len(),
        })
    }

    pub(super) fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len());
        token
    }

    /// The word `ahead` of the next token, in lower case.
    pub(super) fn word_at(&self, ahead: usize) -> Option<String> {
        match self.peek_at(ahead).kind {
            TokenKind::Word(word) => Some(word.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// Takes the next token if it is this word.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let is_it =
            matches!(self.peek().kind, TokenKind::Word(it) if it.eq_ignore_ascii_case(word));
        if is_it {
            self.take();
        }
        is_it
    }

    /// Takes a comparison if one is there.
    pub(super) fn take_comparison(&mut self) -> Option<Comparison> {
        match self.peek().kind {
            TokenKind::Comparison(comparison) => {
                self.take();
                Some(comparison)
            }
            _ => None,
        }
    }

    pub(super) fn error(&self, token: Token<'_>, message: impl Into<String>) -> FilterError {
        FilterError::new(self.text, token.start..token.end, message)
    }

    fn unexpected_after_term(&self, token: Token<'_>) -> FilterError {
        self.error(token, "expected `and`, `or` or the end of the filter here")
    }
}

/// How the members of a conjunction were joined.
struct Joins {
    /// By at least one `and`.
    is_and: bool,
    /// Did one of them take several values joined by `or`?
    has_value_list: bool,
}
