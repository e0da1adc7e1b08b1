//! The selector grammar: text → requirements, as apimachinery `pkg/labels/selector.go` reads it.

use super::{Operator, Requirement, RequirementError, SelectorError};

/// Longest name part of a key, and longest value (apimachinery `pkg/api/validate/content/kube.go`).
const MAX_NAME: usize = 63;
/// Longest prefix of a key.
const MAX_PREFIX: usize = 253;

/// The requirements of `text`, in the order in which they stand there.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { text, at: 0 };
    let mut found = Vec::new();
    if parser.peek().token == Token::End {
        return Ok(found);
    }
    loop {
        found.push(parser.requirement()?);
        let next = parser.next();
        match next.token {
            Token::End => return Ok(found),
            Token::Symbol(",") => {}
            _ => return Err(parser.unexpected(next, "',' or the end")),
        }
    }
}

/// Whether `key` is a label key: `[prefix/]name`, the prefix a DNS subdomain.
pub(super) fn check_key(key: &str) -> Result<(), RequirementError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let reason = if prefix.is_some_and(str::is_empty) {
        "the prefix must not be empty"
    } else if prefix.is_some_and(|prefix| prefix.len() > MAX_PREFIX) {
        "the prefix must have at most 253 characters"
    } else if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        "the prefix must be a lower-case DNS subdomain such as 'example.com'"
    } else if name.is_empty() {
        "the name must not be empty"
    } else if name.len() > MAX_NAME {
        "the name must have at most 63 characters"
    } else if !is_name(name) {
        "a name has letters, digits, '-', '_' and '.', and begins and ends with a letter or a digit"
    } else {
        return Ok(());
    };
    Err(RequirementError::Key {
        key: key.to_owned(),
        reason,
    })
}

/// Whether `value` is a label value, which may be empty, and one that `operator` can compare.
pub(super) fn check_value(operator: Operator, value: &str) -> Result<(), RequirementError> {
    let integer = matches!(operator, Operator::GreaterThan | Operator::LessThan);
    if integer && value.parse::<i64>().is_err() {
        return Err(RequirementError::NotAnInteger {
            value: value.to_owned(),
        });
    }
    let reason = if value.len() > MAX_NAME {
        "it must have at most 63 characters"
    } else if !value.is_empty() && !is_name(value) {
        "it has letters, digits, '-', '_' and '.', and begins and ends with a letter or a digit"
    } else {
        return Ok(());
    };
    Err(RequirementError::Value {
        value: value.to_owned(),
        reason,
    })
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// A key, a value, or one of the words `in` and `notin`, which are both.
    Word(&'a str),
    /// One of `= == != > < ( ) , !`.
    Symbol(&'a str),
    End,
}

#[derive(Clone, Copy)]
struct Spanned<'a> {
    token: Token<'a>,
    /// Byte offsets of its beginning and its end.
    start: usize,
    end: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token, left where it is.
    fn peek(&self) -> Spanned<'a> {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let symbol = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
        let rest = self.text[self.at..].trim_start_matches(blank);
        let start = self.text.len() - rest.len();
        let (token, length) = if rest.is_empty() {
            (Token::End, 0)
        } else if rest.starts_with("==") || rest.starts_with("!=") {
            (Token::Symbol(&rest[..2]), 2)
        } else if rest.starts_with(symbol) {
            (Token::Symbol(&rest[..1]), 1)
        } else {
            let length = rest.find(|c| blank(c) || symbol(c)).unwrap_or(rest.len());
            (Token::Word(&rest[..length]), length)
        };
        Spanned {
            token,
            start,
            end: start + length,
        }
    }

    fn next(&mut self) -> Spanned<'a> {
        let next = self.peek();
        self.at = next.end;
        next
    }

    fn position(&self, offset: usize) -> usize {
        self.text[..offset].chars().count() + 1
    }

    fn unexpected(&self, found: Spanned<'_>, expected: &'static str) -> SelectorError {
        SelectorError::Syntax {
            position: self.position(found.start),
            found: match found.token {
                Token::Word(text) | Token::Symbol(text) => format!("{text:?}"),
                Token::End => "the end".to_owned(),
            },
            expected,
        }
    }

    fn fault(&self, at: Spanned<'_>) -> impl Fn(RequirementError) -> SelectorError {
        let position = self.position(at.start);
        move |fault| SelectorError::Requirement { position, fault }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut first = self.next();
        let absent = first.token == Token::Symbol("!");
        if absent {
            first = self.next();
        }
        let Token::Word(key) = first.token else {
            let expected = if absent {
                "a label key"
            } else {
                "a label key or '!'"
            };
            return Err(self.unexpected(first, expected));
        };
        check_key(key).map_err(self.fault(first))?;
        let (operator, values) = if absent {
            (Operator::DoesNotExist, Vec::new())
        } else if matches!(self.peek().token, Token::End | Token::Symbol(",")) {
            (Operator::Exists, Vec::new())
        } else {
            self.comparison()?
        };
        Requirement::new(key.to_owned(), operator, values).map_err(self.fault(first))
    }

    fn comparison(&mut self) -> Result<(Operator, Vec<String>), SelectorError> {
        let next = self.next();
        let operator = match next.token {
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            _ => return Err(self.unexpected(next, "one of = == != > < in notin")),
        };
        if matches!(operator, Operator::In | Operator::NotIn) {
            return Ok((operator, self.values(operator)?));
        }
        let ends = [Token::End, Token::Symbol(",")];
        Ok((operator, vec![self.value(operator, ends, "a value")?]))
    }

    /// `(a,b)`; nothing between two of `(`, `,` and `)` is an empty value.
    fn values(&mut self, operator: Operator) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open.token != Token::Symbol("(") {
            return Err(self.unexpected(open, "'('"));
        }
        let mut values = Vec::new();
        let ends = [Token::Symbol(","), Token::Symbol(")")];
        loop {
            values.push(self.value(operator, ends, "a value, ',' or ')'")?);
            let next = self.next();
            match next.token {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                _ => return Err(self.unexpected(next, "',' or ')'")),
            }
        }
    }

    /// One value; empty where the next token is one of those that end it.
    fn value(
        &mut self,
        operator: Operator,
        ends: [Token<'_>; 2],
        expected: &'static str,
    ) -> Result<String, SelectorError> {
        let next = self.peek();
        let value = match next.token {
            Token::Word(value) => value,
            token if ends.contains(&token) => "",
            _ => return Err(self.unexpected(next, expected)),
        };
        check_value(operator, value).map_err(self.fault(next))?;
        if !value.is_empty() {
            self.at = next.end;
        }
        Ok(value.to_owned())
    }
}
