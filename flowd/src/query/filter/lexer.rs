//! Lexer: a filter's text -> tokens with their place. It knows no word's meaning.

use super::ast::Comparison;
use super::error::FilterError;

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind<'a> {
    /// A word, number, address or time.
    Word(&'a str),
    /// What stood between quotes.
    Quoted(&'a str),
    Comparison(Comparison),
    And,
    Or,
    Not,
    Open,
    Close,
    OpenSet,
    CloseSet,
    Comma,
    Slash,
    End,
}

/// A token and the octets of the text that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind<'a>,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// All tokens of a text; the last is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, FilterError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        tokens.push(token);
        if token.kind == TokenKind::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Token<'a>, FilterError> {
        self.skip_blanks();
        let start = self.at;
        let rest = self.rest();
        let mut letters = rest.chars();
        let (Some(first), second) = (letters.next(), letters.next()) else {
            return Ok(self.token(TokenKind::End, 0));
        };
        let kind_and_size = match (first, second) {
            ('(', _) => (TokenKind::Open, 1),
            (')', _) => (TokenKind::Close, 1),
            ('[', _) => (TokenKind::OpenSet, 1),
            (']', _) => (TokenKind::CloseSet, 1),
            (',', _) => (TokenKind::Comma, 1),
            ('/', _) => (TokenKind::Slash, 1),
            ('&', Some('&')) => (TokenKind::And, 2),
            ('|', Some('|')) => (TokenKind::Or, 2),
            ('!', Some('=')) => (TokenKind::Comparison(Comparison::NotEqual), 2),
            ('!', _) => (TokenKind::Not, 1),
            ('=', Some('=')) => (TokenKind::Comparison(Comparison::Equal), 2),
            ('=', _) => (TokenKind::Comparison(Comparison::Equal), 1),
            ('>', Some('=')) => (TokenKind::Comparison(Comparison::GreaterOrEqual), 2),
            ('>', _) => (TokenKind::Comparison(Comparison::Greater), 1),
            ('<', Some('=')) => (TokenKind::Comparison(Comparison::LessOrEqual), 2),
            ('<', _) => (TokenKind::Comparison(Comparison::Less), 1),
            ('\'' | '"', _) => return self.quoted(first),
            // tcpdump's way of saying that a word is a name, not a keyword: `proto \tcp`.
            ('\\', Some(letter)) if is_word_letter(letter) => {
                self.at += 1;
                return Ok(self.word());
            }
            _ if is_word_letter(first) => return Ok(self.word()),
            _ => {
                let place = start..start + first.len_utf8();
                let message = format!("`{}` has no meaning here", first.escape_debug());
                return Err(FilterError::new(self.text, place, message));
            }
        };
        let (kind, size) = kind_and_size;
        Ok(self.token(kind, size))
    }

    fn token(&mut self, kind: TokenKind<'a>, size: usize) -> Token<'a> {
        let start = self.at;
        self.at += size;
        Token { kind, start, end: self.at }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Goes past blanks, and past comments from `#` to the end of the line.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token<'a>, FilterError> {
        let start = self.at;
        let inside = self.rest().get(1..).unwrap_or_default();
        let Some(size) = inside.find(quote) else {
            let message = format!("this {quote} is never closed");
            return Err(FilterError::new(self.text, start..start + 1, message));
        };
        let text = inside.get(..size).unwrap_or_default();
        Ok(self.token(TokenKind::Quoted(text), size + 2))
    }

    fn word(&mut self) -> Token<'a> {
        let rest = self.rest();
        let size = rest.find(|letter| !is_word_letter(letter)).unwrap_or(rest.len());
        let word = rest.get(..size).unwrap_or_default();
        self.token(word_kind(word), size)
    }
}

/// The letters of words, numbers, addresses and times. A word may hold letters of any script, so
/// that the error for it names the whole of it.
fn is_word_letter(letter: char) -> bool {
    letter.is_alphanumeric()
        || matches!(letter, '_' | '.' | ':' | '-' | '+' | '*' | '%' | '@' | '$')
}

fn word_kind(word: &str) -> TokenKind<'_> {
    const WORDS: [(&str, TokenKind<'static>); 10] = [
        ("and", TokenKind::And),
        ("or", TokenKind::Or),
        ("not", TokenKind::Not),
        ("eq", TokenKind::Comparison(Comparison::Equal)),
        ("ne", TokenKind::Comparison(Comparison::NotEqual)),
        ("gt", TokenKind::Comparison(Comparison::Greater)),
        ("lt", TokenKind::Comparison(Comparison::Less)),
        ("ge", TokenKind::Comparison(Comparison::GreaterOrEqual)),
        ("le", TokenKind::Comparison(Comparison::LessOrEqual)),
        ("neq", TokenKind::Comparison(Comparison::NotEqual)),
    ];
    let keyword = WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    keyword.map_or(TokenKind::Word(word), |&(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind<'_>> {
        tokens(text).unwrap().iter().map(|token| token.kind).collect()
    }

    #[test]
    fn words_signs_and_quotes_are_told_apart() {
        use TokenKind::{And, Close, End, Open, Or, Quoted, Slash, Word};
        assert_eq!(
            kinds("(src net 10.0.0.0/8)&&x||'a b' # rest"),
            [
                Open,
                Word("src"),
                Word("net"),
                Word("10.0.0.0"),
                Slash,
                Word("8"),
                Close,
                And,
                Word("x"),
                Or,
                Quoted("a b"),
                End
            ]
        );
        assert_eq!(
            kinds("port>=1024"),
            [Word("port"), TokenKind::Comparison(Comparison::GreaterOrEqual), Word("1024"), End]
        );
        assert_eq!(kinds("proto \\tcp"), [Word("proto"), Word("tcp"), End]);
        assert_eq!(kinds("# only\n AND"), [And, End]);
    }

    #[test]
    fn tokens_know_their_place() {
        let text = "ip  2001:db8::1";
        let token = tokens(text).unwrap()[1];
        assert_eq!(&text[token.start..token.end], "2001:db8::1");
    }

    #[test]
    fn an_open_quote_and_a_strange_sign_are_errors() {
        assert!(tokens("ident 'x").is_err());
        assert!(tokens("port ; 80").is_err());
        assert!(tokens("a & b").is_err());
        assert!(tokens("\\").is_err());
    }
}
