//! The greeting at the beginning of a control stream, first the dialler's, then the answer. The prefix, magic, version
//! and length, never changes, so that nodes of any two versions can tell each other why they part.

use millstream_runtime::ids::NodeProcess;
use serde::{Deserialize, Serialize};

use super::{Malformed, PROTOCOL_VERSION, take};

const MAGIC: [u8; 4] = *b"MLST";
/// Bytes of magic, version and length.
pub(crate) const PREFIX_BYTES: usize = 10;
/// Bytes of the largest greeting or refusal.
const MAX_BYTES: usize = 4 << 10;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) cluster: String,
    pub(crate) process: NodeProcess,
    pub(crate) executable: [u8; 32],
    /// What this process knows of links with the one it greets, as far as it knows whom it greets.
    pub(crate) known: Option<KnownLink>,
}

/// The last link with a peer, as one end of it knows it; see `pairing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownLink {
    /// The process at the other end.
    pub(crate) with: NodeProcess,
    /// The link's number.
    pub(crate) number: u64,
    /// Whether it is up.
    pub(crate) up: bool,
}

/// The answer to a greeting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Who answers. The node with the lower id says next whether this connection becomes the link.
    Hello(Hello),
    /// Why not.
    Refused(String),
}

fn seal(content: &impl Serialize) -> Vec<u8> {
    let content = rmp_serde::to_vec(content).expect("names and numbers serialise");
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + content.len());
    bytes.extend(MAGIC);
    bytes.extend(PROTOCOL_VERSION.to_le_bytes());
    bytes.extend(u32::try_from(content.len()).expect("a greeting is short").to_le_bytes());
    bytes.extend(content);
    bytes
}

/// The wire form of a greeting.
pub(crate) fn encode_hello(hello: &Hello) -> Vec<u8> {
    seal(hello)
}

/// The wire form of an answer.
pub(crate) fn encode_answer(answer: &Answer) -> Vec<u8> {
    seal(answer)
}

/// What a prefix announces: the bytes to read next, or why not to.
pub(crate) fn content_bytes(prefix: [u8; PREFIX_BYTES]) -> Result<usize, Malformed> {
    let mut rest = &prefix[..];
    if take(&mut rest)? != MAGIC {
        return Err(Malformed::new("what came is no greeting of Millstream"));
    }
    let version = u16::from_le_bytes(take(&mut rest)?);
    if version != PROTOCOL_VERSION {
        return Err(Malformed::new(format!(
            "the peer speaks version {version} of the protocol, this node version {PROTOCOL_VERSION}: run the same release on all nodes"
        )));
    }
    let length = u32::from_le_bytes(take(&mut rest)?) as usize;
    if length > MAX_BYTES {
        return Err(Malformed::new(format!("a greeting of {length} bytes, the limit is {MAX_BYTES}")));
    }
    Ok(length)
}

/// Reads the content behind the prefix.
pub(crate) fn decode<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Result<T, Malformed> {
    rmp_serde::from_slice(content).map_err(|error| Malformed::new(format!("a greeting cannot be read: {error}")))
}

impl Hello {
    /// Why this node does not link with one that greets so.
    pub(crate) fn refusal(&self, theirs: &Self) -> Option<String> {
        if theirs.cluster != self.cluster {
            return Some(format!(
                "{} belongs to the cluster '{}', this node to '{}'",
                theirs.process, theirs.cluster, self.cluster
            ));
        }
        if theirs.process.node == self.process.node {
            return Some(format!(
                "two processes call themselves {}: give every node a name of its own",
                self.process.node
            ));
        }
        if theirs.executable != self.executable {
            let (theirs_digest, own) = (hex(&theirs.executable), hex(&self.executable));
            return Some(format!(
                "{} runs the executable {theirs_digest}, this node {own}: start the same build on all nodes",
                theirs.process
            ));
        }
        None
    }
}

/// The first half of a digest, enough to tell builds apart.
fn hex(digest: &[u8; 32]) -> String {
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_runtime::ids::{NodeId, NodeIncarnation};

    fn hello(node: &str) -> Hello {
        let process = NodeProcess { node: NodeId(node.to_owned()), incarnation: NodeIncarnation(3) };
        Hello {
            cluster: "c".to_owned(),
            known: Some(KnownLink { with: process.clone(), number: 4, up: true }),
            process,
            executable: [7; 32],
        }
    }

    fn prefix(bytes: &[u8]) -> [u8; PREFIX_BYTES] {
        bytes[..PREFIX_BYTES].try_into().expect("long enough")
    }

    #[test]
    fn greetings_survive_the_wire() {
        let bytes = encode_hello(&hello("a"));
        assert_eq!(content_bytes(prefix(&bytes)), Ok(bytes.len() - PREFIX_BYTES));
        assert_eq!(decode::<Hello>(&bytes[PREFIX_BYTES..]), Ok(hello("a")));
        let answer = Answer::Refused("no".to_owned());
        assert_eq!(decode::<Answer>(&encode_answer(&answer)[PREFIX_BYTES..]), Ok(answer));
    }

    #[test]
    fn another_version_garbage_and_long_greetings_are_told_apart() {
        let good = encode_hello(&hello("a"));
        let mut version = prefix(&good);
        version[4] = 9;
        assert!(
            content_bytes(version).expect_err("version 9").0.contains("version 9 of the protocol, this node version 1")
        );
        assert!(content_bytes(*b"GET / HTTP").expect_err("garbage").0.contains("no greeting"));
        let mut long = prefix(&good);
        long[8] = 1;
        assert!(content_bytes(long).expect_err("long").0.contains("the limit is 4096"));
        assert!(decode::<Hello>(b"\xc1garbage").is_err());
    }

    #[test]
    fn nodes_of_another_cluster_name_or_build_are_refused_with_both_sides() {
        let own = hello("a");
        assert_eq!(own.refusal(&hello("b")), None);
        let foreign = Hello { cluster: "d".to_owned(), ..hello("b") };
        assert_eq!(own.refusal(&foreign).expect("refused"), "b#3 belongs to the cluster 'd', this node to 'c'");
        assert!(own.refusal(&hello("a")).expect("refused").contains("a name of its own"));
        let build = Hello { executable: [8; 32], ..hello("b") };
        let refusal = own.refusal(&build).expect("refused");
        assert!(refusal.contains(&"07".repeat(16)) && refusal.contains(&"08".repeat(16)), "{refusal}");
    }
}
