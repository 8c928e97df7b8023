//! All that a step moves: the student, peers that learn along, and what the terms bring.

use super::{AuxParams, Error};
use burn::tensor::{Device, Gradients, Tensor};
use kdc_exec::Network;

/// Parameters and running statistics by name.
pub type Snapshot = Vec<(String, Vec<f32>)>;

/// The networks and tensors that are trained.
pub struct Trainables {
    pub student: Network,
    /// By source, with its name; `None` where it does not learn.
    pub peers: Vec<Option<(String, Network)>>,
    pub aux: AuxParams,
}

impl Trainables {
    /// A student alone.
    pub fn of(student: Network, device: &Device) -> Trainables {
        Trainables { student, peers: vec![], aux: AuxParams::new(device, 0) }
    }

    /// The elements of every parameter, and whether it is more than a vector: the student's, the peers', the terms'.
    pub fn params(&self) -> Vec<(Tensor<1>, bool)> {
        let networks = std::iter::once(&self.student).chain(self.peers.iter().flatten().map(|(_, peer)| peer));
        let of_networks = networks.flat_map(|n| n.params().iter().map(|p| (p.tensor.clone(), p.shape.len() > 1)));
        let aux = self.aux.params().iter().map(|p| (p.tensor.clone(), p.shape.len() > 1));
        of_networks.chain(aux).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let peers: usize = self.peers.iter().flatten().map(|(_, p)| p.params().len()).sum();
        self.student.params().len() + peers + self.aux.params().len()
    }

    /// The gradients of all of them, taken out; none for what is frozen: names of the student's parameters begin with
    /// one of `frozen`, or that is `student`.
    pub fn take_gradients(&self, gradients: &mut Gradients, frozen: &[String]) -> Vec<Option<Tensor<1>>> {
        let stays = |name: &str| frozen.iter().any(|f| f == "student" || name.starts_with(f.as_str()));
        let names = self.student.params().iter().map(|p| p.name.as_str());
        let student = self.student.take_gradients(gradients).into_iter().zip(names);
        let student = student.map(|(gradient, name)| gradient.filter(|_| !stays(name)));
        let mut all: Vec<_> = student.collect();
        self.peers.iter().flatten().for_each(|(_, peer)| all.extend(peer.take_gradients(gradients)));
        all.extend(self.aux.params().iter().map(|p| p.tensor.grad_remove(gradients)));
        all
    }

    /// Replaces the elements of a parameter.
    pub fn set(&mut self, mut index: usize, tensor: Tensor<1>) {
        let peers = self.peers.iter_mut().flatten().map(|(_, peer)| peer);
        for network in std::iter::once(&mut self.student).chain(peers) {
            if index < network.params().len() {
                return network.set_param(index, tensor);
            }
            index -= network.params().len();
        }
        self.aux.set(index, tensor);
    }

    /// All but the student.
    pub fn others(&self) -> Snapshot {
        let named = |(peer, network): &(String, Network)| {
            let prefix = prefix(peer);
            let numbers = network.snapshot().into_iter();
            numbers.map(move |(name, values)| (format!("{prefix}{name}"), values)).collect::<Vec<_>>()
        };
        let peers = self.peers.iter().flatten().flat_map(named);
        peers.chain(self.aux.snapshot()).collect()
    }

    /// Takes back what [`Trainables::others`] gave.
    ///
    /// # Errors
    /// When it is of other terms.
    pub fn restore_others(&mut self, snapshot: &[(String, Vec<f32>)]) -> Result<(), Error> {
        for (name, peer) in self.peers.iter_mut().flatten() {
            peer.restore(&of_peer(name, snapshot))?;
        }
        self.aux.restore(snapshot)
    }

    /// Goes on from what an earlier stage's peers and terms of the same names have learned; the rest stays as it is.
    pub fn adopt(&mut self, snapshot: &[(String, Vec<f32>)]) {
        for (name, peer) in self.peers.iter_mut().flatten() {
            // A peer of the same name and another form begins anew.
            _ = peer.restore(&of_peer(name, snapshot));
        }
        self.aux.adopt(snapshot);
    }
}

/// Where the names of a peer's numbers begin.
fn prefix(peer: &str) -> String {
    format!("peer/{peer}/")
}

/// A peer's part of a snapshot.
fn of_peer(peer: &str, snapshot: &[(String, Vec<f32>)]) -> Snapshot {
    let prefix = prefix(peer);
    let own = snapshot.iter().filter_map(|(name, v)| Some((name.strip_prefix(&prefix)?.to_string(), v.clone())));
    own.collect()
}
