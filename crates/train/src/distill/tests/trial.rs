//! Runs one term by itself.

use crate::distill::aux_params::AuxParams;
use crate::distill::step::{Feature, Layout, Pair, Plan, StepValues};
use crate::distill::terms::Route;
use crate::distill::{Error, TermSpec};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kdc_exec::Value;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A tensor's extents and elements.
#[derive(Clone, Debug, Deserialize)]
pub struct Numbers {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// A term and what it sees: "student logits", "teacher logits", "labels", "weights", "mask", "lottery", "samples",
/// "student 0", "teacher 0", …, and tensors of the auxiliary parameters by their names.
#[derive(Clone)]
pub struct Trial {
    pub spec: TermSpec,
    pub inputs: BTreeMap<String, Numbers>,
    pub layouts: Vec<Layout>,
    pub progress: f64,
    /// Samples that training may show.
    pub samples: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub parts: Vec<f64>,
    /// By the names of the inputs; those of whom none reached are not there.
    pub gradients: BTreeMap<String, Vec<f64>>,
    /// What takes the place of the student's activations, where the term mixes them.
    pub mixed: Vec<Vec<f64>>,
    /// The auxiliary parameters as they are then.
    pub after: Vec<(String, Vec<f32>)>,
}

impl Numbers {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Numbers {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Numbers { shape: shape.into(), data }
    }

    /// That look random, and are the same each time.
    pub fn wave(shape: &[usize], scale: f64) -> Numbers {
        let number = |i: usize| scale * ((i * 2_654_435_761 % 1009) as f64 / 504.0 - 1.0);
        Numbers::new(shape, (1..=shape.iter().product()).map(number).collect())
    }

    /// As many of them as these extents need.
    pub fn first(mut self, shape: &[usize]) -> Numbers {
        self.data.truncate(shape.iter().product());
        Numbers::new(shape, self.data)
    }

    fn floats(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }
}

impl Trial {
    /// Of a term that sees these logits, and all classes as labels in turn.
    pub fn new(spec: TermSpec, student: Numbers, teacher: Numbers) -> Trial {
        let [rows, classes] = student.shape[..] else { panic!("logits are rows") };
        let labels = Numbers::new(&[rows], (0..rows).map(|i| (i % classes) as f64).collect());
        let inputs = [("student logits", student), ("teacher logits", teacher), ("labels", labels)];
        let inputs = inputs.into_iter().map(|(name, numbers)| (name.into(), numbers)).collect();
        Trial { spec, inputs, layouts: vec![], progress: 0.5, samples: rows }
    }

    /// With one more input.
    pub fn with(mut self, name: &str, numbers: Numbers) -> Trial {
        self.inputs.insert(name.into(), numbers);
        self
    }

    /// With one more pair of activations, channels first.
    pub fn pair(mut self, student: Numbers, teacher: Numbers) -> Trial {
        let index = self.layouts.len();
        self.layouts.push(Layout::ChannelsFirst);
        self.with(&format!("student {index}"), student).with(&format!("teacher {index}"), teacher)
    }

    /// Words by sample, without padding.
    fn words(&self) -> Vec<Option<Vec<u16>>> {
        let Some(words) = self.inputs.get("words") else { return vec![] };
        let row = words.shape[1];
        words.data.chunks(row).map(|w| Some(w.iter().map(|&s| s as u16).filter(|&s| s != 0).collect())).collect()
    }

    /// Loss and gradients.
    pub fn run(&self) -> Result<Outcome, Error> {
        let device = Device::flex().autodiff();
        let flat = |name: &str| {
            let numbers = self.inputs.get(name)?;
            Some(Tensor::<1>::from_data(TensorData::new(numbers.floats(), [numbers.data.len()]), &device))
        };
        let logits = |name: &str, flat: Tensor<1>| {
            let [rows, classes] = self.inputs[name].shape[..] else { panic!("logits are rows") };
            flat.reshape([rows, classes])
        };
        let [rows, classes] = self.inputs["student logits"].shape[..] else { panic!("logits are rows") };
        // The teacher's values are leaves as well: what should not move does not.
        let mut leaves = vec![];
        let mut leaf = |name: &str| {
            let leaf = flat(name)?.require_grad();
            leaves.push((name.to_string(), leaf.clone()));
            Some(leaf)
        };
        let student = leaf("student logits").expect("a student");
        let teacher = leaf("teacher logits");
        let mut pairs = vec![];
        for (index, &layout) in self.layouts.iter().enumerate() {
            let mut feature = |whose: &str| {
                let name = format!("{whose} {index}");
                let leaf = leaf(&name)?;
                Some(Feature { value: Value::from_tensor::<1>(leaf).reshape(&self.inputs[&name].shape), layout })
            };
            let student = feature("student").expect("an activation");
            // Where there is no teacher's, it is the student's own.
            let teacher = feature("teacher").unwrap_or_else(|| student.clone());
            pairs.push(Pair { student, teacher });
        }
        let plan = Plan {
            prefix: "term".into(),
            classes,
            teacher_classes: classes,
            samples: self.samples,
            named: false,
            spells: true,
            hides: true,
            numbers: self.inputs.contains_key("targets"),
            pairs: pairs.iter().map(|pair| (pair.student.extents(), pair.teacher.extents())).collect(),
        };
        let mut term = self.spec.term()?;
        let mut aux = AuxParams::new(&Device::flex(), 7);
        term.prepare(&plan, &mut aux)?;
        let given: Vec<_> = self.inputs.iter().map(|(name, numbers)| (name.clone(), numbers.floats())).collect();
        aux.adopt(&given);

        let batch = pairs.first().map_or(rows, |pair| pair.student.value.shape()[0]);
        let whole = |name: &str| Some(self.inputs.get(name)?.data.iter().map(|&v| v as usize).collect::<Vec<_>>());
        let labels: Vec<i64> = whole("labels").map_or(vec![0; rows], |l| l.into_iter().map(|v| v as i64).collect());
        let values = StepValues {
            student_logits: logits("student logits", student),
            teacher_logits: teacher.map(|flat| logits("teacher logits", flat)),
            pairs,
            words: self.words(),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device),
            weights: flat("weights"),
            targets: flat("targets").map(|all| logits("targets", all)),
            mixed: None,
            mask: flat("mask"),
            lottery: self.inputs.get("lottery").map_or(vec![0.5; rows], Numbers::floats),
            samples: whole("samples").unwrap_or((0..batch).collect()),
            progress: self.progress,
        };
        let parts = term.parts(&values, &mut aux);
        let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let losses = parts.iter().map(|(_, part)| numbers(part.clone())[0]).collect();
        let total = parts.into_iter().map(|(_, part)| part).reduce(|a, b| a + b).expect("a part");
        let mixes = term.route(self.progress) == Route::Mixed;
        let mixed = values.pairs.iter().enumerate().filter(|_| mixes);
        let mixed = mixed.map(|(i, pair)| term.mixed(i, pair, self.progress, &aux).to_host());
        let mixed = mixed.map(|value| value.map(|value| value.to_f32().iter().map(|&v| f64::from(v)).collect()));
        let mixed = mixed.collect::<Result<_, _>>()?;
        let gradients = total.backward();
        leaves.extend(aux.params().iter().map(|param| (param.name.clone(), param.tensor.clone())));
        let of = |(name, leaf): (String, Tensor<1>)| Some((name, numbers(leaf.grad(&gradients)?)));
        let gradients = leaves.into_iter().filter_map(of).collect();
        Ok(Outcome { parts: losses, gradients, mixed, after: aux.snapshot() })
    }
}
