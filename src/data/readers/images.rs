//! Folders of PNG and JPEG files, decoded to bytes in the network's own extents.

use super::jpeg;
use crate::data::error::Location;
use crate::data::folders::{self, Entry, Search};
use crate::data::labels::{Classes, resolve};
use crate::data::{Error, Samples, Sidecar};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GenericImageView, ImageFormat, ImageReader};
use rayon::prelude::*;
use serde::Deserialize;
use std::io::Cursor;
use std::num::NonZeroU16;
use std::path::Path;

/// How images become as large as the network wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// What an image is resized to before its middle is cut out; `None`: so that it just covers the network's extents.
    pub resize: Option<Size>,
}

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the shorter side in pixels, or [height, width]")]
pub enum Size {
    /// The shorter side; the other one follows.
    Shorter(NonZeroU16),
    /// Height and width.
    Exact([NonZeroU16; 2]),
}

/// The most pixels an image is resized to: a strip of 1 × 60,000 must not become gigabytes.
const MOST_PIXELS: u64 = 1 << 26;

/// Training samples, test samples and the names of the classes below a folder. `shape`: height, width and channels of
/// the network's input; one channel is grey, three are red, green, blue.
///
/// # Errors
/// Names the file or folder that cannot be used.
pub(crate) fn load(
    root: &Path,
    sidecar: &Sidecar,
    shape: [usize; 3],
    outputs: usize,
) -> Result<(Samples, Samples, Vec<String>), Error> {
    let search = Search {
        kind: "PNG or JPEG",
        extensions: &["png", "jpg", "jpeg"],
        pattern: sidecar.source.names.as_ref(),
        split: sidecar.source.split.as_ref(),
    };
    let (train, test) = folders::find(root, &search)?;
    let (train_labels, test_labels) = (folders::labels(&train), folders::labels(&test));
    let classes = resolve(&train_labels, &test_labels, sidecar.classes.as_deref(), outputs)?;
    let Classes { train: train_labels, test: test_labels, names } = classes;
    let options = &sidecar.source.images;
    let samples = |entries: &[Entry], labels| -> Result<Samples, Error> {
        Ok(Samples { shape, pixels: decode_all(entries, shape, options)?, labels })
    };
    Ok((samples(&train, train_labels)?, samples(&test, test_labels)?, names))
}

/// All files, in parallel, each straight to its place: beyond the result, memory holds one image per thread.
fn decode_all(entries: &[Entry], shape: [usize; 3], options: &ImageOptions) -> Result<Vec<u8>, Error> {
    let size: usize = shape.iter().product();
    let mut pixels = vec![0; entries.len() * size];
    let places = pixels.par_chunks_mut(size.max(1)).zip(entries);
    // All results are collected so that the error is the first file's, not the first thread's.
    let results: Vec<Result<(), Error>> = places
        .map(|(place, entry)| decode(&entry.path, shape, options).map(|bytes| place.copy_from_slice(&bytes)))
        .collect();
    results.into_iter().collect::<Result<(), Error>>()?;
    Ok(pixels)
}

fn decode(path: &Path, [height, width, channels]: [usize; 3], options: &ImageOptions) -> Result<Vec<u8>, Error> {
    let at = || Location::whole(path);
    let unreadable = |source| Error::Read { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    // What a file is, its first bytes say: extensions are often wrong.
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(unreadable)?;
    let image = match reader.format() {
        Some(ImageFormat::Jpeg) => jpeg::decode(&bytes),
        _ => reader.decode().map_err(|e| e.to_string()),
    };
    let image = image.map_err(|what| at().error(format!("it cannot be decoded: {what}")))?;
    let wanted = [height as u32, width as u32];
    let image = sized(image, wanted, options).map_err(|what| at().error(what))?;
    let [h, w] = [image.height(), image.width()];
    if h < wanted[0] || w < wanted[1] {
        let what = format!("after resizing it is {h}×{w}, the network wants {height}×{width}; see resize in [images]");
        return Err(at().error(what));
    }
    let image = image.crop_imm((w - wanted[1]) / 2, (h - wanted[0]) / 2, wanted[1], wanted[0]);
    Ok(match channels {
        1 => grey(&image),
        _ => image.into_rgb8().into_raw(),
    })
}

/// Resized by a triangle filter that widens when it shrinks, as Pillow's and torchvision's bilinear with antialiasing.
fn sized(image: DynamicImage, wanted: [u32; 2], options: &ImageOptions) -> Result<DynamicImage, String> {
    let (w, h) = image.dimensions();
    let scaled = |side: u32, by: u32, of: u32| (u64::from(side) * u64::from(by) / u64::from(of.max(1))).max(1) as u32;
    let [to_h, to_w] = match options.resize {
        Some(Size::Exact(size)) => size.map(|side| side.get().into()),
        Some(Size::Shorter(side)) if w <= h => [scaled(h, side.get().into(), w), side.get().into()],
        Some(Size::Shorter(side)) => [side.get().into(), scaled(w, side.get().into(), h)],
        None => {
            // Both sides at least as large as wanted, one just so.
            let by_height = [wanted[0], scaled(w, wanted[0], h)];
            if by_height[1] >= wanted[1] { by_height } else { [scaled(h, wanted[1], w), wanted[1]] }
        }
    };
    if [to_h, to_w] == [h, w] {
        return Ok(image);
    }
    if u64::from(to_h) * u64::from(to_w) > MOST_PIXELS {
        return Err(format!("its {h}×{w} pixels would be resized to {to_h}×{to_w}; crop it first"));
    }
    // Eight bits first: what is resized is what would have been stored.
    Ok(match image.color().has_color() {
        true => DynamicImage::ImageRgb8(imageops::resize(&image.into_rgb8(), to_w, to_h, FilterType::Triangle)),
        false => DynamicImage::ImageLuma8(imageops::resize(&image.into_luma8(), to_w, to_h, FilterType::Triangle)),
    })
}

/// ITU-R 601-2 luma in 16-bit fixed point, as Pillow's mode L; grey files as they are.
fn grey(image: &DynamicImage) -> Vec<u8> {
    if !image.color().has_color() {
        return image.to_luma8().into_raw();
    }
    let luma = |p: &[u8]| (19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 0x8000) >> 16;
    image.to_rgb8().as_raw().chunks_exact(3).map(|p| luma(p) as u8).collect()
}
