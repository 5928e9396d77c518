use proptest::prelude::*;

use super::vrrp_forms::EVERY_KEY;
use super::{COMPLETE, read, said};

#[test]
fn aliases_that_multiply_are_stopped() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        text.push_str(&format!("k{level}: &a{level} [{}]\n", [previous.as_str(); 10].join(", ")));
    }
    let said = said(&text);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("too deep or too large"), "{}", said[0]);
}

#[test]
fn an_alias_inside_its_own_value_is_refused() {
    assert!(
        said("services: &a [*a]\n")[0].starts_with("evenkeel.yaml:1:15:"),
        "{:?}",
        said("services: &a [*a]\n")
    );
}

#[test]
fn nesting_without_end_is_stopped() {
    for text in ["[".repeat(500_000), "{a: ".repeat(200_000), "- ".repeat(500_000), "? ".repeat(500_000)] {
        let said = said(&text);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("too deep or too large"), "{}", said[0]);
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_ends_in_a_count() {
    let text: String = (0..5000).map(|key| format!("unknown{key}: 1\n")).collect();
    let said = said(&text);
    assert_eq!(said.len(), 1001);
    assert_eq!(said[1000], "evenkeel.yaml: and 4000 more");
}

#[test]
fn a_value_without_end_is_not_repeated_in_the_message() {
    for value in ["9".repeat(1 << 20), "x".repeat(1 << 20), format!("!{} a", "x".repeat(1 << 19))] {
        let said = said(&format!("node: {value}\n"));
        assert_eq!(said.len(), 1);
        assert!(said[0].len() < 500, "{}", &said[0][..500]);
    }
}

/// Words that a configuration is made of, put together at random.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "services",
        "vrrp",
        "interfaces",
        "check",
        "backends",
        "listen",
        "http",
        "every",
        "weight",
        "addresses",
        ": ",
        "\n",
        "\n  ",
        "\n    - ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!x ",
        "---\n",
        "# ",
        "|\n",
        "10.0.0.1:80",
        "10.0.0.1:*",
        "\"[2001:db8::1]:80-90\"",
        "forward",
        "fullnat",
        "tunnel",
        "sources",
        "flows",
        "limits",
        "persistence",
        "quic_id",
        "allow",
        "10.0.0.0/8",
        "unicast",
        "peers",
        "authentication",
        "password",
        "routes",
        "rules",
        "track",
        "script",
        "service",
        "group",
        "hooks",
        "preempt",
        "default",
        "fe80::1/64",
        "1s",
        "-1",
        "99999999999999999999",
        "1e999",
        ".nan",
        "0x10",
        "~",
        "eth0",
        "é",
        "\t",
        "\0",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_either_read_or_explained(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn any_bytes_are_either_read_or_explained(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_words_are_either_read_or_explained(text in words()) {
        let _ = read(&text);
    }

    #[test]
    fn a_damaged_configuration_is_read_or_each_mistake_has_a_place_in_it(
        (complete, at) in prop::sample::select(vec![COMPLETE, EVERY_KEY])
            .prop_flat_map(|complete| (Just(complete), 0..complete.len())),
        cut in 0..40_usize,
        insert in words(),
    ) {
        let text = format!("{}{insert}{}", &complete[..at], &complete[(at + cut).min(complete.len())..]);
        if let Err(mistakes) = read(&text) {
            prop_assert!(!mistakes.list.is_empty());
            for mistake in mistakes.list {
                prop_assert!(mistake.line >= 1 && mistake.column >= 1, "{mistake}");
                prop_assert!(mistake.line <= text.lines().count() as u64 + 1, "{mistake}");
                prop_assert!(!mistake.message.contains('\n'), "{mistake}");
            }
        }
    }
}
