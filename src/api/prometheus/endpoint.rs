//! Which question a path below `/api/v1` asks.

/// An endpoint of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum Endpoint {
    Query,
    QueryRange,
    Series,
    Labels,
    /// `label/NAME/values`.
    LabelValues(String),
    Metadata,
    Targets,
    Rules,
    Alerts,
    BuildInfo,
    /// Anything else below `/api/v1`.
    Unknown,
}

impl Endpoint {
    /// By the decoded segments after `/api/v1`.
    pub(in crate::api) fn parse(segments: &[&str]) -> Self {
        match segments {
            ["query"] => Self::Query,
            ["query_range"] => Self::QueryRange,
            ["series"] => Self::Series,
            ["labels"] => Self::Labels,
            ["label", name, "values"] => Self::LabelValues(unescaped(name)),
            ["metadata"] => Self::Metadata,
            ["targets"] => Self::Targets,
            ["rules"] => Self::Rules,
            ["alerts"] => Self::Alerts,
            ["status", "buildinfo"] => Self::BuildInfo,
            _ => Self::Unknown,
        }
    }

    /// Whether the parameters may come in a form.
    pub(super) const fn takes_forms(&self) -> bool {
        matches!(
            self,
            Self::Query | Self::QueryRange | Self::Series | Self::Labels
        )
    }
}

/// The name behind `U__…`, in which `__` is `_` and `_HEX_` any other character (`common/model/metric.go`,
/// `UnescapeName`). What is not written so stands for itself.
fn unescaped(name: &str) -> String {
    let unescape = || {
        let mut rest = name.strip_prefix("U__")?;
        let mut plain = String::new();
        while let Some((before, after)) = rest.split_once('_') {
            plain.push_str(before);
            let (code, after) = after.split_once('_')?;
            plain.push(match code {
                "" => '_',
                code => char::from_u32(u32::from_str_radix(code, 16).ok()?)?,
            });
            rest = after;
        }
        plain.push_str(rest);
        Some(plain)
    };
    unescape().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_are_unescaped() {
        for (written, name) in [
            ("pod", "pod"),
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_", "U__a_"),
        ] {
            let segments = ["label", written, "values"];
            assert_eq!(
                Endpoint::parse(&segments),
                Endpoint::LabelValues(name.to_owned())
            );
        }
    }
}
