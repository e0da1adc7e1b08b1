//! Label selectors and quantities against what apimachinery 0.37.2 made of the same texts and numbers.

use std::collections::BTreeMap;

use gpu_metrics_adapter::model::quantity::Quantity;
use gpu_metrics_adapter::model::selector::{LabelExpression, Operator, Requirement, Selector};
use proptest::prelude::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn parsed(text: &str) -> Selector {
    Selector::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn selectors_print_as_apimachinery_prints_them() {
    let table = [
        ("a=b", "a=b"),
        ("a==b", "a==b"),
        ("a!=b", "a!=b"),
        ("a in (x)", "a in (x)"),
        ("a notin (x,y)", "a notin (x,y)"),
        ("!a", "!a"),
        ("a", "a"),
        ("a>5", "a>5"),
        ("a<5", "a<5"),
        ("a=", "a="),
        ("a=,b=c", "a=,b=c"),
        ("a in ()", "a in ()"),
        (" a = b , c", "a=b,c"),
        ("", ""),
        (" \t\r\n", ""),
        ("b,a in (y,x,y)", "a in (x,y),b"),
        (
            "x in (foo,,baz),y,z notin ()",
            "x in (,baz,foo),y,z notin ()",
        ),
        (
            "in in (in,notin),notin notin (in)",
            "in in (in,notin),notin notin (in)",
        ),
        ("a in(x,)", "a in (,x)"),
        ("!example.com/a,b", "b,!example.com/a"),
    ];
    for (text, canonical) in table {
        assert_eq!(parsed(text).to_string(), canonical, "{text:?}");
    }
}

#[test]
fn a_wrong_selector_is_refused_with_its_position() {
    let table = [
        (
            "a b",
            r#"found "b" at position 3, expected one of = == != > < in notin"#,
        ),
        (
            "a,",
            "found the end at position 3, expected a label key or '!'",
        ),
        (
            ",a",
            r#"found "," at position 1, expected a label key or '!'"#,
        ),
        (
            "a,,b",
            r#"found "," at position 3, expected a label key or '!'"#,
        ),
        ("!", "found the end at position 2, expected a label key"),
        ("!!a", r#"found "!" at position 2, expected a label key"#),
        (
            "!a=b",
            r#"found "=" at position 3, expected ',' or the end"#,
        ),
        (
            "a=b c",
            r#"found "c" at position 5, expected ',' or the end"#,
        ),
        (
            "a==b=c",
            r#"found "=" at position 5, expected ',' or the end"#,
        ),
        ("a===b", r#"found "=" at position 4, expected a value"#),
        ("a in", "found the end at position 5, expected '('"),
        ("a in x", r#"found "x" at position 6, expected '('"#),
        (
            "a in (x",
            "found the end at position 8, expected ',' or ')'",
        ),
        (
            "a in (x y)",
            r#"found "y" at position 9, expected ',' or ')'"#,
        ),
        (
            "a in (",
            "found the end at position 7, expected a value, ',' or ')'",
        ),
        (
            "a in (=)",
            r#"found "=" at position 7, expected a value, ',' or ')'"#,
        ),
        (
            "a>x",
            r#"invalid value "x": for '>' and '<' it must be an integer (at position 3)"#,
        ),
        (
            "a>",
            r#"invalid value "": for '>' and '<' it must be an integer (at position 3)"#,
        ),
        (
            "a=b,c=-d",
            r#"invalid label value "-d": it has letters, digits, '-', '_' and '.', and begins and ends with a letter or a digit (at position 7)"#,
        ),
        (
            "é=b",
            r#"invalid label key "é": a name has letters, digits, '-', '_' and '.', and begins and ends with a letter or a digit (at position 1)"#,
        ),
        (
            "x,Example.com/a",
            r#"invalid label key "Example.com/a": the prefix must be a lower-case DNS subdomain such as 'example.com' (at position 3)"#,
        ),
        (
            "/a",
            r#"invalid label key "/a": the prefix must not be empty (at position 1)"#,
        ),
        (
            "a/",
            r#"invalid label key "a/": the name must not be empty (at position 1)"#,
        ),
    ];
    for (text, message) in table {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.to_string(), message, "{text:?}");
    }
    for text in ["a/b/c", "a\0", "\0", "a..b/c", "-a", "a=é"] {
        Selector::parse(text).expect_err(text);
    }
}

#[test]
fn keys_and_values_end_at_the_lengths_of_kubernetes() {
    let name = "n".repeat(63);
    let prefix = "p".repeat(253);
    parsed(&format!("{prefix}/{name}={name}"));
    Selector::parse(&format!("{name}n")).expect_err("a name of 64 characters");
    Selector::parse(&format!("{prefix}p/a")).expect_err("a prefix of 254 characters");
    Selector::parse(&format!("a={name}n")).expect_err("a value of 64 characters");
}

#[test]
fn a_selector_matches_as_in_kubernetes() {
    let object = labels(&[("app", "qwen"), ("empty", ""), ("n", "5")]);
    let table = [
        ("", true),
        ("app=qwen", true),
        ("app==other", false),
        ("absent=x", false),
        ("absent=", false),
        ("empty=", true),
        ("app!=other", true),
        ("app!=qwen", false),
        ("absent!=x", true),
        ("app in (a,qwen)", true),
        ("absent in ()", false),
        ("empty in ()", true),
        ("app notin (qwen)", false),
        ("absent notin (x)", true),
        ("app", true),
        ("empty", true),
        ("absent", false),
        ("!absent", true),
        ("!empty", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6", true),
        ("n<5", false),
        ("app>1", false),
        ("absent<1", false),
        ("app=qwen,absent", false),
    ];
    for (text, expected) in table {
        assert_eq!(parsed(text).matches(&object), expected, "{text:?}");
    }
    assert!(Selector::default().is_everything() && parsed(" ").is_everything());
    assert!(!parsed("a").is_everything());
}

#[test]
fn a_selector_takes_and_gives_the_shape_of_the_api_object() {
    let values = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let (zy, q) = (values(&["z", "y"]), values(&["q"]));
    let selector = Selector::from_label_selector(
        &labels(&[("b", "1"), ("a", "2")]),
        [
            ("k", "In", &*zy),
            ("e", "Exists", &[]),
            ("ne", "DoesNotExist", &[]),
            ("n", "NotIn", &q),
        ],
    )
    .expect("a valid selector");
    assert_eq!(selector.to_string(), "a=2,b=1,e,k in (y,z),n notin (q),!ne");
    let object = selector.to_label_selector().expect("it can be expressed");
    assert_eq!(object.match_labels, labels(&[("a", "2"), ("b", "1")]));
    let expression = |key: &str, operator, values| LabelExpression {
        key: key.to_owned(),
        operator,
        values,
    };
    assert_eq!(
        object.match_expressions,
        [
            expression("e", "Exists", vec![]),
            expression("k", "In", values(&["y", "z"])),
            expression("n", "NotIn", q),
            expression("ne", "DoesNotExist", vec![]),
        ]
    );
    for (text, operator) in [("a!=b", "!="), ("a>1", ">"), ("a<1", "<")] {
        let error = parsed(text).to_label_selector().expect_err(text);
        assert_eq!(
            error.to_string(),
            format!("{operator:?} is not a valid label selector operator")
        );
    }
    for (operator, values) in [
        ("In", vec![]),
        ("Exists", values(&["x"])),
        ("in", values(&["x"])),
    ] {
        Selector::from_label_selector(&BTreeMap::new(), [("k", operator, &*values)])
            .expect_err(operator);
    }
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let key = prop_oneof![
        "[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\\.[a-z]{1,3})?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?",
        "[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?",
        Just("in".to_owned()),
        Just("notin".to_owned()),
    ];
    let value = || "([A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?)?";
    let comparison = prop_oneof![
        (
            prop_oneof![Just(Operator::In), Just(Operator::NotIn)],
            prop::collection::vec(value(), 1..4)
        ),
        (
            prop_oneof![
                Just(Operator::Equals),
                Just(Operator::DoubleEquals),
                Just(Operator::NotEquals)
            ],
            prop::collection::vec(value(), 1)
        ),
        (
            prop_oneof![Just(Operator::GreaterThan), Just(Operator::LessThan)],
            (0..i64::MAX).prop_map(|n| vec![n.to_string()])
        ),
        (
            prop_oneof![Just(Operator::Exists), Just(Operator::DoesNotExist)],
            Just(Vec::new())
        ),
    ];
    (key, comparison).prop_map(|(key, (operator, values))| {
        Requirement::new(key, operator, values).expect("drawn from the grammar")
    })
}

proptest! {
    #[test]
    fn a_printed_selector_reads_back_as_itself(
        requirements in prop::collection::vec(requirement(), 0..5)
    ) {
        let selector = Selector::new(requirements);
        prop_assert_eq!(parsed(&selector.to_string()), selector);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c/!=<>(), in\u{e9}\0-]{0,24}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(parsed(&selector.to_string()), selector);
        }
    }

    #[test]
    fn an_independent_reader_sees_the_value_within_half_a_thousandth(
        value in prop_oneof![-1e12..1e12, -100.0..100.0, -0.01..0.01f64]
    ) {
        let quantity = Quantity::from_f64(value).expect("a finite value");
        let text = quantity.to_string();
        let read = kube_quantity::ParsedQuantity::try_from(text.as_str()).expect("a quantity");
        let read = read.to_bytes_f64().expect("it fits");
        let bound = if value.abs() < 0.001 { 1e-9 } else { 5.0001e-4 };
        prop_assert!((read - value).abs() <= bound + value.abs() * 1e-15, "{} -> {} -> {}", value, text, read);
        prop_assert_eq!(text.parse::<Quantity>(), Ok(quantity));
    }

    #[test]
    fn every_value_keeps_its_sign_and_never_becomes_zero(value in prop::num::f64::NORMAL) {
        let quantity = Quantity::from_f64(value).expect("a finite value");
        prop_assert_eq!(quantity.milli_value().signum() > 0, value > 0.0);
        prop_assert_eq!(quantity.milli_value().signum() < 0, value < 0.0);
    }
}

#[test]
fn values_become_canonical_quantities() {
    let table = [
        (0.0, "0", 0),
        (-0.0, "0", 0),
        (1.0, "1", 1000),
        (1.5, "1500m", 1500),
        (0.1, "100m", 100),
        (40.0, "40", 40_000),
        (40.5, "40500m", 40_500),
        (40.567_89, "40568m", 40_568),
        (100.0, "100", 100_000),
        (1000.0, "1k", 1_000_000),
        (1500.0, "1500", 1_500_000),
        (1e6, "1M", 1_000_000_000),
        (1.5e6, "1500k", 1_500_000_000),
        (1_234_567.89, "1234567890m", 1_234_567_890),
        (1e12, "1T", 1_000_000_000_000_000),
        (-0.5, "-500m", -500),
        (-1.5, "-1500m", -1500),
        // Half to even.
        (0.0625, "62m", 62),
        (0.1875, "188m", 188),
        (-0.0625, "-62m", -62),
        // Under one thousandth: billionths, and MilliValue rounds away from zero.
        (0.0001, "100u", 1),
        (0.000_01, "10u", 1),
        (1e-9, "1n", 1),
        (1e-10, "1n", 1),
        (5e-324, "1n", 1),
        (-1e-10, "-1n", -1),
        (0.000_055_123_456, "55123n", 1),
        (0.000_999_999_999_9, "1m", 1),
        // From one thousandth on: thousandths.
        (0.001, "1m", 1),
        (0.0014, "1m", 1),
        // Saturated.
        (9.3e15, "9223372036854775807m", i64::MAX),
        (f64::MAX, "9223372036854775807m", i64::MAX),
        (f64::MIN, "-9223372036854775807m", -i64::MAX),
    ];
    for (value, text, millis) in table {
        let quantity = Quantity::from_f64(value).expect("a finite value");
        assert_eq!(quantity.to_string(), text, "{value:e}");
        assert_eq!(quantity.milli_value(), millis, "{value:e}");
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Quantity::from_f64(value), None);
    }
}

#[test]
fn constructed_quantities_print_as_apimachinery_prints_them() {
    let millis = [
        (0, "0"),
        (1, "1m"),
        (999, "999m"),
        (1000, "1"),
        (40_500, "40500m"),
        (1_000_000, "1k"),
        (1_500_000, "1500"),
        (1_234_567_890, "1234567890m"),
        (-1500, "-1500m"),
    ];
    for (value, text) in millis {
        assert_eq!(Quantity::from_millis(value).to_string(), text);
        assert_eq!(Quantity::from_millis(value).milli_value(), value);
    }
    let nanos = [
        (0, "0", 0),
        (1, "1n", 1),
        (5_000, "5u", 1),
        (250_000, "250u", 1),
        (1_000_000, "1m", 1),
        (1_500_000, "1500u", 2),
        (-1_500_000, "-1500u", -2),
        (55_123_456, "55123456n", 56),
        (1_000_000_000, "1", 1000),
        (123_456_789_012, "123456789012n", 123_457),
    ];
    for (value, text, millis) in nanos {
        assert_eq!(Quantity::from_nanos(value).to_string(), text);
        assert_eq!(Quantity::from_nanos(value).milli_value(), millis);
    }
    let bytes = [
        (0, "0"),
        (1, "1"),
        (500, "500"),
        (1000, "1k"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1025, "1025"),
        (1536, "1536"),
        (20_631_552, "20148Ki"),
        (20_631_553, "20631553"),
        (1_048_576, "1Mi"),
        (1_073_741_824, "1Gi"),
        (1_000_000_000, "1000000000"),
        (-2048, "-2Ki"),
    ];
    for (value, text) in bytes {
        assert_eq!(Quantity::from_bytes(value).to_string(), text);
        assert_eq!(Quantity::from_bytes(value).milli_value(), value * 1000);
    }
}

#[test]
fn quantities_are_read_as_apimachinery_reads_them() {
    let table = [
        ("0", "0", 0),
        ("1.0", "1", 1000),
        ("1.5", "1500m", 1500),
        ("0.0001", "100u", 1),
        ("0.0000000001", "1n", 1),
        ("1500", "1500", 1_500_000),
        ("1500000", "1500k", 1_500_000_000),
        ("1e3", "1k", 1_000_000),
        ("1E3", "1k", 1_000_000),
        ("15e2", "1500", 1_500_000),
        ("1e-10", "1n", 1),
        ("1e-3", "1m", 1),
        ("1e-300", "1n", 1),
        ("0e300", "0", 0),
        ("1000k", "1M", 1_000_000_000),
        ("1.5M", "1500k", 1_500_000_000),
        ("0.5Ki", "512", 512_000),
        ("1.5Ki", "1536", 1_536_000),
        ("1024Ki", "1Mi", 1_048_576_000),
        ("1000Ki", "1000Ki", 1_024_000_000),
        ("0.1Ki", "102400m", 102_400),
        ("2.5Gi", "2560Mi", 2_684_354_560_000),
        ("1Pi", "1Pi", 1_125_899_906_842_624_000),
        ("1500u", "1500u", 2),
        ("55123456n", "55123456n", 56),
        ("-1500m", "-1500m", -1500),
        ("-0.5", "-500m", -500),
        ("+5", "5", 5000),
        ("1.", "1", 1000),
        (".5", "500m", 500),
        ("1.23456789123", "1234567892n", 1235),
        ("0.30000000000000004", "300000001n", 301),
        ("99.9999", "99999900u", 100_000),
        // Beyond what the HPA can compute with: the bound instead of an overflow.
        ("12E", "9223372036854775807m", i64::MAX),
        ("-1e30", "-9223372036854775807m", -i64::MAX),
        ("1e300", "9223372036854775807m", i64::MAX),
    ];
    for (text, canonical, millis) in table {
        let quantity: Quantity = text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(quantity.to_string(), canonical, "{text:?}");
        assert_eq!(quantity.milli_value(), millis, "{text:?}");
    }
    let wrong = [
        "", "-", ".", "abc", "NaN", "inf", "1e", "1 ", " 1", "1mi", "1K", "1KiB", "1.2.3", "--1",
        "1e99999", "\u{663}",
    ];
    for text in wrong {
        text.parse::<Quantity>().expect_err(text);
    }
    "1".repeat(60)
        .parse::<Quantity>()
        .expect_err("sixty digits");
}
