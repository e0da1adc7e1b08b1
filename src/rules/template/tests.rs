use super::*;

fn values(group_by: &'static [&'static str]) -> Values<'static> {
    Values {
        series: "foo",
        label_matchers: r#"ns="d",pod=~"x|y""#,
        label_values: &[],
        group_by,
    }
}

fn render(text: &str, group_by: &'static [&'static str]) -> Result<String, TemplateError> {
    let label_values = [("ns", "d"), ("pod", "x|y")];
    let label_values = label_values.map(|(label, values)| (label.to_owned(), values.to_owned()));
    Template::parse(text)?.render(Values {
        label_values: &label_values,
        ..values(group_by)
    })
}

/// Each of these was filled in by prometheus-adapter as it is here, or follows from Go's documentation of `text/template`.
#[test]
fn templates_are_filled_in_as_go_does() {
    let table = [
        (
            "sum(<<.Series>>{<< .LabelMatchers >>}) by (<<.GroupBy>>)",
            r#"sum(foo{ns="d",pod=~"x|y"}) by (pod,c)"#,
        ),
        (
            "<<range $i,$g := .GroupBySlice>><<if $i>>,<<end>><<$g>><<end>>",
            "pod,c",
        ),
        ("<<range .GroupBySlice>>[<<.>>]<<end>>", "[pod][c]"),
        (
            "<<range $l, $v := .LabelValuesByName>><<$l>>=<<$v>>;<<end>>",
            "ns=d;pod=x|y;",
        ),
        (
            "<<range .GroupBySlice>><<if eq . \"c\">><<break>><<end>><<.>><<end>>",
            "pod",
        ),
        ("<<index .LabelValuesByName \"pod\">>", "x|y"),
        ("<<index .LabelValuesByName \"nope\">>!", "!"),
        ("<<.LabelValuesByName.pod>>", "x|y"),
        ("<<index .GroupBySlice 1>>", "c"),
        (
            "<<.LabelValuesByName>> <<.GroupBySlice>>",
            "map[ns:d pod:x|y] [pod c]",
        ),
        (
            "<<printf \"%q %s %d %v%%\" .GroupBy .Series 3 .GroupBySlice>>",
            "\"pod,c\" foo 3 [pod c]%",
        ),
        ("<<.Series | printf \"%s_total\">>", "foo_total"),
        ("<<print .Series 1 2 \"x\">>", "foo1 2x"),
        ("<<len .GroupBySlice>> <<len .Series>>", "2 3"),
        (
            "<<if and .Series (not .LabelMatchers)>>a<<else if eq .Series \"bar\" \"foo\">>b<<else>>c<<end>>",
            "b",
        ),
        ("<<if or (lt 2 1) (ge 2 2)>>yes<<end>>", "yes"),
        (
            "<<with .Series>><<.>>-<<$.GroupBy>><<else>>none<<end>>",
            "foo-pod,c",
        ),
        (
            "<<$x := .Series>><<if true>><<$x = \"bar\">><<end>><<$x>>",
            "bar",
        ),
        ("a <</* says why */>>b", "a b"),
        ("sum(\n  <<- .Series ->>  \n)", "sum(foo)"),
        ("<<`raw`>>", "raw"),
    ];
    for (text, expected) in table {
        assert_eq!(
            render(text, &["pod", "c"]).as_deref(),
            Ok(expected),
            "{text}"
        );
    }
    assert_eq!(
        render("<<range .GroupBySlice>>x<<else>>none<<end>>", &[]).as_deref(),
        Ok("none")
    );
    assert_eq!(
        render("by (<<.GroupBy>>) <<.GroupBySlice>>", &[]).as_deref(),
        Ok("by () []")
    );
}

#[test]
fn what_cannot_be_filled_in_is_refused_where_it_stands() {
    let table = [
        (
            "a <<.Series",
            "unclosed action (line 1, column 12 of the template)",
        ),
        (
            "<<.Series>> <<.Nope>>",
            "there is no field `.Nope`; there are .GroupBy, .GroupBySlice, .LabelMatchers, .LabelValuesByName, .Series (line 1, column 15 of the template)",
        ),
        (
            "x\n<<if false>><<$.Nope>><<end>>",
            "(line 2, column 15 of the template)",
        ),
        ("<<.Series.Nope>>", "`.Series` has no field `Nope`"),
        ("<<upper .Series>>", "there is no function `upper`"),
        ("<<html .Series>>", "there is no function `html`"),
        ("<<$x>>", "the variable $x is not declared here"),
        (
            "<<if true>><<$x := 1>><<end>><<$x>>",
            "the variable $x is not declared here",
        ),
        (
            "<<if .Series>>\nx",
            "this block has no `<<end>>` (line 1, column 3",
        ),
        (
            "<<range .GroupBySlice>><<if .>>x<<end>>",
            "this block has no `<<end>>`",
        ),
        (
            "sum(<<.Series>><<end>>{})",
            "an `<<end>>` or `<<else>>` after this belongs to no block",
        ),
        ("<<else>>", "belongs to no block"),
        (
            "<<define \"x\">>1<<end>>",
            "`define` and `block` are not supported",
        ),
        ("<<range .Series>>x<<end>>", "cannot range over string"),
        ("<<index .GroupBySlice 2>>", "index out of range: 2"),
        ("<<eq .Series 1>>", "incompatible types"),
        ("<<printf \"%d\" .Series>>", "`%d` cannot show `series`"),
        ("<<printf \"%999999999d\" 1>>", "`%9` is not known"),
        ("<<printf \"%s %s\" .Series>>", "no value for `%s`"),
        ("<<break>>", "outside of range"),
    ];
    for (text, expected) in table {
        let error = Template::parse(text)
            .map(|_| ())
            .expect_err(text)
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn without_matchers_no_comma_is_left_behind() {
    let table = [
        (
            "foo{<<.LabelMatchers>>,q=\"x\"}",
            "foo{q=\"x\"}",
            "foo{a=\"b\",q=\"x\"}",
        ),
        (
            "foo{ <<.LabelMatchers>> , q=\"x\"}",
            "foo{  q=\"x\"}",
            "foo{ a=\"b\" , q=\"x\"}",
        ),
        (
            "foo{p=\"y\",<<.LabelMatchers>>,q=\"x\"}",
            "foo{p=\"y\",q=\"x\"}",
            "foo{p=\"y\",a=\"b\",q=\"x\"}",
        ),
        (
            "foo{p=\"y\",<<.LabelMatchers>>}",
            "foo{p=\"y\",}",
            "foo{p=\"y\",a=\"b\"}",
        ),
        (
            "<<if .Series>>foo{<<$.LabelMatchers>>,q=\"x\"}<<end>>",
            "foo{q=\"x\"}",
            "foo{a=\"b\",q=\"x\"}",
        ),
        (
            "<<.Series>>{<<.LabelMatchers>>}, x",
            "foo{}, x",
            "foo{a=\"b\"}, x",
        ),
    ];
    for (text, without, with) in table {
        let template = Template::parse(text).expect(text);
        let filled = |label_matchers| {
            let query = template.render(Values {
                label_matchers,
                ..values(&[])
            });
            query.expect(text)
        };
        assert_eq!(filled(""), without);
        assert_eq!(filled("a=\"b\""), with);
        promql_parser::parser::parse(&filled(""))
            .map(|_| ())
            .unwrap_or_else(|error| {
                assert!(text.ends_with('x'), "{text}: {error}");
            });
    }
}

#[test]
fn a_query_has_a_longest_length_and_a_template_a_number_of_rounds() {
    let doubling =
        "<<$x := .LabelMatchers>><<range .LabelValuesByName>><<$x = print $x $x>><<end>><<$x>>";
    let many: Vec<(String, String)> = (0..64).map(|n| (n.to_string(), String::new())).collect();
    let template = Template::parse(doubling).expect("valid");
    let filled = template.render(Values {
        label_values: &many,
        ..values(&[])
    });
    assert_eq!(filled, Err(TemplateError::TooLong));
    let forever = Template::parse("<<range 1000000000>><<end>>")
        .map(|_| ())
        .expect_err("too many");
    assert!(
        forever.to_string().contains("range iteration budget"),
        "{forever}"
    );
}

#[test]
fn it_is_known_what_a_template_looks_at() {
    let table: [(&str, &[&str], bool, bool); 9] = [
        (
            "<<.Series>>{<<.LabelMatchers>>} <<.GroupBy>>",
            &[],
            false,
            false,
        ),
        ("<<index .LabelValuesByName \"ns\">>", &["ns"], false, false),
        (
            "<<index $.LabelValuesByName \"ns\" | printf \"%q\">>",
            &["ns"],
            false,
            false,
        ),
        (
            "<<with .GroupBySlice>><<$.LabelMatchers>><<.>><<end>>",
            &[],
            false,
            false,
        ),
        ("<<index .LabelValuesByName .GroupBy>>", &[], true, false),
        ("<<range .LabelValuesByName>><<end>>", &[], true, false),
        ("<<if .LabelMatchers>>x<<end>>", &[], false, true),
        ("<<$m := .LabelMatchers>><<$m>>", &[], false, true),
        ("<<.>>", &[], true, true),
    ];
    for (text, labels, any_label, examines_matchers) in table {
        let expected = Uses {
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            any_label,
            examines_matchers,
        };
        assert_eq!(
            Template::parse(text).expect(text).uses(),
            &expected,
            "{text}"
        );
    }
}
