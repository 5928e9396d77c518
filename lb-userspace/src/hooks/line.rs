//! A transition as a line of JSON.

#![deny(clippy::disallowed_methods)]

use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{Transition, word};

/// `PIPE_BUF` of Linux: a line that is no longer is written whole or not at all (pipe(7)).
const MOST: usize = 4096;

#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since the Unix epoch.
    time: f64,
    instance: &'a str,
    from: &'static str,
    state: &'static str,
    priority: u8,
    reason: &'a str,
}

/// With its end of line. Of a reason that is too long the beginning.
pub(super) fn line(transition: &Transition) -> Vec<u8> {
    let mut reason = transition.reason.as_str();
    loop {
        let text = encode(transition, reason);
        if text.len() <= MOST || reason.is_empty() {
            return text;
        }
        reason = &reason[..reason.floor_char_boundary(reason.len() / 2)];
    }
}

fn encode(transition: &Transition, reason: &str) -> Vec<u8> {
    let since = transition.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = Line {
        time: since.as_secs_f64(),
        instance: &transition.instance,
        from: word(transition.from),
        state: word(transition.to),
        priority: transition.priority,
        reason,
    };
    let mut text = serde_json::to_vec(&line).expect("texts and a finite number are JSON");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::status::InstanceState::{Backup, Master};

    fn transition(reason: &str) -> Transition {
        let at = UNIX_EPOCH + Duration::from_millis(1_500);
        let (instance, reason) = ("web".to_owned(), reason.to_owned());
        Transition { at, instance, from: Backup, to: Master, priority: 150, reason }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let text = String::from_utf8(line(&transition("no \"master\"\nheard"))).unwrap();
        let golden = r#"{"time":1.5,"instance":"web","from":"backup","state":"master","priority":150,"reason":"no \"master\"\nheard"}"#;
        assert_eq!(text, format!("{golden}\n"));
    }

    proptest! {
        #[test]
        fn whatever_the_reason_a_line_is_json_and_fits_a_pipe(reason in ".{0,5000}") {
            let line = line(&transition(&reason));
            prop_assert!(line.len() <= MOST);
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert!(reason.starts_with(read["reason"].as_str().unwrap()));
        }
    }
}
