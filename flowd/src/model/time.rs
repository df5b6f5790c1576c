//! Time: the only conversions between the clocks of records, messages and text.

use std::fmt;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

/// Milliseconds since the exporter booted, as NetFlow counts them: modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SysUptime(pub u32);

/// How far after its message's stamp a flow's time may lie: clocks of one exporter that are read
/// at different moments differ by seconds. A SysUptime further ahead lies in the past.
const UPTIME_AHEAD_MILLIS_MAX: u32 = 3_600_000;
/// Milliseconds of an hour.
pub const HOUR_MILLIS: i64 = 3_600_000;

impl UnixMillis {
    /// The start of an hour that is counted from 1970.
    #[must_use]
    pub const fn of_hour(hour: i64) -> Self {
        Self(hour.saturating_mul(HOUR_MILLIS))
    }

    /// A time of nanoseconds since 1970, floored.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos.div_euclid(1_000_000))
    }

    /// The number of its hour since 1970.
    #[must_use]
    pub const fn hour(self) -> i64 {
        self.0.div_euclid(HOUR_MILLIS)
    }

    /// The time that a SysUptime means, given the message's own two clocks
    /// (RFC 3954 section 5.1). The difference is taken modulo 2^32, so that a wrap of the counter
    /// comes right: up to an hour ahead it is a flow that ends after the message was stamped, and
    /// all else is age, of up to 49.7 days.
    #[must_use]
    pub const fn from_sys_uptime(message: Self, message_uptime: SysUptime, at: SysUptime) -> Self {
        let ahead_millis = at.0.wrapping_sub(message_uptime.0);
        // Arithmetic rather than a branch: this stands in the inner loop of decoding.
        let is_past = (ahead_millis > UPTIME_AHEAD_MILLIS_MAX) as i64;
        Self(message.0.wrapping_add(ahead_millis as i64).wrapping_sub(is_past << 32))
    }

    /// Year, month, day, and the milliseconds within the day.
    fn civil(self) -> (i64, u8, u8, i64) {
        const DAY_MILLIS: i64 = 86_400_000;
        let (days, in_day) = (self.0.div_euclid(DAY_MILLIS), self.0.rem_euclid(DAY_MILLIS));
        // Days to date in the proleptic Gregorian calendar: years are counted from March, so
        // that the leap day is the last of its year, in eras of 400 years (146,097 days).
        let from_march_0000 = days + 719_468;
        let era = from_march_0000.div_euclid(146_097);
        let day_of_era = from_march_0000.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, u8::try_from(month).unwrap_or(0), u8::try_from(day).unwrap_or(0), in_day)
    }

    /// The time of a civil date and the milliseconds within its day, UTC.
    #[must_use]
    pub const fn from_civil(year: i64, month: u8, day: u8, millis_in_day: i64) -> Self {
        let (month, day) = (month as i64, day as i64);
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self((era * 146_097 + day_of_era - 719_468) * 86_400_000 + millis_in_day)
    }

    /// The directory of its hour: `date=YYYY-MM-DD/hour=HH`.
    #[must_use]
    pub fn hour_path(self) -> String {
        let (year, month, day, in_day) = self.civil();
        format!("date={year:04}-{month:02}-{day:02}/hour={:02}", in_day / HOUR_MILLIS)
    }
}

/// The times that RFC 3339 can write: its years have four digits.
const WRITABLE: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

impl UnixMillis {
    /// Can RFC 3339 write it? An exporter's clock may say anything.
    #[must_use]
    pub fn is_writable(self) -> bool {
        WRITABLE.contains(&self.0)
    }
}

/// RFC 3339 in UTC with milliseconds; the number of milliseconds where it has no words for the
/// time.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_writable() {
            return self.0.fmt(f);
        }
        let (year, month, day, in_day) = self.civil();
        let (hour, minute) = (in_day / HOUR_MILLIS, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_beyond_four_digits_of_years_are_numbers() {
        for (millis, text) in [
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "253402300800000"),
            (i64::MIN, "-9223372036854775808"),
        ] {
            assert_eq!(UnixMillis(millis).to_string(), text);
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (4_323_109_693_999, "2106-12-29T23:48:13.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(UnixMillis(millis).to_string(), text);
        }
        assert_eq!(UnixMillis(951_782_400_123).hour_path(), "date=2000-02-29/hour=00");
    }

    #[test]
    fn an_hour_begins_where_the_one_before_ends() {
        for hour in [-1, 0, 477_758] {
            let start = UnixMillis::of_hour(hour);
            assert_eq!((start.hour(), UnixMillis(start.0 - 1).hour()), (hour, hour - 1));
        }
    }

    #[test]
    fn civil_dates_lead_back_to_their_millis() {
        for millis in [0, -86_400_000, 951_782_400_000, 1_763_887_335_250, 4_102_444_800_000] {
            let (year, month, day, in_day) = UnixMillis(millis).civil();
            assert_eq!(UnixMillis::from_civil(year, month, day, in_day), UnixMillis(millis));
        }
    }

    #[test]
    fn uptime_wraps_and_may_lie_after_the_message() {
        let message = UnixMillis(1_000_000_000_000);
        let at = |uptime, first| {
            UnixMillis::from_sys_uptime(message, SysUptime(uptime), SysUptime(first)).0 - message.0
        };
        assert_eq!(at(5_000, 4_000), -1_000);
        assert_eq!(at(100, u32::MAX - 99), -200);
        assert_eq!(at(4_000, 5_000), 1_000);
        assert_eq!(at(u32::MAX, 3_599_999), 3_600_000);
    }

    #[test]
    fn a_flow_of_weeks_is_old_and_not_to_come() {
        let message = UnixMillis(1_700_000_000_000);
        let day = 86_400_000;
        for age in [24 * day, 25 * day, 49 * day, u32::MAX - 3_600_000] {
            let uptime = SysUptime(4_000_000_000);
            let first = SysUptime(uptime.0.wrapping_sub(age));
            let at = UnixMillis::from_sys_uptime(message, uptime, first);
            assert_eq!(message.0 - at.0, i64::from(age));
        }
    }
}
