//! The forms of values: numbers, booleans, Flink's durations and memory sizes. Used by [`keys`](crate::keys) only;
//! other crates receive the parsed values.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// A type that a configuration value can have.
pub trait Value: Sized {
    /// Name of the type in the reference page.
    const TYPE: &'static str;
    /// What is accepted, for messages: completes "expected ...".
    const FORM: &'static str;

    /// Reads the text; nothing if it is not of the form.
    fn parse(text: &str) -> Option<Self>;
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

/// Number of parallel subtasks, 1 to 32768; `cores` stands for the processors this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parallelism(pub u32);

/// Number of key groups of an operator, 1 to 32768.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxParallelism(pub u16);

/// How many completed checkpoints are kept, at least 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retained(pub u32);

/// A count, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// At most so many.
    AtMost(u32),
    /// No limit.
    Infinite,
}

/// A factor of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Multiplier(pub f64);

/// A part of something, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Fraction(pub f64);

/// Highest parallelism and number of key groups, as in Flink.
const UPPER_BOUND_MAX_PARALLELISM: u32 = 1 << 15;

/// What a node does; at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It can lead.
    pub job_manager: bool,
    /// It runs subtasks.
    pub task_manager: bool,
}

/// Keys with values, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<(String, String)>);

/// Parallelism by the ids of vertices, 32 hex digits in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParallelismOverrides(pub BTreeMap<String, u32>);

/// Places, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

/// A port, or the first and the last of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

/// The parts of a list, without blanks around them.
fn parts<'a>(text: &'a str, separators: &'static [char]) -> impl Iterator<Item = &'a str> {
    text.split(separators).map(str::trim).filter(|part| !part.is_empty())
}

impl Value for Roles {
    const TYPE: &'static str = "List";
    const FORM: &'static str = "job-manager, task-manager or both, separated by ';'";

    fn parse(text: &str) -> Option<Self> {
        let mut roles = Self { job_manager: false, task_manager: false };
        for part in parts(text, &[';', ',']) {
            match part.to_ascii_lowercase().replace('_', "-").as_str() {
                "job-manager" | "jobmanager" => roles.job_manager = true,
                "task-manager" | "taskmanager" => roles.task_manager = true,
                _ => return None,
            }
        }
        (roles.job_manager || roles.task_manager).then_some(roles)
    }
}

/// As Flink writes maps.
impl Value for Labels {
    const TYPE: &'static str = "Map";
    const FORM: &'static str = "key:value pairs separated by ','";

    fn parse(text: &str) -> Option<Self> {
        let pair = |part: &str| {
            let (key, value) = part.split_once(':')?;
            (!key.trim().is_empty()).then(|| (key.trim().to_string(), value.trim().to_string()))
        };
        parts(text, &[',', ';']).map(pair).collect::<Option<Vec<_>>>().map(Self)
    }
}

/// As Flink writes maps.
impl Value for ParallelismOverrides {
    const TYPE: &'static str = "Map";
    const FORM: &'static str =
        "vertex:parallelism pairs separated by ',', a vertex being an id of 32 hex digits and a parallelism 1 at least";

    fn parse(text: &str) -> Option<Self> {
        let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let pair = |part: &str| {
            let (id, parallelism) = part.split_once(':')?;
            let (id, parallelism) = (id.trim().to_ascii_lowercase(), parallelism.trim().parse().ok()?);
            (is_id(&id) && (1..=UPPER_BOUND_MAX_PARALLELISM).contains(&parallelism)).then_some((id, parallelism))
        };
        parts(text, &[',', ';']).map(pair).collect::<Option<_>>().map(Self)
    }
}

impl Value for Addresses {
    const TYPE: &'static str = "List";
    const FORM: &'static str = "host:port, several separated by ';'";

    fn parse(text: &str) -> Option<Self> {
        let places: Vec<String> = parts(text, &[';', ',']).map(str::to_string).collect();
        (!places.is_empty()).then_some(Self(places))
    }
}

/// As Flink writes ranges of ports.
impl Value for PortRange {
    const TYPE: &'static str = "String";
    const FORM: &'static str = "a port, or a range of ports such as 9249-9260";

    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().ok();
        let range = Self { first: port(first)?, last: port(last)? };
        (range.first <= range.last).then_some(range)
    }
}

impl Value for String {
    const TYPE: &'static str = "String";
    const FORM: &'static str = "text that is not empty";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_string())
    }
}

/// An option without a default: the empty text is "not set".
impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const FORM: &'static str = T::FORM;

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::parse(text).map(Some) }
    }
}

impl Value for bool {
    const TYPE: &'static str = "Boolean";
    const FORM: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl Value for u16 {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 0 to 65535";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for u32 {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 0 to 4294967295";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for NonZeroU32 {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 1 to 4294967295";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for Parallelism {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 1 to 32768, or 'cores'";

    fn parse(text: &str) -> Option<Self> {
        if text == "cores" {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
            return Some(Self(cores.min(UPPER_BOUND_MAX_PARALLELISM)));
        }
        text.parse().ok().filter(|number| (1..=UPPER_BOUND_MAX_PARALLELISM).contains(number)).map(Self)
    }
}

impl Value for MaxParallelism {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 1 to 32768";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|&number| (1..=UPPER_BOUND_MAX_PARALLELISM).contains(&u32::from(number))).map(Self)
    }
}

impl Value for Retained {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 2 (a damaged checkpoint needs one before it to fall back to)";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|&number| number >= 2).map(Self)
    }
}

impl Value for Limit {
    const TYPE: &'static str = "Integer";
    const FORM: &'static str = "a whole number from 1, or 'infinite'";

    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("infinite") {
            return Some(Self::Infinite);
        }
        text.parse().ok().filter(|&number| number >= 1).map(Self::AtMost)
    }
}

impl Value for Multiplier {
    const TYPE: &'static str = "Double";
    const FORM: &'static str = "a number of at least 1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 1.0).map(Self)
    }
}

impl Value for Fraction {
    const TYPE: &'static str = "Double";
    const FORM: &'static str = "a number from 0 to 1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| (0.0..=1.0).contains(number)).map(Self)
    }
}

/// Flink's `TimeUtils.parseDuration`: a whole number and a unit; without a unit it is milliseconds.
impl Value for Duration {
    const TYPE: &'static str = "Duration";
    const FORM: &'static str =
        "a whole number with a unit (ns, us, ms, s, min, h or d), as in '200ms', '1 s' or '10 min'";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let nanos_per_unit: u64 = match unit.as_str() {
            "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
            "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
            "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60 * 1_000_000_000,
            "h" | "hour" | "hours" => 3_600 * 1_000_000_000,
            "d" | "day" | "days" => 86_400 * 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(nanos_per_unit).map(Self::from_nanos)
    }
}

/// Flink's `MemorySize.parse`: a whole number and a binary unit; without a unit it is bytes.
impl Value for MemorySize {
    const TYPE: &'static str = "MemorySize";
    const FORM: &'static str =
        "a whole number with a unit (b, kb, mb, gb or tb; 1 kb is 1024 bytes), as in '64kb' or '1 gb'";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let bytes_per_unit: u64 = match unit.as_str() {
            "" | "b" | "bytes" => 1,
            "k" | "kb" | "kibibytes" => 1 << 10,
            "m" | "mb" | "mebibytes" => 1 << 20,
            "g" | "gb" | "gibibytes" => 1 << 30,
            "t" | "tb" | "tebibytes" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(bytes_per_unit).map(Self)
    }
}

/// The digits at the start and the lower-case unit after them.
fn split_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_flinks_syntax() {
        let millis = |text: &str| Duration::parse(text).map(|duration| duration.as_millis());
        assert_eq!(millis("200ms"), Some(200));
        assert_eq!(millis("200"), Some(200));
        assert_eq!(millis(" 1 s "), Some(1_000));
        assert_eq!(millis("10 min"), Some(600_000));
        assert_eq!(millis("2 Hours"), Some(7_200_000));
        assert_eq!(millis("1d"), Some(86_400_000));
        assert_eq!(Duration::parse("5 us"), Some(Duration::from_micros(5)));
        for wrong in ["", "ms", "-1 s", "1.5 s", "1 fortnight", "99999999999999999999", "213504 d"] {
            assert_eq!(Duration::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn memory_sizes_are_binary() {
        assert_eq!(MemorySize::parse("64kb"), Some(MemorySize(65_536)));
        assert_eq!(MemorySize::parse("1 gb"), Some(MemorySize(1 << 30)));
        assert_eq!(MemorySize::parse("3 TebiBytes"), Some(MemorySize(3 << 40)));
        assert_eq!(MemorySize::parse("17"), Some(MemorySize(17)));
        for wrong in ["", "kb", "1.5 gb", "1 pb", "16777216 tb"] {
            assert_eq!(MemorySize::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(Parallelism::parse("0"), None);
        assert_eq!(Parallelism::parse("32768"), Some(Parallelism(32_768)));
        assert_eq!(Parallelism::parse("32769"), None);
        assert!(Parallelism::parse("cores").is_some_and(|cores| cores.0 >= 1));
        assert_eq!(MaxParallelism::parse("40000"), None);
        assert_eq!(Retained::parse("1"), None);
        assert_eq!(Limit::parse("Infinite"), Some(Limit::Infinite));
        assert_eq!(Limit::parse("0"), None);
        assert_eq!(Multiplier::parse("0.5"), None);
        assert_eq!(Multiplier::parse("NaN"), None);
        assert_eq!(Fraction::parse("1.1"), None);
        assert_eq!(Option::<u32>::parse(""), Some(None));
        assert_eq!(bool::parse("True"), Some(true));
        assert_eq!(bool::parse("yes"), None);
    }

    #[test]
    fn lists_and_maps_are_read_with_blanks_and_either_separator() {
        assert_eq!(Roles::parse("job-manager"), Some(Roles { job_manager: true, task_manager: false }));
        assert_eq!(Roles::parse(" TaskManager ; job_manager "), Some(Roles { job_manager: true, task_manager: true }));
        assert_eq!(Roles::parse(""), None);
        assert_eq!(Roles::parse("worker"), None);
        assert_eq!(Labels::parse(""), Some(Labels(Vec::new())));
        assert_eq!(Labels::parse("a: b"), Some(Labels(vec![("a".to_string(), "b".to_string())])));
        assert_eq!(Labels::parse("a"), None);
        let (one, other) = ("0123456789abcdef".repeat(2), "F".repeat(32));
        let overrides = ParallelismOverrides::parse(&format!("{one}:2, {other}: 3")).expect("as Flink writes it");
        assert_eq!(overrides.0, BTreeMap::from([(one.clone(), 2), (other.to_lowercase(), 3)]));
        assert_eq!(ParallelismOverrides::parse(""), Some(ParallelismOverrides::default()));
        for wrong in [&one, &format!("{one}:0"), &format!("{one}:32769"), "source:2", &format!("{one}:2,{one}")] {
            assert_eq!(ParallelismOverrides::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Addresses::parse("a:1; b:2"), Some(Addresses(vec!["a:1".to_string(), "b:2".to_string()])));
        assert_eq!(Addresses::parse(";"), None);
        assert_eq!(PortRange::parse("9249"), Some(PortRange { first: 9_249, last: 9_249 }));
        assert_eq!(PortRange::parse("9249-9260"), Some(PortRange { first: 9_249, last: 9_260 }));
        assert_eq!(PortRange::parse("9260-9249"), None);
        assert_eq!(PortRange::parse("9249-70000"), None);
    }
}
