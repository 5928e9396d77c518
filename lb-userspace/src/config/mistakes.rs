//! What is wrong with a configuration, and where.

#![deny(clippy::disallowed_methods)]

use std::fmt;

use serde::Serialize;

/// Enough for a person; bounds what a hostile file makes the daemon keep.
const MAX_KEPT: usize = 1000;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// The way from the root to the value, such as `services[0].backends[1].weight`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything that is wrong with one file, by position. `Display` writes one line for each, like a compiler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes {
    /// As the user named it.
    pub file: String,
    /// Never empty.
    pub list: Vec<Mistake>,
    /// How many more there are than were kept.
    pub omitted: usize,
}

impl Mistakes {
    pub(super) fn new(file: &str, mut list: Vec<Mistake>) -> Self {
        list.sort();
        list.dedup();
        let omitted = list.len().saturating_sub(MAX_KEPT);
        list.truncate(MAX_KEPT);
        Self { file: file.to_owned(), list, omitted }
    }

    /// A mistake of the file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        Self::new(file, vec![Mistake { line: 1, column: 1, path: String::new(), message }])
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.omitted
    }

    /// One text for each mistake, in the form `FILE:LINE:COLUMN: PATH: MESSAGE`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.list.iter().map(|mistake| format!("{}:{mistake}", self.file)).collect();
        if self.omitted > 0 {
            lines.push(format!("{}: and {} more", self.file, self.omitted));
        }
        lines
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}
