//! Statistics, and formatting of numbers.

use std::time::Duration;

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the time within which this percentage was done.
pub fn percentile(latencies: &mut [Duration], per_cent: usize) -> Duration {
    let at = (latencies.len() * per_cent / 100).min(latencies.len() - 1);
    *latencies.select_nth_unstable(at).1
}

/// Rounds to three significant digits: more are noise.
pub fn rounded(value: f64) -> u64 {
    let mut unit = 1.0;
    while value / unit >= 1000.0 {
        unit *= 10.0;
    }
    ((value / unit).round() * unit) as u64
}

/// Formats a number as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a duration with a suitable unit.
pub fn short(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        ..1e3 => return format!("{nanoseconds:.0} ns"),
        ..1e6 => (nanoseconds / 1e3, "µs"),
        ..1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}
