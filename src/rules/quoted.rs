//! Strings in quotes, as Go's `%q` writes them and PromQL reads them.

use std::fmt::Write as _;

/// `text` in double quotes. What cannot be printed is escaped; of that only combining marks are printed by Go.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            c => escape(&mut quoted, c),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(quoted: &mut String, c: char) {
    let printable = c.escape_debug().len() == 1;
    let written = match c {
        '\u{7}' => write!(quoted, "\\a"),
        '\u{8}' => write!(quoted, "\\b"),
        '\u{c}' => write!(quoted, "\\f"),
        '\n' => write!(quoted, "\\n"),
        '\r' => write!(quoted, "\\r"),
        '\t' => write!(quoted, "\\t"),
        '\u{b}' => write!(quoted, "\\v"),
        c if printable => write!(quoted, "{c}"),
        c => match u32::from(c) {
            code @ ..0x80 => write!(quoted, "\\x{code:02x}"),
            code @ 0x80..0x1_0000 => write!(quoted, "\\u{code:04x}"),
            code => write!(quoted, "\\U{code:08x}"),
        },
    };
    written.expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        let table = [
            ("x\"y\\z\né\u{200b}\u{0}\t", r#""x\"y\\z\né\u200b\x00\t""#),
            ("\u{7}\u{8}\u{c}\r\u{b}\u{7f}", r#""\a\b\f\r\v\x7f""#),
            ("o'clock", r#""o'clock""#),
            ("日本\u{e0001}", r#""日本\U000e0001""#),
        ];
        for (text, expected) in table {
            assert_eq!(quoted(text), expected);
        }
    }
}
