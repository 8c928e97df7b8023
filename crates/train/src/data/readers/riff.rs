//! The RIFF container of WAV files, as far as real files take it (Microsoft and IBM, Multimedia Programming Interface and
//! Data Specifications 1.0; WAVEFORMATEXTENSIBLE of mmreg.h; EBU Tech 3306 for RF64). `scipy.io.wavfile` gives the same
//! numbers.
//!
//! - A chunk of odd size has a byte after it that belongs to nobody.
//! - Programs that write to a pipe do not know how long the sound will be: a `data` chunk of the largest sizes, or of size 0
//!   before more bytes, goes on to the end of the file. One of a likelier size has as many bytes as it says.
//! - Integers of fewer bits than their container fill it from the top, so that the container alone says how large a number
//!   can be.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Chunks before the sound; a file of millions of empty ones is none that anybody wrote.
const MOST_CHUNKS: usize = 1 << 16;
/// From here on the size of a sound is a guess of a program that could not know it.
const UNKNOWN_SIZE: u32 = 0x7fff_0000;
/// Chunks that stand after a sound.
const AFTER: [&[u8; 4]; 14] = [
    b"LIST", b"fact", b"cue ", b"plst", b"smpl", b"inst", b"bext", b"iXML", b"id3 ", b"ID3 ", b"JUNK", b"PAD ",
    b"PEAK", b"afsp",
];
/// More than any recorder has.
const MOST_CHANNELS: u16 = 1024;

const PCM: u16 = 0x0001;
const FLOAT: u16 = 0x0003;
const EXTENSIBLE: u16 = 0xfffe;
/// What follows the format's number in the identifier of an extensible format, in the order of little-endian files.
const SUBFORMAT: [u8; 12] = [0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
/// The same in big-endian files.
const SUBFORMAT_BIG: [u8; 12] = [0, 0, 0, 0x10, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// Why a sound cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    /// What is wrong with the contents.
    Content(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Content("it ends too early".into()),
            _ => Fault::Io(error),
        }
    }
}

fn content<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Content(what.into()))
}

/// How the numbers of a sound are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Coding {
    is_float: bool,
    /// Bytes of a number: its container.
    bytes: usize,
    big_endian: bool,
}

impl Coding {
    /// A number, −1 to 1 where it is an integer.
    fn number(self, stored: &[u8]) -> f32 {
        let mut wide = [0; 8];
        let part = &mut wide[8 - self.bytes..];
        part.copy_from_slice(stored);
        if self.big_endian {
            part.reverse();
        }
        // The container at the top of 64 bits.
        let bits = u64::from_le_bytes(wide);
        match (self.is_float, self.bytes) {
            (true, 4) => f32::from_bits((bits >> 32) as u32),
            (true, _) => f64::from_bits(bits) as f32,
            // Eight bits are unsigned, around 128.
            (false, 1) => ((bits >> 56) as i32 - 128) as f32 / 128.0,
            // An integer of up to 32 bits becomes f32 with one rounding, and a power of two changes no digit.
            (false, _) => (bits as i64 >> (64 - 8 * self.bytes)) as f32 / (8.0 * self.bytes as f32 - 1.0).exp2(),
        }
    }
}

/// A sound whose samples come next.
pub(super) struct Sound<R> {
    reader: BufReader<R>,
    /// Samples a second.
    pub rate: u32,
    pub channels: u16,
    coding: Coding,
    /// Bytes of samples that are left; `None`: all up to the file's end.
    left: Option<u64>,
}

impl<R: Read + Seek> Sound<R> {
    /// Reads up to the first sample.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(file: R) -> Result<Sound<R>, Fault> {
        let mut reader = BufReader::new(file);
        let mut head = [0; 12];
        reader.read_exact(&mut head).or_else(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => content("it ends within its first 12 bytes"),
            _ => Err(Fault::Io(e)),
        })?;
        let (big_endian, wide) = match &head[..4] {
            b"RIFF" => (false, false),
            b"RIFX" => (true, false),
            b"RF64" | b"BW64" => (false, true),
            b"FORM" => return content("it is an AIFF file; convert it to WAV"),
            b"fLaC" => return content("it is a FLAC file; convert it to WAV"),
            b"OggS" => return content("it is an Ogg file; convert it to WAV"),
            [b'I', b'D', b'3', _] | [0xff, 0xe0..=0xff, ..] => return content("it is an MP3 file; convert it to WAV"),
            _ => return content("it does not begin with RIFF"),
        };
        if &head[8..] != b"WAVE" {
            return content("it is a RIFF file, but not of the form WAVE");
        }
        let number = |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let (mut format, mut long) = (None, None);
        for _ in 0..MOST_CHUNKS {
            let mut chunk = [0; 8];
            reader.read_exact(&mut chunk).or_else(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => content("it ends before a chunk \"data\""),
                _ => Err(Fault::Io(e)),
            })?;
            let [a, b, c, d, size @ ..] = chunk;
            let size = number(size);
            match &[a, b, c, d] {
                b"data" => {
                    let Some((rate, channels, coding)) = format else {
                        return content("its chunk \"data\" comes before \"fmt \"");
                    };
                    let left = match size {
                        u32::MAX if wide => long,
                        UNKNOWN_SIZE.. => None,
                        // Nobody came back to say how many there are: what follows is the sound.
                        0 if !at_chunk(&mut reader)? => None,
                        size => Some(size.into()),
                    };
                    return Ok(Sound { reader, rate, channels, coding, left });
                }
                b"fmt " if format.is_none() => {
                    let mut bytes = vec![];
                    // No format has more than 40.
                    let taken = u64::from(size.min(64));
                    reader.by_ref().take(taken).read_to_end(&mut bytes)?;
                    format = Some(parse(&bytes, big_endian)?);
                    skip(&mut reader, u64::from(size) - taken)?;
                }
                b"ds64" if wide && size >= 16 => {
                    let mut sizes = [0; 16];
                    reader.read_exact(&mut sizes)?;
                    long = sizes.last_chunk().map(|&bytes| u64::from_le_bytes(bytes));
                    skip(&mut reader, u64::from(size) - 16)?;
                }
                _ => skip(&mut reader, size.into())?,
            }
            if !size.is_multiple_of(2) {
                skip(&mut reader, 1)?;
            }
        }
        content("it has too many chunks before \"data\"")
    }

    /// The mean of the channels, sample by sample: as many as wanted, or as there are.
    ///
    /// # Errors
    /// When the file cannot be read, or ends too early.
    pub fn mono(&mut self, wanted: usize) -> Result<Vec<f32>, Fault> {
        let channels = usize::from(self.channels);
        let mut frame = vec![0; channels * self.coding.bytes];
        let mut values = vec![];
        while values.len() < wanted && self.left.is_none_or(|left| left >= frame.len() as u64) {
            match (self.reader.read_exact(&mut frame), &mut self.left) {
                (Ok(()), left) => *left = left.map(|left| left - frame.len() as u64),
                (Err(e), None) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                (Err(e), _) => return Err(e.into()),
            }
            let sum: f32 = frame.chunks_exact(self.coding.bytes).map(|stored| self.coding.number(stored)).sum();
            values.push(sum / channels as f32);
        }
        Ok(values)
    }
}

/// Whether the file ends here, or goes on with another chunk.
fn at_chunk<R: Read + Seek>(reader: &mut BufReader<R>) -> io::Result<bool> {
    let mut name = vec![];
    reader.by_ref().take(4).read_to_end(&mut name)?;
    reader.seek_relative(-(name.len() as i64))?;
    Ok(name.is_empty() || AFTER.iter().any(|after| name == *after))
}

fn skip(reader: &mut (impl Read + Seek), bytes: u64) -> io::Result<()> {
    reader.seek(SeekFrom::Current(i64::try_from(bytes).unwrap_or(i64::MAX))).map(|_| ())
}

/// Rate, channels and coding, of the chunk `fmt `.
fn parse(bytes: &[u8], big_endian: bool) -> Result<(u32, u16, Coding), Fault> {
    let two = |at: usize| {
        let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>().copied());
        let bytes = bytes.ok_or_else(|| Fault::Content("its chunk \"fmt \" is too short".into()))?;
        Ok::<u16, Fault>(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let (mut format, channels, block, bits) = (two(0)?, two(2)?, two(12)?, two(14)?);
    let rate = match big_endian {
        true => u32::from(two(4)?) << 16 | u32::from(two(6)?),
        false => u32::from(two(6)?) << 16 | u32::from(two(4)?),
    };
    if format == EXTENSIBLE {
        // Twenty-four bytes on is the identifier: the format's number in its first four.
        let known = if big_endian { SUBFORMAT_BIG } else { SUBFORMAT };
        if bytes.get(28..40) != Some(&known[..]) {
            return content("its samples are of an extensible format that is none of the usual; convert it to PCM");
        }
        format = if big_endian { two(26)? } else { two(24)? };
    }
    if !(1..=MOST_CHANNELS).contains(&channels) {
        return content(format!("it has {channels} channels; 1 to {MOST_CHANNELS} are read"));
    }
    let bytes = usize::from(block / channels);
    let even = block.is_multiple_of(channels) && usize::from(bits) <= 8 * bytes;
    let coding = Coding { is_float: format == FLOAT, bytes, big_endian };
    match (format, bits, bytes) {
        (PCM, 1..=8, 1) | (PCM, 9..=64, 2..=8) | (FLOAT, 32, 4) | (FLOAT, 64, 8) if even => {
            Ok((rate, channels, coding))
        }
        (PCM | FLOAT, _, _) => {
            let kind = if format == PCM { "integers" } else { "floats" };
            content(format!("its samples are {kind} of {bits} bits in frames of {block} bytes for {channels} channels"))
        }
        _ => {
            let name = match format {
                0x0002 | 0x0011 => " (ADPCM)",
                0x0006 => " (A-law)",
                0x0007 => " (µ-law)",
                0x0031 => " (GSM)",
                0x0050 | 0x0055 => " (MPEG)",
                _ => "",
            };
            content(format!("its samples are coded in the format 0x{format:04x}{name}; convert it to PCM"))
        }
    }
}
