//! Classes in another order than the teacher's: right answers under wrong names.

use crate::data::Dataset;

/// With fewer labels for each class that occurs, on average, chance may look like an order.
const FEW: usize = 10;
/// And with fewer in all.
const FEW_IN_ALL: usize = 50;
/// The share of the samples that the other order has to explain.
const EXPLAINED: f64 = 0.5;
/// By how much more than the order that there is.
const MORE: f64 = 0.2;
/// Classes that a message lists.
const LISTED: usize = 100;

/// The order of the classes in which the predicted ones would be right far more often, as advice; `None` where there is no
/// such order. Label and prediction are paired one to one, the most frequent pair first.
pub fn other_order(predicted: &[u16], samples: &dyn Dataset, names: &[String]) -> Option<String> {
    let count = names.len();
    let labels = predicted.iter().enumerate().filter_map(|(i, &said)| Some((samples.label(i)?, said)));
    let pairs: Vec<(usize, usize)> =
        labels.map(|(label, said)| (label.into(), said.into())).filter(|&(a, b)| a < count && b < count).collect();
    let mut cells = vec![];
    {
        let mut sorted = pairs.clone();
        sorted.sort_unstable();
        for run in sorted.chunk_by(|a, b| a == b) {
            cells.push((run.len(), run[0]));
        }
    }
    let mut occurs: Vec<usize> = pairs.iter().map(|&(label, _)| label).collect();
    occurs.sort_unstable();
    occurs.dedup();
    let all = pairs.len();
    if all < FEW_IN_ALL.max(FEW * occurs.len()) {
        return None;
    }
    // Where the network's answer of each label is; equal counts in the order of the classes.
    cells.sort_by_key(|&(n, pair)| (std::cmp::Reverse(n), pair));
    let (mut place, mut taken) = (vec![None; count], vec![false; count]);
    let mut explained = 0;
    for (n, (label, said)) in cells {
        if place[label].is_none() && !taken[said] {
            (place[label], taken[said]) = (Some(said), true);
            explained += n;
        }
    }
    let right = pairs.iter().filter(|(label, said)| label == said).count();
    let share = |n: usize| n as f64 / all as f64;
    let error = (share(explained) * (1.0 - share(explained)) / all as f64).sqrt();
    if share(explained) < EXPLAINED || share(explained) - share(right) < MORE + 3.0 * error {
        return None;
    }
    // Labels that do not occur stay where they are, if that is free.
    let mut order = vec![None; count];
    place.iter().enumerate().for_each(|(label, place)| _ = place.map(|place| order[place] = Some(label)));
    let mut left: Vec<usize> = (0..count).filter(|&label| place[label].is_none()).collect();
    left.retain(|&label| {
        let stays = order[label].is_none();
        if stays {
            order[label] = Some(label);
        }
        !stays
    });
    let mut left = left.into_iter();
    let order: Vec<&String> =
        order.into_iter().filter_map(|label| Some(&names[label.or_else(|| left.next())?])).collect();
    Some(format!(
        "this network is right on {:.1}% of {all} labelled samples (measured), and would be on {:.1}% if its classes were in \
         another order: {}where the data name them, write classes = [{}{}] into [data] of its sidecar",
        100.0 * share(right),
        100.0 * share(explained),
        if order.is_sorted() { "that of their names as text, as torchvision's ImageFolder sorts them; " } else { "" },
        order.iter().take(LISTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
        if count > LISTED { ", …" } else { "" },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Preprocess, Vectors};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn samples(labels: &[u16]) -> Vectors {
        let labels: Vec<Option<u16>> = labels.iter().copied().map(Some).collect();
        Vectors::new(vec![1], vec![], vec![0.0; labels.len()], labels, &Preprocess::default(), &[1]).unwrap()
    }

    fn numbers(count: usize) -> Vec<String> {
        (0..count).map(|k| k.to_string()).collect()
    }

    #[test]
    fn a_teacher_in_the_order_of_text_is_told_from_labels_in_the_order_of_size() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for count in [11, 12, 25, 100] {
            let names = numbers(count);
            let mut as_text = names.clone();
            as_text.sort();
            let labels: Vec<u16> = (0..20 * count).map(|i| (i % count) as u16).collect();
            // Right on nine of ten.
            let said = |label: u16, random: &mut ChaCha8Rng| match random.random_bool(0.9) {
                true => as_text.iter().position(|name| *name == names[usize::from(label)]).unwrap() as u16,
                false => random.random_range(0..count as u16),
            };
            let said: Vec<u16> = labels.iter().map(|&label| said(label, &mut random)).collect();
            let advice = other_order(&said, &samples(&labels), &names).unwrap();
            assert!(
                advice.contains(&format!(
                    "classes = [{}",
                    as_text[..5].iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
                )),
                "{advice}"
            );
            assert!(advice.contains("ImageFolder"), "{advice}");
        }
    }

    #[test]
    fn neither_noise_nor_a_weak_network_is_an_order() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        let mut found = 0;
        for round in 0..400 {
            let count = [2, 3, 10, 40][round % 4];
            // Right on none to all of the samples, and beside them by chance.
            let good = (round / 4 % 10) as f64 / 9.0;
            let labels: Vec<u16> = (0..60.max(12 * count)).map(|_| random.random_range(0..count as u16)).collect();
            let said =
                |&label: &u16| if random.random_bool(good) { label } else { random.random_range(0..count as u16) };
            let said: Vec<u16> = labels.iter().map(said).collect();
            found += usize::from(other_order(&said, &samples(&labels), &numbers(count)).is_some());
        }
        assert_eq!(found, 0);
        assert_eq!(other_order(&[1, 0], &samples(&[0, 1]), &numbers(2)), None, "too few");
    }
}
