//! The little that this server must know of SQL: quoting, and where an INSERT's data begins.

/// Backquoted.
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// In single quotes.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// An INSERT whose data comes apart from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    /// The statement up to its FORMAT clause.
    pub head: &'a str,
    /// The data's format.
    pub format: &'a str,
}

/// Splits `INSERT INTO … FORMAT Name` or `INSERT INTO … VALUES`, which must end there.
pub fn split_insert(sql: &str) -> Option<Insert<'_>> {
    let sql = sql.trim().trim_end_matches(';').trim_end();
    if !is_insert(sql) {
        return None;
    }
    let (rest, last) = last_word(sql);
    if last.eq_ignore_ascii_case("VALUES") {
        return Some(Insert { head: rest, format: "Values" });
    }
    let (head, keyword) = last_word(rest);
    keyword.eq_ignore_ascii_case("FORMAT").then_some(Insert { head, format: last })
}

/// Whether the statement is an INSERT.
pub fn is_insert(sql: &str) -> bool {
    sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("INSERT"))
}

fn last_word(text: &str) -> (&str, &str) {
    let text = text.trim_end();
    let start = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
    // What is not ASCII is no part of the words looked for.
    let start = if text.is_char_boundary(start) { start } else { text.len() };
    (text[..start].trim_end(), &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_with_a_format_is_split() {
        let insert = split_insert("INSERT INTO t(`a`, `b`) FORMAT RowBinaryWithNamesAndTypes").unwrap();
        assert_eq!(insert, Insert { head: "INSERT INTO t(`a`, `b`)", format: "RowBinaryWithNamesAndTypes" });
        let insert = split_insert("insert into t settings x = 1\nformat CSV ; ").unwrap();
        assert_eq!(insert, Insert { head: "insert into t settings x = 1", format: "CSV" });
        assert_eq!(split_insert("INSERT INTO t VALUES").unwrap().format, "Values");
    }

    #[test]
    fn other_statements_are_not() {
        assert_eq!(split_insert("SELECT 1 FORMAT CSV"), None);
        assert_eq!(split_insert("INSERT INTO t SELECT 1"), None);
        assert_eq!(split_insert("INSERT INTO ü"), None);
    }

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(quote_literal(r"it's \"), r"'it\'s \\'");
        assert_eq!(quote_identifier("a`b"), r"`a\`b`");
    }
}
