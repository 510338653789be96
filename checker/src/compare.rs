//! Two multisets of rows, expected and found: what is missing, doubled, different or not expected, and the first of
//! these in words. Used by `main` for alerts, dead letters and the block list.

use std::fmt;

/// A line of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Rows are compared in this order; equal for equal identities.
    pub order: String,
    /// What the row is about, unique among the expected ones.
    pub identity: String,
    /// The whole line.
    pub line: String,
    /// File and line number, of a found row.
    pub place: String,
}

/// How the found rows differ from the expected ones.
#[derive(Debug, Default)]
pub struct Differences {
    /// Expected, and not there.
    pub missing: usize,
    /// There more often than expected.
    pub doubled: usize,
    /// There with another content.
    pub different: usize,
    /// Not expected at all.
    pub unexpected: usize,
    /// The first one.
    pub first: Option<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.first.is_none()
    }

    fn note(&mut self, text: String) {
        self.first.get_or_insert(text);
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, doubled, different, unexpected, .. } = self;
        write!(f, "{missing} missing, {doubled} doubled, {different} different, {unexpected} not expected")
    }
}

/// Compares; `kind` is what a row is called. With `unfinished`, missing rows are no difference.
pub fn compare(kind: &str, mut expected: Vec<Row>, mut found: Vec<Row>, unfinished: bool) -> Differences {
    let sort = |rows: &mut Vec<Row>| {
        rows.sort_by(|a, b| (&a.order, &a.identity, &a.line, &a.place).cmp(&(&b.order, &b.identity, &b.line, &b.place)))
    };
    sort(&mut expected);
    sort(&mut found);
    let mut differences = Differences::default();
    let (mut expected, mut found) = (expected.as_slice(), found.as_slice());
    loop {
        let next = match (expected.first(), found.first()) {
            (None, None) => return differences,
            (Some(row), None) | (None, Some(row)) => row,
            (Some(a), Some(b)) => std::cmp::min_by_key(a, b, |row| (&row.order, &row.identity)),
        };
        let (these, rest) = split(expected, next);
        expected = rest;
        let (those, rest) = split(found, next);
        found = rest;
        one_identity(kind, these, those, unfinished, &mut differences);
    }
}

/// The leading rows of the identity of `next`, and the others.
fn split<'a>(rows: &'a [Row], next: &Row) -> (&'a [Row], &'a [Row]) {
    let same = |row: &&Row| row.order == next.order && row.identity == next.identity;
    rows.split_at(rows.iter().take_while(same).count())
}

fn one_identity(kind: &str, expected: &[Row], found: &[Row], unfinished: bool, differences: &mut Differences) {
    match (expected, found) {
        ([], _) => {
            differences.unexpected += found.len();
            let Row { identity, line, place, .. } = &found[0];
            differences.note(format!("{kind} {identity} is not expected\n  found:    {line}\n  in:       {place}"));
        }
        (_, []) if unfinished => {}
        (_, []) => {
            differences.missing += expected.len();
            let Row { identity, line, .. } = &expected[0];
            differences.note(format!("{kind} {identity} is missing\n  expected: {line}\n  found:    nowhere"));
        }
        (_, _) if found.len() > expected.len() => {
            differences.doubled += found.len() - expected.len();
            let mut text = format!("{kind} {} is there {} times", expected[0].identity, found.len());
            text += &format!("\n  expected: {}", expected[0].line);
            for Row { line, place, .. } in found {
                text += &format!("\n  found:    {line}\n  in:       {place}");
            }
            differences.note(text);
        }
        (_, _) => {
            let Some((wanted, had)) = expected.iter().zip(found).find(|(wanted, had)| wanted.line != had.line) else {
                let missing = expected.len() - found.len();
                assert!(missing == 0, "expected rows have distinct identities: {}", expected[0].identity);
                return;
            };
            differences.different += 1;
            let Row { identity, line, .. } = wanted;
            differences.note(format!(
                "{kind} {identity} is different\n  expected: {line}\n  found:    {}\n  in:       {}",
                had.line, had.place
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(&str, &str)]) -> Vec<Row> {
        let row = |(index, (identity, line)): (usize, &(&str, &str))| Row {
            order: (*identity).into(),
            identity: (*identity).into(),
            line: (*line).into(),
            place: format!("f:{}", index + 1),
        };
        of.iter().enumerate().map(row).collect()
    }

    fn first(expected: &[(&str, &str)], found: &[(&str, &str)]) -> String {
        compare("alert", rows(expected), rows(found), false).first.unwrap_or_default()
    }

    #[test]
    fn order_does_not_matter() {
        assert_eq!(first(&[("a", "1"), ("b", "2")], &[("b", "2"), ("a", "1")]), "");
        assert_eq!(first(&[], &[]), "");
    }

    #[test]
    fn the_first_difference_is_named_with_both_lines_and_the_place() {
        let both = [("a", "1"), ("b", "2")];
        assert_eq!(first(&both, &[("b", "2")]), "alert a is missing\n  expected: 1\n  found:    nowhere");
        assert_eq!(
            first(&both, &[("b", "2"), ("a", "7")]),
            "alert a is different\n  expected: 1\n  found:    7\n  in:       f:2"
        );
        assert_eq!(
            first(&both, &[("b", "2"), ("a", "1"), ("c", "3")]),
            "alert c is not expected\n  found:    3\n  in:       f:3"
        );
        assert!(first(&both, &[("b", "2"), ("a", "1"), ("b", "2")]).starts_with("alert b is there 2 times"));
        assert!(first(&both, &[("b", "2"), ("a", "1"), ("b", "9")]).starts_with("alert b is there 2 times"));
    }

    #[test]
    fn all_differences_are_counted() {
        let expected = rows(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        let found = rows(&[("b", "2"), ("b", "2"), ("b", "2"), ("c", "x"), ("d", "4"), ("e", "5")]);
        let differences = compare("alert", expected, found, false);
        assert_eq!(differences.to_string(), "1 missing, 2 doubled, 1 different, 1 not expected");
    }

    #[test]
    fn an_unfinished_output_may_lack_rows_but_not_hold_wrong_ones() {
        assert!(compare("alert", rows(&[("a", "1"), ("b", "2")]), rows(&[("b", "2")]), true).is_none());
        assert!(!compare("alert", rows(&[("a", "1")]), rows(&[("a", "2")]), true).is_none());
        assert!(!compare("alert", rows(&[("a", "1")]), rows(&[("a", "1"), ("a", "1")]), true).is_none());
    }
}
