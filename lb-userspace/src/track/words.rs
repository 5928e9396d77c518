//! Subjects and effects as a person reads them.

#![deny(clippy::disallowed_methods)]

use crate::config::model::{Effect, Subject, Track};

pub(super) fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Interface(name) => format!("interface {name}"),
        Subject::Script(script) => format!("script {}", script.command.join(" ")),
        Subject::File(path) => format!("file {}", path.display()),
        Subject::Process(name) => format!("process {name}"),
        Subject::Gateway(Some(address)) => format!("gateway {address}"),
        Subject::Gateway(None) => "default gateway".to_owned(),
        Subject::Service { name, min_backends } => format!("service {name} with {min_backends} backends"),
    }
}

pub(super) fn effect(track: &Track) -> String {
    match (track.effect, &track.subject) {
        (Effect::Fault, Subject::File(_)) => "fault unless 0".to_owned(),
        (Effect::Fault, _) => "fault".to_owned(),
        (Effect::Weight(weight), Subject::File(_)) => format!("number × {weight}"),
        (Effect::Weight(weight), _) => format!("{weight:+}"),
    }
}
