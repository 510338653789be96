//! Where a REST server is, as people write it. Used by the command line and by [`Cluster`](super::Cluster).

/// Host and port of an address: `http://HOST:PORT`, without scheme, or without port; nothing if it is none.
#[must_use]
pub fn parse(address: &str, default_port: u16) -> Option<(String, u16)> {
    let place = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    if place.contains('/') {
        return None;
    }
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address without a port.
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (place, None),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme_and_port() {
        let expected = |host: &str, port| Some((host.to_string(), port));
        assert_eq!(parse("http://127.0.0.1:8081", 1), expected("127.0.0.1", 8081));
        assert_eq!(parse("host:1/", 8081), expected("host", 1));
        assert_eq!(parse("host", 8081), expected("host", 8081));
        assert_eq!(parse("[::1]:99", 8081), expected("::1", 99));
        assert_eq!(parse("::1", 8081), expected("::1", 8081));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in ["https://host:1/path", "host:port", "http://", ":80", ""] {
            assert_eq!(parse(address, 8081), None, "{address}");
        }
    }
}
