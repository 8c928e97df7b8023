//! The vector loop under every product of matrices.

use pulp::{Arch, MemMask, Simd, WithSimd};

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// Nothing.
    Zero,
    /// What the result holds.
    Result,
    /// A row, in every row.
    Row(&'a [f32]),
}

/// `c[i][j] = start + factor · Σ over k < depth: a[i · a_row + k · a_step] · b[k · b_step + j]`, `c` at `c_row`.
///
/// The columns of `b` and `c` are contiguous, `a` may be turned either way.
#[derive(Debug)]
pub struct Product<'a> {
    pub a: &'a [f32],
    pub a_row: usize,
    pub a_step: usize,
    pub b: &'a [f32],
    pub b_step: usize,
    pub c: &'a mut [f32],
    pub c_row: usize,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub factor: f32,
    pub start: Start<'a>,
}

impl Product<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    /// Columns by panels of `WIDTH` vectors that stay in the first-level cache while all rows pass.
    #[inline(always)]
    fn panels<S: Simd, const WIDTH: usize>(&mut self, simd: S, mut column: usize) -> usize {
        let step = WIDTH * S::F32_LANES;
        while self.columns - column >= step {
            self.panel::<S, WIDTH, false>(simd, column, step);
            column += step;
        }
        column
    }

    #[inline(always)]
    fn panel<S: Simd, const WIDTH: usize, const PARTIAL: bool>(&mut self, simd: S, column: usize, columns: usize) {
        // As many sums as leave registers for a row of the panel and an element.
        match (WIDTH, S::REGISTER_COUNT >= 32) {
            (4, _) => self.rows::<S, 6, WIDTH, PARTIAL>(simd, column, columns),
            (3, true) => self.rows::<S, 8, WIDTH, PARTIAL>(simd, column, columns),
            (2, true) => self.rows::<S, 12, WIDTH, PARTIAL>(simd, column, columns),
            (2, false) => self.rows::<S, 6, WIDTH, PARTIAL>(simd, column, columns),
            (_, true) => self.rows::<S, 16, WIDTH, PARTIAL>(simd, column, columns),
            _ => self.rows::<S, 8, WIDTH, PARTIAL>(simd, column, columns),
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const ROWS: usize, const WIDTH: usize, const PARTIAL: bool>(
        &mut self,
        simd: S,
        column: usize,
        columns: usize,
    ) {
        let mut row = 0;
        while self.rows - row >= ROWS {
            self.block::<S, ROWS, WIDTH, PARTIAL>(simd, row, ROWS, column, columns);
            row += ROWS;
        }
        while row < self.rows {
            let used = (self.rows - row).min(4);
            self.block::<S, 4, WIDTH, PARTIAL>(simd, row, used, column, columns);
            row += used;
        }
    }

    /// A block that stays in registers. Of `ROWS` rows `used` are there; the others compute the last one again.
    #[inline(always)]
    fn block<S: Simd, const ROWS: usize, const WIDTH: usize, const PARTIAL: bool>(
        &mut self,
        simd: S,
        row: usize,
        used: usize,
        column: usize,
        columns: usize,
    ) {
        let lanes = S::F32_LANES;
        // Vectors that are there as a whole.
        let whole = if PARTIAL { WIDTH - 1 } else { WIDTH };
        let last = columns - (WIDTH - 1) * lanes;
        let mask: MemMask<S::m32s> = simd.mask_between_m32s(0, last.min(lanes) as u32);
        let load = |row: &[f32], k: usize| {
            if k < whole {
                return S::as_simd_f32s(&row[k * lanes..][..lanes]).0[0];
            }
            let rest = &row[k * lanes..][..last];
            // SAFETY: the mask reads the first `last` elements alone, and they are there.
            unsafe { simd.mask_load_ptr_f32s(mask, rest.as_ptr()) }
        };
        let mut offsets = [0; ROWS];
        let mut r = 0;
        while r < ROWS {
            offsets[r] = (row + r.min(used - 1)) * self.a_row;
            r += 1;
        }
        let mut sums = [[simd.splat_f32s(0.0); WIDTH]; ROWS];
        let (a, b) = (self.a, &self.b[column.min(self.b.len())..]);
        let mut depth = 0;
        while depth < self.depth {
            let (a, b) = (&a[depth * self.a_step..], &b[depth * self.b_step..][..columns]);
            let mut panel = [simd.splat_f32s(0.0); WIDTH];
            let (vectors, _) = S::as_simd_f32s(&b[..whole * lanes]);
            let mut k = 0;
            while k < whole {
                panel[k] = vectors[k];
                k += 1;
            }
            if PARTIAL {
                panel[whole] = load(b, whole);
            }
            let mut r = 0;
            while r < ROWS {
                let element = simd.splat_f32s(a[offsets[r]]);
                let mut k = 0;
                while k < WIDTH {
                    sums[r][k] = simd.mul_add_e_f32s(element, panel[k], sums[r][k]);
                    k += 1;
                }
                r += 1;
            }
            depth += 1;
        }
        // A copy, so that the sums themselves are in no memory that the checks below would keep.
        let mut made = [[simd.splat_f32s(0.0); WIDTH]; ROWS];
        let mut r = 0;
        while r < ROWS {
            let mut k = 0;
            while k < WIDTH {
                made[r][k] = sums[r][k];
                k += 1;
            }
            r += 1;
        }
        let factor = simd.splat_f32s(self.factor);
        let mut r = 0;
        while r < ROWS && r < used {
            let out = &mut self.c[(row + r) * self.c_row + column..][..columns];
            let mut k = 0;
            while k < WIDTH {
                let sum = made[r][k];
                let start = match self.start {
                    Start::Zero => simd.splat_f32s(0.0),
                    Start::Result => load(out, k),
                    Start::Row(bias) => load(&bias[column..], k),
                };
                let sum = simd.mul_add_e_f32s(sum, factor, start);
                if PARTIAL && k == WIDTH - 1 {
                    simd.partial_store_f32s(&mut out[k * lanes..], sum);
                } else {
                    let (out, _) = S::as_mut_simd_f32s(&mut out[k * lanes..][..lanes]);
                    out[0] = sum;
                }
                k += 1;
            }
            r += 1;
        }
    }
}

/// From the first to the last of so many, `step` apart; too far for any memory where the number has no room.
fn far(count: usize, step: usize) -> usize {
    (count - 1).saturating_mul(step)
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Product { rows, columns, depth, .. } = self;
        if rows == 0 || columns == 0 {
            return;
        }
        if depth > 0 {
            assert!(far(rows, self.a_row).saturating_add(far(depth, self.a_step)) < self.a.len());
            assert!(far(depth, self.b_step).saturating_add(columns) <= self.b.len());
        }
        assert!(far(rows, self.c_row).saturating_add(columns) <= self.c.len());
        assert!(matches!(self.start, Start::Row(row) if row.len() >= columns) || !matches!(self.start, Start::Row(_)));
        let wide = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        let mut column = if wide == 4 { self.panels::<S, 4>(simd, 0) } else { self.panels::<S, 2>(simd, 0) };
        let left = columns - column;
        let whole = left / S::F32_LANES;
        column += match whole {
            3 => self.panels::<S, 3>(simd, column) - column,
            2 => self.panels::<S, 2>(simd, column) - column,
            1 => self.panels::<S, 1>(simd, column) - column,
            _ => 0,
        };
        if column < columns {
            self.panel::<S, 1, true>(simd, column, columns - column);
        }
    }
}
