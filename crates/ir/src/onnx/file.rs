//! From a file to a decoded message, and saying what is wrong with a file that is none.

use super::Error;
use super::proto::ModelProto;
use bytes::{Buf, Bytes};
use memmap2::Mmap;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A file's contents as they were when it was read: whoever cuts it short or writes into it afterwards changes nothing here.
/// A large one is copied into a file without a name and mapped, so that the system can take its memory back.
#[derive(Clone)]
pub struct Map {
    bytes: Bytes,
    mapped: Option<Arc<Mmap>>,
}

/// What [`Bytes`] keeps of a mapping.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    /// Reads or copies a file.
    ///
    /// # Errors
    /// When the file cannot be opened, read or copied, or changes meanwhile.
    pub fn new(path: &Path) -> Result<Map, Error> {
        let failed = |error| Error::Io { path: path.to_path_buf(), error };
        let file = crate::files::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.len() == 0 {
            return Ok(Map { bytes: Bytes::new(), mapped: None });
        }
        let copy = match meta.len() > LARGE {
            // Where there is no room for it, it is read.
            true => copied(&file, meta.len()).ok(),
            false => None,
        };
        let Some(copy) = copy else {
            let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
            std::io::Seek::rewind(&mut (&file)).map_err(failed)?;
            (&file).take(meta.len()).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 != meta.len() {
                return Err(failed(std::io::Error::other("it was changed while it was read")));
            }
            return Ok(Map { bytes: bytes.into(), mapped: None });
        };
        // SAFETY: nobody else can have the copy open, which has no name, or change it.
        let mapped = Arc::new(unsafe { Mmap::map(&copy) }.map_err(failed)?);
        Ok(Map { bytes: Bytes::from_owner(Owner(mapped.clone())), mapped: Some(mapped) })
    }

    /// The contents.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Lets the system have the memory of a part of it, if it is one; read again, it comes from the file again.
    pub fn forget(&self, part: &[u8]) {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        let inside = offset.checked_add(part.len()).is_some_and(|end| end <= self.bytes.len());
        if let (true, Some(mapped)) = (inside, &self.mapped) {
            #[cfg(unix)]
            {
                // SAFETY: pages of a mapping of a file that nobody writes to come back as they were. The advice may be
                // refused; then the memory stays in use.
                _ = unsafe { mapped.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
            }
        }
    }
}

/// Contents of more bytes are copied to a file and not into memory.
const LARGE: u64 = 64 << 20;

/// A copy of a file that has no name.
fn copied(file: &File, length: u64) -> std::io::Result<File> {
    let mut copy = tempfile::tempfile()?;
    match std::io::copy(&mut file.take(length), &mut copy)? == length {
        true => Ok(copy),
        false => Err(std::io::Error::other("it was changed while it was copied")),
    }
}

/// Decodes a model.
///
/// # Errors
/// What kind of file it is instead, that it is truncated, or that it is damaged.
pub fn decode(bytes: Bytes) -> Result<ModelProto, Error> {
    if let Some(what) = other_format(&bytes) {
        return Err(Error::NotOnnx(what));
    }
    let model = match ModelProto::decode(bytes.clone()) {
        Ok(model) => model,
        // Every writer starts with the format version.
        Err(_) if bytes.first() != Some(&0x08) => {
            return Err(Error::NotOnnx("it does not start as a model does".into()));
        }
        Err(e) => return Err(overrun(bytes).map_or_else(|| Error::Damaged(e.to_string()), Error::Truncated)),
    };
    if model.graph.is_none() || model.opset_import.is_empty() {
        let what = if model.graph.is_none() { "no graph" } else { "no opset" };
        return Err(match model.ir_version {
            0 => Error::NotOnnx("the file states no format version".into()),
            _ => Error::Truncated(format!("there is {what} in the {} bytes of the file", bytes.len())),
        });
    }
    Ok(model)
}

/// What the first bytes say, when that is another kind of file.
fn other_format(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(512)];
    let text = !head.is_empty() && head.iter().all(|&b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..));
    let what = match head {
        [] => "the file is empty",
        _ if head.starts_with(b"version https://git-lfs") => "the file is a Git LFS pointer; run `git lfs pull`",
        _ if head.starts_with(b"PK\x03\x04") => "the file is a zip archive, as PyTorch writes; export it to ONNX",
        _ if head.starts_with(b"\x89HDF") => "the file is HDF5, as Keras writes; export it to ONNX",
        _ if head.get(4..8) == Some(b"TFL3") => "the file is a TensorFlow Lite model; convert it with tf2onnx",
        _ if text => "the file looks like text",
        _ => return None,
    };
    Some(what.to_string())
}

/// Walks the outermost fields; says which one reaches past the end of the file.
fn overrun(mut bytes: Bytes) -> Option<String> {
    let total = bytes.len();
    while bytes.has_remaining() {
        let at_end = |needed: &str| Some(format!("the file ends after {total} bytes, {needed}"));
        let Ok((field, wire)) = decode_key(&mut bytes) else {
            return (bytes.remaining() < 10).then(|| at_end("inside a field"))?;
        };
        let length = match wire {
            WireType::Varint => match decode_varint(&mut bytes) {
                Ok(_) => 0,
                Err(_) => return at_end("inside a number"),
            },
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => match decode_varint(&mut bytes) {
                Ok(length) => length,
                Err(_) => return at_end("inside a length"),
            },
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        if length > bytes.remaining() as u64 {
            let what = if field == 7 { "the graph".to_string() } else { format!("field {field}") };
            return at_end(&format!("{what} goes on for {} more", length - bytes.remaining() as u64));
        }
        bytes.advance(length as usize);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};

    #[test]
    fn what_is_written_or_cut_off_after_reading_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        for length in [10_000, LARGE + 10_000] {
            let mut file = File::create(&path).unwrap();
            file.set_len(length).unwrap();
            for at in [0, length - 1] {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&[7]).unwrap();
            }
            let map = Map::new(&path).unwrap();
            // In place, before any of it was looked at; a mapping of the file itself would see it, and fault at the end.
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(&[9; 100]).unwrap();
            file.set_len(100).unwrap();
            let bytes = map.bytes();
            assert_eq!((bytes.len() as u64, bytes[0], bytes[bytes.len() - 1]), (length, 7, 7));
            map.forget(&bytes[4096..8192]);
            assert!(bytes[4096..8192].iter().all(|&b| b == 0));
        }
    }
}
