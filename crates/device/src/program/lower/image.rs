//! Operators on images: channels lie innermost.

use super::order::image_order;
use super::{Lowering, Result1, fail};
use crate::program::numbers::Bounds;
use crate::program::reference::transpose;
use crate::program::{BufferId, Kernel, Window};
use kdc_ir::graph::{Conv, Node, Op, Pool, ValueId, shape_text};

impl Lowering<'_> {
    /// Height, width and channels of an image.
    fn extents(&self, node: &Node, x: ValueId) -> Result1<[usize; 3]> {
        match self.shape(x)[..] {
            [_, c, h, w] => Ok([h, w, c]),
            [_, c, l] => Ok([1, l, c]),
            _ => {
                let shape = shape_text(&self.graph.value(x).shape);
                Err(fail(node, format!("its operand {shape} is not an image")))
            }
        }
    }

    /// A value as an image, and its extents.
    fn image(&mut self, node: &Node, x: ValueId) -> Result1<(BufferId, [usize; 3])> {
        let extents = self.extents(node, x)?;
        let order = image_order(self.shape(x).len());
        Ok((self.materialize(node, x, &order)?, extents))
    }

    /// A step whose result is an image.
    fn image_step(&mut self, node: &Node, kernel: Kernel, input: BufferId, out: ValueId) -> Result1<()> {
        let order = image_order(self.graph.value(out).shape.len());
        self.step(node, kernel, vec![input], out, order)
    }

    pub(super) fn conv(&mut self, node: &Node, conv: &Conv, x: ValueId, out: ValueId, bounds: Bounds) -> Result1<()> {
        let pool = Pool {
            kernel: conv.kernel.clone(),
            strides: conv.strides.clone(),
            pads: conv.pads.clone(),
            dilations: conv.dilations.clone(),
            ceil_mode: false,
            count_include_pad: false,
        };
        let window = self.window(node, x, &pool)?;
        let (input, [.., in_channels]) = self.image(node, x)?;
        let out_channels = self.shape(out)[1];
        let taps = window.kernel[0] * window.kernel[1];
        let depthwise = conv.group == in_channels && out_channels == in_channels && conv.group > 1;
        let (shape, perm) = match depthwise {
            // [channels][1 · taps] to [taps][channels]
            true => (vec![out_channels, taps], vec![1, 0]),
            // [out][in / groups][taps] to [out][taps][in / groups]
            false => (vec![out_channels, in_channels / conv.group, taps], vec![0, 2, 1]),
        };
        let arrange = |w: &[f32]| transpose(&shape, &perm, w);
        let bias = node.input(2);
        let linear = self.numbers.linear(node, x, bias, out, 0, 1.0, 1.0, bounds, &arrange);
        let linear = linear.map_err(|why| fail(node, why))?;
        let kernel = match depthwise {
            true => Kernel::DepthwiseConv2d { window, channels: in_channels, linear },
            false => Kernel::Conv2d { window, in_channels, out_channels, groups: conv.group, linear },
        };
        self.image_step(node, kernel, input, out)
    }

    pub(super) fn max_pool(&mut self, node: &Node, pool: &Pool, x: ValueId, out: ValueId) -> Result1<()> {
        let window = self.window(node, x, pool)?;
        let (input, [.., channels]) = self.image(node, x)?;
        self.image_step(node, Kernel::MaxPool { window, channels }, input, out)
    }

    pub(super) fn average_pool(&mut self, node: &Node, pool: &Pool, x: ValueId, out: ValueId) -> Result1<()> {
        let window = self.window(node, x, pool)?;
        let axes = pool.kernel.len();
        let hangs = |d: usize| {
            let reach = (window.output[d] - 1) * window.strides[d] + window.kernel[d];
            let end = pool.pads.get((d + 2 * axes).wrapping_sub(2)).copied().unwrap_or(0);
            reach > window.pads[d] + window.input[d] + end
        };
        if pool.count_include_pad && (hangs(0) || hangs(1)) {
            return Err(fail(node, "with ceil_mode its last window hangs over padding that counts"));
        }
        let (input, [.., channels]) = self.image(node, x)?;
        let params = self.numbers.average(x, out, window.kernel[0] * window.kernel[1]);
        let kernel = Kernel::AveragePool { window, channels, count_pads: pool.count_include_pad, params };
        self.image_step(node, kernel, input, out)
    }

    /// A window that covers the whole image.
    pub(super) fn global(&mut self, node: &Node, x: ValueId, out: ValueId) -> Result1<()> {
        let (input, [h, w, channels]) = self.image(node, x)?;
        let window =
            Window { input: [h, w], output: [1, 1], kernel: [h, w], strides: [1, 1], pads: [0, 0], dilations: [1, 1] };
        let kernel = match node.op {
            Op::GlobalMaxPool => Kernel::MaxPool { window, channels },
            _ => {
                let params = self.numbers.average(x, out, h * w);
                Kernel::AveragePool { window, channels, count_pads: false, params }
            }
        };
        self.image_step(node, kernel, input, out)
    }

    fn window(&self, node: &Node, x: ValueId, pool: &Pool) -> Result1<Window> {
        let n = pool.kernel.len();
        if n != 1 && n != 2 {
            return Err(fail(node, format!("{n}-D windows have no kernel")));
        }
        let pair = |v: &[usize], one: usize| if n == 1 { [one, v[0]] } else { [v[0], v[1]] };
        Ok(Window {
            input: pair(&self.shape(x)[2..], 1),
            output: pair(&self.shape(node.output())[2..], 1),
            kernel: pair(&pool.kernel, 1),
            strides: pair(&pool.strides, 1),
            pads: pair(&pool.pads[..n], 0),
            dilations: pair(&pool.dilations, 1),
        })
    }

    pub(super) fn pad(&mut self, node: &Node, x: ValueId, pads: &[i64], value: f32) -> Result1<()> {
        let rank = pads.len() / 2;
        let (3 | 4) = rank else { return Err(fail(node, "only images have a kernel")) };
        let [h, w, c] = self.extents(node, x)?;
        let input = self.materialize_as(node, x, &image_order(rank), node.output())?;
        let grow = |i: usize| usize::try_from(pads[i]).map_err(|_| fail(node, "negative padding has no kernel"));
        if pads[0] != 0 || pads[rank] != 0 {
            return Err(fail(node, "it pads the batch"));
        }
        let stored = self.numbers.stored(node.output(), value);
        let kernel = if pads[1] != 0 || pads[rank + 1] != 0 {
            // Channels lie innermost: they are the columns of a picture with a row for each pixel.
            if pads[2..rank].iter().chain(&pads[rank + 2..]).any(|&p| p != 0) {
                return Err(fail(node, "padding of channels and of pixels at once has no kernel"));
            }
            Kernel::Pad { input: [h * w, c, 1], pads: [0, grow(1)?, 0, grow(rank + 1)?], value, stored }
        } else {
            let grown = match rank {
                3 => [0, grow(2)?, 0, grow(5)?],
                _ => [grow(2)?, grow(3)?, grow(6)?, grow(7)?],
            };
            Kernel::Pad { input: [h, w, c], pads: grown, value, stored }
        };
        self.image_step(node, kernel, input, node.output())
    }
}
