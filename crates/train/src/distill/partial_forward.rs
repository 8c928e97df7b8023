//! Forward passes through parts of two networks, for terms that do more than compare ([`Route`](super::terms::Route)).

use super::forward::rows;
use super::layers::Point;
use super::step::{Feature, Pair};
use super::terms::{Side, Target, Term};
use super::{AuxParams, Error};
use burn::tensor::Tensor;
use kdc_exec::{Mode, Network, Value};
use kdc_ir::graph::{Tensor as HostTensor, ValueId, shape_at};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Partial forward passes of a batch: from and to activations inside the student, or a teacher.
pub struct PartialForward<'a> {
    pub student: &'a Network,
    pub inputs: &'a [HostTensor],
    pub mode: Mode,
    pub aux: &'a AuxParams,
}

impl PartialForward<'_> {
    /// The student's activations as a term mixes them, pair by pair, each from those before.
    ///
    /// # Errors
    /// When a network cannot be run.
    pub fn mixed(
        &self,
        term: &dyn Term,
        pairs: &[(Point, Feature)],
        progress: f64,
    ) -> Result<Vec<(ValueId, Value)>, Error> {
        let mut given: Vec<(ValueId, Value)> = vec![];
        for (index, (place, teacher)) in pairs.iter().enumerate() {
            let value = self.value(self.student, &given, place.value, self.mode)?;
            let student = Feature { value, layout: place.layout };
            let pair = Pair { student, teacher: teacher.clone() };
            given.push((place.value, term.mixed(index, &pair, progress, self.aux)));
        }
        Ok(given)
    }

    /// What each of the student's blocks makes of the teacher's activation before it.
    ///
    /// # Errors
    /// When a network cannot be run.
    pub fn blocks(&self, term: &dyn Term, pairs: &[(Point, Feature)]) -> Result<Vec<Pair>, Error> {
        let mut made = vec![];
        for (index, (place, teacher)) in pairs.iter().enumerate() {
            let before = index.checked_sub(1).map(|b| {
                let (place, teacher) = &pairs[b];
                let target = self.target(self.student, place);
                let entered = term.translated(b, &teacher.detached(), Side::Student, &target, self.aux);
                (place.value, entered)
            });
            let given: Vec<_> = before.into_iter().collect();
            let value = self.value(self.student, &given, place.value, self.mode)?;
            let student = Feature { value, layout: place.layout };
            made.push(Pair { student, teacher: teacher.clone() });
        }
        Ok(made)
    }

    /// The logits of a relay: each module the student's with the probability `own`, else the teacher's. `key` decides.
    ///
    /// # Errors
    /// When a network cannot be run.
    pub fn relay(
        &self,
        term: &dyn Term,
        teacher: &Network,
        pairs: &[(Point, Point)],
        own: f64,
        key: &[u8],
    ) -> Result<Tensor<2>, Error> {
        let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key).as_bytes());
        let mut own: Vec<bool> = (0..=pairs.len()).map(|_| rng.random_bool(own.clamp(0.0, 1.0))).collect();
        // Of a relay of the teacher's modules alone the student learns nothing.
        if !own.contains(&true) {
            let one = rng.random_range(0..own.len());
            own[one] = true;
        }
        // What has been computed so far, and whose it is; the inputs are both's.
        let mut state: Option<(Side, Feature)> = None;
        for module in 0..=pairs.len() {
            let students = own[module];
            let (side, network, mode) = match students {
                true => (Side::Student, self.student, self.mode),
                false => (Side::Teacher, teacher, Mode::Frozen),
            };
            let at = |pair: &(Point, Point)| if students { pair.0.clone() } else { pair.1.clone() };
            let given = match &state {
                None => vec![],
                Some((whose, feature)) => {
                    let place = at(&pairs[module - 1]);
                    let value = match *whose == side {
                        true => feature.value.clone(),
                        false => {
                            let target = self.target(network, &place);
                            term.translated(module - 1, feature, side, &target, self.aux)
                        }
                    };
                    vec![(place.value, value)]
                }
            };
            match pairs.get(module) {
                Some(pair) => {
                    let place = at(pair);
                    let value = self.value(network, &given, place.value, mode)?;
                    state = Some((side, Feature { value, layout: place.layout }));
                }
                None => {
                    let output = network.graph().outputs.first().copied();
                    let output = output.ok_or(Error::NoOutput)?;
                    return rows(self.value(network, &given, output, mode)?);
                }
            }
        }
        unreachable!("the last module gives the logits")
    }

    fn value(
        &self,
        network: &Network,
        given: &[(ValueId, Value)],
        wanted: ValueId,
        mode: Mode,
    ) -> Result<Value, Error> {
        let values = network.run(self.inputs.to_vec(), given, &[wanted], mode)?;
        let first = values.into_iter().next();
        Ok(first.ok_or(Error::NoOutput)?.into_float()?)
    }

    fn target(&self, network: &Network, place: &Point) -> Target {
        let batch = self.inputs.first().and_then(|input| input.shape.first()).copied().unwrap_or(1);
        Target { shape: shape_at(&network.graph().value(place.value).shape, batch), layout: place.layout }
    }
}
