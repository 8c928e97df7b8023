//! What holds for methods at the ends: nothing to learn, nobody to learn from, numbers that are large.

use super::trial::{Numbers, Outcome, Trial};
use crate::distill::terms::{self, Entry, Pairs};
use crate::distill::{TermSpec, step::Feature};
use burn::tensor::{Device, Tensor, TensorData};

/// A method of the list on `batch` samples of `classes` classes, with activations where it reads some.
fn trial(entry: &Entry, batch: usize, classes: usize, scale: f64) -> Trial {
    let spec = TermSpec::new(entry.name);
    let reads = spec.term().unwrap().reads();
    let logits = |part: usize| Numbers::wave(&[batch, classes + part], scale).first(&[batch, classes]);
    let mut trial = Trial::new(spec, logits(0), logits(1));
    let activation = |shape: &[usize]| {
        let shape: Vec<usize> = std::iter::once(batch).chain(shape.iter().copied()).collect();
        Numbers::wave(&shape, scale)
    };
    match reads.pairs {
        Pairs::None => {}
        Pairs::Embedding => trial = trial.pair(activation(&[3]), activation(&[4])),
        Pairs::Stages | Pairs::Own => {
            for (student, teacher) in [([2, 6], [3, 6]), ([3, 4], [3, 5]), ([4, 2], [4, 2])] {
                trial = trial.pair(activation(&student), activation(&teacher));
            }
        }
        Pairs::Attention => trial = trial.pair(attention(batch, 2), attention(batch, 4)),
    }
    trial
}

/// Probabilities over 3 tokens.
fn attention(batch: usize, heads: usize) -> Numbers {
    let rows = Numbers::wave(&[batch, heads, 3, 3], 2.0);
    let softmax = |row: &[f64]| {
        let sum: f64 = row.iter().map(|v| v.exp()).sum();
        row.iter().map(|v| v.exp() / sum).collect::<Vec<_>>()
    };
    Numbers::new(&rows.shape, rows.data.chunks(3).flat_map(softmax).collect())
}

fn assert_finite(what: &str, outcome: &Outcome) {
    assert!(outcome.parts.iter().all(|v| v.is_finite()), "{what}: {:?}", outcome.parts);
    for (name, gradient) in &outcome.gradients {
        assert!(gradient.iter().all(|v| v.is_finite()), "{what}: gradient of {name}: {gradient:?}");
    }
    for (name, values) in &outcome.after {
        assert!(values.iter().all(|v| v.is_finite()), "{what}: {name}");
    }
}

fn total(outcome: &Outcome) -> f64 {
    outcome.parts.iter().sum()
}

#[test]
fn every_method_stays_among_the_numbers() {
    for entry in terms::METHODS {
        for scale in [0.0, 1e-12, 1.0, 1e4] {
            for temperature in [0.5, 1000.0] {
                let mut trial = trial(entry, 4, 5, scale);
                let has_temperature = entry.defaults().contains_key("temperature");
                if has_temperature {
                    trial.spec = trial.spec.with("temperature", temperature);
                }
                let what = format!("{} of {scale} at {temperature}", entry.name);
                assert_finite(&what, &trial.run().unwrap());
            }
        }
    }
}

#[test]
fn one_class_and_one_sample_will_do() {
    for entry in terms::METHODS {
        for (batch, classes) in [(4, 1), (1, 5), (1, 1)] {
            let what = format!("{}: {batch} samples of {classes} classes", entry.name);
            assert_finite(&what, &trial(entry, batch, classes, 1.0).run().unwrap());
        }
    }
}

#[test]
fn a_batch_of_padding_costs_nothing() {
    for entry in terms::METHODS {
        let trial = trial(entry, 3, 5, 1.0).with("mask", Numbers::new(&[3], vec![0.0; 3]));
        let outcome = trial.run().unwrap();
        assert_finite(entry.name, &outcome);
        assert_eq!(total(&outcome), 0.0, "{}", entry.name);
        for (name, gradient) in &outcome.gradients {
            assert!(gradient.iter().all(|v| *v == 0.0), "{}: gradient of {name}: {gradient:?}", entry.name);
        }
    }
}

#[test]
fn padding_moves_nothing() {
    for entry in terms::METHODS {
        let mask = Numbers::new(&[4], vec![1.0, 1.0, 0.0, 1.0]);
        let mut a = trial(entry, 4, 5, 1.0).with("mask", mask);
        let whole = a.run().unwrap();
        // Whatever is in the third sample.
        for (name, numbers) in &mut a.inputs {
            if name.starts_with("student") || name.starts_with("teacher") {
                let size = numbers.data.len() / 4;
                numbers.data[2 * size..3 * size].rotate_left(1);
            }
        }
        let other = a.run().unwrap();
        let scale = total(&whole).abs().max(1e-3);
        let is_near = (total(&whole) - total(&other)).abs() < 1e-5 * scale;
        // The scale of the contrast is that of a whole batch.
        assert!(is_near || entry.name == "contrastive", "{}: {:?} {:?}", entry.name, whole.parts, other.parts);
        for (name, gradient) in &whole.gradients {
            if name.starts_with("student") {
                let size = gradient.len() / 4;
                let third = &gradient[2 * size..3 * size];
                assert!(third.iter().all(|v| *v == 0.0), "{}: gradient of {name}: {third:?}", entry.name);
            }
        }
    }
}

#[test]
fn alike_is_nothing_to_learn() {
    let settings: [(&str, &[(&str, toml::Value)]); 17] = [
        ("soft-label", &[("alpha", toml::Value::Float(1.0))]),
        ("soft-label", &[("alpha", toml::Value::Float(1.0)), ("temperature", toml::Value::Float(1000.0))]),
        ("logit-mse", &[]),
        ("logit-mse", &[("standardize", toml::Value::Boolean(true))]),
        ("dist", &[]),
        ("dist", &[("temperature", toml::Value::Float(1000.0))]),
        ("topk-kl", &[("k", toml::Value::Integer(2))]),
        ("regression", &[]),
        ("regression", &[("delta", toml::Value::Float(0.5))]),
        ("hint", &[]),
        ("attention", &[]),
        ("attention-map", &[]),
        ("attention-map", &[("of", toml::Value::String("relations".into()))]),
        ("relational", &[]),
        ("similarity", &[]),
        ("similarity", &[("stages", toml::Value::String("all".into()))]),
        ("flow", &[]),
    ];
    for (method, settings) in settings {
        let what = format!("{method} {settings:?}");
        let spec = settings.iter().fold(TermSpec::new(method), |spec, (name, value)| spec.with(name, value.clone()));
        let logits = Numbers::wave(&[6, 5], 3.0);
        let mut trial = Trial::new(spec, logits.clone(), logits);
        let pairs = trial.spec.term().unwrap().reads().pairs;
        let shapes: &[&[usize]] = match pairs {
            Pairs::None => &[],
            Pairs::Embedding => &[&[6, 4]],
            // With two samples in one place, and one that is nothing.
            _ => &[&[6, 2, 4], &[6, 3, 2]],
        };
        for shape in shapes {
            let mut numbers = Numbers::wave(shape, 1.0);
            let size = numbers.data.len() / 6;
            numbers.data.copy_within(0..size, size);
            numbers.data[2 * size..3 * size].fill(0.0);
            trial = trial.pair(numbers.clone(), numbers);
        }
        if pairs == Pairs::Attention {
            trial.layouts.clear();
            trial = trial.pair(attention(6, 2), attention(6, 2));
        }
        let outcome = trial.run().unwrap();
        assert_finite(&what, &outcome);
        assert_eq!(total(&outcome), 0.0, "{what}");
        // Attention's gradient is that of probabilities, whose sum cannot change: it is the same for all of a row.
        for (name, gradient) in &outcome.gradients {
            let is_nothing = |v: &f64| v.abs() < 1e-5 || pairs == Pairs::Attention;
            assert!(gradient.iter().all(is_nothing), "{what}: gradient of {name}: {gradient:?}");
        }
    }
    // Decoupled, and of two that learn at once, what is not the labels'.
    for (method, parts) in [("dkd", &[1, 2][..]), ("mutual", &[1, 3])] {
        let logits = Numbers::wave(&[6, 5], 3.0);
        let outcome = Trial::new(TermSpec::new(method), logits.clone(), logits).run().unwrap();
        assert!(parts.iter().all(|&part| outcome.parts[part] == 0.0), "{method}: {:?}", outcome.parts);
    }
}

#[test]
fn all_classes_known_is_the_whole_divergence() {
    let logits = (Numbers::wave(&[4, 5], 3.0), Numbers::wave(&[4, 6], 2.0).first(&[4, 5]));
    let of = |spec: TermSpec| Trial::new(spec, logits.0.clone(), logits.1.clone()).run().unwrap();
    let whole = of(TermSpec::new("soft-label").with("alpha", 1.0));
    for k in [5, 16] {
        let known = of(TermSpec::new("topk-kl").with("k", k));
        assert_eq!(known.parts, whole.parts);
        assert_eq!(known.gradients, whole.gradients);
    }
    // All but one: the bucket is that class.
    let known = of(TermSpec::new("topk-kl").with("k", 4));
    assert!((total(&known) - total(&whole)).abs() < 1e-5 * total(&whole));
}

#[test]
fn a_gradient_reversal_flips_signs_and_nothing_else() {
    let device = Device::flex().autodiff();
    let row = |data: Vec<f32>| Tensor::<1>::from_data(TensorData::new(data, [4]), &device);
    let floats = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    for lambda in [0.0, 0.25, 1.0, 0.3] {
        let x = row(vec![1.7, -3e8, 1e-20, 0.0]).require_grad();
        let weights = vec![0.3, -7.0, 1e-3, 11.0];
        let y = terms::adversarial::reversed(x.clone(), lambda);
        assert_eq!(floats(y.clone()), floats(x.clone()));
        let gradients = (y * row(weights.clone())).sum().backward();
        let want: Vec<f32> = weights.iter().map(|w| -(lambda as f32) * w).collect();
        assert_eq!(floats(x.grad(&gradients).unwrap()), want);
    }
}

#[test]
fn what_counts_nothing_moves_nothing() {
    let entry = terms::method("adversarial").unwrap();
    let with = |lambda: f64| {
        let trial = trial(entry, 3, 4, 1.0);
        Trial { spec: trial.spec.clone().with("lambda", lambda), ..trial }.run().unwrap()
    };
    let (none, half, whole) = (with(0.0), with(0.5), with(1.0));
    assert!(none.gradients["student 0"].iter().all(|v| *v == 0.0));
    assert!(none.gradients["term.discriminator0.0.weight"].iter().any(|v| *v != 0.0));
    assert_eq!(none.parts, whole.parts);
    let doubled: Vec<f64> = half.gradients["student 0"].iter().map(|v| 2.0 * v).collect();
    assert_eq!(doubled, whole.gradients["student 0"]);

    // The source's own begins with nothing.
    let start = Trial { progress: 0.0, ..trial(entry, 3, 4, 1.0) }.run().unwrap();
    assert!(start.gradients["student 0"].iter().all(|v| *v == 0.0));

    let logits = (Numbers::wave(&[4, 5], 3.0), Numbers::wave(&[4, 6], 2.0).first(&[4, 5]));
    let spec = TermSpec::new("dkd").with("alpha", 0.0).with("beta", 0.0);
    let dkd = Trial::new(spec, logits.0.clone(), logits.1.clone()).run().unwrap();
    let labels = Trial::new(TermSpec::new("hard-label"), logits.0, logits.1).run().unwrap();
    assert_eq!(dkd.gradients["student logits"], labels.gradients["student logits"]);
}

#[test]
fn negatives_are_drawn_by_the_seed_and_are_never_the_sample_itself() {
    let spec = TermSpec::new("contrastive").with("dim", 8).with("negatives", 5);
    let samples = 40;
    let logits = Numbers::wave(&[3, 4], 1.0);
    let base = Trial::new(spec, logits.clone(), logits).pair(Numbers::wave(&[3, 4], 1.0), Numbers::wave(&[3, 6], 1.0));
    let base = Trial { samples, ..base };
    let (a, b) = (base.run().unwrap(), base.run().unwrap());
    assert_eq!((a.parts, &a.after), (b.parts, &b.after));
    // The banks of those that were seen follow, the others stay.
    let bank = |trial: &Trial| {
        let after = trial.run().unwrap().after;
        after.into_iter().find(|(name, _)| name == "term.student.bank").unwrap().1
    };
    let seen = base.clone().with("samples", Numbers::new(&[3], vec![1.0, 2.0, 39.0]));
    let (first, second) = (bank(&base), bank(&seen));
    let moved: Vec<usize> = (0..samples).filter(|i| first[8 * i..8 * i + 8] != second[8 * i..8 * i + 8]).collect();
    assert_eq!(moved, [0, 1, 2, 39], "0, 1, 2 were seen by the one, 1, 2, 39 by the other, as other rows");
    for row in second.chunks(8) {
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn settings_that_cannot_work_say_so() {
    let logits = Numbers::wave(&[2, 4], 1.0);
    let run = |spec: TermSpec, pairs: &[(&[usize], &[usize])]| {
        let mut trial = Trial::new(spec, logits.clone(), logits.clone());
        for (student, teacher) in pairs {
            trial = trial.pair(Numbers::wave(student, 1.0), Numbers::wave(teacher, 1.0));
        }
        trial.run().unwrap_err().to_string()
    };
    let other: &[(&[usize], &[usize])] = &[(&[2, 3], &[2, 4])];
    for (spec, pairs, word) in [
        (TermSpec::new("hint").with("projection", "none"), other, "projection = \"linear\""),
        (TermSpec::new("hint").with("projection", "cubic"), other, "cubic"),
        (TermSpec::new("flow"), other, "two or more"),
        (TermSpec::new("contrastive").with("dim", 0), other, "dim"),
        (TermSpec::new("contrastive").with("momentum", 1.5), other, "momentum"),
        (TermSpec::new("factor-transfer").with("power", 3), other, "power 3"),
        (TermSpec::new("deep-supervision").with("alpha", 2.0), other, "alpha"),
        (TermSpec::new("attention-map"), &[(&[2, 1, 3, 3], &[2, 1, 4, 4])], "relations"),
        (
            TermSpec::new("attention-map").with("of", "relations").with("relation-heads", 2),
            &[(&[2, 3, 4], &[2, 4, 4])],
            "relation-heads 2",
        ),
    ] {
        let error = run(spec, pairs);
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn an_activation_is_a_constant_once_detached() {
    let device = Device::flex().autodiff();
    let leaf = Tensor::<1>::from_data(TensorData::new(vec![1f32, 2.0, 3.0, 4.0], [4]), &device).require_grad();
    let value = kdc_exec::Value::from_tensor(leaf.clone()).reshape(&[1, 2, 2]);
    let feature = Feature { value, layout: crate::distill::Layout::ChannelsLast };
    let loss = (feature.maps() * feature.detached().maps()).sum();
    let gradient = leaf.grad(&loss.backward()).unwrap();
    assert_eq!(gradient.into_data().iter::<f32>().collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
}
