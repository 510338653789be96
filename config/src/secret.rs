//! Values that are never shown: neither in messages nor by REST, in commands or in logs.

/// What stands where a secret would.
pub const HIDDEN: &str = "******";

/// Parts of the names of sensitive keys, as in Flink's `GlobalConfiguration.isSensitive`.
const SENSITIVE: [&str; 12] = [
    "password",
    "secret",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "token",
    "basic-auth",
    "jaas.config",
    "http-headers",
    "private-key",
];

/// Whether the value of a key is a secret.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| key.contains(part))
}

/// The value as it may be shown.
#[must_use]
pub fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret(key) { HIDDEN } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_keys() {
        assert_eq!(shown("s3.secret-key", "hunter2"), HIDDEN);
        assert_eq!(shown("My.PassWord", "hunter2"), HIDDEN);
        assert_eq!(shown("s3.access-key", "AKIA"), "AKIA");
        assert_eq!(shown("rest.port", "8081"), "8081");
    }
}
