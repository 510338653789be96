//! A place in a bucket of S3, or of a store that speaks its protocol: `object_store` knows the protocol, [`super::http`]
//! the transport.

use std::fmt;
use std::sync::Arc;

use millstream_runtime::ports::PortError;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::prefix::PrefixStore;

use super::ObjectBlobs;
use super::http::{Connector, Retries};

/// A file with the certificates to trust, as AWS's own tools take it.
const AUTHORITIES: &str = "AWS_CA_BUNDLE";

/// How S3 is reached. What is not set here is taken from the environment as AWS's tools do it (`AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_CA_BUNDLE`, roles of containers,
/// web identities and instances).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// Address of the server, as in `https://minio.example:9000`; without it that of AWS.
    pub endpoint: Option<String>,
    /// Region; without it `us-east-1`.
    pub region: Option<String>,
    /// Id of the key.
    pub access_key: Option<String>,
    /// The key: a secret.
    pub secret_key: Option<String>,
    /// The bucket is named in the path, not in the host. Always so where the endpoint is an IP address or `localhost`.
    pub path_style: bool,
    /// How often requests are tried.
    pub retries: Retries,
}

/// Without the secret.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, access_key, secret_key, path_style, retries } = self;
        f.debug_struct("S3Options")
            .field("endpoint", endpoint)
            .field("region", region)
            .field("access_key", access_key)
            .field("secret_key", &secret_key.as_ref().map(|_| "******"))
            .field("path_style", path_style)
            .field("retries", retries)
            .finish()
    }
}

/// Opens a place in a bucket. Asks the server nothing.
pub(super) fn open(options: &S3Options, bucket: &str, prefix: &str) -> Result<ObjectBlobs, PortError> {
    let place = if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") };
    let refused = |error: String| PortError::fix_input(format!("{place} cannot be used: {error}"));
    let single = client(options, bucket, Deleting::OneByOne).map_err(refused)?;
    let bulk = client(options, bucket, Deleting::InBulk).map_err(refused)?;
    let blobs = ObjectBlobs::new(Arc::new(PrefixStore::new(single, prefix)), place.clone());
    Ok(blobs.deleting_in_bulk(Arc::new(PrefixStore::new(bulk, prefix))))
}

/// How a client deletes: a client that can delete in bulk does so for a single blob as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deleting {
    /// As every store knows it.
    OneByOne,
    /// Up to a thousand with one request.
    InBulk,
}

fn client(options: &S3Options, bucket: &str, deleting: Deleting) -> Result<AmazonS3, String> {
    let mut builder = AmazonS3Builder::from_env();
    match (&options.access_key, &options.secret_key) {
        (Some(id), Some(secret)) => builder = builder.with_access_key_id(id).with_secret_access_key(secret),
        (None, None) => {}
        _ => return Err("s3.access-key and s3.secret-key are set together or not at all".to_string()),
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    let of_environment = |key| builder.get_config_value(&key);
    let endpoint = options.endpoint.clone();
    let endpoint = endpoint.or_else(|| of_environment(AmazonS3ConfigKey::S3Endpoint));
    let endpoint = endpoint.or_else(|| of_environment(AmazonS3ConfigKey::Endpoint));
    let by_host = !options.path_style && endpoint.as_deref().is_none_or(may_name_bucket);
    if let Some(endpoint) = endpoint {
        let endpoint = if by_host { with_bucket(&endpoint, bucket)? } else { endpoint };
        let allow_http = endpoint.starts_with("http://");
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_allow_http(allow_http);
    }
    // The transport repeats what may be repeated.
    let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(by_host)
        .with_disable_bulk_delete(deleting == Deleting::OneByOne)
        .with_retry(once)
        .with_http_connector(connector(options)?)
        .build()
        .map_err(|error| error.to_string())
}

fn connector(options: &S3Options) -> Result<Connector, String> {
    let file = std::env::var_os(AUTHORITIES).filter(|file| !file.is_empty());
    let unusable = |error: String| format!("the certificates that {AUTHORITIES} names cannot be read: {error}");
    let pem = file.map(std::fs::read).transpose().map_err(|error| unusable(error.to_string()))?;
    Connector::new(options.retries, pem.as_deref()).map_err(|error| unusable(error.to_string()))
}

/// The host of an endpoint, without its port.
fn host(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    if authority.starts_with('[') { authority } else { authority.split(':').next().unwrap_or(authority) }
}

fn may_name_bucket(endpoint: &str) -> bool {
    let host = host(endpoint);
    host != "localhost" && !host.starts_with('[') && host.parse::<std::net::Ipv4Addr>().is_err()
}

fn with_bucket(endpoint: &str, bucket: &str) -> Result<String, String> {
    let (scheme, rest) = endpoint
        .split_once("://")
        .ok_or_else(|| format!("s3.endpoint is '{endpoint}': it must begin with https:// or http://"))?;
    Ok(format!("{scheme}://{bucket}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_never_shown() {
        let options = S3Options {
            access_key: Some("the-id".to_string()),
            secret_key: Some("the-secret".to_string()),
            ..S3Options::default()
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("the-id") && !shown.contains("the-secret"), "{shown}");
    }

    #[test]
    fn buckets_are_named_in_the_host_where_that_can_be() {
        for endpoint in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            assert!(!may_name_bucket(endpoint), "{endpoint}");
        }
        assert!(may_name_bucket("https://minio.example:9000"));
        assert_eq!(with_bucket("https://minio.example:9000", "b"), Ok("https://b.minio.example:9000".to_string()));
        assert!(with_bucket("minio.example", "b").is_err());
    }

    #[test]
    fn a_key_without_its_secret_is_refused() {
        let options = S3Options { access_key: Some("id".to_string()), ..S3Options::default() };
        let error = open(&options, "bucket", "prefix").expect_err("refused");
        assert!(error.message.contains("s3.secret-key") && error.message.contains("s3://bucket/prefix"), "{error}");
    }
}
