//! Which samples and labels training sees, and how they are changed before it does: the recipe's `[data]`.

use super::Synthesis;
use serde::{Deserialize, Serialize};

/// Which of the data are seen, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DataSpec {
    /// How many labels are looked at, of each class in proportion: a count, or a share below 1; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<f64>,
    /// Samples with labels in every batch, as a share; absent: as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled_share: Option<f64>,
    /// α of mixup (Zhang et al. 2018, <https://arxiv.org/abs/1710.09412>); 0: none.
    pub mixup: f64,
    /// α of cutmix (Yun et al. 2019, <https://arxiv.org/abs/1905.04899>); 0: none.
    pub cutmix: f64,
    /// The largest share of a signal's length, or of its channels, that is masked (SpecAugment, Park et al. 2019,
    /// <https://arxiv.org/abs/1904.08779>); 0: none.
    pub spec_augment: f64,
    /// Transfer: the classes are the data's own and not the teacher's. The student gets a new last layer for them, and
    /// nobody reads the teacher's answers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_classes: bool,
    /// Samples that are made from the teacher alone, in place of those there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthesis>,
}

impl DataSpec {
    /// Whether inputs are changed after they were read.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0 || self.spec_augment > 0.0
    }
}
