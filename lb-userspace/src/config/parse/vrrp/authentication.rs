//! `authentication`: keys in a file, or version 2's password.

use std::path::Path;

use super::super::reader::{Fields, Item, Read, Reader, Shape, describe};
use crate::config::model::{Authentication, Key, Secret, Version};
use crate::config::yaml::Value;

const AUTHENTICATION: Shape = Shape {
    what: "authentication",
    keys: &["keys", "required", "password"],
    later: &[],
    example: "{ keys: /etc/evenkeel/vrrp.keys }",
};

const FILE: &str = "/etc/evenkeel/vrrp.keys";
/// RFC 2338 section 5.3.6.
const MAX_PASSWORD: usize = 8;
const MIN_KEY: usize = 16;
/// The block of SHA-256: HMAC hashes what is longer (RFC 2104 section 2).
const MAX_KEY: usize = 64;

/// `version` is `None` when it is wrong.
pub(super) fn authentication(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    version: Option<Version>,
) -> Read<Authentication> {
    let fields = reader.fields(item, &AUTHENTICATION)?;
    let keys = reader.optional(&fields, "keys", keys);
    let required = reader.optional(&fields, "required", Reader::boolean);
    let password = reader.optional(&fields, "password", password);
    suits(reader, &fields, version)?;
    match (keys?, password?) {
        (Some(keys), None) => Ok(Authentication::Keys { keys, required: required?.unwrap_or(true) }),
        (None, Some(password)) => Ok(Authentication::Password(password)),
        _ => Err(fields.refused().unwrap_or_else(|| {
            let message = format!(
                "the authentication does not say by what; write `keys: {FILE}`, or `password` with version 2"
            );
            reader.mistake(&fields.at, message)
        })),
    }
}

/// Whether the keys fit each other and the version.
fn suits(reader: &mut Reader<'_>, fields: &Fields<'_>, version: Option<Version>) -> Read<()> {
    let (keys, required, password) = (fields.get("keys"), fields.get("required"), fields.get("password"));
    let (item, message) = match (&keys, &required, &password) {
        (Some(_), _, Some(password)) => {
            (password, "both `keys` and `password`; keep `keys` with version 3, `password` with version 2")
        }
        (None, Some(required), Some(_)) => {
            (required, "version 2 always requires the password; remove `required`")
        }
        (Some(keys), ..) if version == Some(Version::V2) => {
            (keys, "version 2 has no authentication by key; use `version: 3`, or write `password`")
        }
        (.., Some(password)) if version == Some(Version::V3) => (
            password,
            "version 3 has no password; write `keys: /etc/evenkeel/vrrp.keys`, or use `version: 2`",
        ),
        _ => return Ok(()),
    };
    let place = item.place();
    Err(reader.mistake(&place, message))
}

/// Messages do not repeat it.
fn password(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Secret> {
    let message = match &item.node.value {
        Value::Text(text) if (1..=MAX_PASSWORD).contains(&text.len()) && !text.contains('\0') => {
            return Ok(Secret(text.clone().into_bytes()));
        }
        Value::Text(text) => {
            format!("the password has {} bytes; write 1 to {MAX_PASSWORD}, and no zero byte", text.len())
        }
        Value::Bool(_) | Value::Integer(..) | Value::Float(_) => {
            "the password is not text, as YAML reads it; write it in quotes".into()
        }
        other => format!("{} is not a password; write a text of 1 to {MAX_PASSWORD} bytes", describe(other)),
    };
    Err(reader.mistake(&item.place(), message))
}

fn keys(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<Key>> {
    let path = reader.path(item, "a file of keys", FILE)?;
    let keys = (reader.secrets)(&path).map_err(|error| error.to_string()).and_then(|text| keys_of(&text));
    keys.map_err(|problem| reader.mistake(&item.place(), format!("{}: {problem}", Path::display(&path))))
}

/// Keys of the lines `ID KEY`; what is wrong is said without what the file says.
fn keys_of(text: &str) -> Result<Vec<Key>, String> {
    let mut keys: Vec<(usize, Key)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let key = match (words.next(), words.next(), words.next()) {
            (None, ..) => continue,
            (Some(id), Some(secret), None) => key(id, secret),
            _ => Err("is not `ID KEY`; write an id from 1 to 255 and a key in hexadecimal".to_owned()),
        };
        let key = key.map_err(|problem| format!("line {number} {problem}"))?;
        if let Some((first, _)) = keys.iter().find(|(_, other)| other.id == key.id) {
            return Err(format!(
                "line {number} has the id {} of line {first}; give each key an id of its own",
                key.id
            ));
        }
        keys.push((number, key));
    }
    if keys.is_empty() {
        return Err(
            "the file has no key; write a line `ID KEY`, such as of `echo 1 $(openssl rand -hex 32)`".into(),
        );
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

fn key(id: &str, secret: &str) -> Result<Key, String> {
    let digits = id.bytes().all(|b| b.is_ascii_digit());
    let Some(id) = id.parse().ok().filter(|id| digits && *id != 0) else {
        return Err("does not begin with an id from 1 to 255".into());
    };
    let secret =
        bytes(secret).filter(|bytes| (MIN_KEY..=MAX_KEY).contains(&bytes.len())).ok_or_else(|| {
            format!("has no key of {} to {} hexadecimal digits, an even number", 2 * MIN_KEY, 2 * MAX_KEY)
        })?;
    Ok(Key { id, secret: Secret(secret) })
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeFF";

    #[test]
    fn keys_are_in_the_order_of_the_file_between_comments() {
        let text = format!("# new\n 2\t{KEY} # since Monday\r\n\n1 {}\n", KEY.repeat(4));
        let keys = keys_of(&text).unwrap();
        assert_eq!(
            keys.iter().map(|key| (key.id, key.secret.0.len())).collect::<Vec<_>>(),
            [(2, 16), (1, 64)]
        );
        assert_eq!(keys[0].secret.0[..3], [0x00, 0x11, 0x22]);
        assert_eq!(keys[0].secret.0[15], 0xff);
    }

    #[test]
    fn a_mistake_in_a_file_of_keys_has_its_line_and_keeps_the_key_secret() {
        let (short, long, odd) = (&KEY[2..], format!("{}00", KEY.repeat(4)), format!("{KEY}0"));
        let not_hexadecimal = KEY.replace('7', "g");
        for (text, problem) in [
            (format!("# 1\n{KEY}\n"), "line 2 is not `ID KEY`; write an id"),
            (format!("1 {KEY} x\n"), "line 1 is not `ID KEY`"),
            (format!("0 {KEY}\n"), "line 1 does not begin with an id from 1 to 255"),
            (format!("256 {KEY}\n"), "line 1 does not begin"),
            (format!("+1 {KEY}\n"), "line 1 does not begin"),
            (format!("1 {short}\n"), "line 1 has no key of 32 to 128 hexadecimal digits, an even number"),
            (format!("1 {long}\n"), "line 1 has no key"),
            (format!("1 {odd}\n"), "line 1 has no key"),
            (format!("1 {not_hexadecimal}\n"), "line 1 has no key"),
            (format!("1 {KEY}\n2 {KEY}\n1 {KEY}\n"), "line 3 has the id 1 of line 1; give each key an id"),
            ("# none\n\n".to_owned(), "the file has no key; write a line `ID KEY`"),
        ] {
            let said = keys_of(&text).unwrap_err();
            assert!(said.starts_with(problem), "{said}");
            assert!(!said.contains(&KEY[4..8]), "{said}");
        }
    }
}
