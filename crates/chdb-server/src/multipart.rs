//! Form fields of a multipart body, which is how the `clickhouse` crate sends a query with parameters.

use anyhow::{Context as _, Result};
use memchr::memmem;

/// Names and values, in order. Files aren't supported.
pub fn fields(content_type: &str, body: &[u8]) -> Result<Vec<(String, String)>> {
    let (_, boundary) = content_type.split_once("boundary=").context("a multipart body without a boundary")?;
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    let delimiter = format!("\r\n--{boundary}");
    // The first boundary has no line break before it.
    let mut rest =
        body.strip_prefix(&delimiter.as_bytes()[2..]).context("the multipart body begins without its boundary")?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let end = memmem::find(rest, delimiter.as_bytes()).context("the multipart body ends without its boundary")?;
        let (part, after) = rest.split_at(end);
        fields.push(field(part)?);
        rest = &after[delimiter.len()..];
    }
    Ok(fields)
}

fn field(part: &[u8]) -> Result<(String, String)> {
    let gap = memmem::find(part, b"\r\n\r\n").context("a form field without a value")?;
    let head = str::from_utf8(&part[..gap])?;
    let (_, name) = head.split_once("name=\"").context("a form field without a name")?;
    let name = name.split('"').next().unwrap_or_default();
    Ok((name.to_owned(), str::from_utf8(&part[gap + 4..]).context("a form field is not UTF-8")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_official_client_are_read() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT {x:String}\r\n\
            --b\r\nContent-Disposition: form-data; name=\"param_x\"\r\n\r\na\r\nb\r\n--b--\r\n";
        let fields = fields("multipart/form-data; boundary=b", body).unwrap();
        assert_eq!(fields, [("query".into(), "SELECT {x:String}".into()), ("param_x".into(), "a\r\nb".into())]);
    }

    #[test]
    fn body_without_an_end_is_refused() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1";
        assert!(fields("multipart/form-data; boundary=b", body).is_err());
    }
}
