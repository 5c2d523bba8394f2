//! Faults on purpose, for the tests of reliability: named points where a process can be made to die, fail or dawdle, and
//! named mistakes that the tests must notice. Without the feature `failpoints` the macros are nothing at all.
//!
//! `POLYPHONY_FAILPOINTS` says what happens where: `worker.after_lease=abort;relay.after_publish=sleep:500@3*2`. An
//! action is `abort`, `panic`, `err` or `sleep:<milliseconds>`; `@n` lets it begin with the n-th passing, `*n` ends it
//! after n times. `POLYPHONY_MUTATION` names one mistake, `POLYPHONY_DURATIONS` shortens waits:
//! `provider.idle=800;provider.head=800`, in milliseconds.

/// A named point. With a second argument, that is executed where the point's action is `err`; `of` adds a word to the
/// point's name.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::fault::pass($name, "").await;
    };
    ($name:literal of $word:expr) => {
        let _ = $crate::fault::pass($name, $word).await;
    };
    ($name:literal, $otherwise:expr) => {
        if $crate::fault::pass($name, "").await {
            $otherwise
        }
    };
}

/// A named point; nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($($ignored:tt)*) => {};
}

/// Whether something is to happen at a named point, which may need a place to happen in.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! armed {
    ($name:literal of $word:expr) => {
        $crate::fault::is_armed($name, $word)
    };
}

/// Whether something is to happen at a named point; never in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! armed {
    ($($ignored:tt)*) => {
        false
    };
}

/// Whether this process is to make a named mistake.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! mutated {
    ($name:literal) => {
        $crate::fault::is_mutated($name)
    };
}

/// Whether this process is to make a named mistake; never in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! mutated {
    ($name:literal) => {
        false
    };
}

/// A wait that tests may shorten.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! patience {
    ($name:literal, $usual:expr) => {
        $crate::fault::duration($name).unwrap_or($usual)
    };
}

/// A wait; as it stands in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! patience {
    ($name:literal, $usual:expr) => {
        $usual
    };
}

#[cfg(feature = "failpoints")]
pub use armed::{duration, is_armed, is_mutated, pass};

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        collections::HashMap,
        env,
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Abort,
        Panic,
        Fail,
        Sleep(Duration),
    }

    #[derive(Debug)]
    pub(super) struct Point {
        pub(super) action: Action,
        pub(super) first: u32,
        pub(super) times: u32,
        passed: AtomicU32,
    }

    impl Point {
        /// Reads `action[@first][*times]`.
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (text, times) = text.split_once('*').unwrap_or((text, "4294967295"));
            let (text, first) = text.split_once('@').unwrap_or((text, "1"));
            let action = match text.split_once(':') {
                Some(("sleep", millis)) => Action::Sleep(Duration::from_millis(millis.parse().ok()?)),
                None if text == "abort" => Action::Abort,
                None if text == "panic" => Action::Panic,
                None if text == "err" => Action::Fail,
                _ => return None,
            };
            Some(Self { action, first: first.parse().ok()?, times: times.parse().ok()?, passed: AtomicU32::new(0) })
        }

        /// What is to happen at this passing.
        pub(super) fn pass(&self) -> Option<Action> {
            let passed = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
            (passed >= self.first && passed - self.first < self.times).then_some(self.action)
        }
    }

    fn settings(variable: &str) -> Vec<(String, String)> {
        let text = env::var(variable).unwrap_or_default();
        let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
    }

    static POINTS: LazyLock<HashMap<String, Point>> = LazyLock::new(|| {
        let points = settings("POLYPHONY_FAILPOINTS").into_iter();
        points.filter_map(|(name, value)| Some((name, Point::parse(&value)?))).collect()
    });
    static MUTATION: LazyLock<String> = LazyLock::new(|| env::var("POLYPHONY_MUTATION").unwrap_or_default());
    static DURATIONS: LazyLock<HashMap<String, u64>> = LazyLock::new(|| {
        let durations = settings("POLYPHONY_DURATIONS").into_iter();
        durations.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
    });

    fn point(name: &str, word: &str) -> Option<&'static Point> {
        if POINTS.is_empty() {
            return None;
        }
        if word.is_empty() { POINTS.get(name) } else { POINTS.get(&format!("{name}.{word}")) }
    }

    /// Whether something is to happen at a point.
    pub fn is_armed(name: &str, word: &str) -> bool {
        point(name, word).is_some()
    }

    /// Passes a point; whether the caller is to fail.
    #[expect(clippy::panic, reason = "a panic is what was asked for")]
    pub async fn pass(name: &str, word: &str) -> bool {
        let Some(action) = point(name, word).and_then(Point::pass) else { return false };
        tracing::warn!(point = name, ?action, "a fault on purpose");
        match action {
            Action::Abort => std::process::abort(),
            Action::Panic => panic!("a fault on purpose at {name}"),
            Action::Fail => true,
            Action::Sleep(time) => {
                tokio::time::sleep(time).await;
                false
            }
        }
    }

    /// Whether this process is to make a mistake.
    pub fn is_mutated(name: &str) -> bool {
        *MUTATION == name
    }

    /// The shortened form of a wait.
    pub fn duration(name: &str) -> Option<Duration> {
        DURATIONS.get(name).map(|millis| Duration::from_millis(*millis))
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use std::time::Duration;

    use super::armed::{Action, Point};

    #[test]
    fn a_point_acts_from_its_first_passing_on_and_so_many_times() {
        let point = Point::parse("sleep:250@2*2").unwrap();
        let acted: Vec<_> = (0..4).map(|_| point.pass()).collect();
        let sleep = Some(Action::Sleep(Duration::from_millis(250)));
        assert_eq!(acted, [None, sleep, sleep, None]);
        assert_eq!(Point::parse("abort").unwrap().pass(), Some(Action::Abort));
        for wrong in ["", "sleep", "sleep:x", "explode", "abort@x"] {
            assert!(Point::parse(wrong).is_none(), "{wrong}");
        }
    }
}
