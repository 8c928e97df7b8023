//! What the cost model counts of a kernel: the rounds of its loops, as `targets/kernels` runs them.
//!
//! Each kernel belongs to a [`Family`]; each family has a few *terms*, things that happen in its code some number of
//! times for a given shape. What one of them takes is a coefficient of the target.

use crate::program::{BufferId, Function, Kernel, Port, Precision, Program, Step, Tile, Window};

/// Kernels that share coefficients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Conv2d,
    DepthwiseConv2d,
    FullyConnected,
    MaxPool,
    AveragePool,
    Add,
    Mul,
    Function,
    Softmax,
    Copy,
    /// Taking in a sample and giving out the result: not a kernel.
    Ports,
}

/// The most terms that a family has.
const MOST: usize = 17;

/// How often each of a family's terms occurs, in the order of [`Family::terms`]; zeros after them.
pub type Counts = [f64; MOST];

impl Family {
    pub const ALL: [Family; 11] = [
        Family::Conv2d,
        Family::DepthwiseConv2d,
        Family::FullyConnected,
        Family::MaxPool,
        Family::AveragePool,
        Family::Add,
        Family::Mul,
        Family::Function,
        Family::Softmax,
        Family::Copy,
        Family::Ports,
    ];

    /// The name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Family::Conv2d => "conv2d",
            Family::DepthwiseConv2d => "depthwise_conv2d",
            Family::FullyConnected => "fully_connected",
            Family::MaxPool => "max_pool",
            Family::AveragePool => "average_pool",
            Family::Add => "add",
            Family::Mul => "mul",
            Family::Function => "function",
            Family::Softmax => "softmax",
            Family::Copy => "copy",
            Family::Ports => "ports",
        }
    }

    /// What occurs in its kernels.
    ///
    /// - `call`: once. `row`: once for each row of the result, for each block of channels.
    /// - `store`: an element that is clamped or requantized, those that fill up a [`Tile`] included; `ragged`: a pixel of
    ///   a tile that is filled up, and so is copied in part.
    /// - `run`: an inner loop that is entered; `step`: one of its rounds, over one input channel (four for `int8`);
    ///   `operand`: an element (four for `int8`) that is spread over a vector; `product`: a vector of four channels that
    ///   is multiplied by it and added, `narrow_product` where few pixels share the weights; `partial`: a channel
    ///   that is loaded alone, as it fills no four with others, `tiny`: a round of such where there are no full ones;
    ///   `lone`: an operand of a block that is the only one and no multiple of four, of which compilers make no vectors.
    /// - `border_…`: the same where padding is looked for: `border_visit` for each pixel and position of the kernel,
    ///   `border_run` for those on the operand.
    /// - `step_8`, `step_16`, `step_32`: a round for so many outputs; `far_step`: beyond the first rounds of a run, where
    ///   one waits for the sum of the round before.
    /// - `vector`: sixteen channels (or the eight that are left) of one tap, `line_vector` where the kernel is one row;
    ///   `half`: the eight; `single`: a channel of the rest; `mixed`: a pixel that has both vectors and a rest.
    /// - `element`: an element of the result; `curve`: one that takes an exponential; `tail`: one beyond the last sixteen
    ///   of a row; `scatter`: one that is moved alone; `raw`: a byte of the input; `output`: an element that is given out.
    pub fn terms(self) -> &'static [&'static str] {
        match self {
            Family::Conv2d => &[
                "call",
                "row",
                "store",
                "ragged",
                "run",
                "step",
                "operand",
                "product",
                "narrow_product",
                "partial",
                "tiny",
                "lone",
                "border_visit",
                "border_run",
                "border_step",
                "border_product",
                "narrow_border_step",
            ],
            Family::DepthwiseConv2d => &[
                "call",
                "row",
                "mixed",
                "vector_store",
                "half_store",
                "vector",
                "line_vector",
                "half",
                "single",
                "border_vector",
                "border_single",
            ],
            Family::FullyConnected => &["call", "store", "ragged", "step_8", "step_16", "step_32", "far_step"],
            Family::MaxPool | Family::AveragePool => {
                &["call", "tile", "vector_store", "single_store", "vector", "single"]
            }
            Family::Add => &["call", "element"],
            Family::Mul => &["call", "row", "element", "tail"],
            Family::Function => &["call", "element", "curve"],
            Family::Softmax => &["call", "row", "element"],
            Family::Copy => &["call", "row", "element", "scatter"],
            Family::Ports => &["call", "element", "scatter", "raw", "output"],
        }
    }
}

/// The family of a step's kernel and the counts of its terms, were its program in `precision`. `None` for kernels without
/// code.
pub fn terms(program: &Program, step: &Step, precision: Precision) -> Option<(Family, Counts)> {
    let elements = |id: BufferId| program.buffers.get(id.index()).map(|b| b.len());
    let outputs = elements(step.output).unwrap_or(0) as f64;
    let second = step.inputs.get(1).and_then(|&id| elements(id));
    let kernel = &step.kernel;
    let counted = match kernel {
        Kernel::Conv2d { window, in_channels, out_channels, groups, .. } => {
            (Family::Conv2d, conv2d(window, [*in_channels, *out_channels], *groups, precision))
        }
        Kernel::DepthwiseConv2d { window, channels, .. } => (Family::DepthwiseConv2d, depthwise(window, *channels)),
        Kernel::FullyConnected { rows, in_features, out_features, .. } => {
            (Family::FullyConnected, fully_connected([*rows, *in_features, *out_features], precision))
        }
        Kernel::MaxPool { window, channels } => (Family::MaxPool, pool(window, *channels)),
        Kernel::AveragePool { window, channels, .. } => (Family::AveragePool, pool(window, *channels)),
        // Kernels of sequences are counted as those that they are most like; they were not calibrated by themselves.
        Kernel::MatMul { batch, rows, inner, columns, .. } => {
            (Family::FullyConnected, fully_connected([batch * rows, *inner, *columns], precision))
        }
        Kernel::LayerNorm { rows, .. } => (Family::Softmax, padded(&[1.0, *rows as f64, outputs])),
        Kernel::Embedding { width } => (Family::Copy, padded(&[1.0, outputs / (*width).max(1) as f64, outputs])),
        Kernel::View { .. } => (Family::Copy, padded(&[1.0, 0.0, 0.0, outputs])),
        Kernel::Add(_) | Kernel::Div(_) | Kernel::Choose { .. } => (Family::Add, padded(&[1.0, outputs])),
        Kernel::Mul { broadcast, .. } => {
            let row = second.filter(|_| *broadcast).map_or(outputs, |second| second.max(1) as f64);
            let rows = outputs / row;
            (Family::Mul, padded(&[1.0, rows, outputs, rows * (row % 16.0)]))
        }
        Kernel::Lookup { .. } => (Family::Function, padded(&[1.0, outputs])),
        Kernel::Map(
            Function::Sigmoid
            | Function::Tanh
            | Function::Exp
            | Function::Sqrt
            | Function::Erf
            | Function::Gelu
            | Function::GeluTanh,
        ) if precision == Precision::F32 => (Family::Function, padded(&[1.0, 0.0, outputs])),
        Kernel::Map(_) => (Family::Function, padded(&[1.0, outputs])),
        Kernel::Softmax { rows, .. } => (Family::Softmax, padded(&[1.0, *rows as f64, outputs])),
        Kernel::Pad { input, .. } => (Family::Copy, padded(&[1.0, input[0] as f64, outputs])),
        Kernel::Concat { outer, inner } => (Family::Copy, padded(&[1.0, (outer * inner.len()) as f64, outputs])),
        Kernel::Transpose { .. } => (Family::Copy, padded(&[1.0, 0.0, 0.0, outputs])),
        Kernel::Reshape => return None,
    };
    Some(counted)
}

/// The counts of the family [`Ports`](Family::Ports).
pub fn ports(program: &Program) -> Counts {
    let elements = |port: &Port| program.buffers.get(port.buffer.index()).map_or(0, |b| b.len()) as f64;
    let output = elements(&program.output);
    let (scattered, plain): (Vec<&Port>, Vec<&Port>) = program.inputs.iter().partition(|port| port.perm.is_some());
    let sum = |ports: &[&Port]| ports.iter().map(|port| elements(port)).sum::<f64>();
    match &program.raw_input {
        Some(_) => padded(&[1.0, 0.0, 0.0, sum(&scattered) + sum(&plain), output]),
        None => padded(&[1.0, sum(&plain), sum(&scattered), 0.0, output]),
    }
}

fn padded(counts: &[f64]) -> Counts {
    std::array::from_fn(|i| counts.get(i).copied().unwrap_or(0.0))
}

/// Rounds over so many input channels.
fn steps(channels: usize, precision: Precision) -> f64 {
    match precision {
        Precision::Int8 => channels.div_ceil(4) as f64,
        Precision::F32 => channels as f64,
    }
}

/// Rounds whose sums processors overlap with those of the run before.
const NEAR: f64 = 64.0;

fn fully_connected([rows, inputs, outputs]: [usize; 3], precision: Precision) -> Counts {
    let lanes = Tile::fully_connected(outputs).lanes;
    let runs = (outputs.div_ceil(lanes) * rows) as f64;
    let rounds = steps(inputs, precision);
    let ragged = if outputs.is_multiple_of(lanes) { 0.0 } else { runs };
    let of = |size: usize| if lanes == size { runs * rounds } else { 0.0 };
    let far = runs * (rounds - NEAR).max(0.0);
    padded(&[1.0, runs * lanes as f64, ragged, of(8), of(16), of(32), far])
}

/// The window as the kernels see it.
fn kernel_window(w: &Window) -> kdc_kernels::Window {
    let Window { input, output, kernel, strides, pads, dilations } = *w;
    kdc_kernels::Window { input, output, kernel, strides, pads, dilations }
}

fn conv2d(window: &Window, [inputs, outputs]: [usize; 2], groups: usize, precision: Precision) -> Counts {
    let groups = groups.max(1);
    let (group_in, group_out) = (inputs / groups, outputs / groups);
    let Tile { lanes, pixels } = Tile::conv2d(precision, window, group_out);
    let w = kernel_window(window);
    let (rows, columns) = (w.interior(0), w.interior(1));
    let (height, width) = (window.output[0], window.output[1]);
    let inner_rows = rows.1 - rows.0;
    let starts = || (0..width).step_by(pixels.max(1)).map(|x| x.min(width.saturating_sub(pixels)));
    let inner_starts = starts().filter(|&x| x >= columns.0 && x + pixels <= columns.1).count();
    let inner_tiles = inner_rows * inner_starts;
    let tiles = height * starts().count();

    // Taps that border tiles multiply, over all their pixels: floats skip the padding, integers multiply it too.
    let taps = |axis: usize, o: usize| {
        let (first, end) = w.taps(axis, o);
        if precision == Precision::F32 { end.saturating_sub(first) } else { window.kernel[axis] }
    };
    let across = |x: usize| (x..x + pixels).map(|x| taps(1, x)).sum::<usize>();
    let all: usize = starts().map(across).sum();
    let inner: usize = starts().filter(|&x| x >= columns.0 && x + pixels <= columns.1).map(across).sum();
    let down = |from: usize, to: usize| (from..to).map(|y| taps(0, y)).sum::<usize>();
    let border_taps = all * down(0, height) - inner * down(rows.0, rows.1);

    let partial = precision == Precision::Int8 && !group_in.is_multiple_of(4);
    let dense = groups == 1 && window.dilations[1] == 1 && !partial;
    let [kernel_rows, kernel_columns] = window.kernel;
    let per_tap = steps(group_in, precision);
    let inner_taps = (inner_tiles * kernel_rows * kernel_columns) as f64;
    let runs = (inner_tiles * kernel_rows * if dense { 1 } else { kernel_columns }) as f64;
    let (vectors, wide) = (lanes as f64 / 4.0, pixels as f64);
    let (inner_steps, border_steps) = (inner_taps * per_tap, border_taps as f64 * per_tap);
    let products = inner_steps * wide * vectors;
    let taps = inner_taps * wide + border_taps as f64;
    let visits = ((tiles - inner_tiles) * kernel_rows * kernel_columns) as f64 * wide;
    // integers multiply all pixels of a tile at once, floats one after the other
    let border_runs = if precision == Precision::F32 { border_taps as f64 } else { visits / wide };
    let narrow = pixels < if lanes == 16 { 2 } else { 4 };
    let only = |condition: bool, count: f64| if condition { count } else { 0.0 };
    let blocks = (groups * group_out.div_ceil(lanes)) as f64;
    let counts = [
        1.0 / blocks,
        height as f64,
        tiles as f64 * wide * lanes as f64,
        only(!group_out.is_multiple_of(lanes), tiles as f64 * wide),
        runs,
        inner_steps,
        inner_steps * wide,
        only(!narrow, products),
        only(narrow, products),
        only(partial, taps * (group_in % 4) as f64),
        only(partial && group_in < 4, taps),
        only(group_out < lanes && !group_out.is_multiple_of(4), inner_steps * wide + border_steps),
        visits,
        only(!narrow || precision == Precision::Int8, border_runs),
        only(!narrow || precision == Precision::Int8, border_steps),
        border_steps * vectors,
        only(narrow && precision == Precision::F32, border_steps),
    ];
    padded(&counts.map(|count| count * blocks))
}

/// Blocks of sixteen, of eight and of one channel.
fn channel_blocks(channels: usize, half: bool) -> [f64; 3] {
    let (vectors, rest) = (channels / 16, channels % 16);
    let halves = if half { rest / 8 } else { 0 };
    [vectors as f64, halves as f64, (rest - 8 * halves) as f64]
}

/// Taps on the operand over all positions, and the same of the positions whose whole window lies on it; with positions.
fn taps(window: &Window) -> [f64; 4] {
    let w = kernel_window(window);
    let sum = |axis: usize, (from, to): (usize, usize)| {
        (from..to).map(|o| w.taps(axis, o)).map(|(first, end)| end.saturating_sub(first)).sum::<usize>()
    };
    let (all, inner) = ([0, 1].map(|axis| (0, window.output[axis])), [0, 1].map(|axis| w.interior(axis)));
    let product = |a: usize, b: usize| a as f64 * b as f64;
    let of = |ranges: [(usize, usize); 2]| product(sum(0, ranges[0]), sum(1, ranges[1]));
    let positions = |ranges: [(usize, usize); 2]| product(ranges[0].1 - ranges[0].0, ranges[1].1 - ranges[1].0);
    [of(all), of(inner), positions(all), positions(inner)]
}

fn depthwise(window: &Window, channels: usize) -> Counts {
    let [all, inner, positions, _] = taps(window);
    let [vectors, halves, singles] = channel_blocks(channels, true);
    let line = window.kernel[0] == 1;
    let only = |condition: bool, count: f64| if condition { count } else { 0.0 };
    padded(&[
        1.0,
        window.output[0] as f64,
        only(vectors > 0.0 && halves + singles > 0.0, positions),
        only(!line, positions * vectors),
        positions * halves,
        only(!line, inner * vectors),
        only(line, inner * vectors),
        inner * halves,
        inner * singles,
        (all - inner) * (vectors + halves),
        (all - inner) * singles,
    ])
}

fn pool(window: &Window, channels: usize) -> Counts {
    let [all, _, positions, _] = taps(window);
    let [vectors, _, singles] = channel_blocks(channels, false);
    padded(&[1.0, positions, positions * vectors, positions * singles, all * vectors, all * singles])
}
