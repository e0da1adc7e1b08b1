//! Regular expressions as Go's `regexp` reads them, for the `regex` crate.
//!
//! Both follow RE2. They differ in `\d`, `\w`, `\s` and `\b`, which are ASCII's in Go, in `\Q…\E`, in a `{` that repeats
//! nothing, and in what is special within `[…]`. What the crate does not know after that (`\123`, `\C`) is an error.

use regex::Regex;

/// The expression that means what `pattern` means in Go.
///
/// # Errors
/// Where it is none.
pub(super) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translated(pattern))
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // Within a class, and at its first character, where `]` is none.
    let (mut in_class, mut first) = (false, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let at_first = std::mem::take(&mut first);
        rest = match c {
            '\\' if after.starts_with('Q') => {
                let (literal, after) = after[1..].split_once("\\E").unwrap_or((&after[1..], ""));
                out.push_str(&regex::escape(literal));
                after
            }
            '\\' => escaped(&mut out, after, in_class),
            '[' if !in_class => {
                in_class = true;
                first = true;
                let negated = after.starts_with('^');
                out.push_str(if negated { "[^" } else { "[" });
                &after[usize::from(negated)..]
            }
            '[' if after.starts_with(':') => {
                out.push('[');
                // `[:alpha:]` is the same in both; its closing bracket ends no class.
                let end = after.find(":]").map_or(0, |end| end + 2);
                out.push_str(&after[..end]);
                &after[end..]
            }
            ']' if in_class && !at_first => {
                in_class = false;
                out.push(']');
                after
            }
            '[' | ']' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            '{' if !in_class && !is_repetition(after) => {
                out.push_str("\\{");
                after
            }
            c => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// Writes what a backslash and the text after it mean; gives the text after that.
fn escaped<'a>(out: &mut String, after: &'a str, in_class: bool) -> &'a str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let class = match c {
        'd' | 'D' => Some("0-9"),
        'w' | 'W' => Some("0-9A-Za-z_"),
        's' | 'S' => Some("\\t\\n\\f\\r "),
        _ => None,
    };
    match (c, class) {
        ('b', None) => out.push_str("(?-u:\\b)"),
        (_, Some(class)) if c.is_ascii_uppercase() => out.push_str(&format!("[^{class}]")),
        (_, Some(class)) if in_class => out.push_str(class),
        (_, Some(class)) => out.push_str(&format!("[{class}]")),
        // `\<` is a word's start in the crate, and a sign in Go.
        ('<' | '>', None) => out.push(c),
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    &after[c.len_utf8()..]
}

/// Whether `after` a `{` follows what makes it a repetition: `2}`, `2,}` or `2,3}`.
fn is_repetition(after: &str) -> bool {
    let Some((counts, _)) = after.split_once('}') else {
        return false;
    };
    let (least, most) = counts.split_once(',').unwrap_or((counts, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        let table: [(&str, &[&str], &[&str]); 14] = [
            (r"^\d+$", &["12"], &["٣"]),
            (r"^\w$", &["a", "_"], &["é"]),
            (r"^[\w:]+$", &["vllm:x"], &["é"]),
            (r"^[^\W]$", &["a"], &["-", "é"]),
            (r"^\s$", &[" ", "\t"], &["\u{a0}", "\u{b}"]),
            (r"\bcpu\b", &["x cpu", "écpu"], &["xcpu"]),
            (r"^\Qa.b\E.$", &["a.bc"], &["axbc"]),
            (r"^a{$", &["a{"], &["a"]),
            (r"^a{x}$", &["a{x}"], &["a"]),
            (r"^a{2,}$", &["aaa"], &["a"]),
            (r"^[[a]$", &["[", "a"], &["b"]),
            (r"^[]a&&b]$", &["]", "a", "&", "b"], &["c"]),
            (r"^[[:alpha:]~]$", &["x", "~"], &["1", ":"]),
            (r"^\<a\>$", &["<a>"], &["a"]),
        ];
        for (pattern, matching, others) in table {
            let regex = compile(pattern).expect(pattern);
            for text in matching {
                assert!(regex.is_match(text), "{pattern} on {text}");
            }
            for text in others {
                assert!(!regex.is_match(text), "{pattern} on {text}");
            }
        }
        assert!(compile(r"\123").is_err(), "octal is not known");
        assert!(compile(r"(?=a)").is_err(), "nor in Go");
    }
}
