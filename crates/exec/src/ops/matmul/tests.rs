use super::*;
use pulp::{Scalar, WithSimd};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn at(m: Matrix<'_>, i: usize, j: usize) -> f64 {
    m.data[i * m.strides[0] + j * m.strides[1]].into()
}

fn check(a: Matrix<'_>, b: Matrix<'_>, c: &[f32], factor: f64, start: impl Fn(usize, usize) -> f64) {
    let ([rows, depth], columns) = (a.shape, b.shape[1]);
    for i in 0..rows {
        for j in 0..columns {
            let sum: f64 = (0..depth).map(|k| at(a, i, k) * at(b, k, j)).sum();
            let want = start(i, j) + factor * sum;
            let got = f64::from(c[i * columns + j]);
            assert!(
                (got - want).abs() <= 1e-5 * (1.0 + want.abs()),
                "{rows}×{depth}×{columns} at {i}, {j}: {got}, {want}"
            );
        }
    }
}

/// Every remainder of rows and columns, operands turned both ways, on every kind of vector this machine has.
#[test]
fn products_are_those_of_the_definition() {
    for (seed, (rows, depth, columns)) in
        [(1, 1, 1), (7, 5, 3), (13, 9, 16), (6, 4, 64), (17, 8, 70), (3, 20, 33), (25, 3, 129), (5, 0, 9), (40, 7, 48)]
            .into_iter()
            .enumerate()
    {
        let (x, y) = (random(rows * depth, seed as u64), random(depth * columns, 50 + seed as u64));
        let (bias, before) = (random(columns, 90), random(rows * columns, 91));
        let b = Matrix { data: &y, shape: [depth, columns], strides: [columns, 1] };
        let ways = [
            Matrix { data: &x, shape: [rows, depth], strides: [depth, 1] },
            Matrix { data: &x, shape: [rows, depth], strides: [1, rows] },
        ];
        for a in ways {
            let run = |which: usize, start: Start<'_>| {
                let mut c = before.clone();
                let product = Product {
                    a: a.data,
                    a_row: a.strides[0],
                    a_step: a.strides[1],
                    b: b.data,
                    b_step: columns,
                    c: &mut c,
                    c_row: columns,
                    rows,
                    columns,
                    depth,
                    factor: 0.5,
                    start,
                };
                match which {
                    0 => product.with_simd(Scalar),
                    #[cfg(target_arch = "x86_64")]
                    1 if let Some(v3) = pulp::x86::V3::try_new() => product.with_simd(v3),
                    #[cfg(target_arch = "aarch64")]
                    1 if let Some(neon) = pulp::aarch64::Neon::try_new() => product.with_simd(neon),
                    _ => product.run(),
                }
                c
            };
            for which in 0..3 {
                check(a, b, &run(which, Start::Zero), 0.5, |_, _| 0.0);
                check(a, b, &run(which, Start::Result), 0.5, |i, j| before[i * columns + j].into());
                check(a, b, &run(which, Start::Row(&bias)), 0.5, |_, j| bias[j].into());
            }
        }
    }
}

#[test]
fn blocks_in_parallel_change_nothing() {
    let (rows, m, n) = (1111, 37, 50);
    let (x, y, w) = (random(rows * m, 1), random(rows * n, 2), random(m * n, 3));
    let (a, b) = (Matrix::rows(&x, m), Matrix::rows(&y, n));
    let deep = random(3 * 1300, 4);
    let all = || {
        let c = multiplied(a, Matrix::rows(&w, n), Start::Zero);
        let turned = multiplied(b, Matrix::rows(&w, n).transposed(), Start::Zero);
        let long = multiplied(Matrix::rows(&deep, 1300), Matrix::rows(&deep, 1300).transposed(), Start::Zero);
        (c, turned, long, correlate(a, b, Some(b)))
    };
    let pools = [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let [one, three] = pools.map(|pool| pool.install(all));
    assert!(one == three);
    let (c, turned, long, (products, sums)) = one;
    check(a, Matrix::rows(&w, n), &c, 1.0, |_, _| 0.0);
    check(b, Matrix::rows(&w, n).transposed(), &turned, 1.0, |_, _| 0.0);
    check(Matrix::rows(&deep, 1300), Matrix::rows(&deep, 1300).transposed(), &long, 1.0, |_, _| 0.0);
    check(a.transposed(), b, &products, 1.0, |_, _| 0.0);
    let ones = vec![1.0; rows];
    check(Matrix::rows(&ones, rows), b, &sums, 1.0, |_, _| 0.0);
}
