//! JPEG by libjpeg, whose pixels are, bit for bit, those that Pillow gives and most networks were trained on. (Decoders
//! of other descent differ by a step or two in a fifth of the pixels.)

use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, Decompress};
use std::panic::{self, AssertUnwindSafe};

/// The most pixels of one file: what a header promises is not believed beyond this.
const MOST_PIXELS: usize = 1 << 28;

/// The image in a JPEG stream, grey or red, green, blue.
///
/// # Errors
/// Says what is wrong with the stream.
pub(super) fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    if !is_whole(bytes) {
        return Err("the JPEG stream ends too early".into());
    }
    // libjpeg reports errors by unwinding.
    let result = panic::catch_unwind(AssertUnwindSafe(|| decompress(bytes)));
    let result = result.map(|done| done.unwrap_or_else(|e| Err(e.to_string())));
    result
        .unwrap_or_else(|fault| Err(fault.downcast_ref::<String>().cloned().unwrap_or_else(|| "libjpeg failed".into())))
}

fn decompress(bytes: &[u8]) -> std::io::Result<Result<DynamicImage, String>> {
    let stream = Decompress::new_mem(bytes)?;
    let (width, height) = stream.size();
    if width * height > MOST_PIXELS {
        return Ok(Err(format!("{height}×{width} pixels are more than are read")));
    }
    let grey = stream.color_space() == ColorSpace::JCS_GRAYSCALE;
    let mut stream = if grey { stream.grayscale()? } else { stream.rgb()? };
    let pixels = stream.read_scanlines::<u8>()?;
    stream.finish()?;
    let (w, h) = (width as u32, height as u32);
    let image = match grey {
        true => GrayImage::from_raw(w, h, pixels).map(DynamicImage::ImageLuma8),
        false => RgbImage::from_raw(w, h, pixels).map(DynamicImage::ImageRgb8),
    };
    Ok(image.ok_or_else(|| "it holds fewer pixels than its header says".to_string()))
}

/// Whether the last scan has its end. libjpeg paints what is missing grey; marker bytes do not occur inside of scans
/// (ITU-T T.81, B.1.1.5).
fn is_whole(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    let (start_of_scan, end_of_image) = (last(0xda), last(0xd9));
    start_of_scan.is_some() && end_of_image > start_of_scan
}
