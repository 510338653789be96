//! The QUIC endpoint of a node: one UDP socket that dials and is dialled, everything random about it from a seed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, EndpointConfig, MtuDiscoveryConfig, Runtime, TokioRuntime, TransportConfig, VarInt};
use rustls::crypto::CryptoProvider;

use crate::certificates::{Certificates, TlsClock};
use crate::error::Error;
use crate::noise::{QUIC_VERSION, Watched};
use crate::options::Options;
use crate::seed::{NetSeed, SeededConnectionIds, destination_ids};

/// Round-trip time assumed before one was measured. A dialler repeats its first packet after three of them: a node
/// that is started a moment later is met soon.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// Bytes a connection may have sent and not seen acknowledged.
const SEND_WINDOW_BYTES: u64 = 64 << 20;
/// Bytes of the largest datagram, where the network takes it (loopback, jumbo frames): fewer packets cost less. The ten
/// datagrams that are handed to the operating system together must not exceed the 65,507 bytes of one.
const MAX_DATAGRAM_BYTES: u16 = 6_500;
/// Bytes under way before the first was acknowledged: ten datagrams (RFC 9002, section 7.2), counted by the largest, which
/// are sent to find out whether the network takes them.
const INITIAL_WINDOW_BYTES: u64 = 10 * MAX_DATAGRAM_BYTES as u64;
/// Connections that may wait to be looked at.
const MAX_INCOMING: usize = 1_024;

/// A UDP socket of the operating system.
///
/// # Errors
/// When the address cannot be bound.
pub fn udp_socket(address: SocketAddr) -> Result<Arc<dyn AsyncUdpSocket>, Error> {
    let unusable = |error: std::io::Error| Error::System(format!("UDP address {address} cannot be used: {error}"));
    TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind(address).map_err(unusable)?).map_err(unusable)
}

/// The endpoint, and how it dials.
pub(crate) struct Endpoint {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) client: quinn::ClientConfig,
}

impl Endpoint {
    pub(crate) fn new(
        certificates: &Certificates,
        options: &Options,
        seed: &NetSeed,
        clock: &TlsClock,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Result<Self, Error> {
        let mut provider: CryptoProvider = rustls::crypto::ring::default_provider();
        if let Some(random) = seed.tls_random() {
            provider.secure_random = random;
        }
        let provider = Arc::new(provider);
        let transport = Arc::new(transport(options)?);
        let no_cipher = |error| Error::Certificate(format!("TLS offers no cipher for QUIC: {error}"));
        let server = QuicServerConfig::try_from(certificates.server(&provider, clock)?).map_err(no_cipher)?;
        let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&seed.derive("token"));
        let mut server = quinn::ServerConfig::new(Arc::new(server), Arc::new(token_key));
        server.transport_config(Arc::clone(&transport));
        server.time_source(Arc::new(clock.clone()));
        server.migration(false);
        server.max_incoming(MAX_INCOMING);
        let client = QuicClientConfig::try_from(certificates.client(&provider, clock)?).map_err(no_cipher)?;
        let mut client = quinn::ClientConfig::new(Arc::new(client));
        client.transport_config(transport);
        client.initial_dst_cid_provider(Arc::new(destination_ids(seed.stream("destination ids"))));
        let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &seed.derive("reset"));
        let mut config = EndpointConfig::new(Arc::new(reset_key));
        config.max_udp_payload_size(MAX_DATAGRAM_BYTES).expect("larger than the 1,200 bytes that QUIC asks for");
        config.supported_versions(vec![QUIC_VERSION]);
        // Nothing in a cluster has to get used to unusual packets; so what is none can be told.
        config.grease_quic_bit(false);
        config.rng_seed(Some(seed.derive("quinn")));
        let ids = Arc::new(seed.stream("connection ids"));
        config.cid_generator(move || Box::new(SeededConnectionIds(Arc::clone(&ids))));
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            config,
            Some(server),
            Watched::new(socket),
            Arc::new(TokioRuntime),
        )
        .map_err(|error| Error::System(format!("QUIC cannot be started: {error}")))?;
        Ok(Self { quinn, client })
    }
}

fn transport(options: &Options) -> Result<TransportConfig, Error> {
    let mut transport = TransportConfig::default();
    let idle = options.timeout().try_into();
    transport.max_idle_timeout(Some(idle.map_err(|_| Error::System("heartbeat.timeout is too long".to_owned()))?));
    transport.initial_rtt(INITIAL_RTT);
    // The control stream.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    transport.max_concurrent_uni_streams(VarInt::from_u32(options.max_channels));
    // Backpressure is credit. A connection's window would let one stream that nobody claims yet hold up all others.
    transport.stream_receive_window(VarInt::from_u32(options.stream_window_bytes));
    transport.receive_window(VarInt::MAX);
    transport.send_window(SEND_WINDOW_BYTES);
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MAX_DATAGRAM_BYTES);
    transport.mtu_discovery_config(Some(discovery));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);
    transport.congestion_controller_factory(Arc::new(congestion));
    Ok(transport)
}
