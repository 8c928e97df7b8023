//! Patterns, rules, splits and locations.

use super::*;
use crate::data::names::Fields;

fn fields(pattern: &str, name: &str) -> Option<Vec<String>> {
    let pattern = Pattern::try_from(pattern.to_string()).unwrap();
    pattern.fields(name).map(|Fields(found)| found.into_iter().map(|(_, value)| value).collect())
}

#[test]
fn patterns_take_names_apart() {
    let some = |values: &[&str]| Some(values.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(fields("{class}_{speaker}_{take}", "7_jackson_32"), some(&["7", "jackson", "32"]));
    assert_eq!(fields("{class}_{rest}", "7_jackson_32"), some(&["7", "jackson_32"]));
    assert_eq!(fields("img-{class}.{n}x", "img-cat.12x"), some(&["cat", "12"]));
    assert_eq!(fields("{speaker}/{class}", "ann/yes"), some(&["ann", "yes"]));
    for (pattern, name) in [("{class}_{take}", "7"), ("{class}_{take}", "_3"), ("a{class}", "b1"), ("{class}x", "7")] {
        assert_eq!(fields(pattern, name), None, "{pattern} {name}");
    }
    for bad in ["class", "{class", "{a}{b}", "{}", "{a}_{a}"] {
        assert!(Pattern::try_from(bad.to_string()).is_err(), "{bad}");
    }
}

#[test]
fn rules_compare_numbers_by_size_and_words_as_text() {
    let holds = |rule: &str, value: &str| Rule::try_from(rule.to_string()).unwrap().holds(value);
    assert!(holds("take < 5", "4") && !holds("take < 5", "5") && !holds("take < 5", "10"));
    assert!(holds("take <= 5", "5.0") && holds("take >= 5", "5") && holds("take > 5", "40"));
    assert!(holds("fold == test", "test") && !holds("fold == test", "train") && holds("fold != test", "train"));
    assert!(holds("fold == 'test'", "test") && holds("fold == 1", "1.0"));
    for bad in ["take", "take < ", " == 3", "take = 3"] {
        assert!(Rule::try_from(bad.to_string()).is_err(), "{bad}");
    }
}

#[test]
fn splits_are_said_in_one_way() {
    let said = |keys: &str| sidecar(&format!("{SIDECAR}\n[split]\n{keys}"));
    let part = |keys: &str| said(keys).unwrap().source.split.unwrap();
    assert_eq!(part("train = \"a\"\ntest = \"b\""), Split::Parts { train: "a".into(), test: "b".into() });
    assert_eq!(part("ratio = 0.25\nseed = 7"), Split::Ratio { ratio: 0.25, seed: 7 });
    assert!(matches!(part("rule = \"take < 5\""), Split::Rule(rule) if rule.field == "take"));
    for bad in ["", "train = \"a\"", "ratio = 1.0", "ratio = -0.1", "ratio = 0.1\nrule = \"a < 1\"", "rule = \"a\""] {
        let message = said(bad).unwrap_err().to_string();
        assert!(message.contains("net.toml:1") && !message.contains("net.toml:1:"), "{bad}: {message}");
    }
}
