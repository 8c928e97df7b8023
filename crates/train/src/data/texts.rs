//! Texts as token numbers for networks that read them.

use super::augment::{self, Kind};
use super::error::Location;
use super::masking::{MaskedTokens, Masking};
use super::views::{Input, Preview, SampleView, View};
use super::{Augment, Dataset, Error, TextOptions};
use kdc_ir::graph::{DType, Data, Dim, Graph, Tensor, shape_text};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use tokenizers::{Tokenizer, TruncationParams};

/// The most bytes of a tokenizer.
const MOST_BYTES: u64 = 1 << 28;

/// What one input of the network is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
}

/// From texts to the inputs of one network.
#[derive(Clone)]
pub(super) struct Encoder {
    tokenizer: Arc<Tokenizer>,
    roles: Vec<Role>,
    inputs: Vec<Input>,
    /// The number of the token that fills up.
    padding: u32,
    /// Tokens of a sample, padding included.
    length: usize,
    masking: Option<Masking>,
    /// In views: what stands for a token that is dropped, and the share of those.
    dropout: Option<(u32, f64)>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The tokenizer would be pages of automata.
        f.debug_struct("Encoder").field("roles", &self.roles).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Reads the tokenizer and finds out what the network's inputs are. `hides`: some tokens are masked, and the network is
    /// to find them.
    ///
    /// # Errors
    /// Names the tokenizer's file, the input that is none of the three, or what cannot be done to texts.
    pub fn new(options: &TextOptions, network: &Graph, hides: bool, augment: Augment) -> Result<Encoder, Error> {
        augment.check(Kind::Texts)?;
        let fail = |what: String| Err(Error::Mismatch { what });
        let at = || Location::whole(&options.tokenizer);
        let bytes = kdc_ir::files::read(&options.tokenizer, MOST_BYTES)
            .map_err(|source| Error::Read { path: options.tokenizer.clone(), source })?;
        let mut tokenizer = guarded(|| Tokenizer::from_bytes(&bytes))
            .map_err(|e| at().error(format!("it is no tokenizer.json of HuggingFace's tokenizers: {e}")))?;
        let (mut roles, mut inputs) = (vec![], vec![]);
        for &id in &network.inputs {
            let value = network.value(id);
            let [_, Dim::Fixed(length)] = value.shape[..] else {
                let shape = shape_text(&value.shape);
                return fail(format!("its input {} is {shape}, texts become [batch,tokens]", value.name));
            };
            let role = match value.name.as_str() {
                name if name == options.ids || network.inputs.len() == 1 => Role::Ids,
                name if name == options.mask => Role::Mask,
                name if name == options.types => Role::Types,
                name => {
                    let TextOptions { ids, mask, types, .. } = options;
                    return fail(format!(
                        "its input {name} is none of {ids}, {mask} and {types}; name it as ids, mask or types in [text]"
                    ));
                }
            };
            if !matches!(value.dtype, DType::I64 | DType::I32 | DType::F32) {
                return fail(format!(
                    "its input {} is of type {}; tokens are i64, i32 or f32",
                    value.name, value.dtype
                ));
            }
            roles.push(role);
            inputs.push(Input { name: Some(value.name.clone()), dtype: value.dtype, shape: vec![length] });
        }
        let Some(length) = inputs.first().map(|input: &Input| input.shape[0]) else {
            return fail("it has no input".into());
        };
        if inputs.iter().any(|input| input.shape != [length]) {
            return fail("its inputs take different numbers of tokens".into());
        }
        let max_length = options.max_length.unwrap_or(length);
        if max_length > length || max_length == 0 {
            return fail(format!("max_length of [text] is {max_length}, the network takes {length} tokens"));
        }
        let special = guarded(|| tokenizer.encode("", true)).map_or(0, |encoding| encoding.get_ids().len());
        if max_length <= special {
            return fail(format!("max_length {max_length} leaves no room beside the {special} special tokens"));
        }
        let padding = match tokenizer.get_padding() {
            Some(padding) => padding.pad_id,
            None => ["[PAD]", "<pad>"].iter().find_map(|token| tokenizer.token_to_id(token)).unwrap_or(0),
        };
        let masking = hides.then(|| masking(&tokenizer, network, &options.tokenizer)).transpose()?;
        let dropout = match augment.token_dropout {
            0.0 => None,
            _ if hides => return fail("answers = \"tokens\" hides tokens itself; leave token_dropout out".into()),
            share => {
                let stands = ["[MASK]", "<mask>", "[UNK]", "<unk>"].iter().find_map(|t| tokenizer.token_to_id(t));
                let what =
                    "it has no token [MASK], <mask>, [UNK] or <unk>, which token_dropout puts in place of others";
                Some((stands.ok_or_else(|| at().error(what))?, share))
            }
        };
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| at().error(format!("max_length {max_length}: {e}")))?;
        Ok(Encoder { tokenizer: Arc::new(tokenizer), roles, inputs, padding, length, masking, dropout })
    }

    /// The texts as samples.
    ///
    /// # Errors
    /// When the tokenizer cannot encode them; names its file.
    pub fn encode(&self, texts: Vec<String>, labels: Vec<Option<u16>>, tokenizer: &Path) -> Result<Texts, Error> {
        let encodings = guarded(|| self.tokenizer.encode_batch(texts, true))
            .map_err(|e| Location::whole(tokenizer).error(format!("it cannot encode the texts: {e}")))?;
        let (mut ids, mut types, mut ends, mut special) = (vec![], vec![], vec![], vec![]);
        for encoding in encodings {
            let count = encoding.get_ids().len().min(self.length);
            ids.extend_from_slice(&encoding.get_ids()[..count]);
            types.extend(encoding.get_type_ids()[..count].iter().map(|&t| t as u8));
            special.extend(encoding.get_special_tokens_mask()[..count].iter().map(|&s| s != 0));
            ends.push(ids.len());
        }
        Ok(Texts { encoder: self.clone(), ids, types, special, ends, labels })
    }
}

/// Calls the tokenizer's library, some of whose `expect`s a damaged file breaks.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("it says what its library does not expect".into()),
    }
}

/// How tokens are hidden with this tokenizer from this network.
fn masking(tokenizer: &Tokenizer, network: &Graph, path: &Path) -> Result<Masking, Error> {
    let mask = ["[MASK]", "<mask>"].iter().find_map(|token| tokenizer.token_to_id(token));
    let mask = mask.ok_or_else(|| {
        Location::whole(path).error("it has no token [MASK] or <mask>, which answers = \"tokens\" hides others behind")
    })?;
    let vocabulary = tokenizer.get_vocab_size(true);
    let told = network.outputs.first().and_then(|&id| network.value(id).shape.last().map(|dim| dim.at(1)));
    if told.is_some_and(|told| told < vocabulary) {
        let what = format!("it has {vocabulary} tokens, the network tells {} apart", told.unwrap_or(0));
        return Err(Location::whole(path).error(what));
    }
    Ok(Masking { mask, vocabulary: vocabulary as u32 })
}

/// Texts as token numbers, and how they become the inputs of a network.
#[derive(Clone, Debug)]
pub struct Texts {
    encoder: Encoder,
    /// The tokens of all samples, one after the other, without padding.
    ids: Vec<u32>,
    types: Vec<u8>,
    /// Whether a token is the tokenizer's own, as those at the ends: it is never hidden.
    special: Vec<bool>,
    /// Where the tokens of each sample end.
    ends: Vec<usize>,
    labels: Vec<Option<u16>>,
}

impl Texts {
    fn range(&self, sample: usize) -> std::ops::Range<usize> {
        sample.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[sample]
    }

    /// What a look sees in the place of a token that it hides.
    fn seen(&self, look: &SampleView, position: usize, at: usize) -> Option<u32> {
        if let (Some((stands, share)), Some(view)) = (self.encoder.dropout, look.view) {
            return (!self.special[at] && drops(&view, look.sample, position, share)).then_some(stands);
        }
        let masking = self.encoder.masking.as_ref().filter(|_| !self.special[at])?;
        masking.seen(look, position, self.ids[at])
    }

    /// A sample as one input sees it, padded.
    fn row(&self, look: SampleView, role: Role) -> impl Iterator<Item = i64> {
        let range = self.range(look.sample);
        (0..self.encoder.length).map(move |i| {
            let at = Some(range.start + i).filter(|at| range.contains(at));
            match (role, at) {
                (Role::Ids, Some(at)) => self.seen(&look, i, at).unwrap_or(self.ids[at]).into(),
                (Role::Ids, None) => self.encoder.padding.into(),
                (Role::Mask, at) => at.is_some().into(),
                (Role::Types, at) => at.map_or(0, |at| self.types[at].into()),
            }
        })
    }
}

/// Whether a view drops what stands at a place: a pure function of its arguments.
fn drops(view: &View, sample: usize, position: usize, share: f64) -> bool {
    let state = augment::state(view.seed, sample, view.number as u64);
    augment::share(augment::mix(state ^ position as u64)) < share
}

impl Dataset for Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn label(&self, sample: usize) -> Option<u16> {
        self.labels[sample]
    }

    fn inputs(&self) -> &[Input] {
        &self.encoder.inputs
    }

    fn batch(&self, looks: &[SampleView]) -> Vec<Tensor> {
        let one = |(&role, input): (&Role, &Input)| {
            let values = looks.iter().flat_map(|&look| self.row(look, role));
            let data = match input.dtype {
                DType::I32 => Data::I32(values.map(|x| x as i32).collect()),
                DType::F32 => Data::F32(values.map(|x| x as f32).collect()),
                _ => Data::I64(values.collect()),
            };
            Tensor::new(vec![looks.len(), self.encoder.length], data)
        };
        self.encoder.roles.iter().zip(&self.encoder.inputs).map(one).collect()
    }

    fn hidden(&self, looks: &[SampleView]) -> Option<MaskedTokens> {
        self.encoder.masking?;
        let mut hidden = MaskedTokens::default();
        for look in looks {
            let range = self.range(look.sample);
            for i in 0..self.encoder.length {
                let at = Some(range.start + i).filter(|at| range.contains(at));
                hidden.real.push(at.is_some());
                hidden.tokens.push(at.and_then(|at| self.seen(look, i, at).map(|_| self.ids[at])));
            }
        }
        Some(hidden)
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let Encoder { roles, inputs, padding, length, masking, .. } = &self.encoder;
        hasher.update(format!("{masking:?}").as_bytes());
        hasher.update(format!("kdc texts 1\n{roles:?} {inputs:?} {padding} {length} {}\n", self.len()).as_bytes());
        self.ids.iter().for_each(|id| _ = hasher.update(&id.to_le_bytes()));
        hasher.update(&self.types);
        self.ends.iter().for_each(|&end| _ = hasher.update(&(end as u64).to_le_bytes()));
        self.labels.iter().for_each(|label| _ = hasher.update(&label.unwrap_or(u16::MAX).to_le_bytes()));
        hasher.finalize().to_hex().to_string()
    }

    fn augmentation(&self) -> String {
        match (self.encoder.masking, self.encoder.dropout) {
            (Some(_), _) => "hidden tokens".into(),
            (None, Some((stands, share))) => format!("{stands} for {share} of the tokens"),
            (None, None) => "none".into(),
        }
    }

    fn show(&self, sample: usize) -> Preview {
        let ids = &self.ids[self.range(sample)];
        let token = |&id: &u32| self.encoder.tokenizer.id_to_token(id).unwrap_or_else(|| format!("#{id}"));
        Preview::Tokens { tokens: ids.iter().map(token).collect() }
    }

    fn extents(&self) -> String {
        format!("{} tokens", self.encoder.length)
    }
}
