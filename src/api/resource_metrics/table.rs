//! The table that `kubectl get podmetrics` asks for (metrics-server `pkg/api/table.go`).

use serde::Serialize;

use crate::api::list::Empty;
use crate::api::negotiation::TableVersion;
use crate::model::time::Timestamp;

use super::bodies::{GoDuration, Item, Metadata};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    column_definitions: Vec<Column>,
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Column {
    name: &'static str,
    r#type: &'static str,
    format: &'static str,
    description: &'static str,
    priority: u8,
}

#[derive(Serialize)]
struct Row<'a> {
    cells: Vec<String>,
    object: Partial<'a>,
}

/// `metav1.PartialObjectMetadata`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Partial<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata<'a>,
}

/// The items, a line each.
pub(super) fn of<'a>(
    version: TableVersion,
    items: &[Item<'a>],
    now: Timestamp,
) -> impl Serialize + 'a {
    let totals: Vec<_> = items.iter().map(Item::total).collect();
    let has_swap = totals.iter().any(|usage| usage.swap.is_some());
    let column = |name, format, description| Column {
        name,
        r#type: "string",
        format,
        description,
        priority: 0,
    };
    let mut column_definitions = vec![
        column("Name", "name", "Name of the resource"),
        column("cpu", "quantity", ""),
        column("memory", "quantity", ""),
    ];
    column_definitions.extend(has_swap.then(|| column("swap", "quantity", "")));
    column_definitions.push(column("Window", "duration", ""));
    let row = |(item, usage): (&Item<'a>, &crate::provider::resources::Usage)| {
        let mut cells = vec![
            item.object.object.name.to_string(),
            usage.cpu.to_string(),
            usage.memory.to_string(),
        ];
        let swap = || usage.swap.map_or_else(String::new, |swap| swap.to_string());
        cells.extend(has_swap.then(swap));
        cells.push(GoDuration(item.window).to_string());
        Row {
            cells,
            object: Partial {
                kind: "PartialObjectMetadata",
                api_version: version.api_version(),
                metadata: item.metadata(now),
            },
        }
    };
    Table {
        kind: "Table",
        api_version: version.api_version(),
        metadata: Empty {},
        rows: items.iter().zip(&totals).map(row).collect(),
        column_definitions,
    }
}
