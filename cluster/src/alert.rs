//! What a handshake that TLS broke off means to whoever operates the nodes. Both ends say it: the one that refuses, and the
//! one that is refused.

use quinn::{ConnectionError, TransportErrorCode};

/// Codes of QUIC that carry an alert of TLS: this much and the alert (RFC 9001, 4.8).
const ALERTS: u64 = 0x100;

/// Why two nodes do not trust each other, if that is why a connection ended.
pub(crate) fn refusal(error: &ConnectionError) -> Option<String> {
    let (code, said, whose) = match error {
        ConnectionError::TransportError(own) => (own.code, own.reason.clone(), Whose::Peers),
        ConnectionError::ConnectionClosed(theirs) => {
            (theirs.error_code, String::from_utf8_lossy(&theirs.reason).into_owned(), Whose::Own)
        }
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return None,
    };
    let problem = problem(alert(code)?, whose);
    Some(if said.is_empty() { problem } else { format!("{problem} ({said})") })
}

/// Whose certificate is meant.
#[derive(Clone, Copy)]
enum Whose {
    Own,
    Peers,
}

fn alert(code: TransportErrorCode) -> Option<u8> {
    u8::try_from(u64::from(code).checked_sub(ALERTS)?).ok()
}

/// The alerts of RFC 8446, 6.2 that certificates lead to.
fn problem(alert: u8, whose: Whose) -> String {
    let (refuses, refused, its) = match whose {
        Whose::Own => ("the peer", "this node", "this node's"),
        Whose::Peers => ("this node", "the peer", "the peer's"),
    };
    match alert {
        45 => format!(
            "{its} certificate has expired or is not valid yet: issue a new one, or check the clocks of the nodes"
        ),
        48 | 51 => format!(
            "{its} certificate was not signed by the authority that {refuses} trusts: all nodes need certificates of the same one"
        ),
        116 => format!("{refused} shows no certificate: every node needs one of the cluster's authority"),
        120 => format!("{refused} does not speak Millstream's protocol"),
        42..=46 => format!("{refuses} cannot use {its} certificate"),
        other => format!("{refuses} has broken off the TLS handshake with alert {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_whose_certificate_is_meant() {
        let code = TransportErrorCode::crypto(45);
        assert_eq!(alert(code), Some(45));
        assert!(problem(45, Whose::Own).starts_with("this node's certificate has expired"));
        assert!(problem(45, Whose::Peers).starts_with("the peer's certificate has expired"));
        assert!(problem(48, Whose::Peers).contains("the authority that this node trusts"));
        assert!(problem(116, Whose::Peers).starts_with("the peer shows no certificate"));
    }

    #[test]
    fn other_errors_of_a_connection_are_none_of_trust() {
        assert_eq!(alert(TransportErrorCode::PROTOCOL_VIOLATION), None);
        assert_eq!(refusal(&ConnectionError::TimedOut), None);
    }
}
