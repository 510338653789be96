//! What an object store means by an error, in words for users, and what they can do about it.

use std::error::Error as _;

use object_store::Error;

/// The cause of an error, without the layers around it.
pub(super) fn reason(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // The answer of the server is in the text of a layer above the innermost.
    let whole = error.to_string();
    let code = element(&whole, "Code");
    match (code, element(&whole, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_string(),
        _ => match error.source() {
            Some(_) if whole.contains(&cause.to_string()) => whole,
            Some(_) => format!("{whole}: {cause}"),
            None => whole,
        },
    }
}

/// What the user can do about it, by what the reason says.
pub(super) fn advice(reason: &str) -> Option<&'static str> {
    ADVICE.iter().find(|(signs, _)| signs.iter().any(|sign| reason.contains(sign))).map(|(_, advice)| *advice)
}

/// Signs of a cause in its text, and the advice.
const ADVICE: [(&[&str], &str); 6] = [
    (&["NoSuchBucket"], "make the bucket, or correct its name"),
    (
        &["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthFailure"],
        "correct s3.access-key and s3.secret-key, or the credentials in AWS's environment",
    ),
    (
        &["169.254.169.254", "169.254.170.2"],
        "no credentials were found: set s3.access-key and s3.secret-key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role",
    ),
    (
        &["AccessDenied", "403 Forbidden", "Forbidden"],
        "allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket there, or use other credentials",
    ),
    (
        &["PermanentRedirect", "AuthorizationHeaderMalformed", "BareRedirect"],
        "set s3.region to the region of the bucket",
    ),
    (
        &[
            "Connection refused",
            "host not found",
            "Host not found",
            "failed to lookup",
            "timeout: ",
            "Connection failed",
            "Connection reset",
            "Broken pipe",
            "disconnected",
            "tls",
            "certificate",
        ],
        "check s3.endpoint and the way to it",
    ),
];

/// Whether what is missing is not the blob but the bucket.
pub(super) fn is_missing_bucket(error: &Error) -> bool {
    error.to_string().contains("NoSuchBucket")
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_server_is_the_reason() {
        let body = "Server returned 404: <Error><Code>NoSuchBucket</Code><Message>It is not there</Message></Error>";
        let error = Error::NotFound { path: "p".to_string(), source: body.into() };
        assert_eq!(reason(&error), "NoSuchBucket: It is not there");
        assert!(is_missing_bucket(&error));
        assert_eq!(advice(&reason(&error)), Some("make the bucket, or correct its name"));
        let error = Error::NotFound { path: "p".to_string(), source: "no such file".into() };
        assert!(reason(&error).contains("no such file") && !is_missing_bucket(&error));
        assert_eq!(advice("the moon is full"), None);
    }
}
