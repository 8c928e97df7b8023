//! Where networks train and run.

use super::Error;
use burn::tensor::Device;
use std::fmt;
use std::str::FromStr;

/// A device by name: `cpu`, `cuda:0`, `wgpu` (the default adapter) or `wgpu:0` (a discrete one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// This machine's processor: burn's Flex backend, with operators of our own.
    #[default]
    Cpu,
    /// An NVIDIA GPU by index; there when kdc was built with `--features cuda`.
    Cuda(usize),
    /// Any GPU that Vulkan, Metal or DirectX reaches, or the software in its place; there when kdc was built with
    /// `--features wgpu`.
    Wgpu(Option<usize>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu => f.write_str("cpu"),
            Place::Cuda(index) => write!(f, "cuda:{index}"),
            Place::Wgpu(None) => f.write_str("wgpu"),
            Place::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => {
                (name, Some(index.parse().map_err(|_| format!("`{index}` is not a device number"))?))
            }
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(Place::Cpu),
            ("cuda", index) => Ok(Place::Cuda(index.unwrap_or(0))),
            ("wgpu", index) => Ok(Place::Wgpu(index)),
            _ => Err(format!("`{text}` is no device; there are cpu, cuda:N and wgpu:N")),
        }
    }
}

impl Place {
    /// Opens the device, and tries it.
    ///
    /// # Errors
    /// When kdc was built without it, or there is no such device here.
    pub fn open(self) -> Result<Device, Error> {
        match self {
            Place::Cpu => Ok(Device::flex()),
            Place::Cuda(index) => cuda(index),
            Place::Wgpu(index) => wgpu(index),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device, Error> {
    tried(Place::Cuda(index), move || Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, Error> {
    Err(absent("cuda"))
}

#[cfg(feature = "wgpu")]
fn wgpu(index: Option<usize>) -> Result<Device, Error> {
    use burn::tensor::DeviceKind;
    let kind = index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    tried(Place::Wgpu(index), move || Device::wgpu(kind))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: Option<usize>) -> Result<Device, Error> {
    Err(absent("wgpu"))
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn absent(feature: &str) -> Error {
    Error::Device(format!(
        "kdc was built without it; build with `cargo install --locked --path . --features {feature}`"
    ))
}

/// Backends panic where there is no device or no driver.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn tried(place: Place, open: impl FnOnce() -> Device + std::panic::UnwindSafe) -> Result<Device, Error> {
    use burn::tensor::Tensor;
    let tried = std::panic::catch_unwind(|| {
        let device = open();
        let two = (Tensor::<1>::ones([1], &device) * 2.0).into_data().iter::<f32>().next();
        (device, two)
    });
    match tried {
        Ok((device, Some(2.0))) => Ok(device),
        Ok((_, other)) => Err(Error::Device(format!("{place} says that 2 · 1 is {other:?}"))),
        Err(_) => Err(Error::Device(format!("there is no usable {place} here; `--device cpu` always works"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for place in [Place::Cpu, Place::Cuda(1), Place::Wgpu(None), Place::Wgpu(Some(2))] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!("cuda".parse(), Ok(Place::Cuda(0)));
        for text in ["gpu", "cpu:1", "cuda:x", ""] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
        assert!(Place::Cpu.open().is_ok());
        #[cfg(not(feature = "cuda"))]
        assert!(Place::Cuda(0).open().unwrap_err().to_string().contains("--features cuda"));
    }

    /// What a GPU answers, against the CPU: values and gradients of a small network.
    #[cfg(feature = "wgpu")]
    #[test]
    fn wgpu_computes_what_the_cpu_computes() {
        use crate::{Mode, Network, Value};
        use kdc_ir::graph::{Builder, Dim, Op, Tensor as HostTensor};
        let Ok(gpu) = Place::Wgpu(None).open() else {
            return eprintln!("skipped: no adapter for wgpu; install mesa-vulkan-drivers for one in software");
        };
        let mut b = Builder::new("small");
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2), Dim::Fixed(6), Dim::Fixed(6)]);
        let wave = |n: usize| (0..n).map(|i| ((i * 37 % 19) as f32 / 19.0 - 0.5) * 0.6).collect::<Vec<f32>>();
        let conv = b.conv2d("conv", x, HostTensor::f32([4, 2, 3, 3], wave(72)), vec![0.1; 4], (1, 1, 1)).unwrap();
        let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
        let mean = b.node("mean", Op::GlobalAveragePool, &[relu]).unwrap();
        let mut graph = b.finish(&[mean]);
        kdc_ir::pass::insert_batch_norm(&mut graph, &Default::default());
        let run = |device: &Device| {
            let tracked = device.clone().autodiff();
            let network = Network::new(&graph, &tracked).unwrap();
            let input = Value::from_host(&HostTensor::f32([3, 2, 6, 6], wave(216)), &tracked).unwrap();
            let outputs = network.forward(vec![input], &[], Mode::Train { momentum: 0.9 }).unwrap().outputs;
            let y = outputs.into_iter().next().unwrap().into_float().unwrap().into_tensor::<4>().unwrap();
            let values: Vec<f32> = y.clone().inner().into_data().iter().collect();
            let mut gradients = (y.clone() * y).sum().backward();
            let gradients = network.take_gradients(&mut gradients);
            let gradients =
                gradients.into_iter().flatten().flat_map(|g| g.into_data().iter::<f32>().collect::<Vec<_>>());
            values.into_iter().chain(gradients).collect::<Vec<f32>>()
        };
        let (here, there) = (run(&Device::flex()), run(&gpu));
        assert_eq!(here.len(), there.len());
        for (a, b) in here.iter().zip(&there) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} {b}");
        }
    }
}
