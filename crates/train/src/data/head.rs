//! What the output of a network means, as far as its graph says: whether it is one number for each class, which is what
//! labels are compared with unless a sidecar says something else.

use kdc_ir::graph::{DType, Dim, Graph, Op, ValueId, shape_text};

/// What an output is, if it is no row of one number for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// One number a sample, out of a sigmoid.
    Sigmoid,
    /// One number a sample.
    Number,
    /// The class itself, as ArgMax gives it.
    Chosen,
    /// Boxes, and what is in them.
    Boxes,
    /// Numbers at each place of an image.
    Map,
    /// Numbers at each position of a sequence, or for each box.
    Positions,
}

/// Why the answers of a network cannot be compared with classes, and what to do; `None` where its first output is a row of
/// numbers, one for each class.
pub(super) fn unsupported(network: &Graph) -> Option<String> {
    let &id = network.outputs.first()?;
    let output = network.value(id);
    let (what, remedy) = match head(network, id)? {
        Head::Sigmoid => (
            "yes or no by a single sigmoid",
            "export it with two outputs instead, the logits 0 and z, whose softmax is the sigmoid of z",
        ),
        Head::Number => (
            "a single number: a regression, or yes or no in one logit",
            "a classifier of two classes can be exported with two logits, 0 and z",
        ),
        Head::Chosen => ("the class that was chosen, and no number for each", "export what ArgMax is taken of instead"),
        Head::Boxes => ("boxes: a detector", "its backbone can teach with a recipe's new-classes"),
        Head::Map => (
            "numbers at each place of an image: segmentation, heat maps, or an image again",
            "its backbone can teach with a recipe's new-classes",
        ),
        Head::Positions => (
            "numbers for each of several positions: a detector's boxes, or symbols or tokens position by position",
            "networks that spell words are described by [sequence], language models by answers = \"tokens\", in the sidecar",
        ),
    };
    Some(format!(
        "its output {} is {}, {what}; classifiers with one output for each class are compiled; {remedy}",
        output.name,
        shape_text(&output.shape)
    ))
}

fn head(network: &Graph, id: ValueId) -> Option<Head> {
    let long = |id: ValueId| -> Vec<usize> {
        let shape = &network.value(id).shape;
        let sample = if shape.first().is_some_and(|d| d.is_batched()) { &shape[1..] } else { &shape[..] };
        sample.iter().map(|dim| dim.at(1)).collect()
    };
    let extents = long(id);
    let count = extents.iter().filter(|&&n| n != 1).count();
    let suppresses = |op: &Op| matches!(op, Op::Opaque(kept) if kept.op_type.ends_with("NonMaxSuppression"));
    // A row of four for each of many: corners, or centre and size.
    let boxes = |id: &ValueId| matches!(long(*id)[..], [many, 4] if many > 4);
    let image = |&id: &ValueId| network.value(id).shape.len() == 4;
    match count {
        _ if network.nodes.iter().any(|node| suppresses(&node.op)) => Some(Head::Boxes),
        0 | 1 if matches!(network.value(id).dtype, DType::I64 | DType::I32) => Some(Head::Chosen),
        0 if is_sigmoid(network, id) => Some(Head::Sigmoid),
        0 => Some(Head::Number),
        1 => None,
        _ if network.outputs.len() > 1 && network.outputs.iter().any(boxes) => Some(Head::Boxes),
        // Places of a map are at least as many as three ways to be wide, high and of a class, or those of the image.
        _ if extents.len() >= 3 || network.inputs.iter().any(image) && same_places(network, &extents) => {
            Some(Head::Map)
        }
        _ => Some(Head::Positions),
    }
}

/// Whether these extents are height and width of an input.
fn same_places(network: &Graph, extents: &[usize]) -> bool {
    let dims: Vec<Dim> = extents.iter().map(|&n| Dim::Fixed(n)).collect();
    network.inputs.iter().any(|&id| network.value(id).shape.windows(2).any(|pair| pair == dims))
}

/// Whether a value comes out of a sigmoid, whatever moved it since.
fn is_sigmoid(network: &Graph, mut id: ValueId) -> bool {
    let producers = network.producers();
    loop {
        let Some(node) = producers.get(&id).map(|&index| &network.nodes[index]) else { return false };
        match &node.op {
            Op::Sigmoid | Op::HardSigmoid { .. } => return true,
            Op::Identity
            | Op::Reshape { .. }
            | Op::Flatten { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Transpose { .. }
            | Op::Cast { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. } => match node.input(0) {
                Some(operand) => id = operand,
                None => return false,
            },
            _ => return false,
        }
    }
}
