//! JPEG by libjpeg, whose pixels are, bit for bit, those that Pillow gives and most networks were trained on. (Decoders
//! of other descent differ by a step or two in a fifth of the pixels.)

use image::{DynamicImage, GrayImage, RgbImage};
use mozjpeg::{ColorSpace, Decompress};
use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

/// The most pixels that all scans of a file paint together: each scan of a progressive file costs as much as an image.
const MOST_PAINTED: usize = 1 << 31;

impl Stream<'_> {
    /// The image, grey or red, green, blue. `bytes`: those that the stream was found in.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn decode(&self, bytes: &[u8]) -> Result<DynamicImage, String> {
        if !self.is_whole {
            return Err("the JPEG stream ends too early".into());
        }
        // libjpeg reports errors by unwinding.
        let result = panic::catch_unwind(AssertUnwindSafe(|| decompress(bytes, self.scans)));
        let result = result.map(|done| done.unwrap_or_else(|e| Err(e.to_string())));
        let said = |fault: Box<dyn Any + Send>| fault.downcast_ref::<String>().cloned();
        result.unwrap_or_else(|fault| Err(said(fault).unwrap_or_else(|| "libjpeg failed".into())))
    }
}

fn decompress(bytes: &[u8], scans: usize) -> std::io::Result<Result<DynamicImage, String>> {
    let stream = Decompress::new_mem(bytes)?;
    let (width, height) = stream.size();
    if width.saturating_mul(height).saturating_mul(scans) > MOST_PAINTED {
        return Ok(Err(format!("{height}×{width} pixels in {scans} scans are more than are read")));
    }
    let (space, inks) = match stream.color_space() {
        ColorSpace::JCS_GRAYSCALE => (ColorSpace::JCS_GRAYSCALE, 1),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => (ColorSpace::JCS_CMYK, 4),
        _ => (ColorSpace::JCS_RGB, 3),
    };
    let mut stream = stream.to_colorspace(space)?;
    let pixels = stream.read_scanlines::<u8>()?;
    stream.finish()?;
    let (w, h) = (width as u32, height as u32);
    let image = match inks {
        1 => GrayImage::from_raw(w, h, pixels).map(DynamicImage::ImageLuma8),
        3 => RgbImage::from_raw(w, h, pixels).map(DynamicImage::ImageRgb8),
        _ => RgbImage::from_raw(w, h, from_inks(&pixels)).map(DynamicImage::ImageRgb8),
    };
    Ok(image.ok_or_else(|| "it holds fewer pixels than its header says".to_string()))
}

/// Cyan, magenta, yellow and black as Adobe stores them, inverted, to red, green and blue, as Pillow does it.
fn from_inks(pixels: &[u8]) -> Vec<u8> {
    let inks = pixels.as_chunks::<4>().0;
    let light = |ink: u8, paper: u8| {
        // A product of two bytes by 255, rounded.
        let product = u32::from(255 - ink) * u32::from(paper) + 128;
        paper.saturating_sub((((product >> 8) + product) >> 8) as u8)
    };
    inks.iter().flat_map(|&[c, m, y, paper]| [c, m, y].map(|ink| light(ink, paper))).collect()
}

/// What the markers of a stream say (ITU-T T.81, annex B).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stream<'a> {
    pub width: u32,
    pub height: u32,
    /// What the camera says.
    pub exif: Option<&'a [u8]>,
    /// Whether the image has its end. libjpeg paints what is missing grey.
    is_whole: bool,
    scans: usize,
}

impl<'a> Stream<'a> {
    /// Walks from marker to marker up to the end of the first image: whatever follows (the film of a motion photo, a second
    /// image) is left alone. Inside of scans, a byte 0xff that is no marker is followed by a zero.
    pub fn of(bytes: &'a [u8]) -> Stream<'a> {
        let mut stream = Stream { width: 0, height: 0, exif: None, is_whole: false, scans: 0 };
        let mut rest = bytes.get(2..).unwrap_or_default();
        while let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff)) {
            let marker = rest[at + 1];
            rest = &rest[at + 2..];
            match marker {
                0xd9 => {
                    stream.is_whole = stream.scans > 0;
                    break;
                }
                // These stand alone: restarts, the start of an image, and one for arithmetic coding.
                0x01 | 0xd0..=0xd8 => continue,
                0xda => stream.scans += 1,
                _ => {}
            }
            let length = rest.first_chunk().map_or(0, |&length| usize::from(u16::from_be_bytes(length)));
            let segment = rest.get(2..length).unwrap_or_default();
            match (marker, segment) {
                (0xe1, [b'E', b'x', b'i', b'f', 0, 0, exif @ ..]) => stream.exif = stream.exif.or(Some(exif)),
                // Frames, among which are three other markers.
                (0xc0..=0xcf, [_, h1, h0, w1, w0, ..])
                    if !matches!(marker, 0xc4 | 0xc8 | 0xcc) && stream.width == 0 =>
                {
                    [stream.height, stream.width] =
                        [[*h1, *h0], [*w1, *w0]].map(|side| u16::from_be_bytes(side).into());
                }
                _ => {}
            }
            rest = rest.get(length.max(2)..).unwrap_or_default();
        }
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_become_the_colours_that_pillow_makes_of_them() {
        // Image.frombytes("CMYK", (4, 1), …).convert("RGB") of what is not inverted any more.
        let stored = [255, 255, 255, 255, 0, 128, 255, 200, 10, 20, 30, 40, 255, 0, 100, 0];
        assert_eq!(from_inks(&stored), [255, 255, 255, 0, 100, 200, 2, 3, 5, 0, 0, 0]);
    }

    #[test]
    fn an_image_ends_where_its_markers_say() {
        let scan = [0xff, 0xd8, 0xff, 0xda, 0, 4, 1, 2, 0x12, 0xff, 0, 0xff, 0xd0, 0x34];
        let whole = |tail: &[u8]| Stream::of(&[&scan, tail].concat()).is_whole;
        assert!(whole(&[0xff, 0xd9]) && whole(&[0xff, 0xff, 0xd9, 0xff, 0xda, 7, 7]) && !whole(&[]) && !whole(&[0xff]));
        // An end inside of a comment is none.
        assert!(!whole(&[0xff, 0xfe, 0, 4, 0xff, 0xd9]));
        assert!(!Stream::of(&[0xff, 0xd8, 0xff, 0xd9]).is_whole, "no scan");
    }
}
