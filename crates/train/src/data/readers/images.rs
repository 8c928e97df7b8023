//! Folders of PNG and JPEG files, decoded to bytes in the network's own extents.

use super::jpeg;
use crate::data::error::Location;
use crate::data::folders::{self, Entry, Search};
use crate::data::labels::{Classes, resolve};
use crate::data::{Error, ImageOptions, Samples, Sidecar, Size};
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView, GrayImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use kdc_ir::files;
use rayon::prelude::*;
use std::io::Cursor;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most pixels an image is resized to, one side before the other: a strip of 1 × 60,000 must not become gigabytes.
const MOST_PIXELS: u64 = 1 << 25;
/// The most pixels of a file, which are those that Pillow decodes without a warning: what a header promises is not believed
/// beyond this.
pub(super) const MOST_ENCODED_PIXELS: u64 = 89_478_485;
/// The most bytes that decoding a file may take at once.
const MOST_DECODED: u64 = 1 << 29;
/// The most bytes of a file.
const MOST_BYTES: u64 = 1 << 29;
/// Images of more pixels than this are decoded one at a time, whatever number of threads there is.
const LARGE_PIXELS: u64 = 1 << 24;
static LARGE: Mutex<()> = Mutex::new(());

/// Training samples, test samples and the classes below a folder. `shape`: height, width and channels of the network's
/// input; one channel is grey, three are red, green, blue.
///
/// # Errors
/// Names the file or folder that cannot be used.
pub(crate) fn load(
    root: &Path,
    sidecar: &Sidecar,
    shape: [usize; 3],
    outputs: usize,
) -> Result<(Samples, Samples, Classes), Error> {
    let search = Search {
        kind: "PNG or JPEG",
        extensions: &["png", "jpg", "jpeg"],
        pattern: sidecar.source.names.as_ref(),
        split: sidecar.source.split.as_ref(),
    };
    let (train, test) = folders::find(root, &search)?;
    let (train_labels, test_labels) = (folders::labels(&train), folders::labels(&test));
    let mut classes = resolve(&train_labels, &test_labels, sidecar.classes.as_deref(), outputs)?;
    let options = &sidecar.source.images;
    let mut turned = 0;
    let mut samples = |entries: &[Entry], labels: &mut Vec<Option<u16>>| -> Result<Samples, Error> {
        let (pixels, more) = decode_all(entries, shape, options)?;
        turned += more;
        Ok(Samples { shape, pixels, labels: std::mem::take(labels) })
    };
    let (train, test) = (samples(&train, &mut classes.train)?, samples(&test, &mut classes.test)?);
    if turned > 0 {
        let all = train.len() + test.len();
        classes.notes.push(format!(
            "{turned} of {all} images say by EXIF that they are to be turned; they are read as they are stored, as Pillow and \
             torchvision read them"
        ));
    }
    Ok((train, test, classes))
}

/// All files, in parallel, each straight to its place, and how many say that they are to be turned: beyond the result,
/// memory holds one image per thread.
fn decode_all(entries: &[Entry], shape: [usize; 3], options: &ImageOptions) -> Result<(Vec<u8>, usize), Error> {
    let size: usize = shape.iter().product();
    let mut pixels = super::room(entries.len(), size)?;
    let places = pixels.par_chunks_mut(size.max(1)).zip(entries);
    // All results are collected so that the error is the first file's, not the first thread's.
    let one = |(place, entry): (&mut [u8], &Entry)| {
        let (bytes, turned) = decode(&entry.path, shape, options)?;
        place.copy_from_slice(&bytes);
        Ok(turned)
    };
    let results: Vec<Result<bool, Error>> = places.map(one).collect();
    let turned = results.into_iter().collect::<Result<Vec<bool>, Error>>()?;
    Ok((pixels, turned.into_iter().filter(|turned| *turned).count()))
}

/// The pixels of a file in these extents, and whether it says that they are to be turned.
fn decode(
    path: &Path,
    [height, width, channels]: [usize; 3],
    options: &ImageOptions,
) -> Result<(Vec<u8>, bool), Error> {
    let at = || Location::whole(path);
    let unreadable = |source| Error::Read { path: path.into(), source };
    let bytes = files::read(path, MOST_BYTES).map_err(unreadable)?;
    // Held until the image is as small as the network wants it.
    let (image, orientation, _alone) =
        pixels(&bytes).map_err(|what| at().error(format!("it cannot be decoded: {what}")))?;
    let turned = orientation.is_some_and(|o| o != Orientation::NoTransforms);
    let wanted = [height as u32, width as u32];
    let image = sized(image, wanted, options).map_err(|what| at().error(what))?;
    let [h, w] = [image.height(), image.width()];
    if h < wanted[0] || w < wanted[1] {
        let what = format!("after resizing it is {h}×{w}, the network wants {height}×{width}; see resize in [images]");
        return Err(at().error(what));
    }
    let image = image.crop_imm((w - wanted[1]) / 2, (h - wanted[0]) / 2, wanted[1], wanted[0]);
    let pixels = match channels {
        1 => grey(&image),
        _ => image.into_rgb8().into_raw(),
    };
    Ok((pixels, turned))
}

/// An image, how its camera was held, and what keeps other large ones from being decoded.
type Decoded = (DynamicImage, Option<Orientation>, Option<MutexGuard<'static, ()>>);

fn pixels(bytes: &[u8]) -> Result<Decoded, String> {
    // What a file is, its first bytes say: extensions are often wrong.
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        let stream = jpeg::Stream::of(bytes);
        let alone = alone(stream.width, stream.height)?;
        let image = stream.decode(bytes)?;
        return Ok((image, stream.exif.and_then(Orientation::from_exif_chunk), alone));
    }
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    let alone = alone(width, height)?;
    if decoder.total_bytes() > MOST_DECODED {
        return Err(format!("{height}×{width} pixels take {} bytes, more than are read", decoder.total_bytes()));
    }
    let orientation = decoder.orientation().ok();
    let image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    Ok((eight_bits(image), orientation, alone))
}

/// Lets no other large image in, if this is one.
fn alone(width: u32, height: u32) -> Result<Option<MutexGuard<'static, ()>>, String> {
    match u64::from(width) * u64::from(height) {
        pixels if pixels > MOST_ENCODED_PIXELS => Err(format!("{height}×{width} pixels are more than are read")),
        pixels => Ok((pixels > LARGE_PIXELS).then(|| LARGE.lock().unwrap_or_else(PoisonError::into_inner))),
    }
}

/// The higher byte of each 16 bits, as Pillow reads colours. Alpha is dropped.
fn eight_bits(image: DynamicImage) -> DynamicImage {
    fn high(wide: &[u16], channels: usize, kept: usize) -> Vec<u8> {
        wide.chunks_exact(channels).flat_map(|pixel| pixel[..kept].iter().map(|x| (x >> 8) as u8)).collect()
    }
    let [w, h] = [image.width(), image.height()];
    let grey = |pixels| GrayImage::from_raw(w, h, pixels).map(DynamicImage::ImageLuma8);
    let colour = |pixels| RgbImage::from_raw(w, h, pixels).map(DynamicImage::ImageRgb8);
    let narrow = match &image {
        DynamicImage::ImageLuma16(wide) => grey(high(wide, 1, 1)),
        DynamicImage::ImageLumaA16(wide) => grey(high(wide, 2, 1)),
        DynamicImage::ImageRgb16(wide) => colour(high(wide, 3, 3)),
        DynamicImage::ImageRgba16(wide) => colour(high(wide, 4, 3)),
        _ => None,
    };
    narrow.unwrap_or(image)
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
    if u64::from(to_h) * u64::from(to_w.max(w)) > MOST_PIXELS {
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
