//! The state of a run, so that it can go on after an interruption: a safetensors file with its hash behind it, written whole
//! or not at all.

use super::Error;
use super::history::{Epoch, Tally};
use super::optimizer::StateParts;
use kdc_ir::files;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// A run between two steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: usize,
    /// Parameters and running statistics, by name.
    pub network: Vec<(String, Vec<f32>)>,
    /// The network at the best epoch so far.
    pub best: Vec<(String, Vec<f32>)>,
    /// The optimizer's moments.
    pub moments: Vec<(String, Vec<f32>)>,
    /// The optimizer's counters.
    pub counters: Vec<(String, u64)>,
    /// The epochs that are done.
    pub history: Vec<Epoch>,
    /// Of the epoch under way.
    pub tally: Tally,
    /// The moving average of the parameters, where one is kept.
    pub average: Vec<(String, Vec<f32>)>,
    /// Peers, and what the terms train and keep.
    pub others: Vec<(String, Vec<f32>)>,
    /// How often the numbers were lost, and the learning rate halved.
    pub rollbacks: u32,
}

/// What is not a tensor.
#[derive(Serialize, Deserialize)]
struct Header {
    step: usize,
    counters: Vec<(String, u64)>,
    history: Vec<Epoch>,
    tally: Tally,
    rollbacks: u32,
}

const HEADER: &str = "kdc-training";

impl Checkpoint {
    /// Writes beside `path`, then renames.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |what: String| Error::Checkpoint { path: path.into(), what };
        let mut tensors = Vec::new();
        let (network, best, moments, average) = (&self.network, &self.best, &self.moments, &self.average);
        let others = &self.others;
        let lists =
            [("network", network), ("best", best), ("moment", moments), ("average", average), ("other", others)];
        for (kind, list) in lists {
            for (name, values) in list {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((format!("{kind}/{name}"), values.len(), bytes));
            }
        }
        let views = tensors.iter().map(|(name, len, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![*len], bytes).map_err(|e| failed(e.to_string()))?;
            Ok((name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, Error>>()?;
        let header = Header {
            step: self.step,
            counters: self.counters.clone(),
            history: self.history.clone(),
            tally: self.tally.clone(),
            rollbacks: self.rollbacks,
        };
        let header = serde_json::to_string(&header).map_err(|e| failed(e.to_string()))?;
        let metadata = HashMap::from([(HEADER.to_string(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| failed(e.to_string()))?;
        files::write_sealed(path, &bytes).map_err(|e| failed(e.to_string()))
    }

    /// Reads a checkpoint; `None` when there is none, or it is not as it was written.
    ///
    /// # Errors
    /// When the file cannot be read, or is sound and no checkpoint.
    pub fn load(path: &Path) -> Result<Option<Checkpoint>, Error> {
        let failed =
            |what: String| Error::Checkpoint { path: path.into(), what: format!("{what}; remove it to start anew") };
        let Some(bytes) = files::read_sealed(path).map_err(|e| failed(e.to_string()))? else { return Ok(None) };
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| failed(e.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(HEADER));
        let header = header.ok_or_else(|| failed("not a checkpoint of kdc".into()))?;
        let header: Header = serde_json::from_str(header).map_err(|e| failed(e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| failed(e.to_string()))?;
        let mut checkpoint = Checkpoint {
            step: header.step,
            counters: header.counters,
            history: header.history,
            tally: header.tally,
            rollbacks: header.rollbacks,
            ..Checkpoint::default()
        };
        let mut named: Vec<_> = tensors.iter().collect();
        named.sort_by_key(|(name, _)| name.to_string());
        for (name, view) in named {
            let floats = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let list = match name.split_once('/') {
                Some(("network", _)) => &mut checkpoint.network,
                Some(("best", _)) => &mut checkpoint.best,
                Some(("moment", _)) => &mut checkpoint.moments,
                Some(("average", _)) => &mut checkpoint.average,
                Some(("other", _)) => &mut checkpoint.others,
                _ => return Err(failed(format!("unknown tensor '{name}'"))),
            };
            let short = name.split_once('/').map_or(name, |(_, rest)| rest);
            list.push((short.to_string(), floats));
        }
        Ok(Some(checkpoint))
    }

    /// The optimizer's part.
    pub fn optimizer_state(&self) -> StateParts {
        StateParts { tensors: self.moments.clone(), counters: self.counters.clone() }
    }
}
