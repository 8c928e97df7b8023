//! NumPy's arrays: `.npy` files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>), one by one,
//! in a folder, or in the zip archive that `numpy.savez` writes.

use crate::data::error::{Location, Place};
use crate::data::labels::Labels;
use crate::data::split::{Side, Split};
use crate::data::{Error, Sidecar};
use kdc_ir::files;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Samples of one shape.
#[derive(Clone, Debug)]
pub(crate) struct Arrays {
    pub train: Part,
    pub test: Part,
    /// The extents of a sample.
    pub shape: Vec<usize>,
}

/// One side.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub values: Values,
    pub labels: Labels,
}

/// The elements of samples: bytes stay bytes, everything else becomes `f32`.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>),
}

impl Values {
    /// The same as `f32`.
    pub fn into_numbers(self) -> Vec<f32> {
        match self {
            Values::Bytes(bytes) => bytes.into_iter().map(f32::from).collect(),
            Values::Numbers(numbers) => numbers,
        }
    }
}

/// Reads samples and labels.
///
/// # Errors
/// Names the file, and the array and element in it, that cannot be used.
pub(crate) fn load(path: &Path, sidecar: &Sidecar) -> Result<Arrays, Error> {
    let names = &sidecar.source.arrays;
    let mut archive = Archive::open(path)?;
    let mut pair = |samples: (&Option<String>, &[&str]), labels: (&Option<String>, &[&str])| {
        let (name, samples) = archive.required(samples.0, samples.1)?;
        let labels = archive.find(labels.0, labels.1)?;
        if samples.len() == 0 || samples.shape.len() < 2 {
            let what =
                format!("\"{name}\" has the extents {:?}; samples are [count, …], none of them 0", samples.shape);
            return Err(Location::whole(path).error(what));
        }
        if let (Some((_, labels)), n) = (&labels, samples.shape.first().copied().unwrap_or(0))
            && labels.len() != n
        {
            let what = format!("{n} samples in \"{name}\", but {} labels", labels.len());
            return Err(Location::whole(path).error(what));
        }
        Ok((name, samples, labels))
    };
    let all = pair((&names.samples, &["x_train", "x"]), (&names.labels, &["y_train", "y"]))?;
    match &sidecar.source.split {
        Some(Split::Parts { .. }) => {
            let what = "[split] names train and test: arrays are named in [arrays]; give a ratio here, or nothing";
            Err(Location::whole(path).error(what))
        }
        Some(split) => part(path, all, split),
        None => {
            let test = pair(
                (&names.test_samples, &["x_test", "x_val", "x_valid", "x_validation"]),
                (&names.test_labels, &["y_test", "y_val", "y_valid", "y_validation"]),
            )?;
            if all.1.shape[1..] != test.1.shape[1..] {
                let what = format!(
                    "samples of \"{}\" are {:?}, those of \"{}\" {:?}",
                    all.0,
                    &all.1.shape[1..],
                    test.0,
                    &test.1.shape[1..]
                );
                return Err(Location::whole(path).error(what));
            }
            let shape = all.1.shape[1..].to_vec();
            Ok(Arrays { train: whole(path, all)?, test: whole(path, test)?, shape })
        }
    }
}

/// A named array of samples, and one of labels.
type Pair = (String, Array, Option<(String, Array)>);

fn whole(path: &Path, (name, samples, labels): Pair) -> Result<Part, Error> {
    let all: Vec<usize> = (0..samples.shape[0]).collect();
    Ok(Part { values: samples.values(path, &name)?, labels: spelled(path, &all, labels.as_ref())? })
}

fn part(path: &Path, (name, samples, labels): Pair, split: &Split) -> Result<Arrays, Error> {
    let size: usize = samples.shape[1..].iter().product();
    let row = size * samples.kind.size;
    let mut sides = [vec![], vec![]];
    for index in 0..samples.shape[0] {
        let content = || blake3::hash(&samples.bytes[index * row..][..row]);
        let at = || Location { path: path.into(), place: Place::Element(name.clone(), index) };
        let side = split.side(|_| None, content).map_err(|what| at().error(what))?;
        sides[usize::from(side == Side::Test)].push(index);
    }
    let values = samples.values(path, &name)?;
    let [train, test] = sides.map(|indices| {
        let rows = |range: usize| range * size..(range + 1) * size;
        let values = match &values {
            Values::Bytes(v) => Values::Bytes(indices.iter().flat_map(|&i| v[rows(i)].iter()).copied().collect()),
            Values::Numbers(v) => Values::Numbers(indices.iter().flat_map(|&i| v[rows(i)].iter()).copied().collect()),
        };
        Ok::<_, Error>(Part { values, labels: spelled(path, &indices, labels.as_ref())? })
    });
    Ok(Arrays { train: train?, test: test?, shape: samples.shape[1..].to_vec() })
}

/// The labels of some samples as text.
fn spelled(path: &Path, indices: &[usize], labels: Option<&(String, Array)>) -> Result<Labels, Error> {
    let mut spelled = Labels::default();
    for &index in indices {
        let Some((name, array)) = labels else {
            spelled.push(None, || Location::whole(path));
            continue;
        };
        let at = || Location { path: path.into(), place: Place::Element(name.clone(), index) };
        let text = array.text(index);
        let text = text.ok_or_else(|| at().error("it is no label: labels are whole numbers or texts"))?;
        spelled.push(Some(&text), at);
    }
    Ok(spelled)
}

/// Where arrays are found by name.
enum Archive<'a> {
    Zip(&'a Path, Box<zip::ZipArchive<BufReader<File>>>),
    /// A folder, or one file.
    Files(&'a Path, Vec<(String, std::path::PathBuf)>),
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Archive<'a>, Error> {
        let named =
            |path: std::path::PathBuf| (path.file_stem().map_or(String::new(), |s| s.to_string_lossy().into()), path);
        let is_npy = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "npy");
        if path.is_dir() {
            let (_, files) = crate::data::folders::list(path)?;
            return Ok(Archive::Files(path, files.into_iter().filter(is_npy).map(named).collect()));
        }
        if is_npy(&path.to_path_buf()) {
            return Ok(Archive::Files(path, vec![named(path.into())]));
        }
        let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let zip = zip::ZipArchive::new(BufReader::new(file))
            .map_err(|e| Location::whole(path).error(format!("it is no npz file: {e}")))?;
        Ok(Archive::Zip(path, Box::new(zip)))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Archive::Zip(_, zip) => zip.file_names().filter_map(|n| n.strip_suffix(".npy")).map(String::from).collect(),
            Archive::Files(_, files) => files.iter().map(|(name, _)| name.clone()).collect(),
        };
        names.sort();
        names
    }

    fn path(&self) -> &'a Path {
        match self {
            Archive::Zip(path, _) | Archive::Files(path, _) => path,
        }
    }

    /// The array of the name given, else of the first of the usual names that is there.
    fn find(&mut self, given: &Option<String>, usual: &[&str]) -> Result<Option<(String, Array)>, Error> {
        let names = self.names();
        let there = |name: &&str| names.iter().any(|n| n == name);
        let name = match given {
            Some(name) if !there(&name.as_str()) => {
                let what = format!("there is no array \"{name}\"; there are {}", names.join(", "));
                return Err(Location::whole(self.path()).error(what));
            }
            Some(name) => name.clone(),
            None => match usual.iter().find(|name| there(name)) {
                Some(name) => name.to_string(),
                None => return Ok(None),
            },
        };
        let array = self.read(&name)?;
        Ok(Some((name, array)))
    }

    fn required(&mut self, given: &Option<String>, usual: &[&str]) -> Result<(String, Array), Error> {
        let found = self.find(given, usual)?;
        found.ok_or_else(|| {
            let what = format!(
                "there is no array {}; there are {}; name it in the sidecar's [arrays]",
                usual.join(" or "),
                self.names().join(", ")
            );
            Location::whole(self.path()).error(what)
        })
    }

    fn read(&mut self, name: &str) -> Result<Array, Error> {
        match self {
            Archive::Zip(path, zip) => {
                let file = zip.by_name(&format!("{name}.npy"));
                let mut file = file.map_err(|e| Location::whole(*path).error(format!("array \"{name}\": {e}")))?;
                let stored = file.compressed_size();
                Array::parse(&mut file, stored)
                    .map_err(|what| Location::whole(*path).error(format!("array \"{name}\": {what}")))
            }
            Archive::Files(_, files) => {
                let path =
                    files.iter().find(|(n, _)| n == name).map(|(_, path)| path.as_path()).unwrap_or(Path::new(""));
                let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
                let stored = file.metadata().map_err(|source| Error::Read { path: path.into(), source })?.len();
                Array::parse(&mut BufReader::new(file), stored).map_err(|what| Location::whole(path).error(what))
            }
        }
    }
}

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    /// NumPy's letter: `f`, `i`, `u`, `b`, `U` (UCS-4 text), `S` (bytes).
    letter: u8,
    /// Bytes of an element.
    size: usize,
    big_endian: bool,
}

/// An array in C order.
#[derive(Clone, Debug)]
struct Array {
    shape: Vec<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

const MAGIC: &[u8] = b"\x93NUMPY";

impl Array {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Nothing is believed that the bytes that follow do not bear out. `stored`: the bytes of the file, compressed or not.
    fn parse(reader: &mut dyn Read, stored: u64) -> Result<Array, String> {
        let short = |e: std::io::Error| format!("it ends too early or is damaged ({e})");
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(short)?;
        if !start.starts_with(MAGIC) {
            return Err("it is no npy file: it does not begin with \\x93NUMPY".into());
        }
        let mut length = [0; 4];
        reader.read_exact(&mut length[..if start[6] == 1 { 2 } else { 4 }]).map_err(short)?;
        let length = u32::from_le_bytes(length);
        if length > 1 << 20 {
            return Err(format!("its header of {length} bytes is no npy header"));
        }
        let mut header = vec![0; length as usize];
        reader.read_exact(&mut header).map_err(short)?;
        let header = String::from_utf8_lossy(&header);
        let (kind, fortran, shape) = Array::header(&header)?;
        let bytes = shape.iter().try_fold(kind.size as u64, |product, &n| product.checked_mul(n as u64));
        let promised =
            bytes.filter(|&n| n < isize::MAX as u64).ok_or(format!("its extents {shape:?} are too large"))?;
        super::expands(stored, promised)?;
        // Memory grows with what really comes, not with the promise.
        let mut bytes = Vec::with_capacity(promised.min(1 << 24) as usize);
        reader.take(promised + 1).read_to_end(&mut bytes).map_err(short)?;
        if bytes.len() as u64 != promised {
            let there = if bytes.len() as u64 > promised { "more".into() } else { bytes.len().to_string() };
            return Err(format!("its extents {shape:?} promise {promised} bytes, it holds {there}"));
        }
        let array = Array { shape, kind, bytes };
        Ok(if fortran { array.in_c_order() } else { array })
    }

    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 40), }`
    fn header(text: &str) -> Result<(Kind, bool, Vec<usize>), String> {
        let value = |key: &str| {
            let after = text.split_once(&format!("'{key}'")).and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
            after.map(str::trim_start).ok_or_else(|| format!("its header has no '{key}': {}", text.trim_end()))
        };
        let descr = value("descr")?;
        let unread = || {
            let shown = descr.split(", 'fortran").next().unwrap_or_default();
            format!("elements of the type {shown} are not read; save numbers (float, int, uint, bool) or texts")
        };
        let descr = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d).ok_or_else(unread)?;
        let (&[order, letter], size) = descr.as_bytes().split_first_chunk::<2>().ok_or_else(unread)?;
        let size: usize = std::str::from_utf8(size).ok().and_then(|s| s.parse().ok()).ok_or_else(unread)?;
        let size = match (letter, size) {
            (b'f', 2 | 4 | 8) | (b'i' | b'u', 1 | 2 | 4 | 8) | (b'b', 1) => size,
            (b'U', 1..=65536) => 4 * size,
            (b'S', 1..=65536) => size,
            _ => return Err(unread()),
        };
        let fortran = value("fortran_order")?.starts_with("True");
        let shape = value("shape")?.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s);
        let extents = shape.unwrap_or("?").split(',').map(str::trim).filter(|n| !n.is_empty());
        let shape = extents.map(|n| n.trim_end_matches('L').parse()).collect::<Result<Vec<usize>, _>>();
        let shape = shape.map_err(|_| format!("its header has no usable shape: {}", text.trim_end()))?;
        Ok((Kind { letter, size, big_endian: order == b'>' }, fortran, shape))
    }

    fn in_c_order(self) -> Array {
        let rank = self.shape.len();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut index = vec![0; rank];
        for _ in 0..self.len() {
            let mut at = 0;
            for axis in (0..rank).rev() {
                at = at * self.shape[axis] + index[axis];
            }
            bytes.extend_from_slice(&self.bytes[at * self.kind.size..][..self.kind.size]);
            for axis in (0..rank).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Array { bytes, ..self }
    }

    fn element(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.kind.size..][..self.kind.size]
    }

    /// The bits of a number; `None` for texts.
    fn bits(&self, index: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        let element = self.element(index);
        let size = element.len();
        if matches!(self.kind.letter, b'U' | b'S') || size > 8 {
            return None;
        }
        bytes[..size].copy_from_slice(element);
        if self.kind.big_endian {
            bytes[..size].reverse();
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// An element that is stored as an integer; `None` for others.
    fn whole(&self, index: usize) -> Option<i128> {
        let bits = self.bits(index)?;
        let shift = 64 - 8 * self.kind.size as u32;
        match self.kind.letter {
            b'i' => Some(((bits << shift) as i64 >> shift).into()),
            b'u' | b'b' => Some(bits.into()),
            _ => None,
        }
    }

    /// An element as a number; `None` for texts.
    fn number(&self, index: usize) -> Option<f64> {
        let unsigned = self.bits(index)?;
        Some(match (self.kind.letter, self.kind.size) {
            (b'f', 2) => half::f16::from_bits(unsigned as u16).to_f64(),
            (b'f', 4) => f64::from(f32::from_bits(unsigned as u32)),
            (b'f', _) => f64::from_bits(unsigned),
            _ => self.whole(index)? as f64,
        })
    }

    /// An element as a label; `None` where it is none.
    fn text(&self, index: usize) -> Option<String> {
        let text: String = match self.kind.letter {
            b'U' => {
                let code =
                    |b: &[u8; 4]| if self.kind.big_endian { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
                let (codes, _) = self.element(index).as_chunks::<4>();
                codes.iter().map(|c| char::from_u32(code(c))).collect::<Option<String>>()?
            }
            b'S' => String::from_utf8(self.element(index).to_vec()).ok()?,
            _ => {
                let real = || self.number(index).filter(|x| x.fract() == 0.0).map(|x| x.to_string());
                return self.whole(index).map(|x| x.to_string()).or_else(real);
            }
        };
        let text = text.trim_end_matches('\0');
        (!text.is_empty()).then(|| text.to_string())
    }

    /// All elements.
    fn values(&self, path: &Path, name: &str) -> Result<Values, Error> {
        if self.kind.letter == b'u' && self.kind.size == 1 {
            return Ok(Values::Bytes(self.bytes.clone()));
        }
        let per_sample: usize = self.shape[1..].iter().product();
        let number = |index: usize| {
            let place = Place::Element(name.into(), index / per_sample.max(1));
            let at = || Location { path: path.into(), place };
            match self.number(index) {
                None => Err(Location::whole(path).error(format!("array \"{name}\" holds texts; samples are numbers"))),
                Some(x) if !(x as f32).is_finite() => Err(at().error(format!("a value is {x}; samples are finite"))),
                Some(x) => Ok(x as f32),
            }
        };
        Ok(Values::Numbers((0..self.len()).map(number).collect::<Result<_, _>>()?))
    }
}
