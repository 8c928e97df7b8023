//! The IDX format of MNIST and its relatives (<http://yann.lecun.com/exdb/mnist/>): two zero bytes, a type byte, the
//! number of extents, the extents as big-endian 32-bit numbers, the elements row-major. Plain or gzipped.

use crate::data::{Error, Samples};
use flate2::read::MultiGzDecoder;
use kdc_ir::files;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The type byte of unsigned bytes, the only one images and labels use.
const UNSIGNED_BYTE: u8 = 0x08;

/// Reads training samples, test samples and the names of the classes in a folder: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same two with `t10k`,
/// each plain or with `.gz`. Colour images have four extents (`idx4`: count, height, width, channels).
/// Without `classes`, labels are named by their numbers.
///
/// # Errors
/// Names the file that is missing or malformed, the files that disagree, or the label outside `classes`.
pub(crate) fn load(folder: &Path, classes: Option<&[String]>) -> Result<(Samples, Samples, Vec<String>), Error> {
    let (train, train_labels) = part(folder, "train")?;
    let (test, test_labels) = part(folder, "t10k")?;
    if train.shape != test.shape {
        let text = |[h, w, c]: [usize; 3]| format!("{h} x {w} x {c}");
        return Err(Error::Shape { folder: folder.into(), train: text(train.shape), test: text(test.shape) });
    }
    let class_names = match classes {
        Some(names) => names.to_vec(),
        // Test labels may not enlarge the set of classes: a class nobody can learn is an error in the data.
        None => {
            (0..=train.labels.iter().flatten().copied().max().unwrap_or(0)).map(|label| label.to_string()).collect()
        }
    };
    for (samples, path) in [(&train, train_labels), (&test, test_labels)] {
        let outside = |(_, label): &(usize, u16)| usize::from(*label) >= class_names.len();
        let mut labels = samples.labels.iter().enumerate().filter_map(|(i, label)| Some((i, (*label)?)));
        if let Some((index, label)) = labels.find(outside) {
            return Err(Error::Label { path, index, label, classes: class_names.len() });
        }
    }
    Ok((train, test, class_names))
}

/// One half of a set, and the file its labels came from.
fn part(folder: &Path, prefix: &str) -> Result<(Samples, PathBuf), Error> {
    let find = |names: &[&str]| {
        let candidates = names.iter().flat_map(|n| [format!("{prefix}-{n}"), format!("{prefix}-{n}.gz")]);
        let found = candidates.map(|name| folder.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| Error::Missing { folder: folder.into(), name: format!("{prefix}-{}[.gz]", names[0]) })
    };
    let image_file = find(&["images-idx3-ubyte", "images-idx4-ubyte"])?;
    let label_file = find(&["labels-idx1-ubyte"])?;

    let (extents, pixels) = read(&image_file)?;
    let (count, shape) = match extents[..] {
        [n, h, w] => (n, [h, w, 1]),
        [n, h, w, c] => (n, [h, w, c]),
        _ => {
            let what = format!("{} extents, images have 3 (count, height, width) or 4 (and channels)", extents.len());
            return Err(Error::Idx { path: image_file, what });
        }
    };
    let (extents, labels) = read(&label_file)?;
    let [labelled] = extents[..] else {
        let what = format!("{} extents, labels have 1 (count)", extents.len());
        return Err(Error::Idx { path: label_file, what });
    };
    if count != labelled {
        return Err(Error::Count { image_file, images: count, label_file, labels: labelled });
    }
    let labels = labels.into_iter().map(|label| Some(label.into())).collect();
    Ok((Samples { shape, pixels, labels }, label_file))
}

/// The extents and the bytes of one file. Nothing is believed that the file's length does not bear out.
fn read(path: &Path) -> Result<(Vec<usize>, Vec<u8>), Error> {
    let unreadable = |source| Error::Read { path: path.into(), source };
    let file = files::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let gzipped = path.extension().is_some_and(|e| e == "gz");
    let mut reader: Box<dyn Read> = if gzipped {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file))))
    } else {
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    parse(&mut reader, length, gzipped).map_err(|e| match e {
        Fault::Malformed(what) => Error::Idx { path: path.into(), what },
        // What a decompressor objects to is the contents, not the disk.
        Fault::Io(e) if gzipped && e.raw_os_error().is_none() => {
            Error::Idx { path: path.into(), what: format!("the gzip stream is damaged ({e})") }
        }
        Fault::Io(source) => unreadable(source),
    })
}

enum Fault {
    Malformed(String),
    Io(std::io::Error),
}

/// `length`: the bytes there are in all, compressed or not.
fn parse(reader: &mut dyn Read, length: u64, gzipped: bool) -> Result<(Vec<usize>, Vec<u8>), Fault> {
    let malformed = |what: String| Err(Fault::Malformed(what));
    let mut magic = [0u8; 4];
    header(reader, &mut magic)?;
    let [0, 0, kind, rank] = magic else {
        return malformed(format!("it begins with {magic:02x?}, an IDX file with two zero bytes"));
    };
    if kind != UNSIGNED_BYTE {
        return malformed(format!("its elements are of type 0x{kind:02x}, only unsigned bytes (0x08) are read"));
    }
    if !(1..=4).contains(&rank) {
        return malformed(format!("it has {rank} extents, 1 to 4 are read"));
    }
    let mut extents = Vec::with_capacity(usize::from(rank));
    for _ in 0..rank {
        let mut bytes = [0u8; 4];
        header(reader, &mut bytes)?;
        extents.push(u32::from_be_bytes(bytes) as usize);
    }
    if extents.contains(&0) {
        return malformed(format!("its extents {extents:?} leave no elements"));
    }
    let promised = extents.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
    let Some(promised) = promised.filter(|&n| n < isize::MAX as u64) else {
        return malformed(format!("its extents {extents:?} are more than memory can hold"));
    };
    if gzipped {
        super::expands(length, promised).map_err(Fault::Malformed)?;
    } else {
        let present = length.saturating_sub(4 + 4 * u64::from(rank));
        if present != promised {
            return malformed(format!("its extents {extents:?} promise {promised} bytes, it holds {present}"));
        }
    }
    // Of a compressed file only the decompressed bytes tell: memory grows with what really comes, not with the promise.
    let mut bytes = Vec::with_capacity(promised.min(1 << 24) as usize);
    reader.take(promised + 1).read_to_end(&mut bytes).map_err(Fault::Io)?;
    match bytes.len() as u64 {
        n if n < promised => malformed(format!("its extents {extents:?} promise {promised} bytes, it holds {n}")),
        n if n > promised => {
            malformed(format!("bytes follow after the {promised} that its extents {extents:?} promise"))
        }
        _ => Ok((extents, bytes)),
    }
}

fn header(reader: &mut dyn Read, bytes: &mut [u8; 4]) -> Result<(), Fault> {
    reader.read_exact(bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Malformed("it ends within its header".into()),
        _ => Fault::Io(e),
    })
}
