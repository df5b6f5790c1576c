//! Quantities as users write them: counts, durations, sizes.

use std::time::Duration;

/// A quantity that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a duration.
    #[error("`{0}` is not a duration: write a number and ms, s, m, h, d or w, such as 90s or 24h")]
    Duration(String),
    /// Not a size.
    #[error(
        "`{0}` is not a size: write a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64MiB"
    )]
    Size(String),
}

/// A count as in nfdump's filters: decimal or `0x..`, `k`, `m`, `g`, `t` in powers of 1000,
/// `ki`, `mi`, `gi`, `ti` in powers of 1024. None if it is no count, or beyond 64 bits.
#[must_use]
pub fn parse_count(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let plain = hex.bytes().all(|octet| octet.is_ascii_hexdigit());
        return plain.then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    }
    let (number, unit) = split_unit(text)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A duration such as `500ms`, `90s`, `15m`, `24h`, `7d`, `2w`.
///
/// ```
/// let duration = flowd::query::quantity::parse_duration("15m")?;
/// assert_eq!(duration.as_secs(), 900);
/// # Ok::<(), flowd::query::quantity::QuantityError>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let millis = split_unit(text).and_then(|(number, unit)| {
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    millis
        .filter(|&millis| i64::try_from(millis).is_ok())
        .map(Duration::from_millis)
        .ok_or_else(|| QuantityError::Duration(shortened(text)))
}

/// A size in octets such as `65536`, `64MiB`, `8GiB`, `20TB`.
///
/// ```
/// assert_eq!(flowd::query::quantity::parse_size("64MiB")?, 64 << 20);
/// # Ok::<(), flowd::query::quantity::QuantityError>(())
/// ```
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let size = split_unit(text).and_then(|(number, unit)| {
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor)
    });
    size.ok_or_else(|| QuantityError::Size(shortened(text)))
}

/// A number's digits apart from the letters behind them.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// What a user typed, cut so that an error stays one line.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 40;
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push_str("..");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_scale_by_thousands_and_by_1024() {
        for (text, count) in [
            ("0", 0),
            ("80", 80),
            ("0x50", 80),
            ("0XfF", 255),
            ("1k", 1_000),
            ("2M", 2_000_000),
            ("3g", 3_000_000_000),
            ("1T", 1_000_000_000_000),
            ("1ki", 1_024),
            ("2Gi", 2 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_count(text), Some(count), "{text}");
        }
        for text in
            ["", "k", "1x", "-1", "+1", "0x", "0x+1", "18446744073709551616", "99999999999t"]
        {
            assert_eq!(parse_count(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "90", "s", "1y", "-1h", "99999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in
            [("1", 1), ("64MiB", 64 << 20), ("8GiB", 8 << 30), ("20TB", 20_000_000_000_000)]
        {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "1QB", "99999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_stays_short() {
        let error = parse_size(&"9".repeat(5_000)).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        assert!(!parse_size("\u{1b}[31m").unwrap_err().to_string().contains('\u{1b}'));
    }
}
