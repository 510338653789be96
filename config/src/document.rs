//! The reference page of all keys, `docs/configuration.md`. A test of this crate fails when the page is outdated.

use std::fmt::Write;

use crate::advice::is_flink_key;
use crate::keys;

const HEAD: &str = "# Configuration

Made from the table of keys in `config/src/keys.rs`; change that and run
`UPDATE_DOCS=1 cargo test -p millstream-config` to write this page anew.

Values come from four places; a later one wins:

1. the defaults below;
2. a TOML file (`--config FILE`), with dotted keys (`rest.port = 8081`, also quoted) or tables (`[rest]`, `port = 8081`);
3. the environment: `MILLSTREAM_` and the key in upper case, dots as `__`, hyphens as `_`
   (`MILLSTREAM_EXECUTION__CHECKPOINTING__MIN_PAUSE=500ms`); empty variables are ignored;
4. flags: `-D key=value`.

The value of a key that names a secret (`password`, `secret`, `token` and the other words of Flink's list) is shown as
`******` in messages, by REST and in commands.

What a job sets in its own code counts as a default. An unknown key is a warning with the nearest known one, and so is a
key of Flink that has no effect here; a value of the wrong form ends the program with exit code 2.

A *Duration* is a whole number with `ns`, `us`, `ms`, `s`, `min`, `h` or `d` (milliseconds without a unit); a *MemorySize*
one with `b`, `kb`, `mb`, `gb` or `tb`, 1 kb being 1024 bytes. Keys marked with * are Millstream's own, all others have
Flink's names and meaning.
";

/// The page as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_string();
    let mut section = "";
    for key in keys::ALL {
        if key.section != section {
            section = key.section;
            let _ = write!(page, "\n## {section}\n\n| Key | Default | Type | Meaning |\n|---|---|---|---|\n");
        }
        let own = if is_flink_key(key.name) { "" } else { " *" };
        let default = if key.default.is_empty() { "(none)".to_string() } else { format!("`{}`", key.default) };
        let accepted = if matches!(key.value_type, "Duration" | "MemorySize" | "String" | "Boolean") {
            String::new()
        } else {
            format!(" Accepts {}.", key.form)
        };
        let meaning = key.description.trim();
        let _ = writeln!(page, "| `{}`{own} | {default} | {} | {meaning}{accepted} |", key.name, key.value_type);
    }
    let _ = write!(page, "\n## Earlier names\n\nStill accepted, with a warning:\n\n");
    for (earlier, now) in keys::RENAMED {
        let _ = writeln!(page, "- `{earlier}` is `{now}`");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let expected = markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).expect("docs/configuration.md is writable");
        }
        let present = std::fs::read_to_string(path).unwrap_or_default();
        assert!(present == expected, "outdated: run UPDATE_DOCS=1 cargo test -p millstream-config");
    }
}
