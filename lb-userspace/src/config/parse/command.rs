//! Programs that the daemon runs, the users they run as, and paths.

use std::path::PathBuf;

use super::reader::{Item, Read, Reader, describe};
use super::suggest;
use crate::config::yaml::Value;

const MAX_WORDS: usize = 64;
/// `PATH_MAX` of Linux, without the NUL.
const MAX_PATH: usize = 4095;
/// `LOGIN_NAME_MAX` of shadow-utils.
const MAX_USER: usize = 32;
/// What a shell would read as something else than part of a word.
const SHELL: &[char] = &['\'', '"', '\\', '$', '`', '|', ';', '&', '<', '>', '\n'];

impl Reader<'_> {
    /// A program and its arguments: words in one text, or a list of texts. No shell runs it.
    pub(super) fn command(&mut self, item: &Item<'_>, example: &str) -> Read<Vec<String>> {
        let words = match &item.node.value {
            Value::List(_) => {
                let words = self.list(item, "[/etc/evenkeel/check, arg]")?;
                self.each(&words, |reader, word| {
                    reader.text(word, "a word of a command", example).map(str::to_owned)
                })?
            }
            _ => self.words(item, example)?,
        };
        let problem = match words.first() {
            None => "a command without a program".to_owned(),
            Some(program) if !is_file_path(program) => {
                format!("`{}` is not the absolute path of a program", suggest::shorten(program))
            }
            _ if words.len() > MAX_WORDS => {
                format!("{} words; a command has at most {MAX_WORDS}", words.len())
            }
            _ if words.iter().any(|word| word.len() > MAX_PATH || word.contains('\0')) => {
                "a word of the command is too long or has a zero byte in it".to_owned()
            }
            _ => return Ok(words),
        };
        Err(self.mistake(&item.place(), format!("{problem}; write one such as `{example}`")))
    }

    fn words(&mut self, item: &Item<'_>, example: &str) -> Read<Vec<String>> {
        let text = self.text(item, "a command", example)?;
        let Some(special) = text.find(SHELL).and_then(|at| text[at..].chars().next()) else {
            return Ok(text.split_whitespace().map(str::to_owned).collect());
        };
        let message = format!(
            "`{}` is for a shell, and none runs this command; write program and arguments as a list of texts, such as \
             `[/etc/evenkeel/check, \"an argument\"]`",
            suggest::shorten(special.encode_utf8(&mut [0; 4]))
        );
        Err(self.mistake(&item.place(), message))
    }

    /// The absolute path of a file; `what` is what it should be, such as `a file`.
    pub(super) fn path(&mut self, item: &Item<'_>, what: &str, example: &str) -> Read<PathBuf> {
        let path = self.text(item, what, example)?;
        if is_file_path(path) {
            return Ok(path.into());
        }
        let message = format!(
            "`{}` is not the absolute path of {what}; write one such as `{example}`",
            suggest::shorten(path)
        );
        Err(self.mistake(&item.place(), message))
    }

    /// The name of a user of the system.
    pub(super) fn user(&mut self, item: &Item<'_>) -> Read<String> {
        let name = self.text(item, "a user", "nobody")?;
        let valid = name.len() <= MAX_USER
            && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if valid {
            return Ok(name.to_owned());
        }
        let message =
            format!("{} is not the name of a user; write one such as `nobody`", describe(&item.node.value));
        Err(self.mistake(&item.place(), message))
    }
}

fn is_file_path(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') && path.len() <= MAX_PATH
}
