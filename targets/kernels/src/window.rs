/// Where a sliding window meets its operand. Two axes, height then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// Rows above and columns left of the operand.
    pub pads: [usize; 2],
    pub dilations: [usize; 2],
}

impl Window {
    /// Output positions along `axis`, first and end, whose whole kernel lies on the operand.
    #[inline(always)]
    pub const fn interior(&self, axis: usize) -> (usize, usize) {
        let (input, pad, stride) = (self.input[axis], self.pads[axis], self.strides[axis]);
        let reach = (self.kernel[axis] - 1) * self.dilations[axis];
        let first = pad.div_ceil(stride);
        let end = if input + pad > reach { (input + pad - reach - 1) / stride + 1 } else { 0 };
        let end = if end < self.output[axis] { end } else { self.output[axis] };
        (if first < end { first } else { end }, end)
    }

    /// Kernel positions along `axis`, first and end, that lie on the operand for output position `o`.
    #[inline(always)]
    pub const fn taps(&self, axis: usize, o: usize) -> (usize, usize) {
        let (pad, dilation) = (self.pads[axis], self.dilations[axis]);
        let start = o * self.strides[axis];
        let first = pad.saturating_sub(start).div_ceil(dilation);
        let room = (self.input[axis] + pad).saturating_sub(start).div_ceil(dilation);
        let end = if room < self.kernel[axis] { room } else { self.kernel[axis] };
        (if first < end { first } else { end }, end)
    }

    /// The position on the operand of kernel position `k` for output position `o`, where it lies on the operand.
    #[inline(always)]
    pub const fn at(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        match (o * self.strides[axis] + k * self.dilations[axis]).checked_sub(self.pads[axis]) {
            Some(i) if i < self.input[axis] => Some(i),
            _ => None,
        }
    }
}
