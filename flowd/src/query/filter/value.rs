//! Values: what a condition compares its field with, by the field's type.

use super::FILTER_SET_MAX;
use super::ast::{Comparison, Expr, NumberRange, Prefix, Subject, Term, Test};
use super::error::FilterError;
use super::lexer::{Token, TokenKind};
use super::parser::Parser;
use crate::model::Column;
use crate::query::field::{self, Field, FieldType, Measure, Pair};
use crate::query::protocol::{protocol_names, protocol_number, service_names, service_port};
use crate::query::quantity::{parse_count, parse_duration, shortened};
use crate::query::time_range::parse_time;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

impl Parser<'_> {
    /// What stands behind a subject: `[cmp] VALUE`, or `[not] in [..]`. `is_net` allows a
    /// netmask behind an address, and fewer than four octets.
    pub(super) fn test(&mut self, subject: Subject, is_net: bool) -> Result<Expr, FilterError> {
        let test = match subject.field_type() {
            FieldType::Number => self.number_test(subject)?,
            FieldType::Time => self.time_test()?,
            FieldType::Address => self.address_test(subject, is_net)?,
            FieldType::Mac => {
                let (addresses, negated) =
                    self.items("a MAC address such as 00:11:22:33:44:55", mac)?;
                Test::Macs { addresses, negated }
            }
            FieldType::Text => {
                let (texts, negated) =
                    self.items("a text, in quotes if it has blanks", |text| Some(text.to_owned()))?;
                Test::Texts { texts, negated }
            }
            FieldType::Octets => self.octets_test(subject)?,
            FieldType::Boolean => self.boolean_test()?,
        };
        let is_shareable = !test.is_negated()
            && matches!(
                test,
                Test::Number(Comparison::Equal, _) | Test::Numbers { .. } | Test::Addresses { .. }
            );
        self.shared = is_shareable.then_some(subject);
        Ok(Expr::Term(Term::Test(subject, test)))
    }

    /// Is the token `ahead` a value that can only belong to this subject? Then tcpdump shares
    /// the subject: `port 80 or 443`.
    pub(super) fn is_bare_value(&self, subject: Subject, ahead: usize) -> bool {
        let TokenKind::Word(word) = self.peek_at(ahead).kind else {
            return false;
        };
        match subject.field_type() {
            FieldType::Address => self.is_address_at(ahead),
            FieldType::Number => {
                let is_service = is_port(subject) && service_port(word).is_some();
                number_range(word).is_some() || is_service && field::find(word).is_none()
            }
            _ => false,
        }
    }

    /// Is the token `ahead` an address, or the beginning of a block of them?
    pub(super) fn is_address_at(&self, ahead: usize) -> bool {
        let TokenKind::Word(word) = self.peek_at(ahead).kind else {
            return false;
        };
        let has_length = self.peek_at(ahead + 1).kind == TokenKind::Slash;
        IpAddr::from_str(word).is_ok() || has_length && short_prefix(word).is_some()
    }

    fn number_test(&mut self, subject: Subject) -> Result<Test, FilterError> {
        if let Some((ranges, negated)) = self.set(|parser| parser.number(subject))? {
            return Ok(Test::Numbers { ranges, negated });
        }
        let comparison = self.take_comparison();
        let token = self.peek();
        let first = self.number(subject)?;
        let comparison = comparison.unwrap_or(Comparison::Equal);
        if comparison != Comparison::Equal {
            return if first.first == first.last {
                Ok(Test::Number(comparison, first.first))
            } else if comparison == Comparison::NotEqual {
                Ok(Test::Numbers { ranges: vec![first], negated: true })
            } else {
                Err(self.error(token, "a range compares with `=` or `!=` only"))
            };
        }
        let ranges = self.or_values(subject, first, |parser| parser.number(subject))?;
        Ok(match ranges.as_slice() {
            [single] if single.first == single.last => {
                Test::Number(Comparison::Equal, single.first)
            }
            _ => Test::Numbers { ranges, negated: false },
        })
    }

    fn address_test(&mut self, subject: Subject, is_net: bool) -> Result<Test, FilterError> {
        if let Some((prefixes, negated)) = self.set(|parser| parser.prefix(false))? {
            return Ok(Test::Addresses { prefixes, negated });
        }
        let negated = self.equality()? == Comparison::NotEqual;
        let first = self.prefix(is_net)?;
        let prefixes = if negated {
            vec![first]
        } else {
            self.or_values(subject, first, |parser| parser.prefix(is_net))?
        };
        Ok(Test::Addresses { prefixes, negated })
    }

    /// `= TIME`, `seen > TIME`, `since TIME`, `until TIME`.
    fn time_test(&mut self) -> Result<Test, FilterError> {
        self.take_word("seen");
        let comparison = if self.take_word("since") {
            Comparison::GreaterOrEqual
        } else if self.take_word("until") {
            Comparison::Less
        } else {
            self.take_comparison().unwrap_or(Comparison::Equal)
        };
        let token = self.take();
        let (TokenKind::Word(text) | TokenKind::Quoted(text)) = token.kind else {
            return Err(self.error(token, "expected a time here, such as 2026-03-01T09:15 or -1h"));
        };
        match parse_time(text, self.now) {
            Ok(time) => Ok(Test::Time(comparison, time)),
            Err(error) => Err(self.error(token, error.to_string())),
        }
    }

    fn boolean_test(&mut self) -> Result<Test, FilterError> {
        let is_equal = self.equality()? == Comparison::Equal;
        let token = self.peek();
        let value = if self.take_word("true") {
            true
        } else if self.take_word("false") {
            false
        } else {
            return Err(self.error(token, "expected `true` or `false` here"));
        };
        Ok(Test::Boolean(value == is_equal))
    }

    /// Octets that nobody described: compared as such if written as `0x..` or as a MAC address,
    /// else as a number.
    fn octets_test(&mut self, subject: Subject) -> Result<Test, FilterError> {
        let mut ahead = 0;
        while !matches!(self.peek_at(ahead).kind, TokenKind::Word(word) if word != "in")
            && ahead < 3
        {
            ahead += 1;
        }
        match self.peek_at(ahead).kind {
            TokenKind::Word(word) if octets(word).is_some() => {
                let (values, negated) = self.items("octets in hex, such as 0x00ff", octets)?;
                Ok(Test::Octets { values, negated })
            }
            _ => self.number_test(subject),
        }
    }

    /// One value or a set of them, of a type that only equals or not.
    fn items<T>(
        &mut self,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<(Vec<T>, bool), FilterError> {
        let item = |parser: &mut Self| {
            let token = parser.take();
            let item = match token.kind {
                TokenKind::Word(text) | TokenKind::Quoted(text) => read(text),
                _ => None,
            };
            item.ok_or_else(|| parser.error(token, format!("expected {expected} here")))
        };
        if let Some(set) = self.set(item)? {
            return Ok(set);
        }
        let negated = self.equality()? == Comparison::NotEqual;
        Ok((vec![item(self)?], negated))
    }

    /// `=` or `!=`; nothing means `=`.
    fn equality(&mut self) -> Result<Comparison, FilterError> {
        let token = self.peek();
        match self.take_comparison() {
            None | Some(Comparison::Equal) => Ok(Comparison::Equal),
            Some(Comparison::NotEqual) => Ok(Comparison::NotEqual),
            Some(_) => {
                Err(self.error(token, "this field compares with `=`, `!=` or `in [..]` only"))
            }
        }
    }

    /// `[not] in [a, b c]`, if that is what comes.
    fn set<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, FilterError>,
    ) -> Result<Option<(Vec<T>, bool)>, FilterError> {
        let negated = self.peek().kind == TokenKind::Not;
        if self.word_at(usize::from(negated)).as_deref() != Some("in") {
            return Ok(None);
        }
        if negated {
            self.take();
        }
        self.take();
        let open = self.take();
        if open.kind != TokenKind::OpenSet {
            return Err(self.error(open, "expected `[` here, as in `port in [80 443]`"));
        }
        let mut items = Vec::new();
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::CloseSet if items.is_empty() => {
                    return Err(self.error(token, "the set is empty"));
                }
                TokenKind::CloseSet => break,
                TokenKind::Comma if !items.is_empty() => {
                    self.take();
                    continue;
                }
                TokenKind::End => return Err(self.error(open, "this set is never closed")),
                _ => {}
            }
            if items.len() == FILTER_SET_MAX {
                let message = format!("the set has more than {FILTER_SET_MAX} entries");
                return Err(self.error(token, message));
            }
            items.push(item(self)?);
        }
        self.take();
        Ok(Some((items, negated)))
    }

    /// The first value, and those that follow it by `or` without a word of their own.
    fn or_values<T>(
        &mut self,
        subject: Subject,
        first: T,
        value: impl Fn(&mut Self) -> Result<T, FilterError>,
    ) -> Result<Vec<T>, FilterError> {
        let mut values = vec![first];
        while self.peek().kind == TokenKind::Or && self.is_bare_value(subject, 1) {
            if values.len() == FILTER_SET_MAX {
                let message = format!("more than {FILTER_SET_MAX} values follow one another");
                return Err(self.error(self.peek(), message));
            }
            self.take();
            values.push(value(self)?);
            self.has_value_list = true;
        }
        Ok(values)
    }

    /// A number, a range of them, or a name that stands for one.
    fn number(&mut self, subject: Subject) -> Result<NumberRange, FilterError> {
        let token = self.take();
        let TokenKind::Word(word) = token.kind else {
            return Err(self.error(token, "expected a number here"));
        };
        let Some(range) = number_range(word).or_else(|| named_number(subject, word)) else {
            return Err(self.no_number(token, subject, word));
        };
        let number_max = subject.first_field().number_max().unwrap_or(u64::MAX);
        if range.first > range.last {
            return Err(self.error(token, "the range ends before it begins"));
        }
        if range.last > number_max {
            return Err(self.error(token, format!("the most that fits here is {number_max}")));
        }
        if subject == Subject::Field(Field::Measure(Measure::Duration))
            && word.ends_with(['m', 'M'])
        {
            self.note(format!(
                "a duration counts milliseconds, and m is a million: {word} is {} s; \
                 for minutes write {}min",
                range.first / 1_000,
                range.first / 1_000_000
            ));
        }
        Ok(range)
    }

    fn no_number(&self, token: Token<'_>, subject: Subject, word: &str) -> FilterError {
        let shown = shortened(word);
        let near = if is_port(subject) {
            field::nearest(word, service_names()).filter(|near| service_port(near).is_some())
        } else if is_protocol(subject) {
            field::nearest(word, protocol_names()).filter(|near| protocol_number(near).is_some())
        } else {
            None
        };
        let message = match near {
            Some(near) => format!("`{shown}` is not a number: did you mean `{near}`?"),
            None => format!("`{shown}` is not a number"),
        };
        self.error(token, message)
    }

    /// An address, perhaps with the length of its prefix.
    fn prefix(&mut self, is_net: bool) -> Result<Prefix, FilterError> {
        let token = self.take();
        let (TokenKind::Word(word) | TokenKind::Quoted(word)) = token.kind else {
            return Err(self.error(token, "expected an address here"));
        };
        let has_length = self.peek().kind == TokenKind::Slash;
        let (address, given_length) = match IpAddr::from_str(word) {
            Ok(address) => (address, None),
            Err(_) => match short_prefix(word).filter(|_| is_net || has_length) {
                Some((address, length)) => (IpAddr::V4(address), Some(length)),
                None => return Err(self.no_address(token, word)),
            },
        };
        if has_length {
            return self.prefix_of_length(address);
        }
        if is_net && let Some(length) = self.netmask()? {
            let prefix = Prefix::new(address, length).filter(|_| address.is_ipv4());
            return prefix.ok_or_else(|| self.error(token, "a netmask goes with IPv4 only"));
        }
        Ok(match given_length {
            Some(length) => Prefix::new(address, length).unwrap_or_else(|| Prefix::single(address)),
            None => Prefix::single(address),
        })
    }

    fn prefix_of_length(&mut self, address: IpAddr) -> Result<Prefix, FilterError> {
        self.take();
        let token = self.take();
        let length = match token.kind {
            TokenKind::Word(word) => u8::from_str(word).ok(),
            _ => None,
        };
        length.and_then(|length| Prefix::new(address, length)).ok_or_else(|| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            self.error(token, format!("a prefix length is a number up to {most}"))
        })
    }

    /// `[mask] 255.255.0.0` behind an address, as a prefix length.
    fn netmask(&mut self) -> Result<Option<u8>, FilterError> {
        let has_word = self.word_at(0).as_deref() == Some("mask");
        let token = self.peek_at(usize::from(has_word));
        let mask = match token.kind {
            TokenKind::Word(word) => Ipv4Addr::from_str(word).ok(),
            _ => None,
        };
        let Some(mask) = mask else {
            return Ok(None);
        };
        if has_word {
            self.take();
        }
        self.take();
        let bits = mask.to_bits();
        if bits.leading_ones() != bits.count_ones() {
            return Err(self.error(token, "a netmask is ones, then zeros, such as 255.255.0.0"));
        }
        Ok(u8::try_from(bits.leading_ones()).ok())
    }

    fn no_address(&self, token: Token<'_>, word: &str) -> FilterError {
        let shown = shortened(word);
        self.error(
            token,
            format!(
                "`{shown}` is not an address: names are not looked up, give the address itself"
            ),
        )
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split([':', '-']);
    for octet in &mut octets {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        let is_hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *octet = is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()?;
    }
    parts.next().is_none().then_some(octets)
}

fn octets(text: &str) -> Option<Vec<u8>> {
    if let Some(octets) = mac(text) {
        return Some(octets.to_vec());
    }
    let digits = text.strip_prefix("0x")?.as_bytes();
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    if !is_hex || digits.len() % 2 != 0 {
        return None;
    }
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(octet).collect()
}

/// tcpdump's short networks: `10` is 10.0.0.0/8, `192.168` is 192.168.0.0/16.
fn short_prefix(word: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut count = 0;
    for part in word.split('.') {
        let is_plain = !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit());
        *octets.get_mut(count)? = is_plain.then(|| u8::from_str(part).ok()).flatten()?;
        count += 1;
    }
    let length = u8::try_from(8 * count).ok()?;
    (count < 4).then_some((Ipv4Addr::from(octets), length))
}

/// `80`, `0x50`, `10k`, `1000-2000`.
fn number_range(word: &str) -> Option<NumberRange> {
    if let Some(number) = parse_count(word) {
        return Some(NumberRange::single(number));
    }
    let (first, last) = word.split_once('-')?;
    Some(NumberRange { first: parse_count(first)?, last: parse_count(last)? })
}

/// A name that stands for a number of this subject, or a number with a unit of its own.
fn named_number(subject: Subject, word: &str) -> Option<NumberRange> {
    let number = match subject {
        _ if is_port(subject) => u64::from(service_port(word)?),
        _ if is_protocol(subject) => u64::from(protocol_number(word)?),
        Subject::Field(Field::Column(Column::FlowDirection)) => {
            match word.to_ascii_lowercase().as_str() {
                "ingress" | "in" => 0,
                "egress" | "out" => 1,
                _ => return None,
            }
        }
        Subject::Field(Field::Measure(Measure::Duration)) => {
            u64::try_from(parse_duration(word).ok()?.as_millis()).ok()?
        }
        _ => return None,
    };
    Some(NumberRange::single(number))
}

fn is_port(subject: Subject) -> bool {
    Pair::Port.fields().contains(&subject.first_field())
}

fn is_protocol(subject: Subject) -> bool {
    subject == Subject::Field(Field::Column(Column::ProtocolIdentifier))
}
