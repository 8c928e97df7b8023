//! Total variation of samples: in what networks are trained on, neighbours resemble each other.

use crate::distill::Error;
use burn::tensor::Tensor;
use kdc_exec::Value;

/// Mean squared difference of neighbours along the spatial axes, times how many of them a sample has.
pub fn variation(value: Value, extents: &[usize]) -> Result<Tensor<1>, Error> {
    let mut sum: Option<Tensor<1>> = None;
    for axis in 2..extents.len() {
        let (before, after) = (extents[..axis].iter().product::<usize>(), extents[axis + 1..].iter().product());
        let length = extents[axis];
        if length < 2 {
            continue;
        }
        let lines: Tensor<3> = value.clone().reshape(&[before, length, after]).into_tensor()?;
        let difference = lines.clone().slice([0..before, 1..length]) - lines.slice([0..before, 0..length - 1]);
        let one = difference.square().sum().div_scalar(extents[0] as f64);
        sum = Some(sum.map_or(one.clone(), |sum| sum + one));
    }
    let zero = || -> Result<Tensor<1>, Error> {
        let flat: Tensor<1> = value.clone().reshape(&[extents.iter().product()]).into_tensor()?;
        Ok(flat.sum().mul_scalar(0.0))
    };
    sum.map_or_else(zero, Ok)
}
