//! What is found out about a template before it is used: whether it is whole, whether all it names is there, and what it
//! makes its text depend on.

use std::collections::BTreeSet;

use gotmpl::parse::{
    ActionNode, BranchNode, CommandNode, Expr, IfNode, ListNode, Node, Parser, PipeNode, Pos,
    SmolStr, TextNode,
};

use super::TemplateError;
use super::functions::KNOWN;

const FIELDS: [&str; 5] = [
    "GroupBy",
    "GroupBySlice",
    "LabelMatchers",
    "LabelValuesByName",
    "Series",
];

/// Ends the text while it is parsed. No query has it.
const END: char = '\u{1}';

/// What a template's text depends on, apart from where its values are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::rules) struct Uses {
    /// The labels whose values it looks up.
    pub(in crate::rules) labels: BTreeSet<String>,
    /// It looks at label values without saying which.
    pub(in crate::rules) any_label: bool,
    /// It does more with the matchers than write them, such as `<<if .LabelMatchers>>`.
    pub(in crate::rules) examines_matchers: bool,
}

/// Parses the text and sees that its tree is whole.
///
/// The crate takes an `end` too many for the end of the text, and the end of the text for an `end`. So a mark is put at the
/// end, and must be found there, outside of all blocks.
pub(super) fn parse(text: &str) -> Result<ListNode, TemplateError> {
    let parse = |text: &str| Parser::new(text, "<<", ">>")?.parse();
    let marked = format!("{text}{END}");
    // First without the mark, which must not be what an error is about.
    let parsed = parse(text).and_then(|_| parse(&marked));
    let (mut tree, defines) = parsed.map_err(syntax)?;
    if let Some(define) = defines.first() {
        return Err(fault(
            text,
            define.pos,
            "`define` and `block` are not supported",
        ));
    }
    let last = tree.nodes.pop();
    match last {
        Some(Node::Text(last)) if last.text.ends_with(END) => {
            let rest = last.text.trim_end_matches(END);
            if !rest.is_empty() {
                tree.nodes.push(Node::Text(TextNode {
                    pos: last.pos,
                    text: rest.into(),
                }));
            }
            Ok(tree)
        }
        Some(Node::If(block) | Node::Range(block) | Node::With(block)) if mentions_end(&block) => {
            Err(fault(text, block.pos, "this block has no `<<end>>`"))
        }
        last => {
            let pos = last.as_ref().map_or(tree.pos, position);
            let message = "an `<<end>>` or `<<else>>` after this belongs to no block";
            Err(fault(text, pos, message))
        }
    }
}

fn syntax(error: gotmpl::TemplateError) -> TemplateError {
    match error {
        gotmpl::TemplateError::Parse {
            line, col, message, ..
        }
        | gotmpl::TemplateError::Lex {
            line, col, message, ..
        } => TemplateError::Syntax {
            line,
            column: col,
            message,
        },
        other => TemplateError::Fill(other.to_string()),
    }
}

/// Whether the mark lies within this block.
fn mentions_end(block: &BranchNode) -> bool {
    let lists = [Some(&block.body), block.else_body.as_ref()];
    let last = lists
        .into_iter()
        .flatten()
        .filter_map(|list| list.nodes.last());
    last.into_iter().any(|node| match node {
        Node::Text(text) => text.text.ends_with(END),
        Node::If(block) | Node::Range(block) | Node::With(block) => mentions_end(block),
        _ => false,
    })
}

/// Sees that all that the template names is there, in branches that are never taken as well.
pub(super) fn check(text: &str, tree: &ListNode) -> Result<Uses, TemplateError> {
    let mut checker = Checker {
        text,
        variables: Vec::new(),
        inside: false,
        uses: Uses::default(),
    };
    checker.list(tree)?;
    Ok(checker.uses)
}

fn fault(text: &str, pos: Pos, message: impl Into<String>) -> TemplateError {
    let before = text.get(..pos.offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    TemplateError::Syntax {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: message.into(),
    }
}

fn position(node: &Node) -> Pos {
    match node {
        Node::List(list) => list.pos,
        Node::Text(text) => text.pos,
        Node::Action(action) => action.pos,
        Node::If(block) | Node::Range(block) | Node::With(block) => block.pos,
        Node::Template(template) => template.pos,
        Node::Define(define) => define.pos,
        Node::Break(pos) | Node::Continue(pos) => *pos,
    }
}

struct Checker<'a> {
    text: &'a str,
    /// Those in scope, the innermost last.
    variables: Vec<SmolStr>,
    /// Within a `range` or a `with`, where the dot is something else than the request.
    inside: bool,
    uses: Uses,
}

impl Checker<'_> {
    fn fault<T>(&self, pos: Pos, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(fault(self.text, pos, message))
    }

    fn list(&mut self, list: &ListNode) -> Result<(), TemplateError> {
        let scope = self.variables.len();
        for node in &list.nodes {
            match node {
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
                Node::List(list) => self.list(list)?,
                Node::Action(action) if writes_matchers(action) => {}
                Node::Action(action) => self.pipe(&action.pipe)?,
                Node::If(block) => self.block(block, false)?,
                Node::Range(block) | Node::With(block) => self.block(block, true)?,
                Node::Template(_) | Node::Define(_) => {
                    return self.fault(position(node), "`template` is not supported");
                }
            }
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn block(&mut self, block: &BranchNode, moves_dot: bool) -> Result<(), TemplateError> {
        let (scope, inside) = (self.variables.len(), self.inside);
        self.pipe(&block.pipe)?;
        self.inside |= moves_dot;
        self.list(&block.body)?;
        self.inside = inside;
        if let Some(other) = &block.else_body {
            self.list(other)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), TemplateError> {
        for command in &pipe.commands {
            self.command(command)?;
        }
        for name in &pipe.decl {
            if pipe.is_assign {
                self.variable(pipe.pos, name)?;
            } else {
                self.variables.push(name.clone());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &CommandNode) -> Result<(), TemplateError> {
        if let [Expr::Identifier(_, index), map, Expr::String(_, key)] = command.args.as_slice()
            && index == "index"
            && self.is_field(map, "LabelValuesByName")
        {
            self.uses.labels.insert(key.to_string());
            return Ok(());
        }
        command
            .args
            .iter()
            .try_for_each(|argument| self.argument(argument))
    }

    fn argument(&mut self, argument: &Expr) -> Result<(), TemplateError> {
        match argument {
            Expr::Field(pos, fields) if !self.inside => self.field(*pos, fields),
            Expr::Variable(pos, name, fields) if name == "$" && !fields.is_empty() => {
                self.field(*pos, fields)
            }
            Expr::Variable(_, name, _) if name == "$" => {
                self.everything();
                Ok(())
            }
            Expr::Variable(pos, name, _) => self.variable(*pos, name),
            Expr::Dot(_) if !self.inside => {
                self.everything();
                Ok(())
            }
            Expr::Identifier(pos, name) if !KNOWN.contains(&name.as_str()) => {
                let known = KNOWN.join(", ");
                self.fault(
                    *pos,
                    format!("there is no function `{name}`; there are {known}"),
                )
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.argument(inner),
            // Of what the dot is elsewhere, only filling in can tell.
            Expr::Field(..)
            | Expr::Dot(_)
            | Expr::Identifier(..)
            | Expr::String(..)
            | Expr::Number(..)
            | Expr::Bool(..)
            | Expr::Nil(_) => Ok(()),
        }
    }

    /// A field of the request.
    fn field(&mut self, pos: Pos, fields: &[SmolStr]) -> Result<(), TemplateError> {
        let name = fields.first().map_or("", SmolStr::as_str);
        if !FIELDS.contains(&name) {
            let known = FIELDS.join(", .");
            return self.fault(
                pos,
                format!("there is no field `.{name}`; there are .{known}"),
            );
        }
        match (name, fields.get(1)) {
            ("LabelValuesByName", Some(label)) => {
                self.uses.labels.insert(label.to_string());
            }
            ("LabelValuesByName", None) => self.uses.any_label = true,
            ("LabelMatchers", None) => self.uses.examines_matchers = true,
            (_, None) => {}
            (_, Some(field)) => {
                return self.fault(pos, format!("`.{name}` has no field `{field}`"));
            }
        }
        Ok(())
    }

    fn variable(&self, pos: Pos, name: &SmolStr) -> Result<(), TemplateError> {
        if name == "$" || self.variables.contains(name) {
            return Ok(());
        }
        self.fault(pos, format!("the variable {name} is not declared here"))
    }

    fn everything(&mut self) {
        self.uses.any_label = true;
        self.uses.examines_matchers = true;
    }

    /// Whether this is a field of the request.
    fn is_field(&self, argument: &Expr, name: &str) -> bool {
        match argument {
            Expr::Field(_, fields) => !self.inside && fields.as_slice() == [name],
            Expr::Variable(_, variable, fields) => variable == "$" && fields.as_slice() == [name],
            _ => false,
        }
    }
}

/// Whether the action is `<<.LabelMatchers>>` or `<<$.LabelMatchers>>`, which only writes them.
fn writes_matchers(action: &ActionNode) -> bool {
    let [command] = action.pipe.commands.as_slice() else {
        return false;
    };
    let fields = match command.args.as_slice() {
        [Expr::Field(_, fields)] => fields,
        [Expr::Variable(_, variable, fields)] if variable == "$" => fields,
        _ => return false,
    };
    action.pipe.decl.is_empty() && fields.as_slice() == ["LabelMatchers"]
}

/// The tree in which a comma after `<<.LabelMatchers>>` is written only where there are matchers: without any,
/// `foo{<<.LabelMatchers>>, q="x"}` would be no query.
pub(super) fn without_comma_trap(list: ListNode) -> ListNode {
    let mut nodes: Vec<Node> = Vec::with_capacity(list.nodes.len());
    for node in list.nodes {
        let node = match node {
            Node::If(block) => Node::If(in_branches(block)),
            Node::With(block) => Node::With(in_branches(block)),
            Node::Range(block) => Node::Range(in_branches(block)),
            Node::List(list) => Node::List(without_comma_trap(list)),
            other => other,
        };
        match (nodes.pop(), node) {
            (Some(Node::Action(matchers)), Node::Text(text))
                if writes_matchers(&matchers) && text.text.trim_start().starts_with(',') =>
            {
                let comma = text.text.find(',').map_or(0, |comma| comma + 1);
                let (comma, rest) = text.text.split_at(comma);
                let text_node = |part: &str| {
                    Node::Text(TextNode {
                        pos: text.pos,
                        text: part.into(),
                    })
                };
                nodes.push(Node::If(IfNode {
                    pos: matchers.pos,
                    pipe: matchers.pipe.clone(),
                    body: ListNode {
                        pos: matchers.pos,
                        nodes: vec![Node::Action(matchers), text_node(comma)],
                    },
                    else_body: None,
                }));
                nodes.push(text_node(rest));
            }
            (before, node) => {
                nodes.extend(before);
                nodes.push(node);
            }
        }
    }
    ListNode { nodes, ..list }
}

fn in_branches(block: BranchNode) -> BranchNode {
    BranchNode {
        body: without_comma_trap(block.body),
        else_body: block.else_body.map(without_comma_trap),
        ..block
    }
}
