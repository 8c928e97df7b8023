//! Images as a [`Dataset`].

use super::views::{Input, Preview, SampleView};
use super::{Dataset, Images, Move, Preprocess};
use kdc_ir::graph::Tensor;

impl Dataset for Images {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, sample: usize) -> Option<u16> {
        self.samples.labels[sample]
    }

    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn batch(&self, looks: &[SampleView]) -> Vec<Tensor> {
        let (indices, moves): (Vec<usize>, Vec<Move>) = looks
            .iter()
            .map(|look| {
                (look.sample, look.view.map(|v| self.augment.of(v.seed, look.sample, v.number)).unwrap_or_default())
            })
            .unzip();
        vec![self.preprocess.batch(&self.samples, &indices, Some(&moves))]
    }

    fn hash(&self) -> String {
        let Preprocess { layout, scale, mean, std } = &self.preprocess;
        // Numbers by their bits: two that print alike may still differ.
        let bits =
            |values: &[f64]| values.iter().map(|v| format!("{:016x}", v.to_bits())).collect::<Vec<_>>().join(",");
        let text = format!(
            "kdc images 1\nsamples {}\nlayout {layout:?}\nscale {}\nmean {}\nstd {}\n",
            self.samples.hash(),
            bits(&[*scale]),
            bits(mean),
            bits(std)
        );
        kdc_ir::files::hash(text.as_bytes())
    }

    fn augmentation(&self) -> String {
        self.augment.text()
    }

    fn show(&self, sample: usize) -> Preview {
        let shape = self.samples.shape;
        let pixels = self.samples.sample(sample).iter().step_by(shape[2].max(1)).copied().collect();
        Preview::Image { shape, pixels }
    }

    fn extents(&self) -> String {
        let [h, w, c] = self.samples.shape;
        format!("{h}×{w}×{c}")
    }

    fn images(&self) -> Option<&Images> {
        Some(self)
    }
}
