//! Instants and spans of time as a page shows them. The browser turns them into the reader's own time zone.

use crate::domain::time::Time;
use crate::texts::t;
use crate::web::words::span;

/// An instant.
#[derive(Clone, Debug)]
pub struct Moment {
    /// `2026-03-15T14:23:07Z`, for `datetime` and the title.
    pub iso: String,
    /// `15 Mar 2026, 14:23 UTC`, for whoever has no script.
    pub utc: String,
}

impl Moment {
    /// The instant as a page shows it.
    pub fn of(time: Time) -> Self {
        let iso = time.to_the_second();
        let utc = worded(&iso).unwrap_or_else(|| iso.clone());
        Moment { iso, utc }
    }
}

/// `2026-03-15T14:23:07Z` as `15 Mar 2026, 14:23 UTC`.
fn worded(iso: &str) -> Option<String> {
    let (date, time) = iso.split_once('T')?;
    let (year, _) = date.split_once('-')?;
    Some(t!(
        "{day_and_month} {year}, {time} UTC",
        day_and_month = day_and_month(iso)?,
        year = year,
        time = time.get(..5)?
    ))
}

/// `2026-03-15T14:23:07Z` as `15 Mar`. Each month is a message with its day: a language has its own order and its own form of the
/// name there, and “May” alone is also something that somebody may.
pub fn day_and_month(iso: &str) -> Option<String> {
    let mut parts = iso.get(..10)?.rsplitn(3, '-');
    let day = parts.next()?.trim_start_matches('0');
    Some(match parts.next()? {
        "01" => t!("{day} Jan", day = day),
        "02" => t!("{day} Feb", day = day),
        "03" => t!("{day} Mar", day = day),
        "04" => t!("{day} Apr", day = day),
        "05" => t!("{day} May", day = day),
        "06" => t!("{day} Jun", day = day),
        "07" => t!("{day} Jul", day = day),
        "08" => t!("{day} Aug", day = day),
        "09" => t!("{day} Sep", day = day),
        "10" => t!("{day} Oct", day = day),
        "11" => t!("{day} Nov", day = day),
        "12" => t!("{day} Dec", day = day),
        _ => return None,
    })
}

/// How long ago something was.
pub fn ago(now: Time, then: Time) -> String {
    match then.seconds_until(now) {
        0..60 => t!("just now").to_owned(),
        seconds => t!("{seconds} ago", seconds = span(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_like_dates() {
        let time = Time::parse("2026-03-05T14:03:07.123Z").expect("a time");
        let moment = Moment::of(time);
        assert_eq!(
            (moment.iso.as_str(), moment.utc.as_str()),
            ("2026-03-05T14:03:07Z", "5 Mar 2026, 14:03 UTC")
        );
    }

    #[test]
    fn spans_name_their_units() {
        let said: Vec<String> = [5, 540, 3600, 3900, 90_000, 400_000].map(span).into();
        assert_eq!(said, ["5 s", "9 min", "1 h", "1 h 5 min", "1 day", "4 days"]);
        assert_eq!(ago(Time(60_000), Time(30_000)), "just now");
        assert_eq!(ago(Time(600_000), Time(0)), "10 min ago");
    }
}
