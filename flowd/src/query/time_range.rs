//! Time ranges: which records `--since`, `--until` and `--last` select, and times as text.

use super::quantity::{parse_duration, shortened};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// Which records, by flow time: those whose [start, end] overlaps [since, until).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Records that ended before it are left out.
    pub since: Option<UnixMillis>,
    /// Records that started at it or later are left out.
    pub until: Option<UnixMillis>,
}

/// A time or a range that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not a time.
    #[error(
        "`{0}` is not a time: write 2026-03-01T09:15:00Z, 2026-03-01 (UTC), -1h, now, or seconds since 1970"
    )]
    Time(String),
    /// Two ways of saying the same.
    #[error("--last ends now: give either --last, or --since and --until")]
    LastWithSince,
    /// Nothing lies in it.
    #[error("the time range is empty: --since {since} is not before --until {until}")]
    Empty {
        /// Its start.
        since: UnixMillis,
        /// Its end.
        until: UnixMillis,
    },
}

impl TimeRange {
    /// Everything held.
    pub const ALL: Self = Self { since: None, until: None };

    /// The range that the options ask for; `now` is the caller's clock.
    pub fn from_options(
        since: Option<&str>,
        until: Option<&str>,
        last: Option<Duration>,
        now: UnixMillis,
    ) -> Result<Self, TimeError> {
        if let Some(last) = last {
            if since.is_some() || until.is_some() {
                return Err(TimeError::LastWithSince);
            }
            let last = i64::try_from(last.as_millis()).unwrap_or(i64::MAX);
            return Ok(Self { since: Some(UnixMillis(now.0.saturating_sub(last))), until: None });
        }
        let since = since.map(|text| parse_time(text, now)).transpose()?;
        let until = until.map(|text| parse_time(text, now)).transpose()?;
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(TimeError::Empty { since, until });
        }
        Ok(Self { since, until })
    }

    /// Does it leave nothing out?
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.since.is_none() && self.until.is_none()
    }

    /// Does something from `start` to `end`, both included, overlap the range?
    #[must_use]
    pub fn overlaps(self, start: i64, end: i64) -> bool {
        self.since.is_none_or(|since| end >= since.0)
            && self.until.is_none_or(|until| start < until.0)
    }
}

/// A time: RFC 3339; `YYYY[-MM[-DD[THH[:MM[:SS[.mmm]]]]]]` in UTC, with `T` or a blank between;
/// `now`; `-1h` or `+1h` from now; seconds since 1970.
///
/// ```
/// use flowd::{model::time::UnixMillis, query::time_range::parse_time};
/// let time = parse_time("2026-03-01T09:15", UnixMillis(0))?;
/// assert_eq!(time.to_string(), "2026-03-01T09:15:00.000Z");
/// # Ok::<(), flowd::query::time_range::TimeError>(())
/// ```
pub fn parse_time(text: &str, now: UnixMillis) -> Result<UnixMillis, TimeError> {
    let time = if text.eq_ignore_ascii_case("now") {
        Some(now)
    } else if text.starts_with(['-', '+']) {
        relative(text, now)
    } else if text.len() > 4 && text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.') {
        epoch_seconds(text)
    } else {
        civil(text)
    };
    time.ok_or_else(|| TimeError::Time(shortened(text)))
}

fn relative(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    let distance = parse_duration(text.get(1..)?).ok()?;
    let distance = i64::try_from(distance.as_millis()).ok()?;
    let millis = if text.starts_with('-') {
        now.0.checked_sub(distance)?
    } else {
        now.0.checked_add(distance)?
    };
    Some(UnixMillis(millis))
}

fn epoch_seconds(text: &str) -> Option<UnixMillis> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    Some(UnixMillis(seconds.checked_mul(1_000)?.checked_add(fraction_millis(fraction)?)?))
}

/// The milliseconds of the digits behind a decimal point, floored.
fn fraction_millis(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) || digits.len() > 9 {
        return None;
    }
    let padded = format!("{digits:0<3}");
    padded.get(..3)?.parse().ok()
}

fn civil(text: &str) -> Option<UnixMillis> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, Some(text.get(at + 1..)?)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = fixed_digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| fixed_digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| fixed_digits(part, 2))?;
    let whole_date = date.len() == 10;
    if parts.next().is_some() || (time.is_some() && !whole_date) {
        return None;
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let millis_in_day = time.map_or(Some(0), time_of_day)?;
    let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
    Some(UnixMillis::from_civil(year, month, day, millis_in_day))
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Milliseconds since midnight UTC, which a zone's offset may carry beyond the day.
fn time_of_day(text: &str) -> Option<i64> {
    let (time, offset_minutes) = split_zone(text)?;
    let (clock, fraction) = match time.split_once('.') {
        Some((_, "")) => return None,
        Some((clock, fraction)) => (clock, fraction),
        None => (time, ""),
    };
    let mut parts = clock.split(':');
    let hour = fixed_digits(parts.next()?, 2)?;
    let minute = parts.next().map_or(Some(0), |part| fixed_digits(part, 2))?;
    let seconds_given = clock.len() == 8;
    let second = parts.next().map_or(Some(0), |part| fixed_digits(part, 2))?;
    let is_short = !fraction.is_empty() && !seconds_given;
    // RFC 3339 section 5.6: a leap second is written as second 60.
    if parts.next().is_some() || is_short || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = hour * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1_000 + fraction_millis(fraction)?)
}

/// The time apart from its zone, and the zone's distance from UTC in minutes.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else {
        return Some((text, 0));
    };
    let (time, zone) = (text.get(..at)?, text.get(at + 1..)?);
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (fixed_digits(hours, 2)?, fixed_digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let distance = hours * 60 + minutes;
    let is_west = text.get(at..)?.starts_with('-');
    Some((time, if is_west { -distance } else { distance }))
}

fn fixed_digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && text.bytes().all(|octet| octet.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_772_356_500_000);

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("now", "2026-03-01T09:15:00.000Z"),
            ("-1h", "2026-03-01T08:15:00.000Z"),
            ("+30s", "2026-03-01T09:15:30.000Z"),
            ("2026", "2026-01-01T00:00:00.000Z"),
            ("2026-03", "2026-03-01T00:00:00.000Z"),
            ("2026-03-01", "2026-03-01T00:00:00.000Z"),
            ("2026-03-01T09", "2026-03-01T09:00:00.000Z"),
            ("2026-03-01T09:15", "2026-03-01T09:15:00.000Z"),
            ("2026-03-01 09:15:07", "2026-03-01T09:15:07.000Z"),
            ("2026-03-01t09:15:07.25z", "2026-03-01T09:15:07.250Z"),
            ("2026-03-01T09:15:07.1239999Z", "2026-03-01T09:15:07.123Z"),
            ("2026-03-01T00:15:00+02:00", "2026-02-28T22:15:00.000Z"),
            ("2026-02-28T22:15:00-02:00", "2026-03-01T00:15:00.000Z"),
            ("1772356500", "2026-03-01T09:15:00.000Z"),
            ("1772356500.5", "2026-03-01T09:15:00.500Z"),
            ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ] {
            let time = parse_time(text, NOW).map(|time| time.to_string());
            assert_eq!(time.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "-",
            "-1",
            "-1y",
            "2026-13-01",
            "2026-02-29",
            "2026-3-1",
            "2026-03T09:15",
            "2026-03-01T",
            "2026-03-01T24:00",
            "2026-03-01T09:60",
            "2026-03-01T09:15.5",
            "2026-03-01T09:15:00.",
            "2026-03-01T09:15:00+2",
            "1.2.3.4567",
            "99999999999999999999",
            "2026-03-01-01",
        ] {
            assert!(parse_time(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn options_make_a_range() {
        let last = Some(Duration::from_secs(60));
        let range = TimeRange::from_options(None, None, last, NOW).unwrap();
        assert_eq!(range.since, Some(UnixMillis(NOW.0 - 60_000)));
        assert_eq!(range.until, None);
        assert_eq!(TimeRange::from_options(None, None, None, NOW), Ok(TimeRange::ALL));
        assert_eq!(
            TimeRange::from_options(Some("-1h"), None, last, NOW),
            Err(TimeError::LastWithSince)
        );
        let backwards = TimeRange::from_options(Some("now"), Some("-1h"), None, NOW);
        assert!(matches!(backwards, Err(TimeError::Empty { .. })));
    }

    #[test]
    fn a_range_takes_in_its_start_and_leaves_out_its_end() {
        let range = TimeRange { since: Some(UnixMillis(100)), until: Some(UnixMillis(200)) };
        for (start, end, overlaps) in [
            (0, 99, false),
            (0, 100, true),
            (150, 160, true),
            (0, 500, true),
            (199, 500, true),
            (200, 500, false),
        ] {
            assert_eq!(range.overlaps(start, end), overlaps, "{start}..={end}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[-+0-9TtZz:. now]{0,30}|.*") {
            drop(parse_time(&text, NOW));
        }

        #[test]
        fn a_written_time_is_read_back(millis in -62_000_000_000_000_i64..250_000_000_000_000) {
            let text = UnixMillis(millis).to_string();
            prop_assert_eq!(parse_time(&text, NOW), Ok(UnixMillis(millis)));
        }
    }
}
