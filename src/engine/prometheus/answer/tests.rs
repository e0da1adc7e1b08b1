use super::*;

fn shapes(data: &str) -> Result<Vec<String>, Fault> {
    let body = format!(r#"{{"status":"success","data":{data}}}"#);
    let Shapes(shapes) = read(200, "application/json", body.as_bytes())?;
    let shown = |shape: &SeriesShape| format!("{}{{{}}}", shape.metric, shape.labels.join(","));
    Ok(shapes.iter().map(shown).collect())
}

#[test]
fn of_many_series_each_kind_is_kept_once() {
    let found = shapes(
        r#"[{"__name__":"a","pod":"1","ns":"x"},{"ns":"y","pod":"2","__name__":"a"},{"__name__":"b"},
            {"__name__":"a","pod":"1","ns":""},{"pod":"nameless"},{"__name__":"a","p\u006fd":"3","ns":"é\n"}]"#,
    );
    let expected = ["a{ns,pod}", "a{pod}", "b{}"].map(str::to_owned).to_vec();
    assert_eq!(found, Ok(expected));
    assert_eq!(shapes("[]"), Ok(Vec::new()));
    assert_eq!(shapes("null"), Err(Fault::NoData));
}

#[test]
fn more_kinds_of_series_than_there_may_be_are_refused() {
    let one = |index| format!(r#"{{"__name__":"m{index}"}}"#);
    let all: Vec<String> = (0..=MOST_SHAPES).map(one).collect();
    let Err(Fault::Form(reason)) = shapes(&format!("[{}]", all.join(","))) else {
        panic!("too many kinds");
    };
    assert!(
        reason.contains("the rule's seriesQuery must say which"),
        "{reason}"
    );
    assert!(!reason.contains("line"), "{reason}");
}

#[test]
fn a_number_is_a_point_without_labels() {
    let points = |data: &str| {
        let body = format!(r#"{{"data":{data},"status":"success","infos":["x"]}}"#);
        let data: QueryData = read(200, "application/json", body.as_bytes())?;
        data.points(Timestamp::from_millis(5))
    };
    for (data, expected) in [
        (r#"{"resultType":"scalar","result":[1.5,"2.5"]}"#, 2.5),
        (
            r#"{"result":[1,"-Inf"],"resultType":"scalar"}"#,
            f64::NEG_INFINITY,
        ),
    ] {
        let points = points(data).expect("a number");
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].value, points[0].labels.len()), (expected, 0));
        assert_eq!(points[0].oldest, Timestamp::from_millis(5));
    }
    let string = points(r#"{"resultType":"string","result":[1,"text"]}"#);
    assert_eq!(string, Err(Fault::Type("string")));
}
