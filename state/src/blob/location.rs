//! Where a checkpoint store or a savepoint is, as users write it: a folder of this machine, or a place in a bucket.

use std::fmt;
use std::path::{Path, PathBuf};

use millstream_runtime::ports::PortError;

/// Names of the scheme of S3; those of Flink's plugins mean the same.
const S3_SCHEMES: [&str; 3] = ["s3", "s3a", "s3p"];

/// A folder, or a prefix of a bucket under which blobs are named like files below a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A folder of this machine, or a file in one.
    Folder(PathBuf),
    /// A place in a bucket of S3 or a store that speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// What names of blobs begin with, without `/` at either end; may be empty.
        prefix: String,
    },
}

impl Location {
    /// Reads `s3://bucket/prefix`, `file:///folder` or a plain path.
    ///
    /// # Errors
    /// When the scheme is another or a part is missing.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let wrong = |what: &str| {
            PortError::fix_input(format!("'{text}' {what}: give a path, file:///folder or s3://bucket/prefix"))
        };
        let Some((scheme, rest)) = split_scheme(text) else {
            return if text.is_empty() { Err(wrong("is no location")) } else { Ok(Self::Folder(text.into())) };
        };
        if scheme == "file" {
            // file:/folder and file:///folder are the same; a host is not supported.
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return if path.starts_with('/') { Ok(Self::Folder(path.into())) } else { Err(wrong("names a host")) };
        }
        if !S3_SCHEMES.contains(&scheme.as_str()) {
            return Err(wrong(&format!("has the scheme '{scheme}', which is not supported")));
        }
        let (bucket, prefix) =
            rest.trim_start_matches('/').split_once('/').unwrap_or((rest.trim_start_matches('/'), ""));
        if bucket.is_empty() {
            return Err(wrong("names no bucket"));
        }
        let prefix = prefix.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Ok(Self::S3 { bucket: bucket.to_string(), prefix })
    }

    /// A place below this one.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(name)),
            Self::S3 { bucket, prefix } => {
                let prefix = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
                Self::S3 { bucket: bucket.clone(), prefix }
            }
        }
    }

    /// Splits the last name off: the place it is in, and the name.
    #[must_use]
    pub fn split(&self) -> Option<(Self, String)> {
        match self {
            Self::Folder(path) => {
                let name = path.file_name()?.to_string_lossy().into_owned();
                let parent = path.parent()?;
                // The folder of a bare file name is the present one.
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                Some((Self::Folder(parent.to_path_buf()), name))
            }
            Self::S3 { bucket, prefix } => {
                let (parent, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
                let parent = Self::S3 { bucket: bucket.clone(), prefix: parent.to_string() };
                (!name.is_empty()).then(|| (parent, name.to_string()))
            }
        }
    }

    /// The same place by its one name, as far as this machine can tell; nothing if it is a folder that is not there.
    #[must_use]
    pub fn resolved(&self) -> Option<Self> {
        match self {
            Self::Folder(path) => path.canonicalize().ok().map(Self::Folder),
            Self::S3 { .. } => Some(self.clone()),
        }
    }

    /// Whether this place is `other` or lies below it.
    #[must_use]
    pub fn is_inside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(inner), Self::Folder(outer)) => match (inner.canonicalize(), outer.canonicalize()) {
                (Ok(inner), Ok(outer)) => inner.starts_with(outer),
                _ => false,
            },
            (Self::S3 { bucket, prefix }, Self::S3 { bucket: outer_bucket, prefix: outer }) => {
                let below = prefix
                    .strip_prefix(outer.as_str())
                    .is_some_and(|rest| rest.is_empty() || outer.is_empty() || rest.starts_with('/'));
                bucket == outer_bucket && below
            }
            (Self::Folder(_), Self::S3 { .. }) | (Self::S3 { .. }, Self::Folder(_)) => false,
        }
    }
}

/// What precedes the first `:`, if it can be a scheme; a path may hold a `:` behind a `/`.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    (is_scheme && rest.starts_with('/')).then(|| (scheme.to_ascii_lowercase(), rest))
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::Folder(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Folder(path.to_path_buf())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Location {
        Location::parse(text).expect("a location")
    }

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.to_string(), prefix: prefix.to_string() }
    }

    #[test]
    fn paths_and_addresses_are_told_apart() {
        assert_eq!(parse("out/state"), Location::Folder("out/state".into()));
        assert_eq!(parse("/a:b/c"), Location::Folder("/a:b/c".into()));
        assert_eq!(parse("a:b"), Location::Folder("a:b".into()));
        assert_eq!(parse("file:///var/x"), Location::Folder("/var/x".into()));
        assert_eq!(parse("file:/var/x"), Location::Folder("/var/x".into()));
        assert_eq!(parse("s3://bucket/a/b/"), s3("bucket", "a/b"));
        assert_eq!(parse("S3A://bucket//a//b"), s3("bucket", "a/b"));
        assert_eq!(parse("s3p://bucket"), s3("bucket", ""));
        for (wrong, why) in
            [("", "no location"), ("file://host/x", "host"), ("s3://", "bucket"), ("hdfs://n/x", "hdfs")]
        {
            let error = Location::parse(wrong).expect_err(wrong);
            assert!(error.message.contains(why) && error.message.contains("s3://bucket/prefix"), "{error}");
        }
    }

    #[test]
    fn places_are_joined_split_and_shown_as_they_are_written() {
        for text in ["s3://bucket/a/b", "/var/a/b"] {
            let place = parse(text);
            assert_eq!(place.to_string(), text);
            assert_eq!(place.split(), Some((parse(text.strip_suffix("/b").expect("ends so")), "b".to_string())));
            assert_eq!(place.join("c/d").to_string(), format!("{text}/c/d"));
        }
        assert_eq!(s3("bucket", "").join("a").to_string(), "s3://bucket/a");
        assert_eq!(s3("bucket", "").split(), None);
        assert_eq!(parse("_metadata").split(), Some((Location::Folder(".".into()), "_metadata".to_string())));
    }

    #[test]
    fn a_place_is_inside_another_by_whole_names() {
        assert!(s3("b", "x/y").is_inside(&s3("b", "x")));
        assert!(s3("b", "x").is_inside(&s3("b", "")));
        assert!(s3("b", "x").is_inside(&s3("b", "x")));
        assert!(!s3("b", "xy").is_inside(&s3("b", "x")));
        assert!(!s3("c", "x/y").is_inside(&s3("b", "x")));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).expect("makes a folder");
        assert!(Location::from(inner.clone()).is_inside(&folder.path().into()));
        assert!(!Location::from(folder.path()).is_inside(&inner.into()));
        assert!(!s3("b", "x").is_inside(&folder.path().into()));
    }
}
