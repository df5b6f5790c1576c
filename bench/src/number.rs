//! Numbers as people type them: `200k`, `20M`, `10s`.

use std::time::Duration;

/// A count with an optional suffix k, M or G, in powers of 1000.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1_000),
        Some('m' | 'M') => (&text[..text.len() - 1], 1_000_000),
        Some('g' | 'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let wrong = |_| format!("`{text}` is not a count; write 5000, 200k, 20M or 1G");
    let number: u64 = digits.parse().map_err(wrong)?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

/// A time with a suffix ms, s or m.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let wrong = || format!("`{text}` is not a time; write 500ms, 10s, 2m or 8h");
    let Ok(number) = text[..end].parse::<u64>() else { return Err(wrong()) };
    match &text[end..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(60 * 60))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_take_suffixes() {
        assert_eq!(parse_count("200k"), Ok(200_000));
        assert_eq!(parse_count("7"), Ok(7));
        assert!(parse_count("many").is_err());
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("8h"), Ok(Duration::from_secs(28_800)));
        assert!(parse_duration("10").is_err());
    }
}
