//! A transport within one process through which every batch goes in its wire form, and whose links can be cut.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_runtime::credit::Permit;
use millstream_runtime::element::Element;
use millstream_runtime::exchange::{Parcel, SendElement};
use millstream_runtime::ids::NodeProcess;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::transport::{
    ChannelFailed, ChannelId, Registration, RemoteInlet, RemoteOutlet, Transport,
};

use super::lock;

/// An element as it is under way.
enum Sent {
    Batch(Vec<u8>, Permit),
    Other(Element<Parcel>),
}

#[derive(Default)]
struct Channel {
    sent: VecDeque<Sent>,
    inlet: Option<RemoteInlet>,
    sender_failed: Option<ChannelFailed>,
    /// `EndOfInput` was sent.
    ended: bool,
    sender_gone: bool,
}

/// All channels between all task managers of a test.
#[derive(Default)]
pub struct Network {
    channels: Mutex<BTreeMap<ChannelId, Channel>>,
    batches: AtomicU64,
}

impl Network {
    /// Batches that crossed it.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::SeqCst)
    }

    /// Every channel that is open now breaks, as when a link does.
    pub fn cut(&self) {
        let cut = std::mem::take(&mut *lock(&self.channels));
        for channel in cut.into_values() {
            let reason = || PortError::retry("the link was cut");
            if let Some(failed) = channel.sender_failed {
                failed(reason());
            }
            if let Some(inlet) = channel.inlet {
                (inlet.failed)(reason());
            }
        }
    }

    fn send(&self, id: &ChannelId, element: Element<Parcel>) {
        let ended = matches!(element, Element::EndOfInput);
        let sent = match element {
            Element::Batch(Parcel { batch, permit }) => {
                let mut bytes = Vec::new();
                batch.encode(&mut bytes).expect("records of tests serialise");
                self.batches.fetch_add(1, Ordering::SeqCst);
                Sent::Batch(bytes, permit)
            }
            other => Sent::Other(other),
        };
        let mut channels = lock(&self.channels);
        // A channel that was cut swallows what comes.
        let Some(channel) = channels.get_mut(id) else { return };
        channel.ended |= ended;
        channel.sent.push_back(sent);
        channel.deliver();
    }

    fn sender_dropped(&self, id: &ChannelId) {
        let mut channels = lock(&self.channels);
        let Some(channel) = channels.get_mut(id) else { return };
        channel.sender_gone = true;
        channel.sender_failed = None;
        if !channel.ended && channel.inlet.is_some() {
            let inlet = channels.remove(id).and_then(|channel| channel.inlet).expect("just seen");
            (inlet.failed)(PortError::retry("the sender is gone"));
        }
    }

    fn receiver_dropped(&self, id: &ChannelId) {
        let channel = lock(&self.channels).remove(id);
        if let Some(Channel { ended: false, sender_failed: Some(failed), .. }) = channel {
            failed(PortError::retry("the receiver is gone"));
        }
    }
}

impl Channel {
    fn deliver(&mut self) {
        let Some(inlet) = &self.inlet else { return };
        for sent in self.sent.drain(..) {
            (inlet.receive)(match sent {
                Sent::Batch(bytes, permit) => {
                    let batch = (inlet.decode)(&bytes).expect("just encoded");
                    Element::Batch(Parcel { batch, permit })
                }
                Sent::Other(element) => element,
            });
        }
    }
}

/// The network as task managers see it.
#[derive(Clone)]
pub struct MemoryTransport(pub Arc<Network>);

struct Sender(Arc<Network>, ChannelId);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.sender_dropped(&self.1);
    }
}

impl Transport for MemoryTransport {
    fn open(&self, _to: &NodeProcess, outlet: RemoteOutlet) -> SendElement {
        let RemoteOutlet { channel, failed, .. } = outlet;
        lock(&self.0.channels).entry(channel).or_default().sender_failed = Some(failed);
        let sender = Sender(Arc::clone(&self.0), channel);
        Box::new(move |element| sender.0.send(&sender.1, element))
    }

    fn accept(&self, _from: &NodeProcess, inlet: RemoteInlet) -> Registration {
        let id = inlet.channel;
        let mut channels = lock(&self.0.channels);
        let channel = channels.entry(id).or_default();
        if channel.sender_gone && !channel.ended {
            (inlet.failed)(PortError::retry("the sender is gone"));
            channels.remove(&id);
            return Registration::new(|| {});
        }
        channel.inlet = Some(inlet);
        channel.deliver();
        let network = Arc::clone(&self.0);
        Registration::new(move || network.receiver_dropped(&id))
    }
}
