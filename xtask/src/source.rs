//! A Rust source with comments and literals blanked out, so that braces, `fn` and `mod` can be found by looking. Used
//! by `tidy` and `features`. Not a parser: it knows just enough to be right on code that rustfmt has formatted.

/// The text with comments, strings and character literals replaced by blanks; same length, same lines.
pub fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that starts here; `at` itself when none does.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    match rest[0] {
        b'"' => at + string_length(rest),
        b'\'' => at + character_length(rest),
        b'r' | b'b' | b'c' if !word_before => {
            let prefix = rest.iter().take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
            let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
            match rest.get(prefix + hashes) {
                Some(b'"') if prefix <= 2 && rest[..prefix].contains(&b'r') => at + raw_length(rest, prefix, hashes),
                Some(b'"') if prefix == 1 && hashes == 0 => at + 1 + string_length(&rest[1..]),
                Some(b'\'') if rest[0] == b'b' && prefix == 1 && hashes == 0 => at + 1 + character_length(&rest[1..]),
                _ => at,
            }
        }
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_length(rest: &[u8], prefix: usize, hashes: usize) -> usize {
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let start = prefix + hashes + 1;
    let end = rest[start..].windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| start + end + close.len())
}

/// Of a character literal; 0 for a lifetime.
fn character_length(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return end.map_or(rest.len(), |end| end + 4);
    }
    // One character of up to four bytes, then the quote.
    let end = (2..=5).find(|at| rest.get(*at) == Some(&b'\'') && rest[1] != b'\'');
    match end {
        Some(end) if end == 2 || rest[1] >= 0x80 => end + 1,
        _ => 0,
    }
}

/// Where a word stands by itself in blanked text.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = text.as_bytes();
        !part(at.checked_sub(1).and_then(|before| bytes.get(before))) && !part(bytes.get(at + word.len()))
    })
}

/// The identifier that starts after blanks at `at`.
pub fn identifier(text: &str, at: usize) -> &str {
    let rest = text[at..].trim_start();
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without path.
    pub name: String,
    /// Line of the `fn`, from 1.
    pub line: usize,
    /// Lines from the `fn` to the closing brace.
    pub length: usize,
    /// Where the `fn` stands.
    pub at: usize,
}

/// The functions of a blanked text, nested ones too.
pub fn functions(text: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(text, "fn") {
        let name = identifier(text, at + 2);
        let Some(open) = body(text, at) else { continue };
        if name.is_empty() {
            continue;
        }
        let close = closing_brace(text, open);
        let line = text[..at].matches('\n').count() + 1;
        let length = text[at..close].matches('\n').count() + 1;
        found.push(Function { name: name.to_string(), line, length, at });
    }
    found
}

/// The brace that opens the body of the function at `at`, unless it has none.
fn body(text: &str, at: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (offset, byte) in text.as_bytes()[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at + offset),
            b';' if depth == 0 => return None,
            // A function type, `fn(u8)` in a list or a field.
            b',' | b'}' | b'=' if depth <= 0 && identifier(text, at + 2).is_empty() => return None,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

/// The position after the brace that closes the one at `open`.
pub fn closing_brace(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in text.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blanked() {
        for (text, left) in [
            ("a \"x{\\\"y\" b", "a b"),
            ("a r#\"x\"{\"# b", "a b"),
            ("a br\"{\" b", "a b"),
            ("a b\"{\" b'{' '{' b", "a b"),
            ("fn f<'a>(x: &'a str) {", "fn f<'a>(x: &'a str) {"),
            ("a /* { /* { */ { */ b", "a b"),
            ("a // {\nb", "a \nb"),
            ("'\\'' '\\u{1f}' '\"' x", " x"),
            ("number\"x\"", "number"),
            ("'é' {", " {"),
        ] {
            let found = blanked(text);
            assert_eq!(found.len(), text.len());
            let words: Vec<&str> = found.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(words, left.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn functions_have_lengths() {
        let text =
            "trait T { fn a(); fn b() {} }\nfn c<F: Fn(u8) -> [u8; 2]>(f: F)\nwhere F: X\n{\n    fn d() {\n    }\n}\n";
        let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.length)).collect();
        assert_eq!(found, [("b".into(), 1, 1), ("c".into(), 2, 6), ("d".into(), 5, 2)]);
    }

    #[test]
    fn function_types_are_no_functions() {
        let text = "struct S { f: fn(u8), g: fn() -> u8 }\nfn x(f: fn(&str) -> u8) {\n}\n";
        let found: Vec<_> = functions(text).into_iter().map(|f| f.name).collect();
        assert_eq!(found, ["x"]);
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(words("fn fnx xfn fn", "fn").collect::<Vec<_>>(), [0, 11]);
        assert_eq!(identifier("fn  name(x)", 2), "name");
    }
}
